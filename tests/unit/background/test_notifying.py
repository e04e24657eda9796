"""Notices that are sent by one worker, with records and targets in memory."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import pytest

from celery_docker import errors
from celery_docker.background import notifying
from celery_docker.background.notifying import Notifying
from celery_docker.core import incoming, message, notice
from celery_docker.core.incoming import Incoming
from celery_docker.core.journal import JournalEvent
from celery_docker.core.notice import DueNotice, Notice, NoticeFacts
from celery_docker.core.policy import Policy
from tests.waiting import eventually

TARGETS = ["alice@example.org", "lab-chat"]


def due(job_id: str = "j1", number: int = 1, batch_id: str | None = None, tries: int = 0) -> DueNotice:
    return DueNotice(job_id, number, batch_id, tries, f"{job_id} {number}")


def facts(job_id: str = "j1", age_s: float = 1.0, **kwargs: Any) -> NoticeFacts:
    arguments = {"image": "busybox", "notify": TARGETS, **kwargs}
    envelope = message.task_message(job_id, arguments, queue="celery", tag="t", origin="1@here")
    return NoticeFacts("celery", incoming.of_envelope(job_id, envelope), {"state": "failed"}, age_s)


@dataclass
class Records:
    """The notices that are due, and what became of each."""

    due: list[DueNotice] = field(default_factory=list)
    known: dict[str, NoticeFacts] = field(default_factory=dict)
    batches: dict[str, tuple[str | None, Mapping[str, int]]] = field(default_factory=dict)
    struck_off: list[str] = field(default_factory=list)
    put_off_for: list[tuple[str, float, bool]] = field(default_factory=list)
    failure: Exception | None = None

    def take(self, most: int) -> list[DueNotice]:
        taken, self.due = self.due[:most], self.due[most:]
        return taken

    def strike_off(self, due: DueNotice) -> None:
        if self.failure:
            raise self.failure
        self.struck_off.append(due.entry)

    def put_off(self, due: DueNotice, delay_s: float, *, tried: bool) -> None:
        self.put_off_for.append((due.entry, delay_s, tried))

    def facts(self, due: DueNotice) -> NoticeFacts | None:
        return self.known.get(due.job_id)

    def batch(self, batch_id: str) -> tuple[str | None, Mapping[str, int]] | None:
        return self.batches.get(batch_id)


@dataclass
class World:
    records: Records = field(default_factory=Records)
    sent: list[tuple[str, Notice]] = field(default_factory=list)
    failures: dict[str, Exception] = field(default_factory=dict)
    rules: Policy = field(default_factory=lambda: Policy(notify=("*@example.org", "lab-chat")))
    now_s: float = 0.0
    refusal: Exception | None = None

    def __post_init__(self) -> None:
        self.notifying = Notifying(self.records, self.rules_of, self.send, clock=lambda: self.now_s)

    def rules_of(self, message: Incoming, queue: str) -> Policy:
        if self.refusal:
            raise self.refusal
        return self.rules

    def send(self, target: str, told: Notice) -> None:
        if target in self.failures:
            raise self.failures[target]
        self.sent.append((target, told))

    def look(self, *notices: DueNotice) -> None:
        """Let all of these be dealt with."""
        self.records.due += notices
        before = len(self.outcomes)
        self.notifying.look()
        eventually(lambda: not self.notifying._busy and len(self.outcomes) >= before)

    @property
    def outcomes(self) -> list[Any]:
        return [*self.records.struck_off, *self.records.put_off_for]


@pytest.fixture
def world() -> World:
    made = World()
    made.records.known["j1"] = facts()
    return made


def test_each_target_is_told(world: World) -> None:
    world.look(due(number=1), due(number=2))
    assert sorted(target for target, _ in world.sent) == TARGETS
    assert {told.notice_id for _, told in world.sent} == {"j1.1", "j1.2"}
    assert sorted(world.records.struck_off) == ["j1 1", "j1 2"]


def test_a_batch_is_told_of(world: World) -> None:
    world.records.batches["b1"] = ("night", {"succeeded": 2})
    world.look(due(batch_id="b1"))
    ((_, told),) = world.sent
    assert told.line == "Batch night (b1) has ended: 2 succeeded"


@pytest.mark.parametrize(
    ("changed", "reason"),
    [
        ({"known": {}}, "its record is gone"),
        ({"known": {"j1": facts(notify=None)}}, "its message names nobody"),
        ({"known": {"j1": facts(notify="a@b.c")}}, "its message names nobody"),
        ({"known": {"j1": facts(notify=["lab-chat"])}}, "its message names nobody of that number"),
    ],
)
def test_what_can_never_be_sent_is_given_up(
    world: World, changed: dict[str, Any], reason: str, caplog: pytest.LogCaptureFixture
) -> None:
    vars(world.records).update(changed)
    world.look(due(number=2))
    assert world.records.struck_off == ["j1 2"]
    assert reason in caplog.text
    assert world.sent == []


def test_a_batch_that_is_gone(world: World, caplog: pytest.LogCaptureFixture) -> None:
    world.look(due(batch_id="b9"))
    assert world.records.struck_off == ["j1 1"]
    assert "the record of its batch is gone" in caplog.text


def test_a_target_that_fails_is_tried_again_later_each_time(world: World, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO", logger=notifying.__name__)
    world.failures["lab-chat"] = errors.NotSent("chat.example.org answered with HTTP status 500")
    for tries in range(notice.MOST_TRIES):
        world.now_s += 1e6
        world.look(due(number=2, tries=tries))
    assert [delay_s for _, delay_s, tried in world.records.put_off_for if tried] == [10, 40, 160, 640, 2560]
    assert world.records.struck_off == ["j1 2"]
    assert "nobody is told of the end: lab-chat was tried 6 times: chat.example.org answered" in caplog.text
    events = [vars(record)["event"] for record in caplog.records]
    assert events == [JournalEvent.NOTICE_DELAYED] * 5 + [JournalEvent.NOTICE_GIVEN_UP]
    assert {vars(record)["job"] for record in caplog.records} == {"j1"}


def test_a_target_that_has_failed_rests_and_others_do_not(world: World) -> None:
    world.failures["lab-chat"] = errors.NotSent("refused")
    world.records.known["j2"] = facts("j2")
    world.look(due(number=2))
    world.look(due("j2", number=2), due("j2", number=1))
    assert ("j2 2", notifying._REST_S, False) in world.records.put_off_for
    assert [target for target, _ in world.sent] == ["alice@example.org"]
    del world.failures["lab-chat"]
    world.now_s += notifying._REST_S + 1
    world.look(due("j2", number=2))
    assert world.records.struck_off == ["j2 1", "j2 2"]


@pytest.mark.parametrize(
    "refusal",
    [errors.SignatureError("signature: it is false"), errors.HostError("the clock"), errors.KeysError("key: gone")],
)
def test_a_message_that_this_host_does_not_trust_is_left_to_others(world: World, refusal: Exception) -> None:
    world.refusal = refusal
    world.look(due())
    assert world.records.put_off_for == [("j1 1", notifying._PASS_ON_S, False)]
    assert world.sent == []


def test_a_target_that_this_host_does_not_allow_is_left_to_others_for_a_day(
    world: World, caplog: pytest.LogCaptureFixture
) -> None:
    world.rules = Policy(notify=("lab-chat",))
    world.look(due())
    assert world.records.put_off_for == [("j1 1", notifying._PASS_ON_S, False)]
    world.records.known["j1"] = facts(age_s=notice.LONGEST_S + 1)
    world.look(due())
    assert world.sent == []
    assert world.records.struck_off == ["j1 1"]
    assert "no host could send it to alice@example.org; here: alice@example.org is not allowed on this host" in (
        caplog.text
    )


def test_a_host_without_the_means_leaves_it_to_others(world: World) -> None:
    world.failures["lab-chat"] = errors.CannotSend("/etc/celery-docker/notify.toml is not there")
    world.look(due(number=2))
    assert world.records.put_off_for == [("j1 2", notifying._PASS_ON_S, False)]


@pytest.mark.parametrize("failure", [errors.StoreAway("gone"), RuntimeError("a mistake")])
def test_a_redis_that_goes_meanwhile_leaves_it_to_its_lease(world: World, failure: Exception) -> None:
    """It was sent, and is sent again: at least once."""
    world.records.failure = failure
    world.look(due())
    assert len(world.sent) == 1
    assert world.records.struck_off == []
    assert world.notifying._busy == 0


def test_a_target_that_hangs_holds_up_its_own_notices_alone(world: World) -> None:
    released = threading.Event()
    hanging: list[str] = []

    def send(target: str, told: Notice) -> None:
        if target == "lab-chat":
            hanging.append(told.notice_id)
            assert released.wait(60)
        world.sent.append((target, told))

    world.notifying.send = send
    for number in range(9):
        world.records.known[f"k{number}"] = facts(f"k{number}")
    world.records.due = [due(f"k{number}", number=2) for number in range(8)]
    world.notifying.look()
    eventually(lambda: len(hanging) == 2 and len(world.records.put_off_for) == 6)
    world.records.due = [due("k8", number=1)]
    world.notifying.look()
    eventually(lambda: world.records.struck_off == ["k8 1"])
    released.set()
    eventually(lambda: len(world.records.struck_off) == 3)


def test_no_more_are_taken_than_there_are_threads(world: World) -> None:
    released = threading.Event()

    def send(_target: str, _told: Notice) -> None:
        assert released.wait(60)

    world.notifying.send = send
    for number in range(20):
        target = f"user{number}@example.org"
        world.records.known[f"k{number}"] = facts(f"k{number}", notify=[target])
    world.records.due = [due(f"k{number}") for number in range(20)]
    for _ in range(3):
        world.notifying.look()
    assert len(world.records.due) == 20 - notifying._MOST_AT_ONCE
    released.set()
    eventually(lambda: world.notifying._busy == 0)


def test_the_loop_looks_again_at_once_while_there_is_more(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(notifying, "_LOOK_EVERY_S", 600)
    for number in range(30):
        world.records.known[f"k{number}"] = facts(f"k{number}")
    world.records.due = [due(f"k{number}") for number in range(30)]
    world.notifying.start()
    # Those that find their target busy are put off.
    eventually(lambda: len(world.outcomes) == 30)
    world.notifying.stop()
