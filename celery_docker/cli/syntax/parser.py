"""The command line, checked against the table of commands; argparse underneath, errors in our words.

Owns the answer to an unknown or a missing word. Raises `UsageError`; prints nothing.
"""

from __future__ import annotations

import argparse
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, NoReturn

from celery_docker import errors
from celery_docker.cli.syntax import commandtable, flagtable, otherwords
from celery_docker.cli.syntax.grammar import PROGRAM, Command, Flag
from celery_docker.core import jobfields, kinds, notoffered, wording

_MOST_SHOWN = 200

_FLAGS_OF_FIELDS = {line.name: line.flag for line in jobfields.DOCUMENT}
# -i alone is the job's input.
_TERMINAL = re.compile(r"-[id]*t[itd]*|--tty|--interactive")


@dataclass(frozen=True)
class Arguments:
    """The arguments of a command: the flags that were given, by key, and the operands."""

    command: Command
    flags: dict[str, Any] = field(default_factory=dict)
    operands: tuple[str, ...] = ()

    def is_set(self, flag: Flag) -> bool:
        return flag.key in self.flags


def parse(argv: Sequence[str]) -> Arguments | Flag:
    """Return the arguments of a command; or the flag `HELP` or `VERSION`, where the program itself is asked."""
    if not argv:
        raise errors.UsageError(f"name a command; {PROGRAM} --help lists them")
    first = argv[0]
    if first == "help":
        return parse([argv[1], "--help"]) if len(argv) > 1 else flagtable.HELP
    for flag in (flagtable.HELP, flagtable.VERSION):
        if first in flag.names:
            return flag
    command = commandtable.find(first)
    if command is None:
        raise errors.UsageError(_unknown_command(first))
    return _of_command(command, argv[1:])


def _of_command(command: Command, argv: Sequence[str]) -> Arguments:
    namespace, operands = _split(command, argv)
    flags = {key: value for key, value in vars(namespace).items() if value not in (None, False)}
    if flagtable.HELP.key in flags:
        return Arguments(command, flags)
    least, most = command.operands.least, command.operands.most
    if len(operands) < least:
        raise errors.UsageError(f"{command.name}: give {command.operands.usage}; see {PROGRAM} {command.name} --help")
    if most is not None and len(operands) > most:
        raise errors.UsageError(f"{command.name}: {kinds.shown(operands[most])} is too much; usage: {command.usage}")
    if not command.operands.literal:
        operands = [_parsed(command.name, kinds.TEXT, word) for word in operands]
    return Arguments(command, {key: _checked(command, key, value) for key, value in flags.items()}, tuple(operands))


def _split(command: Command, argv: Sequence[str]) -> tuple[argparse.Namespace, list[str]]:
    if command.operands.literal:
        _refuse_terminal(command, argv)
    parser = _parser(command)
    try:
        if command.operands.literal:
            namespace, unknown = parser.parse_known_args(argv)
        else:
            namespace, unknown = parser.parse_known_intermixed_args(argv)
    except argparse.ArgumentError as exc:
        raise errors.UsageError(_bad_value(command, exc.argument_name or "")) from exc
    operands = vars(namespace).pop("operands") or []
    # What argparse does not know stands before the first word of a literal tail, never in it.
    strange = [word for word in unknown if word.startswith("-")]
    if strange:
        raise errors.UsageError(_unknown_flag(command, strange[0]))
    # docker run takes no "--" before the command; who writes one means what everybody means by it.
    if command.operands.literal and "--" in operands[:2]:
        operands.remove("--")
    return namespace, operands


def _refuse_terminal(command: Command, argv: Sequence[str]) -> None:
    """Raise `UsageError` for the flags of docker run that ask for a terminal; `-it` would be `-i t` otherwise."""
    words = iter(argv)
    for word in words:
        if not word.startswith("-") or word in ("-", "--"):
            return
        if _TERMINAL.fullmatch(word):
            raise errors.UsageError(
                f"{command.name}: {word}: a job has no terminal, and nobody types into it; leave it out, or see --stdin"
            )
        flag = command.flag(word)
        if flag is not None and flag.metavar:
            next(words, None)


class _Parser(argparse.ArgumentParser):
    """Says what is wrong instead of printing it and ending the process."""

    def error(self, message: str) -> NoReturn:
        raise errors.UsageError(_shown(message))


def _parser(command: Command) -> _Parser:
    parser = _Parser(command.name, add_help=False, allow_abbrev=False, exit_on_error=False)
    for flag in command.flags:
        if flag.metavar:
            parser.add_argument(*flag.names, dest=flag.key, action="append" if flag.repeated else "store")
        else:
            parser.add_argument(*flag.names, dest=flag.key, action="store_true")
    parser.add_argument("operands", nargs=argparse.REMAINDER if command.operands.literal else "*")
    return parser


def _checked(command: Command, key: str, value: Any) -> Any:
    flag = command.flag(key)
    return value if flag is None or flag.kind is None else _parsed(key, flag.kind, value)


def _parsed(name: str, kind: kinds.Kind, text: str) -> Any:
    try:
        return kind.parse(kind.from_text(text))
    except ValueError as exc:
        raise errors.UsageError(f"{name}: {kinds.shown(text)} {exc}") from exc


def _bad_value(command: Command, names: str) -> str:
    flag = command.flag(names.rpartition("/")[2])
    rule = f"needs a value, {flag.metavar}" if flag and flag.metavar else "takes no value"
    return f"{command.name}: {names} {rule}"


def _unknown_command(word: str) -> str:
    common = flagtable.BROKER, flagtable.JSON, flagtable.QUIET
    if any(word.partition("=")[0] in flag.names for flag in common):
        return f"{_shown(word)}: name the command first; usage: {PROGRAM} COMMAND [FLAGS] ..."
    hint = _meant(word, [command.name for command in commandtable.COMMANDS], otherwords.COMMANDS.get(word))
    return f"{kinds.shown(word)} is not a command{hint}; {PROGRAM} --help lists them"


def _unknown_flag(command: Command, word: str) -> str:
    name = _shown(word.partition("=")[0])
    reason = notoffered.of_flag(word, _FLAGS_OF_FIELDS) if command.operands.literal else None
    if reason is not None:
        shown = name if name.startswith("--") else name[:2]
        return f"{command.name}: {shown} is a flag of docker run that a job does not have: {reason}"
    names = [candidate for flag in command.flags for candidate in flag.names]
    other = otherwords.FLAGS.get(name, "")
    hint = _meant(name, names, other if other in names or " " in other else None)
    return f"{command.name}: {name} is not a flag{hint}; {PROGRAM} {command.name} --help lists them"


def _shown(word: str) -> str:
    """Return a word without quotes as a complaint repeats it: in one line, shortened."""
    text = wording.harmless(word[:_MOST_SHOWN])
    return text if len(word) <= _MOST_SHOWN else f"{text}..."


def _meant(word: str, candidates: Iterable[str], other: str | None) -> str:
    """Ask for what was meant: `other`, if that is known, else the candidate that looks like the word, if one does."""
    import difflib  # only for somebody who has erred already

    matches = [other] if other else difflib.get_close_matches(word, list(candidates), n=1)
    return f"; did you mean {matches[0]}?" if matches else ""
