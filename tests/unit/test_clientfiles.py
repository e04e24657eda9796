"""Where a submitter's settings are found."""

from __future__ import annotations

from pathlib import Path

import pytest

from celery_docker import clientconf, clientfiles, errors


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A machine whose files are in a folder of the test."""
    monkeypatch.setattr(clientfiles, "WORKER_FILE", str(tmp_path / "worker"))
    monkeypatch.setattr(clientconf, "SYSTEM_FILE", str(tmp_path / "system"))
    (tmp_path / ".config/celery-docker").mkdir(parents=True)
    return tmp_path


def url(name: str) -> str:
    return f"CELERY_DOCKER_BROKER_URL=redis://{name}/0\n"


def test_the_later_the_stronger(home: Path) -> None:
    environ = {"HOME": str(home)}
    assert clientfiles.broker_url(environ) == "redis://127.0.0.1:6379/0"
    for name in ("worker", "system", ".config/celery-docker/client.conf"):
        (home / name).write_text(url(Path(name).stem))
        assert clientfiles.broker_url(environ) == f"redis://{Path(name).stem}/0"
    assert clientfiles.broker_url({**environ, "CELERY_DOCKER_BROKER_URL": "redis://said/0"}) == "redis://said/0"


def test_xdg_config_home_counts_and_no_home_is_no_error(home: Path) -> None:
    (home / "celery-docker").mkdir()
    (home / "celery-docker/client.conf").write_text(url("xdg"))
    assert clientfiles.broker_url({"XDG_CONFIG_HOME": str(home), "HOME": "/nowhere"}) == "redis://xdg/0"
    assert clientfiles.broker_url({}) == "redis://127.0.0.1:6379/0"
    assert clientfiles.broker_url({"HOME": "/dev/null"}) == "redis://127.0.0.1:6379/0"


def test_settings_of_the_worker_alone_are_nobodys_business_here(home: Path) -> None:
    (home / "worker").write_text(url("worker") + "CELERY_DOCKER_CONCURRENCY=4\n")
    assert clientfiles.broker_url({}) == "redis://worker/0"


@pytest.mark.parametrize("content", [b"\xff", b"CELERY_DOCKER_NONSENSE=1\n"])
def test_a_file_that_makes_no_sense_is_named(home: Path, content: bytes) -> None:
    (home / "system").write_bytes(content)
    with pytest.raises(errors.SettingsError, match=str(home / "system")):
        clientfiles.broker_url({})
