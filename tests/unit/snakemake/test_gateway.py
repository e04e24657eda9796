"""Which service the plugin asks, with which token, and what it makes of answers."""

from __future__ import annotations

import json
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.unit.snakemake import load

gateway = load("gateway")
TOKEN, OTHER = "t" * 43, "o" * 43
SOCKET = "http+unix:///run/celery-docker/api.sock"


@pytest.fixture(autouse=True)
def no_file_of_this_host(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(gateway, "SYSTEM_FILE", str(tmp_path / "system.conf"))


def config(tmp_path: Path, text: str, token: str = "", mode: int = 0o600) -> dict[str, str]:
    folder = tmp_path / ".config/celery-docker"
    folder.mkdir(parents=True)
    (folder / "client.conf").write_text(text)
    if token:
        (folder / "token").write_text(token)
        (folder / "token").chmod(mode)
    return {"HOME": str(tmp_path)}


def test_the_socket_of_the_host_unless_something_is_set(tmp_path: Path) -> None:
    assert gateway.of({}).url == SOCKET
    assert gateway.of({"HOME": "relative"}).url == SOCKET
    assert gateway.of(config(tmp_path, "# nothing\n")).url == SOCKET


def test_a_later_setting_wins_and_a_redis_is_passed_over(tmp_path: Path) -> None:
    (tmp_path / "system.conf").write_text('CELERY_DOCKER_BROKER_URL="http+unix:///a"\n')
    environ = config(tmp_path, "#CELERY_DOCKER_BROKER_URL=x\n CELERY_DOCKER_BROKER_URL = redis://127.0.0.1\n")
    assert gateway.of(environ).url == "http+unix:///a"
    environ["CELERY_DOCKER_BROKER_URL"] = "http+unix:///b"
    assert gateway.of(environ).url == "http+unix:///b"
    assert gateway.of(environ, "http+unix:///c").url == "http+unix:///c"
    environ["CELERY_DOCKER_BROKER_URL"] = "unix:///run/redis.sock"
    assert gateway.of(environ).url == "http+unix:///a"


def test_a_token_of_the_environment_or_of_a_file(tmp_path: Path) -> None:
    environ = config(tmp_path, "CELERY_DOCKER_BROKER_URL=https://jobs.example.org\n", f"{TOKEN}\n")
    assert gateway.of(environ).token == TOKEN
    assert TOKEN not in repr(gateway.of(environ))
    assert gateway.of({**environ, "CELERY_DOCKER_TOKEN": OTHER}).token == OTHER
    (tmp_path / "elsewhere").write_text(OTHER)
    (tmp_path / "elsewhere").chmod(0o600)
    (tmp_path / "system.conf").write_text("CELERY_DOCKER_TOKEN_FILE=/nonexistent\n")
    assert gateway.of({**environ, "CELERY_DOCKER_TOKEN_FILE": str(tmp_path / "elsewhere")}).token == OTHER


@pytest.mark.parametrize(
    ("token", "mode", "complaint"),
    [
        ("", 0o600, "cannot read the token in .*/token: No such file"),
        (TOKEN, 0o604, "has mode 0604, so others can use"),
        (TOKEN, 0o644, "has mode 0644, so others can use the token in it; chmod 0600"),
        ("two words", 0o600, "has no token as celery-docker token add prints it"),
        ("\n", 0o600, "has no token"),
    ],
)
def test_a_token_that_cannot_be_used(tmp_path: Path, token: str, mode: int, complaint: str) -> None:
    environ = config(tmp_path, "CELERY_DOCKER_BROKER_URL=https://jobs.example.org\n", token, mode)
    with pytest.raises(ValueError, match=complaint):
        gateway.of(environ)


@pytest.mark.parametrize("url", ["https://h", "https://h:1/p", "http://127.0.0.1:9809", "http://[::1]:1", SOCKET])
def test_a_url(url: str) -> None:
    assert gateway.checked_url(url) == url


@pytest.mark.parametrize("url", ["http://h", "ftp://h", "h", "", "http+unix://", "http+unix://h/x", "https://a:b@h"])
def test_a_url_that_cannot_be_used(url: str) -> None:
    with pytest.raises(ValueError, match="URL of celery-docker-api"):
        gateway.checked_url(url)


@contextmanager
def answering(tmp_path: Path, *answers: bytes) -> Iterator[str]:
    """A service that gives each request its answer, whatever it asks, and closes."""
    path = str(tmp_path / "api.sock")
    left = list(answers)
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(path)
        listening.listen()

        def serve() -> None:
            while left:
                try:
                    connection, _ = listening.accept()
                except OSError:
                    return  # The test has ended, and asked too little.
                with connection:
                    connection.recv(65_536)
                    connection.sendall(left.pop(0))

        thread = threading.Thread(target=serve)
        thread.start()
        try:
            yield f"http+unix://{path}"
        finally:
            listening.shutdown(socket.SHUT_RDWR)
            thread.join(60)
    assert left == []


def answer(status: int, body: object) -> bytes:
    text = json.dumps(body).encode() if not isinstance(body, bytes) else body
    return b"HTTP/1.1 %d X\r\nContent-Length: %d\r\n\r\n%s" % (status, len(text), text)


@pytest.mark.parametrize(
    ("given", "kind", "complaint"),
    [
        (answer(400, {"error": "jobs[0].image: 'B' must be"}), "Refused", "jobs.0..image: 'B' must be"),
        (answer(403, {"error": "no"}), "Refused", "no"),
        (answer(503, {"error": "Redis is away"}), "Away", "Redis is away"),
        (answer(429, {"error": "many"}), "Away", "many"),
        (answer(502, b"<html>Bad Gateway"), "Away", "does not answer as celery-docker-api"),
        (answer(200, b"<html>Welcome"), "Refused", "does not answer as celery-docker-api"),
        (answer(200, ["a list"]), "Refused", "does not answer as celery-docker-api"),
        (b"", "Away", "api.sock"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n{", "Away", "api.sock"),
        (b"SSH-2.0-OpenSSH\r\n", "Away", "api.sock"),
    ],
)
def test_answers_that_are_none(tmp_path: Path, given: bytes, kind: str, complaint: str) -> None:
    with answering(tmp_path, given) as url, pytest.raises(getattr(gateway, kind), match=complaint):
        gateway.Gateway(url).ask("GET", "identity")


def test_a_service_that_is_not_there_is_away(tmp_path: Path) -> None:
    with pytest.raises(gateway.Away, match="No such file"):
        gateway.Gateway(f"http+unix://{tmp_path}/none").ask("GET", "identity")


def test_states_of_many_jobs_are_few_requests(tmp_path: Path) -> None:
    ids = [str(number) for number in range(250)]
    answers = (answer(200, {"states": ["running"] * 200}), answer(200, {"states": [None] * 50}))
    with answering(tmp_path, *answers) as url:
        states = gateway.Gateway(url).states(ids)
    assert list(states) == ids
    assert (states["199"], states["200"]) == ("running", None)


def test_an_answer_of_something_else_is_refused(tmp_path: Path) -> None:
    """Whatever it is, the thread that asks about the jobs goes on."""
    with (
        answering(tmp_path, answer(200, {"hello": 1})) as url,
        pytest.raises(gateway.Refused, match="it has no states"),
    ):
        gateway.Gateway(url).states(["a"])


def test_the_complaint_of_a_job_is_the_end_of_its_standard_error(tmp_path: Path) -> None:
    def piece(stream: str, text: str) -> dict[str, object]:
        return {"stream": stream, "attempt": 1, "offset": 0, "base64": text}

    pieces = [piece("stdout", "b3V0"), piece("stderr", "b25l")]
    answers = [
        answer(200, {"pieces": pieces, "last": "1-0", "has_ended": True}),
        answer(200, {"pieces": [piece("stderr", "dHdv")], "last": "2-0", "has_ended": True}),
        answer(200, {"pieces": [], "last": "2-0", "has_ended": True}),
    ]
    with answering(tmp_path, *answers) as url:
        assert gateway.Gateway(url).complaint("x") == "onetwo"
    (tmp_path / "api.sock").unlink()
    answers = [answer(200, {"pieces": pieces[:1], "last": "1-0"}), answer(200, {"pieces": [], "last": "1-0"})]
    with answering(tmp_path, *answers) as url:
        assert gateway.Gateway(url).complaint("x") == "out"
