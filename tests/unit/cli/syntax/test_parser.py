"""The words of the command line: docker run's order, and what is said about a mistake."""

from __future__ import annotations

import shlex
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from celery_docker import errors
from celery_docker.cli.syntax import commandtable, flagtable, otherwords, parser


def parsed(line: str) -> tuple[dict[str, Any], tuple[str, ...]]:
    words = parser.parse(shlex.split(line))
    assert isinstance(words, parser.Arguments)
    return words.flags, words.operands


@pytest.mark.parametrize(
    ("line", "flags", "operands"),
    [
        ("run busybox", {}, ("busybox",)),
        ("run -m 1g busybox ls -l -m 2g", {"--memory": "1g"}, ("busybox", "ls", "-l", "-m", "2g")),
        ("run busybox --help", {}, ("busybox", "--help")),
        ("run -eA=1 -e B=2 -m5g busybox", {"--env": ["A=1", "B=2"], "--memory": "5g"}, ("busybox",)),
        ("run --memory=1g --no-requeue busybox", {"--memory": "1g", "--no-requeue": True}, ("busybox",)),
        # No "--" is needed; one that is typed all the same is not the command.
        ("run busybox -- ls -- x", {}, ("busybox", "ls", "--", "x")),
        ("run -- busybox ls", {}, ("busybox", "ls")),
        ("run busybox sh -c 'echo $1' -- --x", {}, ("busybox", "sh", "-c", "echo $1", "--", "--x")),
        ("run --input= busybox ''", {"--input": ""}, ("busybox", "")),
        ("submit -f -", {"--file": "-"}, ()),
        # Elsewhere flags may stand anywhere.
        ("cancel a --reason 'no need' b", {"--reason": "no need"}, ("a", "b")),
        ("logs JOB -fn 3", {"--follow": True, "--lines": 3}, ("JOB",)),
        ("wait --timeout 2m a", {"--timeout": 120}, ("a",)),
        ("ps -aq --state failed --state lost", {"--all": True, "--quiet": True, "--state": ["failed", "lost"]}, ()),
        ("queue purge -y", {"--yes": True}, ("purge",)),
    ],
)
def test_words(line: str, flags: dict[str, Any], operands: tuple[str, ...]) -> None:
    assert parsed(line) == (flags, operands)


def test_other_words_are_none_of_ours_and_lead_to_ours() -> None:
    for word, meant in otherwords.COMMANDS.items():
        assert commandtable.find(word) is None
        if not meant.startswith("--"):
            name, *flags = meant.split()
            command = commandtable.find(name)
            assert command is not None
            assert all(command.flag(flag) for flag in flags), meant
    known = {name for command in commandtable.COMMANDS for flag in command.flags for name in flag.names}
    assert {meant.split()[-1] for meant in otherwords.FLAGS.values()} <= known


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("", "name a command; celery-docker --help lists them"),
        ("cancle x", "'cancle' is not a command; did you mean cancel?; celery-docker --help lists them"),
        ("xyzzy", "'xyzzy' is not a command; celery-docker --help lists them"),
        ("scancel 5", "'scancel' is not a command; did you mean cancel?; celery-docker --help lists them"),
        ("attach 5", "'attach' is not a command; did you mean logs -f?"),
        ("submit --out x busybox", "submit: --out is not a flag; did you mean --log-file?; celery-docker submit"),
        ("submit --array 1-9 busybox", "submit: --array is not a flag; did you mean batch --array?"),
        ("ps --dependency 5", "ps: --dependency is not a flag; celery-docker ps --help lists them"),
        ("--json ps", "--json: name the command first; usage: celery-docker COMMAND [FLAGS] ..."),
        ("run --memry 5 busybox", "run: --memry is not a flag; did you mean --memory?; celery-docker run --help lists"),
        ("run --mem=5g busybox", "run: --mem is not a flag; did you mean --memory?"),
        ("run -x busybox", "run: -x is not a flag; celery-docker run --help lists them"),
        ("run --memory", "run: -m/--memory needs a value, N[b|k|m|g]"),
        ("run --dry-run=yes busybox", "run: --dry-run takes no value"),
        ("logs", "logs: give JOB; see celery-docker logs --help"),
        ("logs a b", "logs: 'b' is too much; usage: celery-docker logs [FLAGS] JOB"),
        ("logs a -n x", "--lines: 'x' must be a whole number from 0 to 1000000000"),
        ("wait a --timeout soon", "--timeout: 'soon' must be seconds"),
        ("cancel a -z", "cancel: -z is not a flag"),
        (
            "run -it busybox sh",
            "run: -it: a job has no terminal, and nobody types into it; leave it out, or see --stdin",
        ),
        ("run -ti busybox sh", "run: -ti: a job has no terminal"),
        ("run -m 1g -t busybox sh", "run: -t: a job has no terminal"),
        ("submit --name a --tty busybox", "submit: --tty: a job has no terminal"),
        ("run --interactive busybox", "run: --interactive: a job has no terminal"),
        ("batch --array 1-2 -dit busybox", "batch: -dit: a job has no terminal"),
        ("run --rm busybox", "run: --rm is a flag of docker run that a job does not have: the container is always"),
        (
            "run --volumes-from x busybox",
            "run: --volumes-from is a flag of docker run that a job does not have: another",
        ),
        ("run -p 80:80 busybox", "run: -p is a flag of docker run that a job does not have: nobody reaches a job"),
        ("run -p80:80 busybox", "run: -p is a flag of docker run that a job does not have: nobody reaches a job"),
        ("run --publish=80 busybox", "run: --publish is a flag of docker run that a job does not have: nobody reaches"),
        (
            "run -d busybox",
            "run: -d is a flag of docker run that a job does not have: submit does not wait for the job",
        ),
        ("submit --restart always x", "submit: --restart is a flag of docker run that a job does not have: the queue"),
        (
            "batch --array 1 --privileged x",
            "batch: --privileged is a flag of docker run that a job does not have: a job",
        ),
        ("run --pid=host busybox", "run: --pid is a flag of docker run that a job does not have: a job has namespaces"),
        (
            "run --device-cgroup-rule 'c 1:1 r' busybox",
            "run: --device-cgroup-rule is a flag of docker run that a job does not have: a job names each device that "
            "it needs: --device",
        ),
        ("ps --privileged", "ps: --privileged is not a flag; celery-docker ps --help lists them"),
    ],
)
def test_a_mistake_is_named_with_what_to_do(line: str, expected: str) -> None:
    with pytest.raises(errors.UsageError) as caught:
        parser.parse(shlex.split(line))
    assert str(caught.value).startswith(expected)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("cancel \udcff", r"cancel: '\udcff' must be valid Unicode"),
        ("drain a \udcff", r"drain: '\udcff' must be valid Unicode"),
        ("drain --reason \udcff a", r"--reason: '\udcff' must be valid Unicode"),
        ("ps --batch \udcff", r"--batch: '\udcff' must be valid Unicode"),
        ("retry --failed \udcff", r"--failed: '\udcff' must be valid Unicode"),
    ],
)
def test_bytes_that_are_no_text_are_refused(line: str, expected: str) -> None:
    """Python has surrogates for them, which Redis cannot be told."""
    with pytest.raises(errors.UsageError) as caught:
        parsed(line)
    assert str(caught.value) == expected


def test_a_file_may_have_a_name_that_is_no_text() -> None:
    assert parsed("submit -f \udcff")[0] == {"--file": "\udcff"}


@pytest.mark.parametrize(
    "line", ["run --help", "run -h busybox", "help run", "logs --help", "logs a b -h", "run -e A=1 -h"]
)
def test_help_is_shown_whatever_else_is_typed(line: str) -> None:
    assert "--help" in parsed(line)[0]


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("--help", flagtable.HELP),
        ("-h", flagtable.HELP),
        ("help", flagtable.HELP),
        ("--version", flagtable.VERSION),
    ],
)
def test_the_program_itself(line: str, expected: object) -> None:
    assert parser.parse([line]) is expected


@pytest.mark.parametrize("line", ["run -i t busybox", "run -- -it", "run busybox -it", "run --name a -- busybox -t"])
def test_a_terminal_is_refused_only_where_it_is_asked_for(line: str) -> None:
    assert "-it" not in parsed(line)[0].get("--input", "")


@given(st.lists(st.text(alphabet="-=aeim x", max_size=5), max_size=6))
def test_what_follows_the_image_is_never_read(tail: list[str]) -> None:
    """Whatever the job's command looks like, it arrives as it was typed."""
    words = parser.parse(["run", "-m", "1g", "busybox", "sh", *tail])
    assert isinstance(words, parser.Arguments)
    assert words.operands == ("busybox", "sh", *tail)
    assert words.flags == {"--memory": "1g"}
