"""The completion scripts of bash, zsh and fish: the templates in `shells`, filled from the table of commands.

Asks nothing of Redis, because TAB must work while it is away. The words after the image of a job are left to the shell.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from importlib import resources

from celery_docker.cli.syntax import commandtable, flagtable
from celery_docker.cli.syntax.grammar import PROGRAM, Command, Flag

# The indent of the branches in the templates of bash and zsh.
_INDENT = " " * 16


def bash() -> str:
    """Return the script for bash."""
    names = [command.name for command in commandtable.COMMANDS]
    names += [flag.key for flag in (flagtable.HELP, flagtable.VERSION)]
    return _filled(
        "bash",
        {
            "# @COMMANDS@": _lines(_bash_command(command) for command in commandtable.COMMANDS),
            "# @VALUES@": _lines(line for command in commandtable.COMMANDS for line in _bash_values(command)),
            "@NAMES@": " ".join(names),
        },
    )


def zsh() -> str:
    """Return the script for zsh."""
    return _filled(
        "zsh",
        {
            "# @NAMES@": _lines(_quoted(f"{command.name}:{command.summary}") for command in commandtable.COMMANDS),
            "# @COMMANDS@": _lines(_zsh_command(command) for command in commandtable.COMMANDS),
        },
    )


def fish() -> str:
    """Return the script for fish."""
    first = f"complete -c {PROGRAM} -n __fish_use_subcommand"
    program = [f"{first} {_fish_flag(flag)}" for flag in (flagtable.HELP, flagtable.VERSION)]
    commands = [f"{first} -a {command.name} -d {_fish(command.summary)}" for command in commandtable.COMMANDS]
    return _filled(
        "fish",
        {
            "@LITERAL@": " ".join(command.name for command in commandtable.COMMANDS if command.operands.literal),
            "# @PROGRAM@": "\n".join(program),
            "# @COMMANDS@": "\n".join(commands),
            "# @FLAGS@": "\n".join(line for command in commandtable.COMMANDS for line in _fish_command(command)),
        },
    )


SHELLS: Mapping[str, Callable[[], str]] = {"bash": bash, "zsh": zsh, "fish": fish}


def _filled(shell: str, parts: Mapping[str, str]) -> str:
    script = (resources.files("celery_docker.cli.syntax") / "shells" / f"completion.{shell}").read_text(
        encoding="utf-8"
    )
    for place, text in parts.items():
        script = script.replace(place, text)
    return script


def _lines(lines: Iterable[str]) -> str:
    """Join lines with the indent of the place that they fill."""
    return f"\n{_INDENT}".join(lines)


def _quoted(text: str) -> str:
    """Return a text as one word of bash and zsh."""
    return "'" + text.replace("'", "'\\''") + "'"


def _bash_command(command: Command) -> str:
    flags = " ".join(name for flag in command.flags for name in flag.names)
    valued = " ".join(name for flag in command.flags if flag.metavar for name in flag.names)
    parts = [f"flags={_quoted(flags)}", f"valued={_quoted(valued)}"]
    if command.operands.literal:
        parts.append("literal=yes")
    if command.operands.words:
        parts.append(f"operands={_quoted(' '.join(command.operands.words))}")
    return f"{command.name}) {' '.join(parts)} ;;"


def _bash_values(command: Command) -> list[str]:
    """Return the branches that offer the values of a command's flags."""
    lines = []
    for flag in command.flags:
        pattern = " | ".join(f"{command.name}:{name}" for name in flag.names)
        if flag.words:
            lines.append(f'{pattern}) _celery_docker_offer {_quoted(" ".join(flag.words))} "$current" ;;')
        elif flag.is_path:
            lines.append(f"{pattern}) compopt -o default 2>/dev/null ;;")
    return lines


def _zsh_command(command: Command) -> str:
    specs = [_zsh_flag(flag) for flag in command.flags]
    if command.operands.literal:
        # The words from the image on are completed as a command of their own.
        specs += [_quoted("1:image: "), _quoted("*:: :_normal")]
    elif command.operands.words:
        many = "*" if command.operands.most is None else "1"
        specs.append(_quoted(f"{many}:{_zsh(command.operands.usage)}:({' '.join(command.operands.words)})"))
    elif command.operands.usage:
        specs.append(_quoted(f"*:{_zsh(command.operands.usage)}: "))
    joined = f" \\\n{_INDENT}        ".join(["_arguments -s -S", *specs])
    return f"{command.name})\n{_INDENT}    {joined}\n{_INDENT}    ;;"


def _zsh_flag(flag: Flag) -> str:
    about = f"[{_zsh(flag.help)}]"
    action = ""
    if flag.metavar:
        offer = f"({' '.join(flag.words)})" if flag.words else "_files" if flag.is_path else " "
        action = f":{_zsh(flag.metavar)}:{offer}"
    names = [f"*{name}" for name in flag.names] if flag.repeated else list(flag.names)
    exclusive = "" if flag.repeated or len(names) == 1 else f"({' '.join(names)})"
    return " ".join(_quoted(f"{exclusive}{name}{about}{action}") for name in names)


def _zsh(text: str) -> str:
    """Escape what _arguments would take for its own."""
    return "".join(f"\\{character}" if character in "\\[]:" else character for character in text)


def _fish_command(command: Command) -> Iterable[str]:
    condition = f"complete -c {PROGRAM} -n '__fish_seen_subcommand_from {command.name}'"
    yield from (f"{condition} {_fish_flag(flag)}" for flag in command.flags)
    if command.operands.words:
        yield f"{condition} -a {_fish(' '.join(command.operands.words))}"


def _fish_flag(flag: Flag) -> str:
    names = " ".join(f"-s {name[1:]}" if not name.startswith("--") else f"-l {name[2:]}" for name in flag.names)
    needs = ""
    if flag.metavar:
        needs = " -r -F" if flag.is_path else " -x"
    offer = f" -a {_fish(' '.join(flag.words))}" if flag.words else ""
    return f"{names}{needs}{offer} -d {_fish(flag.help)}"


def _fish(text: str) -> str:
    escaped = text.replace("\\", "\\\\").replace("'", "\\'")
    return f"'{escaped}'"
