"""The help texts, made of the table of commands. Pure; 80 columns, for any terminal and any pipe."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence

from celery_docker.cli.syntax import commandtable
from celery_docker.cli.syntax.grammar import PROGRAM, Command, Flag

_WIDTH = 80
_INDENT = "  "
_HELP_AT = 30


def overview() -> str:
    """Return the help of the program: its commands."""
    widest = max(len(command.name) for command in commandtable.COMMANDS)
    commands = [f"{_INDENT}{command.name.ljust(widest)}  {command.summary}" for command in commandtable.COMMANDS]
    return "\n".join(
        [
            f"usage: {PROGRAM} COMMAND [FLAGS] ...",
            "",
            f"{PROGRAM}: {commandtable.SUMMARY}.",
            "",
            "commands:",
            *commands,
            "",
            f"{PROGRAM} COMMAND --help shows its flags, man {PROGRAM} everything.",
            "A JOB is an id, the beginning of one, or @last: what you have submitted last.",
        ]
    )


def of(command: Command) -> str:
    """Return the help of one command."""
    summary = command.summary[0].upper() + command.summary[1:] + "."
    parts = [[f"usage: {command.usage}"], _wrapped(f"{summary} {command.about}".strip(), "")]
    if command.flags:
        parts.append(["flags:", *(line for flag in command.flags for line in _flag(flag))])
    parts.append(["examples:", *(line for example in command.examples for line in _example(*example))])
    return "\n\n".join("\n".join(part) for part in parts)


def label(flag: Flag) -> str:
    """Return a flag with what follows it: `-m, --memory N`."""
    return " ".join(part for part in (", ".join(flag.names), flag.metavar) if part)


def _flag(flag: Flag) -> Sequence[str]:
    # A flag without a short name stands below the long names of the others.
    words = label(flag) if len(flag.names) > 1 else f"    {label(flag)}"
    about = f"{flag.help} (repeatable)" if flag.repeated else flag.help
    lines = _wrapped(about, " " * _HELP_AT)
    head = f"{_INDENT}{words}"
    if len(head) + 2 > _HELP_AT:
        return [head, *lines]
    return [head.ljust(_HELP_AT) + lines[0].lstrip(), *lines[1:]]


def _example(title: str, line: str) -> Sequence[str]:
    return [f"{_INDENT}# {title}", f"{_INDENT}{line}"]


def _wrapped(text: str, indent: str) -> list[str]:
    return textwrap.wrap(
        text, _WIDTH, initial_indent=indent, subsequent_indent=indent, break_long_words=False, break_on_hyphens=False
    )
