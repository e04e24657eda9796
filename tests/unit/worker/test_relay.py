"""The hand-over of control commands between two processes, with a socket and a subscription that are mocks."""

from __future__ import annotations

from typing import Any

import pytest
from pytest_mock import MockerFixture

from celery_docker.host import systemd
from celery_docker.store import subscription
from celery_docker.worker import relay
from celery_docker.worker.transport import Channel


@pytest.mark.parametrize("stored", [True, False])
def test_what_was_collected_is_asked_for_once_this_process_listens(mocker: MockerFixture, stored: bool) -> None:
    """A revoke between the end of the collection and the subscription would be lost."""
    mocker.patch.object(systemd, "stored_sockets", return_value=[object()] if stored else [])
    steps: list[str] = []
    answers = iter([False, False, True])

    def is_listening() -> bool:
        steps.append("listening?")
        return next(answers)

    def collected(*_: Any) -> list[str]:
        steps.append("collected")
        return []

    mocker.patch.object(subscription, "messages", side_effect=collected)
    relay.Relay(mocker.Mock(), {}).take_over("celery@here", is_listening)
    assert steps == (["listening?"] * 3 + ["collected"] if stored else [])


@pytest.mark.parametrize(("answers", "is_warned"), [([False, False, True], False), ([False], True)])
def test_a_manager_that_is_busy_is_asked_again_to_keep_the_socket(
    mocker: MockerFixture, caplog: pytest.LogCaptureFixture, answers: list[bool], is_warned: bool
) -> None:
    """Its queue is full for a moment, as while many services are reloaded; a revoke in the gap would be lost."""
    mocker.patch.object(relay, "_STORED_WITHIN_S", 0 if is_warned else 20)
    mocker.patch.object(subscription, "opened")
    store = mocker.patch.object(systemd, "store_socket", side_effect=answers)
    relay.Relay(mocker.MagicMock(), {"NOTIFY_SOCKET": "/run/systemd/notify"}).hand_over()
    assert store.call_count == len(answers)
    assert ("may get lost" in caplog.text) is is_warned


def test_a_channel_listens_once_redis_has_confirmed_each_subscription(mocker: MockerFixture) -> None:
    channel: Any = Channel.__new__(Channel)
    channel._closed, channel._subscriptions = True, 0
    mocker.patch.object(Channel, "active_fanout_queues", {"one", "two"}, create=True)
    mocker.patch.object(Channel, "_get_subscribe_topics", lambda _, queue: [queue])
    assert not channel.is_listening
    channel._handle_message(None, [b"psubscribe", b"one", 1])
    assert not channel.is_listening
    channel._handle_message(None, [b"psubscribe", b"two", 2])
    assert channel.is_listening
