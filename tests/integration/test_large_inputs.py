"""Large files, made to be slow to read: a value or a refusal, within bounds of time and memory."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from celery_docker.core import textinput

# Reads what it is told in a process with a bound of time and memory: one that is passed ends the process.
BOUNDED = """
import resource, sys
from celery_docker.cli import main
resource.setrlimit(resource.RLIMIT_CPU, (300, 300))
resource.setrlimit(resource.RLIMIT_AS, (int(sys.argv[1]) * 2**20, -1))
sys.exit(main.main(sys.argv[2:], {"HOME": "/nowhere", "CELERY_DOCKER_BROKER_URL": "redis://127.0.0.1:1"}))
"""
SMALL = textinput.MAX_BYTES
LARGE = 8 * 2**20
PATTERNS: dict[str, Callable[[int], bytes]] = {
    "zeros": lambda size: bytes(size),
    "ones": lambda size: b"1" * size,
    "brackets": lambda size: b"[" * size,
    "braces": lambda size: b'{"a":' * (size // 5),
    "quotes": lambda size: b'"' * size,
    "commas": lambda size: b"," * size,
    "returns": lambda size: b"\r" * size,
    "lines": lambda size: b"\n" * size,
    "equals": lambda size: b"A=\n" * (size // 3),
    "backslashes": lambda size: b'"' + b"\\" * (size - 2) + b'"',
    "a cell that is not closed": lambda size: b'a,b\n"' + b"x\n" * (size // 2),
    "a header of many columns": lambda size: b",".join(b"%d" % n for n in range(size // 8)),
    "many keys": lambda size: b"{" + b",".join(b'"%d":1' % n for n in range(size // 11)) + b"}",
    "many wrong rows": lambda size: b"a,b\n" + b"1\n" * (size // 2),
    "dots": lambda size: b"." * size,
    "any": lambda size: bytes(range(256)) * (size // 256),
}


def bounded(*words: str, mebibytes: int) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", BOUNDED, str(mebibytes), *words]
    return subprocess.run(command, capture_output=True, text=True, timeout=1200, stdin=subprocess.DEVNULL, check=False)


@pytest.mark.parametrize("pattern", PATTERNS)
@pytest.mark.parametrize(
    ("flags", "size", "mebibytes"),
    [
        (["submit", "--dry-run", "-f"], SMALL, 400),
        (["submit", "--dry-run", "--env-file"], SMALL, 400),
        (["batch", "--dry-run", "--manifest"], LARGE, 3000),
        (["batch", "--dry-run", "--each-from"], LARGE, 3000),
    ],
    ids=["document", "env file", "manifest", "list"],
)
def test_a_large_file_costs_no_more_than_its_size_allows(
    tmp_path: Path, pattern: str, flags: list[str], size: int, mebibytes: int
) -> None:
    """A second parse of the rest for each byte would need hours."""
    (tmp_path / "f").write_bytes(PATTERNS[pattern](size))
    process = bounded(*flags, f"{tmp_path}/f", "busybox", mebibytes=mebibytes)
    assert process.returncode in (0, 2), process.stderr[-1000:]
    assert "Traceback" not in process.stderr
    assert len(process.stderr) < 10_000


@pytest.mark.parametrize("flag", ["-f", "--env-file", "--manifest", "--each-from"])
def test_a_file_without_an_end_is_refused(flag: str) -> None:
    command = "submit" if flag in ("-f", "--env-file") else "batch"
    process = bounded(command, "--dry-run", flag, "/dev/zero", "busybox", mebibytes=2000)
    assert process.returncode == 2
    assert process.stderr.startswith("celery-docker: cannot read /dev/zero: it is longer than ")
    assert len(process.stderr.splitlines()) == 1
