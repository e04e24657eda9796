"""kombu's side of a message that was taken from Redis, as far as it can be seen without one."""

from __future__ import annotations

import contextlib
import json
from queue import Empty
from typing import Any

import pytest
from pytest_mock import MockerFixture

from celery_docker.background.intake import Intake
from celery_docker.core import message
from celery_docker.core.admission import Needs, Offer
from celery_docker.core.jobrecord import Taken
from celery_docker.run.room import Ledger
from celery_docker.store import redislink
from celery_docker.worker.transport import Channel, QoS


def test_what_comes_after_the_intake_was_closed_goes_back(mocker: MockerFixture) -> None:
    """Redis was asked a moment before: a drained or sick host takes nothing all the same."""
    channel = mocker.Mock(sep=":", intake=Intake())
    channel.intake.close("drained", "a new disk")
    taken = Taken("celery", b"{}")
    with pytest.raises(Empty):
        Channel._arrive(channel, taken)
    channel._remove.assert_called_once_with(taken, put_back=True)
    channel.connection._deliver.assert_not_called()


def test_each_copy_of_a_message_is_let_go_by_its_own_acknowledgement(mocker: MockerFixture) -> None:
    """They bear one tag, and the first is acknowledged by a slot while the loop brings the second."""
    text = json.dumps(message.task_message("j1", {}, queue="celery", tag="t1", origin="1@here")).encode()
    delivered: list[dict[str, Any]] = []
    channel = mocker.Mock(sep=":", intake=Intake())
    channel.connection._deliver = lambda envelope, queue: delivered.append(envelope)
    for _ in range(2):
        Channel._arrive(channel, Taken("celery", text))
    first, second = (mocker.Mock(_raw=raw) for raw in delivered)
    first_tag, second_tag = (raw["properties"]["delivery_tag"] for raw in delivered)
    qos = QoS(channel)
    qos.append(first, first_tag)
    qos.append(second, second_tag)
    qos.ack(first_tag)
    qos.append(mocker.Mock(), "t2")
    qos.ack(second_tag)
    assert [call.args for call in channel.let_go.call_args_list] == [(first,), (second,)]


class Looking(Intake):
    """An intake that is closed, and whose channel is looked at whenever it is."""

    def __init__(self) -> None:
        super().__init__()
        self.close("shutdown", "it is leaving")
        self.channel: Any = None
        self.idle: list[bool] = []

    @property
    def is_open(self) -> bool:
        self.idle.append(self.channel.is_idle)
        return super().is_open


@pytest.fixture
def channel(mocker: MockerFixture) -> Any:
    """A channel that has no connection; what it would ask of Redis is a mock."""
    bare = Channel.__new__(Channel)
    bare.intake, bare._is_asking, bare._in_poll, bare._closed = Looking(), False, None, True
    bare._source = ""
    bare.intake.channel = bare
    bare._qos = QoS(bare)
    mocker.patch.object(Channel, "_lists", return_value=["celery"])
    mocker.patch.object(Channel, "_ask")
    return bare


def test_a_question_is_known_before_the_intake_is_looked_at(channel: Any) -> None:
    """Whoever closes the intake and then finds the channel idle may rely on it."""
    channel._brpop_start()
    assert (channel.intake.idle, channel.is_idle) == ([False], True)
    channel._ask.assert_not_called()


def test_a_closed_intake_waits_at_no_list(channel: Any, mocker: MockerFixture) -> None:
    """Redis had nothing: there is nothing to wait for either."""
    channel._is_asking = True
    mocker.patch.object(Channel, "_answer", return_value=None)
    with pytest.raises(Empty):
        channel._brpop_read()
    channel._ask.assert_not_called()
    assert channel.is_idle


def test_a_channel_is_idle_once_its_messages_are_claimed(channel: Any, mocker: MockerFixture) -> None:
    """A message from a record is acknowledged too, and stands for none that came from Redis."""
    channel.qos.append(mocker.Mock(_raw={}), "t1")
    channel.qos.ack("of a record")
    assert not channel.is_idle
    channel.qos.ack("t1")
    assert channel.is_idle


@pytest.mark.parametrize(
    ("answer", "waited_at", "is_dropping"),
    [
        ([b"", 500], "", True),
        ([b"celery", b"{}"], "", False),
        (None, "", False),
        (b"{}", "celery", False),
    ],
)
def test_the_intake_knows_whether_cancelled_messages_are_dropped(
    channel: Any, mocker: MockerFixture, answer: Any, waited_at: str, is_dropping: bool
) -> None:
    """What ends their jobs goes on once they have passed."""
    mocker.patch.object(Channel, "_answer", return_value=answer)
    mocker.patch.object(Channel, "_arrive")
    channel._source = waited_at
    channel.intake.is_dropping = not is_dropping
    with contextlib.suppress(Empty):
        channel._brpop_read()
    assert channel.intake.is_dropping is is_dropping


def asked(channel: Any, mocker: MockerFixture) -> bool:
    """Let the loop take a turn; return whether Redis is asked for a message."""
    channel._ask.reset_mock()
    channel._brpop_start()
    return bool(channel._ask.called)


def told(channel: Any, mocker: MockerFixture, answer: Any) -> None:
    mocker.patch.object(Channel, "_answer", return_value=answer)
    with contextlib.suppress(Empty):
        channel._brpop_read()


@pytest.fixture
def open_channel(channel: Any, mocker: MockerFixture) -> Any:
    """The same with an open intake, a host of its own and a clock that stands still."""
    channel.intake, channel.ledger, channel._closed = Intake(), Ledger(Offer(4000, 2**30)), False
    channel.host, channel.connection, channel._known = "node1", mocker.Mock(), None
    mocker.patch.object(Channel, "client", mocker.Mock())
    channel.clock = mocker.patch("celery_docker.worker.transport.monotonic", return_value=100.0)
    return channel


def test_the_script_is_sent_whole_once_a_connection_and_where_redis_has_forgotten_it(
    open_channel: Any, mocker: MockerFixture
) -> None:
    """What is put back first on a new connection is put back then, too; nobody else takes from this host's lists."""
    forgotten = redislink.UnknownScript("No matching script. Please use EVAL.")
    open_channel.connection_errors = (OSError,)
    open_channel.client.parse_response.side_effect = [None, forgotten, None]
    mocker.patch.object(Channel, "_wait")
    commands = []
    for _ in range(4):
        open_channel._brpop_start()
        commands.append(open_channel._ask.call_args.args[1])
        with contextlib.suppress(Empty, StopIteration):
            open_channel._brpop_read()
    assert commands == ["EVAL", "EVALSHA", "EVAL", "EVALSHA"]


def test_a_host_without_room_for_what_is_parked_waits_at_no_list(open_channel: Any, mocker: MockerFixture) -> None:
    """What came there would be taken before it. It asks again after a moment."""
    assert asked(open_channel, mocker)
    told(open_channel, mocker, [b"", 0])
    open_channel.connection.wake_in.assert_called_once()
    assert not asked(open_channel, mocker)
    assert open_channel.is_idle
    assert not open_channel.intake.is_dropping
    open_channel.clock.return_value = 101.0
    assert asked(open_channel, mocker)


@pytest.mark.parametrize("is_before", [True, False])
def test_it_asks_again_as_soon_as_it_has_more_room(open_channel: Any, mocker: MockerFixture, is_before: bool) -> None:
    """Also where a slot was freed between question and answer."""
    open_channel.ledger.take("j1", Needs(1000))
    asked(open_channel, mocker)
    if is_before:
        open_channel.ledger.free("j1")
    told(open_channel, mocker, [b"", 0])
    if not is_before:
        open_channel.ledger.free("j1")
    assert asked(open_channel, mocker)


def test_it_asks_again_at_once_after_jobs_were_parked(open_channel: Any, mocker: MockerFixture) -> None:
    asked(open_channel, mocker)
    told(open_channel, mocker, [b"", 3])
    assert asked(open_channel, mocker)


def test_it_waits_at_a_list_where_nothing_is_parked(open_channel: Any, mocker: MockerFixture) -> None:
    open_channel.brpop_timeout = 1
    asked(open_channel, mocker)
    told(open_channel, mocker, None)
    assert open_channel._ask.call_args.args[1] == "BLMOVE"
