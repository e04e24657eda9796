"""The table of commands: whole, and the only source of parser, help, completion and man page."""

from __future__ import annotations

import inspect
import shlex
from importlib import import_module

import pytest

from celery_docker.cli.syntax import commandtable, completion, helptext, manual, parser
from celery_docker.cli.syntax.grammar import Command
from celery_docker.core import jobfields

each_command = pytest.mark.parametrize("command", commandtable.COMMANDS, ids=lambda command: command.name)


@each_command
def test_a_command_has_its_function(command: Command) -> None:
    function = getattr(import_module(f"celery_docker.cli.commands.{command.module}"), command.function)
    assert list(inspect.signature(function).parameters) == ["context"]


@each_command
def test_no_flag_has_two_meanings(command: Command) -> None:
    names = [name for flag in command.flags for name in flag.names]
    assert len(names) == len(set(names))


@each_command
def test_the_examples_are_right(command: Command) -> None:
    """Each is accepted by the parser as a call of the command that it explains."""
    assert command.examples
    for _, line in command.examples:
        typed = line.partition("celery-docker ")[2] if "$(celery" in line or "<(celery" in line else line
        words = shlex.split(typed.rstrip(")"), comments=True)
        calls = _calls(["celery-docker", *words] if words[0] != "celery-docker" and typed != line else words)
        parsed = [parser.parse(call) for call in calls]
        assert any(isinstance(words, parser.Arguments) and words.command is command for words in parsed), line


def _calls(words: list[str]) -> list[list[str]]:
    """Return the arguments of each celery-docker in a line of shell."""
    calls: list[list[str]] = []
    inside = False
    for word in words:
        if word == "celery-docker":
            calls.append([])
            inside = True
        elif word in ("|", "&&"):
            inside = False
        elif inside:
            calls[-1].append(word)
    if "xargs" in words:
        calls[-1].append("the ids")
    return [call for call in calls if call]


@each_command
def test_help_names_every_flag_and_fits_a_terminal(command: Command) -> None:
    text = helptext.of(command)
    assert all(helptext.label(flag) in text for flag in command.flags)
    assert text.startswith(f"usage: celery-docker {command.name}")
    assert [line for line in text.splitlines() if len(line) > 80 and "celery-docker" not in line] == []


def test_the_overview_names_every_command() -> None:
    text = helptext.overview()
    assert all(f"  {command.name} " in text for command in commandtable.COMMANDS)
    assert max(map(len, text.splitlines())) <= 80


@pytest.mark.parametrize("field", [line for line in jobfields.DOCUMENT if line.flags], ids=lambda field: field.name)
def test_every_field_of_a_job_is_a_flag_everywhere(field: jobfields.Field) -> None:
    """A new line in jobspec's table appears in parser, help, man page and all completions by itself."""
    run = commandtable.find("run")
    assert run is not None
    flag = run.flag(field.flag)
    assert flag is not None
    assert (flag.metavar, flag.repeated) == (field.metavar, field.repeated)
    assert field.flag in manual.parts()["job-flags.rst"]
    assert f" {field.flag} " in completion.bash()
    assert field.flag in completion.zsh()
    assert f"-l {field.flag[2:]} " in completion.fish()
