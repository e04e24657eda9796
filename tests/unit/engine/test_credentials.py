"""The credentials for a registry while the files of the package are being replaced."""

from __future__ import annotations

import base64
import json
import sys
from pathlib import Path

import pytest

from celery_docker import errors
from celery_docker.engine import credentials


def test_in_the_middle_of_an_upgrade_the_host_is_at_fault(monkeypatch: pytest.MonkeyPatch) -> None:
    """An upgrade of Debian brings another Python: the folder of the modules is gone before the worker is told."""
    monkeypatch.setitem(sys.modules, "docker.auth", None)
    with pytest.raises(errors.HostError, match=r"in the middle of its upgrade: .*docker.auth.*; see dpkg --audit"):
        credentials.pull_arguments("busybox", "docker")


@pytest.mark.parametrize(
    ("own", "home", "expected"),
    [
        ('{"auths": {"r.example": {"auth": "b3duOm93bg=="}}}', True, "own"),
        ("{}", True, "home"),
        (None, True, "home"),
        ("{}", False, None),
        (None, False, None),
    ],
)
def test_the_hosts_file_comes_before_the_workers_home(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, own: str | None, home: bool, expected: str | None
) -> None:
    """An installation makes one that says nothing, which does not hide what is in the home."""
    folder, homes = tmp_path / "own", tmp_path / "home/.docker"
    folder.mkdir()
    homes.mkdir(parents=True)
    monkeypatch.setenv("DOCKER_CONFIG", str(folder))
    monkeypatch.setenv("HOME", str(homes.parent))
    if own is not None:
        (folder / "config.json").write_text(own)
    if home:
        (homes / "config.json").write_text('{"auths": {"r.example": {"auth": "aG9tZTpob21l"}}}')
    header = credentials.pull_arguments("r.example/x:1", "docker")[2].get(credentials.HEADER)
    login = None if header is None else json.loads(base64.urlsafe_b64decode(header))["username"]
    assert login == expected


def test_a_file_that_the_worker_may_not_read_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "config.json"
    file.write_text('{"auths": {}}')
    monkeypatch.setenv("DOCKER_CONFIG", str(tmp_path))

    def refuse(_: Path) -> bytes:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "read_bytes", refuse)
    with pytest.raises(errors.HostError, match=r"cannot be read: .*; let the worker read them: chgrp -R celery "):
        credentials.pull_arguments("r.example/x:1", "docker")
