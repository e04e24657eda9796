"""A client's settings: which layer wins, what is told about it, and what is refused."""

from __future__ import annotations

from collections.abc import Mapping

import pytest

from celery_docker import errors
from celery_docker.client import configlayers
from celery_docker.client.configlayers import Value

URL, QUEUE, TOKEN_FILE = "CELERY_DOCKER_BROKER_URL", "CELERY_DOCKER_QUEUE", "CELERY_DOCKER_TOKEN_FILE"
SYSTEM = configlayers.SYSTEM_FILE
HOME = "/home/alice/.config/celery-docker/client.conf"


def resolve(*layers: tuple[str, Mapping[str, str]]) -> list[tuple[str, str]]:
    return [(value.value, value.source) for value in configlayers.resolve(layers, "broker_url", "queue")]


DEFAULT_URL = ("redis://127.0.0.1:6379/0", "default")
DEFAULT_QUEUE = ("celery", "default")


@pytest.mark.parametrize(
    ("layers", "expected"),
    [
        pytest.param([], [DEFAULT_URL, DEFAULT_QUEUE], id="nothing said"),
        pytest.param([(SYSTEM, {URL: "redis://a"})], [("redis://a", SYSTEM), DEFAULT_QUEUE], id="one file"),
        pytest.param(
            [(SYSTEM, {URL: "redis://a", QUEUE: "a"}), (HOME, {URL: "redis://b"})],
            [("redis://b", HOME), ("a", SYSTEM)],
            id="the later wins, each setting by itself",
        ),
        pytest.param(
            [(SYSTEM, {QUEUE: "a"}), (HOME, {QUEUE: "b"}), ("environment", {QUEUE: "c"}), ("--queue", {QUEUE: "d"})],
            [DEFAULT_URL, ("d", "--queue")],
            id="all layers",
        ),
        pytest.param(
            [(SYSTEM, {QUEUE: "a"}), ("environment", {QUEUE: " ", URL: ""})],
            [DEFAULT_URL, ("a", SYSTEM)],
            id="empty counts as unset",
        ),
        pytest.param(
            [("environment", {"PATH": "/bin", "CELERY_DOCKER_CONCURRENCY": "x", QUEUE: " gpu "})],
            [DEFAULT_URL, ("gpu", "environment")],
            id="other variables are nobody's business",
        ),
        pytest.param(
            [(SYSTEM, {URL: "http://a"}), (HOME, {URL: "rediss://b:7/1"})],
            [("rediss://b:7/1", HOME), DEFAULT_QUEUE],
            id="what is overruled need not be right",
        ),
    ],
)
def test_layers(layers: list[tuple[str, Mapping[str, str]]], expected: list[tuple[str, str]]) -> None:
    assert resolve(*layers) == expected


def test_the_names_of_the_settings() -> None:
    assert [value.name for value in configlayers.resolve([])] == ["broker_url", "queue", "token_file"]


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (Value("broker_url", "redis://:s3cret@h:6379/0", HOME), f"broker_url=redis://:***@h:6379/0 ({HOME})"),
        (Value("broker_url", "redis://u:s3@cret@h", "x"), "broker_url=redis://u:***@h (x)"),
        (Value("queue", "celery", "default"), "queue=celery (default)"),
    ],
)
def test_shown_has_no_secrets(value: Value, expected: str) -> None:
    assert value.shown() == expected


@pytest.mark.parametrize(
    ("variables", "words"),
    [
        ({URL: "http://h"}, f"{HOME}: {URL}='http://h': must begin with https://, for a proxy there"),
        ({URL: "http://u:s3cret@h"}, f"{HOME}: {URL}='http://u:***@h': must have no token in it: put that into a file"),
        ({TOKEN_FILE: "token"}, f"{HOME}: {TOKEN_FILE}='token': must be an absolute path"),
        ({QUEUE: "a b"}, f"{HOME}: {QUEUE}='a b': must be the name of one queue"),
        ({QUEUE: "a,b"}, f"{HOME}: {QUEUE}='a,b': must be the name of one queue"),
        ({QUEUE: "a\x1b"}, f"{HOME}: {QUEUE}='a\\x1b': must be the name of one queue"),
    ],
)
def test_refused_values(variables: dict[str, str], words: str) -> None:
    with pytest.raises(errors.SettingsError) as caught:
        configlayers.resolve([(SYSTEM, {}), (HOME, variables)])
    assert str(caught.value).startswith(words)
    assert "s3cret" not in str(caught.value)


def test_a_file_is_read_like_the_workers() -> None:
    text = f'# where\n{URL}="redis://:pw@h/0"\n\n; which\n {QUEUE} = gpu \n'
    assert configlayers.parse_file(HOME, text) == {URL: "redis://:pw@h/0", QUEUE: "gpu"}


@pytest.mark.parametrize("line", ["broker_url=redis://:s3cret@h", "CELERY_DOCKER_QUEU=s3cret", "=s3cret"])
def test_an_unknown_key_in_a_file(line: str) -> None:
    with pytest.raises(errors.SettingsError) as caught:
        configlayers.parse_file(HOME, f"{QUEUE}=a\n{line}\n")
    key = line.partition("=")[0]
    known = f"{URL}, {QUEUE}, {TOKEN_FILE}"
    assert str(caught.value) == f"{HOME}: {key!r} is not a setting of a client; known are {known}"


def test_a_url_that_is_no_text_is_refused_without_its_password() -> None:
    layer = {"CELERY_DOCKER_BROKER_URL": "redis://:s3cret\udcff@h"}
    with pytest.raises(errors.SettingsError, match="must look like redis://") as caught:
        configlayers.resolve([("environment", layer)])
    assert "s3cret" not in str(caught.value)


@pytest.mark.parametrize(
    ("url", "names_gateways"),
    [("ftp://x", True), ("host:6379", True), ("http:/x", True), ("redis://h/x", False), ("unix://", False)],
)
def test_a_url_of_an_unknown_kind_is_told_all_kinds(url: str, names_gateways: bool) -> None:
    with pytest.raises(errors.SettingsError) as caught:
        configlayers.resolve([("environment", {URL: url})])
    line = str(caught.value)
    ending = "; that of a gateway, like https://HOST or http+unix:///run/celery-docker/api.sock"
    assert line.startswith(f"environment: {URL}={url!r}: ")
    assert line.endswith(ending) is names_gateways


def test_a_line_that_sets_nothing_is_named_and_not_shown() -> None:
    with pytest.raises(errors.SettingsError, match=r"^client.conf, line 3: must be KEY=value, or a comment after '#'$"):
        configlayers.parse_file("client.conf", "# ok\n\nCELERY_DOCKER_BROKER_URL redis://:secret@h\n")


@pytest.mark.parametrize(
    ("private", "expected"),
    [
        ({URL: "redis://:pw@a:6380/0"}, {QUEUE: "q"}),
        ({URL: "redis://a:6380/0"}, {QUEUE: "q"}),
        ({URL: "redis://:pw@b:6380/0"}, {URL: "redis://a:6380/0", QUEUE: "q"}),
        ({}, {URL: "redis://a:6380/0", QUEUE: "q"}),
    ],
)
def test_who_may_read_the_login_uses_it(private: dict[str, str], expected: dict[str, str]) -> None:
    assert configlayers.without_public_broker({URL: "redis://a:6380/0", QUEUE: "q"}, private) == expected
