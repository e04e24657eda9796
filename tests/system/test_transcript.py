"""The five minutes of the README, typed into a terminal as they stand there; every line that comes is checked.

What may differ is named here: ids, rates, versions, and the lines of apt, for which the README has an ellipsis.
"""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.conftest import require
from tests.machines import machine
from tests.machines.terminal import Terminal
from tests.waiting import eventually

README = Path(__file__).parents[2] / "README.md"
_ELLIPSIS = "…"
_ID = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}")
_VARYING = (
    (_ID.pattern, _ID.pattern),
    (r"\b[0-9a-f]{8}  exit", "[0-9a-f]{8}  exit"),
    # There is no rate where all jobs had ended before somebody watched.
    (r"  [0-9.]+/(?:s|min)\b", "(?:  [0-9.]+/(?:s|min))?"),
    # Doctor's figures and versions.
    (r"(?<=[ (,:])[0-9][0-9.]*(?= |,|\)|;|$|%|:|\+)", "[0-9][0-9.]*"),
)
_SLOW_S = 900


@dataclass(frozen=True)
class Step:
    """A line that is typed at a prompt (`#` is root's), and what is printed."""

    prompt: str
    typed: str
    printed: tuple[str, ...]


def steps() -> list[Step]:
    """Return the steps of the README's section."""
    section = README.read_text().partition("## Five minutes\n")[2].partition("\n## ")[0]
    lines = re.findall(r"```console\n(.*?)```", section, re.DOTALL)[0].splitlines()
    steps: list[Step] = []
    for line in lines:
        if line[:2] in ("# ", "$ "):
            steps.append(Step(line[0], line[2:], ()))
        else:
            steps[-1] = Step(steps[-1].prompt, steps[-1].typed, (*steps[-1].printed, line))
    return steps


@pytest.fixture(scope="module")
def debian(package: Path) -> Iterator[machine.Machine]:
    """A Debian without the package, and with alice, who is in no group."""
    require("machine", machine.missing() or ("" if shutil.which("tmux") else "tmux: not installed"))
    with machine.Machine.boot("node1", machine.ready_image()) as debian:
        machine.import_busybox(debian)
        debian.push(package, f"/root/{steps()[0].typed.rpartition('/')[2]}")
        debian.run("useradd", "--create-home", "--shell", "/bin/bash", "alice")
        yield debian
    assert machine.leftovers() == []


@pytest.fixture
def terminals(debian: machine.Machine) -> Iterator[dict[str, Terminal]]:
    """Root's terminal and that of alice, by their prompts."""
    with Terminal(debian, "root", "#") as root, Terminal(debian, "alice", "$") as alice:
        yield {"#": root, "$": alice}


def test_what_the_readme_shows_is_what_comes(debian: machine.Machine, terminals: dict[str, Terminal]) -> None:
    ids: dict[str, str] = {}
    for step in steps():
        typed = _ID.sub(lambda match: ids[match[0]], step.typed)
        printed = terminals[step.prompt].run(typed, _SLOW_S)
        if step.printed == (_ELLIPSIS,):
            # Who types is slower than a worker that starts.
            eventually(lambda: "1 alive" in debian.run("celery-docker", "doctor", check=False).stdout, 60, "a worker")
            continue
        assert len(printed) == len(step.printed), (step, printed)
        for expected, line in zip(step.printed, printed, strict=True):
            assert re.fullmatch(pattern(expected), line), (step.typed, expected, line)
            ids.update(zip(_ID.findall(expected), _ID.findall(line), strict=True))


def pattern(line: str) -> str:
    """Return a pattern for a line of the README in which what may differ is left open."""
    is_from_doctor = line.startswith(("ok ", "warn "))
    varying = _VARYING if is_from_doctor else _VARYING[:-1]
    parts = [(match.start(), match.end(), to) for varied, to in varying for match in re.finditer(varied, line)]
    expression, at = "", 0
    for start, end, to in sorted(parts):
        if start >= at:
            expression += re.escape(line[at:start]) + to
            at = end
    return expression + re.escape(line[at:])
