"""The completion scripts, asked by the shells themselves."""

from __future__ import annotations

import re
import shlex
import shutil
import subprocess
from pathlib import Path

import pytest

from celery_docker.cli.syntax import commandtable, completion
from tests.conftest import require


def offered(*words: str) -> list[str]:
    """Return what bash offers for the last word."""
    script = (
        f"source /dev/stdin; COMP_WORDS=({shlex.join(words)}); COMP_CWORD={len(words) - 1}; _celery_docker; "
        'printf "%s\\n" "${COMPREPLY[@]}"'
    )
    process = subprocess.run(
        ["bash", "--norc", "-uc", script],
        input=completion.bash(),
        capture_output=True,
        text=True,
        check=True,
        timeout=120,
    )
    assert process.stderr == ""
    return process.stdout.split()


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["ca"], ["cancel"]),
        (["--v"], ["--version"]),
        (["run", "--net"], ["--network"]),
        (["run", "--network", ""], ["bridge", "none"]),
        (["run", "--network", "=", "br"], ["bridge"]),
        (["run", "-e", "A=1", "--pull", "n"], ["never"]),
        (["cancel", "@"], ["@last"]),
        (["queue", "pur"], ["purge"]),
        (["ps", "--state", "r"], ["running", "rejected"]),
        (["completion", "z"], ["zsh"]),
        (["logs", "-f", "--std"], ["--stdout", "--stderr"]),
        # A file's name is the shell's to offer, and so is the job's own command.
        (["run", "-i", "x"], []),
        (["run", "-m", "1g", "busybox", "--net"], []),
        (["nonsense", ""], []),
    ],
    ids=str,
)
def test_bash(words: list[str], expected: list[str]) -> None:
    assert offered("celery-docker", *words) == expected


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_the_shells_can_read_their_scripts(shell: str) -> None:
    require("shells", "" if shutil.which(shell) else f"{shell} is not installed")
    process = subprocess.run(
        [shell, "-n"], input=completion.SHELLS[shell](), capture_output=True, text=True, check=False, timeout=120
    )
    assert (process.returncode, process.stderr) == (0, "")


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_no_place_in_a_template_stays_empty(shell: str) -> None:
    script = completion.SHELLS[shell]()
    assert re.findall("@[A-Z]+@", script) == []
    assert all(command.name in script for command in commandtable.COMMANDS)


def test_shellcheck_finds_nothing_in_the_filled_script() -> None:
    require("shells", "" if shutil.which("shellcheck") else "shellcheck is not installed")
    process = subprocess.run(
        ["shellcheck", "-"], input=completion.bash(), capture_output=True, text=True, check=False, timeout=60
    )
    assert process.stdout == ""


def test_fish_offers_values(tmp_path: Path) -> None:
    require("shells", "" if shutil.which("fish") else "fish is not installed")
    script = tmp_path / "celery-docker.fish"
    script.write_text(completion.fish())
    question = f"source {script}; complete -C 'celery-docker run --network '"
    process = subprocess.run(
        ["fish", "--no-config", "-c", question], capture_output=True, text=True, check=True, timeout=120
    )
    assert [line.split("\t")[0] for line in process.stdout.splitlines()] == ["bridge", "none"]
