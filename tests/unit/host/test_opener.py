"""The worker's questions to celery-docker-open, with somebody at the other end who answers as told."""

from __future__ import annotations

import errno
import json
import os
import socket
from collections.abc import Callable
from pathlib import Path
from threading import Thread
from typing import Any

import pytest

from celery_docker import errors
from celery_docker.core.access import Identity
from celery_docker.core.jobspec import JobSpec
from celery_docker.core.mountkinds import Mount
from celery_docker.core.plan import Resolved
from celery_docker.core.policy import Policy
from celery_docker.host.opener import Opener
from celery_docker.host.paths import Outside

Said = dict[str, Any] | bytes | None


class Other:
    """Answers one question after the other; with None it ends without a word, with bytes in the middle of one."""

    def __init__(self, path: Path, answers: list[Said]) -> None:
        self.questions: list[dict[str, Any]] = []
        self._answers = answers
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind(str(path))
        self._listener.listen()
        Thread(target=self._serve, daemon=True).start()

    def _serve(self) -> None:
        while True:
            link, _ = self._listener.accept()
            with link:
                text = b""
                while piece := link.recv(65536):
                    text += piece
                self.questions.append(json.loads(text))
                answer = self._answers.pop(0)
                if answer is not None:
                    link.sendall(answer if isinstance(answer, bytes) else json.dumps(answer).encode())


@pytest.fixture
def other(tmp_path: Path) -> Callable[..., tuple[Opener, Other]]:
    def begin(*answers: Said) -> tuple[Opener, Other]:
        path = tmp_path / "open.sock"
        return Opener(str(path), "celery@here"), Other(path, list(answers))

    return begin


RULES = Policy(mounts=("/data",), logs=("/log",))
ROOT = Identity("root", 0, 0, ())
FULL = JobSpec("busybox", user="0", inputpath="/data/in", outputpath="/data/out", logoutfile="/log/o")
PINNED = {
    "places": {"inputpath": {"real": "/data/real"}, "outputpath": {"exit": "/etc"}, "logoutfile": {"errno": 2}},
    "pins": {"inputpath": "/pins/in"},
}


def test_a_pin(other: Callable[..., tuple[Opener, Other]]) -> None:
    opener, asked = other(PINNED)
    found = opener.pin("j1", FULL, RULES, ROOT)
    assert found.pins == {"inputpath": "/pins/in"}
    assert found.follow("inputpath", "/data/in", ()) == "/data/real"
    with pytest.raises(Outside) as caught:
        found.follow("outputpath", "/data/out", ())
    assert caught.value.exit == "/etc"
    with pytest.raises(FileNotFoundError):
        found.follow("logoutfile", "/log/o", ())
    (question,) = asked.questions
    assert question["user"]["uid"] == 0
    assert (question["mounts"], question["logs"]) == (
        {"inputpath": "/data/in", "outputpath": "/data/out"},
        {"logoutfile": "/log/o"},
    )
    assert (question["roots"], question["log_roots"]) == (["/data"], ["/data", "/log"])


def test_an_opener_of_the_previous_version_does_not_know_further_mounts(
    other: Callable[..., tuple[Opener, Other]],
) -> None:
    """It would pin all but the inputpath writable. It reads `mounts`, and without it ends before it has pinned."""
    places = {name: {"real": "/data/x"} for name in ("inputpath", "mounts.0", "mounts.1")}
    pins = {name: f"/pins/{name}" for name in places}
    opener, asked = other({"places": places, "pins": pins})
    mounts = (Mount("/data/ref", "/ref", is_read_only=True), Mount("/data/work", "/work"))
    found = opener.pin("j1", JobSpec("busybox", inputpath="/data/in", mounts=mounts), RULES, ROOT)
    (question,) = asked.questions
    assert "mounts" not in question
    assert question["folders"] == {
        "inputpath": {"path": "/data/in", "read_only": True},
        "mounts.0": {"path": "/data/ref", "read_only": True},
        "mounts.1": {"path": "/data/work", "read_only": False},
    }
    resolved = found.pinned(Resolved(inputpath="/data/x", mounts=("/data/x", "/data/x")))
    assert (resolved.inputpath, resolved.mounts) == ("/pins/inputpath", ("/pins/mounts.0", "/pins/mounts.1"))


def test_a_mount_without_a_pin_is_never_left_out(other: Callable[..., tuple[Opener, Other]]) -> None:
    opener, _ = other({"places": {"mounts.0": {"real": "/data/ref"}}, "pins": {}})
    found = opener.pin("j1", JobSpec("busybox", mounts=(Mount("/data/ref", "/ref"),)), RULES, ROOT)
    with pytest.raises(KeyError):
        found.pinned(Resolved(mounts=("/data/ref",)))


@pytest.mark.parametrize("broken", [None, json.dumps(PINNED).encode()[:-1]])
def test_the_other_side_may_be_killed_twice(other: Callable[..., tuple[Opener, Other]], broken: bytes | None) -> None:
    """Before it answers, or in the middle of an answer that is long, as for a job with many mounts."""
    opener, asked = other(broken, broken, PINNED)
    assert opener.pin("j1", FULL, RULES, ROOT).pins == {"inputpath": "/pins/in"}
    assert len(asked.questions) == 3
    assert asked.questions[0] == asked.questions[2]


@pytest.mark.parametrize(
    ("answers", "words"),
    [
        ([None, b"{", None], "celery-docker-open ends without an answer"),
        ([{"failure": "No space left"}], "No space"),
    ],
)
def test_no_answer_is_the_hosts_fault(
    other: Callable[..., tuple[Opener, Other]], answers: list[Said], words: str
) -> None:
    opener, _ = other(*answers)
    with pytest.raises(errors.HostError, match=words):
        opener.pin("j1", FULL, RULES, ROOT)


def test_what_could_not_be_released_is_released_with_the_next(other: Callable[..., tuple[Opener, Other]]) -> None:
    opener, asked = other({"failure": "busy"}, {}, {}, {})
    opener.release("j1")
    opener.release("j2")
    assert {question["job"] for question in asked.questions[1:]} == {"j1", "j2"}
    opener.release("j3")
    assert [question["job"] for question in asked.questions[3:]] == ["j3"]


def test_what_is_pinned_again_is_not_released_with_the_next(other: Callable[..., tuple[Opener, Other]]) -> None:
    opener, asked = other({"failure": "busy"}, PINNED, {})
    opener.release("j1")
    opener.pin("j1", FULL, RULES, ROOT)
    opener.release("j2")
    assert [question["job"] for question in asked.questions] == ["j1", "j1", "j2"]


def test_what_is_pinned_again_meanwhile_keeps_its_pins(
    other: Callable[..., tuple[Opener, Other]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its first attempt could not be released; the next one begins while another job's pins are let go of."""
    opener, asked = other({"failure": "busy"}, {}, PINNED, {})
    opener.release("j1")
    ask = opener._ask

    def met(**question: Any) -> Any:
        answer = ask(**question)
        if question["job"] == "j2":
            opener.pin("j1", FULL, RULES, ROOT)
        return answer

    monkeypatch.setattr(opener, "_ask", met)
    opener.release("j2")
    assert [(question["question"], question["job"]) for question in asked.questions[1:]] == [
        ("release", "j2"),
        ("pin", "j1"),
    ]


def test_what_cannot_be_opened_is_said_by_its_number(other: Callable[..., tuple[Opener, Other]]) -> None:
    opener, asked = other({"place": {"errno": 2}}, {"place": {"errno": 13}})
    with pytest.raises(FileNotFoundError):
        opener.open_log("/log/o", ROOT)
    with pytest.raises(PermissionError):
        opener.open_log("/log/o", None)
    assert [question["user"]["uid"] for question in asked.questions] == [0, os.geteuid()]


def test_a_log_for_which_this_process_has_no_handle_is_the_hosts_trouble(
    other: Callable[..., tuple[Opener, Other]],
) -> None:
    """The kernel hands over as many as there is room for, and says nothing of the others."""
    opener, _ = other({"place": {"real": "/log/o"}})
    with pytest.raises(OSError, match="Too many open files") as caught:
        opener.open_log("/log/o", ROOT)
    assert caught.value.errno == errno.EMFILE
