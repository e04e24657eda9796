"""Where a submitter's settings come from, and what is said where they may not be read."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from celery_docker import errors
from celery_docker.cli import lastid
from celery_docker.client import configfiles, configlayers
from celery_docker.core import gatewayurl

URL = "CELERY_DOCKER_BROKER_URL"


@pytest.fixture
def files(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> dict[str, Path]:
    """The files that are read, weakest first; none of them is there yet."""
    paths = {"worker": tmp_path / "default", "system": tmp_path / "client.conf", "home": tmp_path / "home"}
    monkeypatch.setattr(configfiles, "DEFAULTS_FILE", str(paths["worker"]))
    monkeypatch.setattr(configlayers, "SYSTEM_FILE", str(paths["system"]))
    paths["user"] = paths["home"] / ".config/celery-docker/client.conf"
    paths["user"].parent.mkdir(parents=True)
    return paths


def test_each_layer_goes_over_the_one_before(files: dict[str, Path]) -> None:
    environ = {"HOME": str(files["home"])}
    brokers = [(configfiles.read(environ, {}).broker_url)]
    for number, name in enumerate(("worker", "system", "user"), 1):
        files[name].write_text(f"{URL}=redis://layer{number}\n")
        brokers.append(configfiles.read(environ, {}).broker_url)
    environ |= {URL: "redis://layer4"}
    brokers += [configfiles.read(environ, flags).broker_url for flags in ({}, {"--broker": "redis://layer5"})]
    assert brokers == ["redis://127.0.0.1:6379/0", *(f"redis://layer{number}" for number in range(1, 6))]


def test_the_worker_file_may_say_more_than_a_client_knows(files: dict[str, Path]) -> None:
    files["worker"].write_text(f"CELERY_DOCKER_CONCURRENCY=4\n{URL}=redis://a\n")
    config = configfiles.read({}, {})
    assert [(setting.value, setting.source) for setting in config.values] == [
        ("redis://a", str(files["worker"])),
        ("celery", "default"),
        ("", "default"),
    ]


@pytest.mark.parametrize(
    ("environ", "expected"),
    [
        ({"XDG_CONFIG_HOME": "{home}/.config"}, "redis://mine"),
        ({"HOME": "{home}"}, "redis://mine"),
        # A relative folder of the XDG directories is not valid.
        ({"XDG_CONFIG_HOME": ".config", "HOME": "{home}"}, "redis://mine"),
        ({"XDG_CONFIG_HOME": "/nowhere", "HOME": "{home}"}, "redis://127.0.0.1:6379/0"),
        ({"HOME": "/nowhere/at/all"}, "redis://127.0.0.1:6379/0"),
        ({"HOME": ""}, "redis://127.0.0.1:6379/0"),
        ({}, "redis://127.0.0.1:6379/0"),
    ],
)
def test_the_users_own_file(files: dict[str, Path], environ: dict[str, str], expected: str) -> None:
    files["user"].write_text(f"{URL}=redis://mine\n")
    around = {name: value.format(home=files["home"]) for name, value in environ.items()}
    assert configfiles.read(around, {}).broker_url == expected


def test_a_file_that_is_none_is_named(files: dict[str, Path]) -> None:
    files["system"].mkdir()
    with pytest.raises(errors.SettingsError, match=r"^cannot read .*client.conf: Is a directory"):
        configfiles.read({}, {})


def test_a_file_of_keys_that_depends_on_the_folder_is_refused(files: dict[str, Path]) -> None:
    assert configfiles.key_file({"CELERY_DOCKER_KEY": "/etc/key"}) == "/etc/key"
    with pytest.raises(errors.SettingsError, match=r"^CELERY_DOCKER_KEY='key': must be an absolute path"):
        configfiles.key_file({"CELERY_DOCKER_KEY": "key"})


def test_bytes_that_are_no_text_are_named(files: dict[str, Path]) -> None:
    files["system"].write_bytes(b"# \xff\n")
    with pytest.raises(errors.SettingsError, match=r"client.conf: is not UTF-8 text, at byte 2"):
        configfiles.read({}, {})


def test_a_bad_flag_is_a_matter_of_usage(files: dict[str, Path]) -> None:
    with pytest.raises(errors.UsageError, match=r"^--broker: CELERY_DOCKER_BROKER_URL='x': must look like"):
        configfiles.read({}, {"--broker": "x"})


def _forbid(monkeypatch: pytest.MonkeyPatch, *paths: Path) -> None:
    """Root may read everything, and the tests run as root."""
    really = Path.open

    def open_file(self: Path, mode: str = "r") -> Any:
        if self in paths:
            raise PermissionError(13, "Permission denied")
        return really(self, mode)

    monkeypatch.setattr(Path, "open", open_file)


def test_who_may_not_read_is_told_whom_to_ask_only_where_it_matters(
    files: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    _forbid(monkeypatch, files["worker"])
    config = configfiles.read({}, {})
    assert config.closed == (str(files["worker"]),)
    line = str(config.with_remedy(errors.StoreRefused("Redis refuses")))
    assert line == (
        f"Redis refuses; you may not read {files['worker']}: ask the administrator for membership in group celery, or "
        "for a URL of your own to put into ~/.config/celery-docker/client.conf"
    )


def test_a_refusal_says_what_to_ask_for(files: dict[str, Path]) -> None:
    config = configfiles.read({}, {})
    assert str(config.with_remedy(errors.StoreRefused("no"))) == (
        "no; ask the administrator for a URL of your own to put into ~/.config/celery-docker/client.conf"
    )
    assert str(config.with_remedy(errors.StoreAway("away"))) == "away"


def test_last(tmp_path: Path) -> None:
    environ = {"HOME": str(tmp_path)}
    with pytest.raises(errors.NoSuchJob, match="@last: it is not known what you have submitted last"):
        lastid.expand(environ, "@last")
    lastid.remember(environ, "0f3a")
    assert lastid.expand(environ, "@last") == "0f3a"
    assert lastid.expand(environ, "other") == "other"
    assert lastid.expand({"XDG_STATE_HOME": str(tmp_path / ".local/state")}, "@last") == "0f3a"


@pytest.mark.parametrize("home", ["/proc/nowhere", "/dev/null", ""])
def test_no_home_is_no_error(home: str) -> None:
    lastid.remember({"HOME": home}, "0f3a")
    with pytest.raises(errors.NoSuchJob):
        lastid.expand({"HOME": home}, "@last")


@pytest.fixture
def gateway(files: dict[str, Path], monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[str]:
    """The socket of a gateway, on a host whose workers' settings this user may not read."""
    path = tmp_path / "api.sock"
    read = configfiles._text
    monkeypatch.setattr(configfiles, "GATEWAY_SOCKET", str(path))
    monkeypatch.setattr(configfiles, "_text", lambda name: None if name == str(files["worker"]) else read(name))
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(path))
        yield gatewayurl.URL


def test_the_gateway_is_the_default_of_who_may_not_read_the_workers_settings(
    files: dict[str, Path], gateway: str
) -> None:
    environ = {"HOME": str(files["home"])}
    config = configfiles.read(environ, {})
    assert (config.broker_url, config.values[0].source) == (gateway, configfiles.GATEWAY_SOCKET)
    # As setup-redis leaves it: a Redis that does not let this user in.
    files["system"].write_text(f"{URL}=redis://127.0.0.1:6399/0\n")
    assert configfiles.read(environ, {}).broker_url == gateway
    # A login that everybody may read is for everybody.
    files["system"].write_text(f"{URL}=redis://submitter:pw@host/0\n")
    assert configfiles.read(environ, {}).broker_url == "redis://submitter:pw@host/0"
    files["user"].write_text(f"{URL}=redis://mine\n")
    assert configfiles.read(environ, {}).broker_url == "redis://mine"
    files["system"].unlink()
    assert configfiles.read(environ, {}).broker_url == "redis://mine"
    assert configfiles.read({URL: "redis://env"}, {}).broker_url == "redis://env"


def test_who_may_read_the_workers_settings_goes_to_redis(
    files: dict[str, Path], gateway: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.undo()
    monkeypatch.setattr(configfiles, "DEFAULTS_FILE", str(files["worker"]))
    files["worker"].write_text("\n")
    assert configfiles.read({}, {}).broker_url.startswith("redis://")


def test_a_gateway_that_is_away_is_no_matter_of_a_login(files: dict[str, Path], gateway: str) -> None:
    complaint = errors.StoreAway("cannot reach celery-docker-api")
    assert configfiles.read({}, {}).with_remedy(complaint) is complaint
