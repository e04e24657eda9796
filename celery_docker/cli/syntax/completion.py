"""The completion scripts of bash, zsh and fish, made of the table of commands. Pure.

Asks nothing of Redis: a server that is away must not hold up a TAB. What stands behind the image of a job is left to
the shell.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from celery_docker.cli.syntax import commandtable
from celery_docker.cli.syntax.grammar import PROGRAM, Command, Flag

_BASH = """\
# bash completion for celery-docker. Made of its table of commands.

_celery_docker() {
    local word command='' flags='' valued='' literal='' operands='' expected='' index
    local current=${COMP_WORDS[COMP_CWORD]}
    COMPREPLY=()
    for ((index = 1; index < COMP_CWORD; index++)); do
        word=${COMP_WORDS[index]}
        if [[ -z $command ]]; then
            command=$word
            case $command in
@COMMANDS@
            esac
        elif [[ $word == = ]]; then
            continue
        elif [[ -n $expected ]]; then
            expected=''
        elif [[ " $valued " == *" $word "* ]]; then
            expected=$word
        elif [[ $word != -* && -n $literal ]]; then
            # Everything behind the image is the job's command.
            compopt -o default 2>/dev/null
            return
        fi
    done
    [[ $current == = ]] && current=''
    if [[ -z $command ]]; then
        COMPREPLY=($(compgen -W '@NAMES@' -- "$current"))
        return
    fi
    case $command:$expected in
@VALUES@
    esac
    if [[ -n $expected ]]; then
        return
    elif [[ $current == -* ]]; then
        COMPREPLY=($(compgen -W "$flags" -- "$current"))
    else
        COMPREPLY=($(compgen -W "$operands" -- "$current"))
    fi
}

complete -F _celery_docker celery-docker
"""

_ZSH = """\
#compdef celery-docker
# zsh completion for celery-docker. Made of its table of commands.

_celery_docker() {
    local curcontext=$curcontext state line
    typeset -A opt_args
    _arguments -C '(-)'{-h,--help}'[show the help]' '(-)--version[show the version]' '1: :->command' '*:: :->words'
    case $state in
        command)
            local -a commands=(
@NAMES@
            )
            _describe -t commands command commands
            ;;
        words)
            case $words[1] in
@COMMANDS@
            esac
            ;;
    esac
}

if [[ $funcstack[1] == _celery_docker ]]; then
    _celery_docker "$@"
else
    compdef _celery_docker celery-docker
fi
"""


def bash() -> str:
    """Return the script for bash."""
    commands = [_bash_command(command) for command in commandtable.COMMANDS]
    offers = [line for command in commandtable.COMMANDS for line in _bash_values(command)]
    names = " ".join(command.name for command in commandtable.COMMANDS)
    names += " " + " ".join(flag.key for flag in (commandtable.HELP, commandtable.VERSION))
    filled = {"@COMMANDS@": "\n".join(commands), "@VALUES@": "\n".join(offers), "@NAMES@": names}
    return _filled(_BASH, filled)


def zsh() -> str:
    """Return the script for zsh."""
    names = [f"{' ' * 16}{_quoted(f'{command.name}:{command.summary}')}" for command in commandtable.COMMANDS]
    commands = [_zsh_command(command) for command in commandtable.COMMANDS]
    return _filled(_ZSH, {"@NAMES@": "\n".join(names), "@COMMANDS@": "\n".join(commands)})


def fish() -> str:
    """Return the script for fish."""
    # Files only where a job's own command may stand.
    literal = " ".join(command.name for command in commandtable.COMMANDS if command.operands.literal)
    lines = [
        "# fish completion for celery-docker. Made of its table of commands.",
        f"complete -c {PROGRAM} -n 'not __fish_seen_subcommand_from {literal}' -f",
    ]
    for flag in (commandtable.HELP, commandtable.VERSION):
        lines.append(f"complete -c {PROGRAM} -n __fish_use_subcommand {_fish_flag(flag)}")
    for command in commandtable.COMMANDS:
        lines.append(f"complete -c {PROGRAM} -n __fish_use_subcommand -a {command.name} -d {_fish(command.summary)}")
    for command in commandtable.COMMANDS:
        condition = f"complete -c {PROGRAM} -n '__fish_seen_subcommand_from {command.name}'"
        lines += [f"{condition} {_fish_flag(flag)}" for flag in command.flags]
        if command.operands.words:
            lines.append(f"{condition} -a {_fish(' '.join(command.operands.words))}")
    return "\n".join(lines) + "\n"


SHELLS: Mapping[str, Callable[[], str]] = {"bash": bash, "zsh": zsh, "fish": fish}


def _filled(template: str, parts: Mapping[str, str]) -> str:
    for place, text in parts.items():
        template = template.replace(place, text)
    return template


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
    return f"{' ' * 16}{command.name}) {' '.join(parts)} ;;"


def _bash_values(command: Command) -> list[str]:
    """Return the branches that offer the values of a command's flags."""
    lines = []
    for flag in command.flags:
        pattern = " | ".join(f"{command.name}:{name}" for name in flag.names)
        if flag.words:
            lines.append(
                f'        {pattern}) COMPREPLY=($(compgen -W {_quoted(" ".join(flag.words))} -- "$current")) ;;'
            )
        elif flag.is_path:
            lines.append(f"        {pattern}) compopt -o default 2>/dev/null ;;")
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
    joined = " \\\n".join([f"{' ' * 20}_arguments -s -S", *(f"{' ' * 24}{spec}" for spec in specs)])
    return f"{' ' * 16}{command.name})\n{joined}\n{' ' * 20};;"


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
