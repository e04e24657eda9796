"""Notices on their way: a stand-in for sendmail, commands, and web servers that take, refuse, lie and hang."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from celery_docker import errors
from celery_docker.core import notice
from celery_docker.host import messenger, programs
from celery_docker.host.messenger import Messenger
from tests.receivers import HOOK, Place, Web
from tests.waiting import eventually

ROOT = Path(__file__).parents[3]
TOLD = notice.of_job("j1", 1, {"state": "failed", "name": "süms", "reason": "exit code 3"})


@pytest.fixture
def web() -> Iterator[Web]:
    with Web() as server:
        yield server


@pytest.fixture
def place(tmp_path: Path) -> Place:
    made = Place(tmp_path)
    made.program("sendmail", 'echo "$@" >>arguments; cat >mail.$$')
    return made


def refusal(send: Callable[[], None]) -> str:
    with pytest.raises((errors.NotSent, errors.CannotSend)) as caught:
        send()
    assert HOOK not in str(caught.value)
    assert "\n" not in str(caught.value)
    return str(caught.value)


# Mail and commands


def test_a_mail_by_sendmail(place: Place) -> None:
    place.messenger.send("alice@example.org", TOLD)
    (mail,) = place.mails()
    assert mail["To"] == "alice@example.org"
    assert mail["Subject"] == "Job süms (j1) has ended as failed: exit code 3"
    assert mail["Message-ID"] == "<j1.1@celery-docker.invalid>"
    assert (place.folder / "arguments").read_text() == "-i -- alice@example.org\n"


def test_a_sendmail_that_refuses(place: Place) -> None:
    place.program("sendmail", "cat >/dev/null; echo one; echo 'no such user\x1b[31m' >&2; exit 67")
    line = refusal(lambda: place.messenger.send("alice@example.org", TOLD))
    assert line.endswith("/sendmail ended with status 67: no such user\\x1b[31m")


def test_a_host_without_sendmail(place: Place) -> None:
    (place.folder / "sendmail").unlink()
    with pytest.raises(errors.CannotSend, match=r"sendmail cannot be started: No such file or directory$"):
        place.messenger.send("alice@example.org", TOLD)


def test_a_sendmail_that_leaves_a_process_to_deliver(place: Place) -> None:
    """It is not waited for, and lives on."""
    place.program("sendmail", "cat >/dev/null; (until [ -e go ]; do sleep 0.05; done; touch delivered) & exit 0")
    place.messenger.send("alice@example.org", TOLD)
    (place.folder / "go").touch()
    eventually((place.folder / "delivered").exists, 30)


def test_a_command(place: Place) -> None:
    pager = place.program("page", 'echo "$@" >arguments; env >environment; cat >input')
    place.target(pager=[pager, "--team", "a b; touch x $(id)"])
    place.messenger.send("pager", TOLD)
    assert (place.folder / "arguments").read_text() == "--team a b; touch x $(id)\n"
    assert json.loads((place.folder / "input").read_text())["text"] == TOLD.line
    lines = (place.folder / "environment").read_text().splitlines()
    assert "CELERY_DOCKER_NOTICE_ID=j1.1" in lines
    assert f"CELERY_DOCKER_NOTICE={TOLD.line}" in lines
    assert not [line for line in lines if "BROKER" in line or line.startswith("HOME=")]


def test_a_program_that_hangs_is_killed_with_what_it_has_started(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(programs, "SEND_TIMEOUT_S", 1)
    place.target(pager=[place.program("page", "sleep 1000 & echo $! >pid; wait")])
    assert "had not ended after 1 s, and was killed" in refusal(lambda: place.messenger.send("pager", TOLD))
    pid = (place.folder / "pid").read_text().strip()
    eventually(lambda: not Path("/proc", pid).exists() or "zombie" in Path("/proc", pid, "status").read_text(), 30)


@pytest.mark.parametrize("text", ["pager", "pager = 1", "other = 'http://127.0.0.1/'", "\xff"])
def test_a_file_of_targets_that_does_not_say_it(place: Place, text: str) -> None:
    (place.folder / "notify.toml").write_text(text, encoding="latin-1")
    assert "notify.toml" in refusal(lambda: place.messenger.send("pager", TOLD))


def test_a_file_of_targets_that_is_not_there(place: Place) -> None:
    assert "notify.toml is not there" in refusal(lambda: place.messenger.send("pager", TOLD))


# URLs


def test_a_post(place: Place, web: Web) -> None:
    place.target(lab_chat=web.url)
    place.messenger.send("lab-chat", TOLD)
    ((path, headers, body),) = web.posts
    assert path == f"/hook/{HOOK}?a=b"
    assert headers["Idempotency-Key"] == body["id"] == "j1.1"
    assert headers["Content-Type"] == "application/json"
    assert headers["Host"] in web.url
    assert body["text"] == TOLD.line


@pytest.mark.parametrize("status", [302, 307, 400, 404, 429, 500])
def test_whatever_is_no_2xx_is_not_taken(place: Place, web: Web, status: int) -> None:
    """A redirect is not followed: it could lead to whatever listens on this host."""
    web.status = status
    place.target(lab_chat=web.url)
    assert refusal(lambda: place.messenger.send("lab-chat", TOLD)) == f"127.0.0.1 answered with HTTP status {status}"
    assert len(web.posts) == 1


def test_nobody_listens(place: Place, web: Web) -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        place.target(lab_chat=f"http://127.0.0.1:{unused.getsockname()[1]}/{HOOK}")
        line = refusal(lambda: place.messenger.send("lab-chat", TOLD))
    assert line == "127.0.0.1 cannot be reached: Connection refused"


def test_a_name_that_is_not_known(place: Place) -> None:
    place.target(lab_chat=f"http://nowhere.invalid/{HOOK}")
    assert refusal(lambda: place.messenger.send("lab-chat", TOLD)).startswith("nowhere.invalid cannot be reached: ")


@pytest.mark.parametrize("answer", [b"", b"SSH-2.0-x\r\n", b"HTTP/1.1\r\n", b"HTTP/1.1 99999\r\n\r\n", b"\0" * 100_000])
def test_a_server_that_speaks_something_else(place: Place, answer: bytes) -> None:
    with _listening(answer, hangs=False) as port:
        place.target(lab_chat=f"http://127.0.0.1:{port}/{HOOK}")
        assert refusal(lambda: place.messenger.send("lab-chat", TOLD)).startswith("127.0.0.1 ")


@pytest.mark.parametrize("answer", [b"", b"HTTP/1.1 2"])
def test_a_server_that_hangs_is_given_up(place: Place, answer: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(messenger, "SEND_TIMEOUT_S", 1)
    with _listening(answer, hangs=True) as port:
        place.target(lab_chat=f"http://127.0.0.1:{port}/{HOOK}")
        line = refusal(lambda: place.messenger.send("lab-chat", TOLD))
    assert line == "127.0.0.1 cannot be reached: no answer in time"


def test_a_certificate_that_nobody_has_signed(place: Place, web: Web) -> None:
    """A server without TLS stands for it: the handshake fails."""
    place.target(lab_chat=web.url.replace("http:", "https:"))
    assert refusal(lambda: place.messenger.send("lab-chat", TOLD)).startswith("127.0.0.1 cannot be reached: ")


class _listening:
    """A server that says one thing to each, and then hangs or closes."""

    def __init__(self, answer: bytes, *, hangs: bool) -> None:
        self._answer, self._hangs = answer, hangs
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._links: list[socket.socket] = []

    def __enter__(self) -> int:
        threading.Thread(target=self._serve, daemon=True).start()
        port: int = self._listener.getsockname()[1]
        return port

    def __exit__(self, *_: Any) -> None:
        self._listener.close()
        for link in self._links:
            link.close()

    def _serve(self) -> None:
        link, _ = self._listener.accept()
        self._links.append(link)
        link.recv(65536)
        link.sendall(self._answer)
        if not self._hangs:
            link.close()


# celery-docker-notify


@pytest.fixture
def notify_socket(place: Place) -> Iterator[str]:
    """Stands for celery-docker-notify.socket: a process for each connection."""
    path = str(place.folder / "notify.sock")
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(path)
    listener.listen()

    def serve() -> None:
        while True:
            try:
                link, _ = listener.accept()
            except OSError:
                return
            with link:
                script = (
                    "import sys; from celery_docker.core import noticefile; from celery_docker.host import programs; "
                    f"programs.start.__defaults__ = ({str(place.folder / 'notify.toml')!r}, "
                    f"{str(place.folder / 'sendmail')!r}); sys.exit(programs.main())"
                )
                subprocess.run(
                    [sys.executable, "-c", script], stdin=link.fileno(), stdout=link.fileno(), cwd=ROOT, check=True
                )

    threading.Thread(target=serve, daemon=True).start()
    yield path
    listener.shutdown(socket.SHUT_RDWR)
    listener.close()


def asked(place: Place, path: str) -> Messenger:
    return Messenger(str(place.folder / "notify.toml"), path, "/nonexistent")


def test_a_process_of_its_own_starts_programs(place: Place, notify_socket: str) -> None:
    asked(place, notify_socket).send("alice@example.org", TOLD)
    assert len(place.mails()) == 1
    place.target(pager=[place.program("page", "cat >input; echo 'is off'; exit 3")])
    with pytest.raises(errors.NotSent, match=r"page ended with status 3: is off$"):
        asked(place, notify_socket).send("pager", TOLD)
    (place.folder / "sendmail").unlink()
    with pytest.raises(errors.CannotSend, match="cannot be started"):
        asked(place, notify_socket).send("alice@example.org", TOLD)


@pytest.mark.parametrize(
    "question",
    [
        b"",
        b"x",
        b"[]",
        b'{"target": "/bin/true"}',
        b'{"target": "x", "text": "", "notice_id": "", "line": "", "path": "/tmp/own.toml"}',
        b'{"target": "-bs@x", "text": "", "notice_id": "", "line": ""}',
        b'{"target": "a@b.c -X/tmp/x", "text": "", "notice_id": "", "line": ""}',
    ],
)
def test_it_takes_the_name_of_a_target_and_nothing_else(place: Place, notify_socket: str, question: bytes) -> None:
    with socket.socket(socket.AF_UNIX) as link:
        link.connect(notify_socket)
        link.sendall(question)
        link.shutdown(socket.SHUT_WR)
        answer = b"".join(iter(lambda: link.recv(4096), b""))
    assert json.loads(answer)["failure"]
    assert place.mails() == []


def test_a_socket_at_which_nobody_answers(place: Place) -> None:
    with socket.socket(socket.AF_UNIX) as gone:
        gone.bind(str(place.folder / "gone.sock"))
    with pytest.raises(errors.NotSent, match="celery-docker-notify gave no answer"):
        asked(place, str(place.folder / "gone.sock")).send("alice@example.org", TOLD)
