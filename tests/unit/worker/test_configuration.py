"""The check of a worker's configuration, as its start, its reload and `celery-docker check-config` make it."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from celery_docker import errors
from celery_docker.core.signingkeys import Keys
from celery_docker.host.keyfile import KeyFile
from celery_docker.worker import configuration


@pytest.fixture
def environ(tmp_path: Path) -> dict[str, str]:
    policy = tmp_path / "policy.toml"
    policy.write_text('images = ["busybox"]\n')
    return {"CELERY_DOCKER_POLICY": str(policy), "CELERY_DOCKER_CONCURRENCY": "3"}


USABLE = ("", "-Ofair", "-Q night,celery -E", "-n two@%h", "--time-limit=5", "worker.send_task_events=1")


@pytest.mark.parametrize("words", USABLE)
def test_options_that_celery_takes(environ: dict[str, str], words: str) -> None:
    usable = configuration.read({**environ, "CELERY_DOCKER_OPTS": words})
    assert usable.settings.concurrency == 3
    assert usable.policy.images == ("busybox",)


REFUSED = {
    "--nonsense": "No such option",
    "-Q": "requires an argument",
    "--time-limit=soon": "'soon' is not a valid float",
    "night": "the words 'night' are neither options nor Celery's own settings",
    "--help": "must have no option that ends the worker at once",
    "-n a/b": "the worker's name 'celery@a/b' must be",
}


@pytest.mark.parametrize(("words", "expected"), REFUSED.items(), ids=REFUSED)
def test_options_that_no_worker_could_start_with(environ: dict[str, str], words: str, expected: str) -> None:
    with pytest.raises(errors.SettingsError) as raised:
        configuration.read({**environ, "CELERY_DOCKER_OPTS": words})
    assert expected in str(raised.value)
    assert str(raised.value).startswith("CELERY_DOCKER_OPTS")
    assert "\n" not in str(raised.value)


def test_a_policy_that_is_wrong_is_named_with_its_file(environ: dict[str, str], tmp_path: Path) -> None:
    Path(environ["CELERY_DOCKER_POLICY"]).write_text("image = []\n")
    with pytest.raises(errors.SettingsError, match=r"policy\.toml: image is not a rule"):
        configuration.read(environ)
    with pytest.raises(errors.SettingsError, match=r"CELERY_DOCKER_POLICY='/none': cannot be read"):
        configuration.read({**environ, "CELERY_DOCKER_POLICY": "/none"})


def test_a_host_of_signed_jobs_needs_the_key(environ: dict[str, str], tmp_path: Path) -> None:
    environ["CELERY_DOCKER_KEY"] = str(tmp_path / "key")
    configuration.read(environ)
    Path(environ["CELERY_DOCKER_POLICY"]).write_text('submitters = "signed"\n')
    with pytest.raises(errors.SettingsError, match=r"^key: there is no .*; .*celery-docker key new"):
        configuration.read(environ)
    KeyFile(environ["CELERY_DOCKER_KEY"]).write(Keys(b"k" * 32))
    if os.geteuid() == 0:
        configuration.read(environ)
    Path(environ["CELERY_DOCKER_KEY"]).chmod(0o644)
    with pytest.raises(errors.SettingsError, match=r"^key: .* mode 0644.*; chmod 0640 "):
        configuration.read(environ)
    Path(environ["CELERY_DOCKER_KEY"]).write_text("signs 12\n")
    with pytest.raises(errors.SettingsError, match=r"^key: .*/key line 1 is not one of"):
        configuration.read(environ)


def test_the_complaint_is_one_line_and_an_error_in_the_journal(
    environ: dict[str, str], capsys: pytest.CaptureFixture[str]
) -> None:
    environ["CELERY_DOCKER_CONCURRENCY"] = "many"
    line = "celery-worker: CELERY_DOCKER_CONCURRENCY='many': must be a whole number from 0 to 500\n"
    assert configuration.main(environ) == 78
    assert capsys.readouterr().err == line
    assert configuration.main({**environ, "JOURNAL_STREAM": "8:1"}) == 78
    assert capsys.readouterr().err == f"<3>{line}"
