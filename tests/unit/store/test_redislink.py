"""The scripts of a process whose package is replaced while it runs; which errors are those of the connection."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import redis

import celery_docker
from celery_docker import errors
from celery_docker.store import redislink

PACKAGE = Path(celery_docker.__file__).parent
PROGRAM = """
import shutil, sys
from celery_docker.store import jobstore, redislink
records = jobstore.connect("redis://127.0.0.1:1/0")
shutil.rmtree(sys.argv[1])
for name in sys.argv[2:]:
    assert redislink.source(name), name
print("all", len(sys.argv) - 2)
"""


def test_a_process_has_every_script_from_its_start(tmp_path: Path) -> None:
    """An upgrade unpacks the new package; until the reload the old process runs on, without its own files."""
    shutil.copytree(PACKAGE, tmp_path / "celery_docker")
    folder = tmp_path / "celery_docker" / "store" / "lua"
    names = sorted(path.stem for path in folder.glob("*.lua"))
    answer = subprocess.run(
        [sys.executable, "-c", PROGRAM, str(folder), *names],
        env={**os.environ, "PYTHONPATH": str(tmp_path)},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert (answer.stdout, answer.stderr) == (f"all {len(names)}\n", "")
    assert {"claim", "finish", "hold", "lose", "bury", "leave", "take"} <= set(names)


def test_an_error_of_the_connection_means_that_redis_is_away() -> None:
    link = redislink.connect("redis://:secret@127.0.0.1:1/0")
    with pytest.raises(errors.StoreAway) as raised, link.translated():
        raise ConnectionResetError(104, "Connection reset by peer")
    assert str(raised.value) == (
        "cannot reach Redis at redis://:***@127.0.0.1:1/0: [Errno 104] Connection reset by peer; "
        "start it there, or correct the URL"
    )


@pytest.mark.parametrize(
    "command", ["", "Command # 2 (EVALSHA 24302d3b 11 celery-docker:…) of pipeline caused error: "]
)
@pytest.mark.parametrize("place", ["", f" script: {'8f' * 20}, on @user_script:26."])
@pytest.mark.parametrize(
    ("words", "kind", "line"),
    [
        (
            "BUSY Redis is busy running a script.",
            errors.StoreAway,
            "Redis at redis://127.0.0.1:1/0 cannot do it now: BUSY Redis is busy running a script.",
        ),
        (
            "The user executing the script can't run this command or subcommand",
            errors.StoreRefused,
            "Redis at redis://127.0.0.1:1/0 refuses: The user executing the script can't run this command or "
            "subcommand; check the user and password in the URL",
        ),
    ],
)
def test_a_refusal_has_no_words_of_our_commands(
    command: str, place: str, words: str, kind: type[Exception], line: str
) -> None:
    link = redislink.connect("redis://127.0.0.1:1/0")
    with pytest.raises(kind) as raised, link.translated():
        raise redis.ResponseError(f"{command}{words}{place}")
    assert str(raised.value) == line


def test_an_error_of_a_file_is_none_of_redis(tmp_path: Path) -> None:
    link = redislink.connect("redis://127.0.0.1:1/0")
    with pytest.raises(FileNotFoundError, match="none"), link.translated():
        (tmp_path / "none").read_text()


@pytest.mark.parametrize(
    ("value", "shown", "why"),
    [
        ("/none/ca.crt", "/none/ca.crt", "No such file or directory"),
        ("/", "/", "Is a directory"),
        ("/a%00b", r"/a\x00b", "embedded null byte"),
    ],
)
@pytest.mark.parametrize("option", ["ssl_ca_certs", "ssl_certfile", "ssl_keyfile"])
def test_a_file_of_the_url_that_cannot_be_read_is_named(option: str, value: str, shown: str, why: str) -> None:
    link = redislink.connect(f"rediss://127.0.0.1:1/0?{option}={value}")
    with pytest.raises(errors.StoreAway, match="cannot connect to Redis at") as raised:
        link.check()
    assert f": {option} '{shown}': {why}; correct the URL, or the file" in str(raised.value)
