"""The command `metrics`: what is printed, and a file that is there as a whole or as it was."""

from __future__ import annotations

import os
import stat
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from celery_docker import errors
from celery_docker.cli import main
from celery_docker.client import client, configfiles, configlayers
from celery_docker.store.figurequeries import Figures

FIGURES = Figures(2e9, [], {}, 3, 0, {})


class Redis:
    """Has figures, or raises what `failure` says."""

    failure: Exception | None = None

    def __init__(self, monkeypatch: pytest.MonkeyPatch, folder: Path) -> None:
        self.folder = folder
        monkeypatch.setattr(configfiles, "DEFAULTS_FILE", str(folder / "celery-worker"))
        monkeypatch.setattr(configlayers, "SYSTEM_FILE", str(folder / "client.conf"))
        fake = SimpleNamespace(figures=SimpleNamespace(read=self._read), close=lambda: None)
        monkeypatch.setattr(client, "Client", lambda url: fake)

    def _read(self) -> Figures:
        if self.failure is not None:
            raise self.failure
        return FIGURES

    def ask(self, *words: str) -> int:
        environ = {"HOME": str(self.folder), "CELERY_DOCKER_BROKER_URL": "redis://127.0.0.1/0"}
        return main.main(["metrics", *words], environ)


@pytest.fixture
def redis(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Redis:
    return Redis(monkeypatch, tmp_path)


def test_the_figures_are_printed(redis: Redis, capfdbinary: Any) -> None:
    assert redis.ask() == 0
    out, err = capfdbinary.readouterr()
    assert b'\ncelery_docker_waiting_jobs{reason="delayed"} 3.0\n' in out
    assert err == b""


def test_of_a_redis_that_is_away_they_say_so_and_the_status_does_too(redis: Redis, capfdbinary: Any) -> None:
    redis.failure = errors.StoreAway("cannot reach Redis at redis://127.0.0.1/0: refused")
    assert redis.ask() == 125
    out, err = capfdbinary.readouterr()
    assert [line for line in out.splitlines() if not line.startswith(b"#")] == [b"celery_docker_redis_up 0.0"]
    assert err.startswith(b"celery-docker: cannot reach Redis")
    assert err.count(b"\n") == 1


def test_a_file_is_replaced_as_a_whole_and_everybody_may_read_it(redis: Redis, capfd: Any) -> None:
    file = redis.folder / "cd.prom"
    file.write_text("old")
    file.chmod(0o600)
    before = os.umask(0o077)
    try:
        with file.open() as reader:
            assert redis.ask("--textfile", str(file)) == 0
            assert reader.read() == "old", "another file took its place"
    finally:
        os.umask(before)
    assert "celery_docker_redis_up 1.0" in file.read_text()
    assert stat.S_IMODE(file.stat().st_mode) == 0o644
    assert [path.name for path in redis.folder.iterdir()] == ["cd.prom"]
    assert capfd.readouterr() == ("", "")


def test_a_file_says_that_redis_is_away(redis: Redis) -> None:
    redis.failure = errors.StoreAway("gone")
    assert redis.ask("--textfile", str(redis.folder / "cd.prom")) == 125
    assert "celery_docker_redis_up 0.0" in (redis.folder / "cd.prom").read_text()


def test_a_link_leads_to_the_file_that_is_replaced(redis: Redis) -> None:
    (redis.folder / "link.prom").symlink_to("real.prom")
    assert redis.ask("--textfile", str(redis.folder / "link.prom")) == 0
    assert (redis.folder / "link.prom").is_symlink()
    assert (redis.folder / "real.prom").is_file()


@pytest.mark.parametrize("kind", ["folder", "pipe", "device"])
def test_what_is_no_file_is_left_alone(redis: Redis, capfd: Any, kind: str) -> None:
    path = redis.folder / "x.prom"
    if kind == "folder":
        path.mkdir()
    elif kind == "pipe":
        os.mkfifo(path)
    else:
        path.symlink_to("/dev/null")
    before = path.stat()
    assert redis.ask("--textfile", str(path)) == 2
    assert path.stat() == before
    assert capfd.readouterr().err == (
        f"celery-docker: metrics: --textfile {str(path)!r} is no file; leave --textfile out to have them printed\n"
    )


@pytest.mark.parametrize("name", ["", "missing/cd.prom", "x" * 300 + ".prom", "a\0b.prom", "file/cd.prom"])
def test_a_place_that_cannot_be_written_is_named_in_one_line(redis: Redis, capfd: Any, name: str) -> None:
    (redis.folder / "file").write_text("")
    assert redis.ask("--textfile", name and f"{redis.folder}/{name}") == 2
    err = capfd.readouterr().err
    assert err.startswith("celery-docker: metrics: --textfile ")
    assert err.count("\n") == 1
    assert [path.name for path in redis.folder.iterdir()] == ["file"]


def test_a_full_disk_leaves_the_file_as_it_was(redis: Redis, monkeypatch: pytest.MonkeyPatch, capfd: Any) -> None:
    file = redis.folder / "cd.prom"
    file.write_text("old")

    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    assert redis.ask("--textfile", str(file)) == 2
    assert "No space left on device" in capfd.readouterr().err
    assert file.read_text() == "old"
    assert [path.name for path in redis.folder.iterdir()] == ["cd.prom"]
