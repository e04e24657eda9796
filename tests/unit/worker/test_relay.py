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
