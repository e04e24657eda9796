"""The token of whoever asks: where it comes from, and a file that others can read."""

from __future__ import annotations

from pathlib import Path

import pytest

from celery_docker import errors
from celery_docker.cli import main
from celery_docker.client import configfiles, configlayers, usertoken
from celery_docker.client.client import Client

SECRET, OTHER = "s" * 43, "o" * 43
Output = pytest.CaptureFixture[str]


@pytest.fixture
def home(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """A home with a folder of settings, on a machine without any."""
    monkeypatch.setattr(configfiles, "DEFAULTS_FILE", str(tmp_path / "default"))
    monkeypatch.setattr(configlayers, "SYSTEM_FILE", str(tmp_path / "client.conf"))
    (tmp_path / ".config/celery-docker").mkdir(parents=True)
    return tmp_path


def put(path: Path, text: str = f"{SECRET}\n", mode: int = 0o600) -> Path:
    path.write_text(text, encoding="latin-1")
    path.chmod(mode)
    return path


def test_the_file_of_the_user(home: Path) -> None:
    file = put(home / ".config/celery-docker/token")
    found = usertoken.read({"HOME": str(home)})
    assert (found.secret, found.source) == (SECRET, str(file))
    assert SECRET not in repr(found)
    assert usertoken.read({"XDG_CONFIG_HOME": str(home / ".config")}) == found


def test_each_layer_goes_over_the_one_before(home: Path) -> None:
    put(home / ".config/celery-docker/token")
    other = put(home / "other", OTHER)
    put(home / "client.conf", f"CELERY_DOCKER_TOKEN_FILE={other}\n", 0o644)
    assert usertoken.read({"HOME": str(home)}).secret == OTHER
    third = put(home / "third", "t" * 43)
    environ = {"HOME": str(home), "CELERY_DOCKER_TOKEN_FILE": str(third)}
    assert usertoken.read(environ).source == str(third)
    found = usertoken.read({**environ, "CELERY_DOCKER_TOKEN": SECRET})
    assert (found.secret, found.source) == (SECRET, "environment")


def test_a_token_in_a_file_of_settings_is_refused_and_not_shown(home: Path) -> None:
    put(home / "client.conf", f"CELERY_DOCKER_TOKEN={SECRET}\n", 0o644)
    with pytest.raises(errors.SettingsError, match="'CELERY_DOCKER_TOKEN' is not a setting of a client") as caught:
        usertoken.read({"HOME": str(home)})
    assert SECRET not in str(caught.value)


@pytest.mark.parametrize("mode", [0o644, 0o604, 0o660, 0o640, 0o602, 0o601])
def test_a_file_that_others_can_read(home: Path, mode: int) -> None:
    file = put(home / ".config/celery-docker/token", mode=mode)
    line = rf"^{file} has mode {mode:04o}, so others can use the token in it; chmod 0600 {file}"
    with pytest.raises(errors.SettingsError, match=line):
        usertoken.read({"HOME": str(home)})


@pytest.mark.parametrize(
    "text",
    ["", "short", f"{SECRET}x", f"{SECRET}\n{SECRET}", f"{SECRET}\0", "\xe9" * 43, SECRET[:-1] + " ", "x" * 5000],
)
def test_what_is_no_token(home: Path, text: str) -> None:
    file = put(home / ".config/celery-docker/token", text)
    with pytest.raises(errors.SettingsError) as caught:
        usertoken.read({"HOME": str(home)})
    assert str(caught.value) == f"{file}: this is no token as celery-docker token add prints it; copy all of it"
    if text.strip():
        with pytest.raises(errors.SettingsError, match=r"^CELERY_DOCKER_TOKEN: this is no token"):
            usertoken.read({"CELERY_DOCKER_TOKEN": text})


def test_a_file_that_windows_has_written(home: Path) -> None:
    path = home / ".config/celery-docker/token"
    put(path, f"\xef\xbb\xbf{SECRET}\r\n")
    assert usertoken.read({"HOME": str(home)}).secret == SECRET
    path.write_bytes(SECRET.encode("utf-16"))
    with pytest.raises(errors.SettingsError, match=r"it is UTF-16 text, as Windows writes 'Unicode'"):
        usertoken.read({"HOME": str(home)})


def test_no_token(home: Path) -> None:
    path = home / ".config/celery-docker/token"
    with pytest.raises(errors.SettingsError, match=rf"^there is no token: put the one .* into {path}, with mode 0600"):
        usertoken.read({"HOME": str(home)})
    with pytest.raises(
        errors.SettingsError, match=r"^there is no token: set CELERY_DOCKER_TOKEN, or CELERY_DOCKER_TOKEN_"
    ):
        usertoken.read({})
    path.mkdir()
    with pytest.raises(errors.SettingsError, match=r"cannot read the token in .*: Is a directory; make it a file"):
        usertoken.read({"HOME": str(home)})
    with pytest.raises(errors.SettingsError, match=r"CELERY_DOCKER_TOKEN_FILE='token': must be an absolute path"):
        usertoken.read({"CELERY_DOCKER_TOKEN_FILE": "token"})


def test_config_shows_where_the_token_is_from_and_not_the_token(home: Path, capsys: Output) -> None:
    environ = {"HOME": str(home), "CELERY_DOCKER_BROKER_URL": "https://jobs.example.org"}
    assert main.main(["config"], environ) == 0
    assert "there is no token: put the one" in capsys.readouterr().err
    file = put(home / ".config/celery-docker/token")
    assert main.main(["config"], environ) == 0
    out, err = capsys.readouterr()
    assert (["token", "***", str(file)] in [line.split() for line in out.splitlines()], err) == (True, "")
    assert main.main(["config"], {**environ, "CELERY_DOCKER_TOKEN": SECRET}) == 0
    assert SECRET not in "".join(capsys.readouterr())
    # It is nothing for a Redis.
    assert main.main(["config"], {"HOME": str(home), "CELERY_DOCKER_TOKEN": SECRET}) == 0
    assert "***" not in capsys.readouterr().out


def test_no_command_takes_a_token(home: Path, capsys: Output) -> None:
    assert main.main(["ps", "--token", SECRET], {"HOME": str(home)}) == 2
    assert main.main(["ps", "--broker", f"https://{SECRET}@host"], {"HOME": str(home)}) == 2
    assert SECRET not in capsys.readouterr().err.partition("--broker")[2]


@pytest.mark.parametrize("url", ["http://jobs.example.org", "https://a:b@host"])
def test_python_sends_no_token_in_the_clear(monkeypatch: pytest.MonkeyPatch, url: str) -> None:
    monkeypatch.setenv("CELERY_DOCKER_TOKEN", SECRET)
    with pytest.raises(errors.SettingsError, match=r"^https?://.*: must (begin with https|have no token)"):
        Client(url).job("a")
