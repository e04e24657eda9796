"""Messages that come before the worker past the broker: of jobs left behind by an earlier process, and later ones."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any

from celery import bootsteps
from celery.worker.consumer.tasks import Tasks

from celery_docker.core import jobspec, wording
from celery_docker.worker import transport

log = logging.getLogger(__name__)


class Recovery(bootsteps.StartStopStep):  # type: ignore[misc]  # Celery ships no types
    """Takes over what an earlier process of this host had in hand, once, before the first message is taken.

    Each job's message goes through the worker as if it had just come, so that an adopted job is like any other. All of
    them are supervised at once, even if there are fewer slots now; nothing new starts until a slot is really free.
    """

    requires = (Tasks,)

    def __init__(self, consumer: Any, **_options: Any) -> None:
        self._done = False

    def start(self, consumer: Any) -> None:
        """Let the new connection take messages, after those of the jobs left behind."""
        task, channel = consumer.app.tasks[jobspec.TASK_NAME], consumer.task_consumer.channel
        channel.ledger, channel.intake = task.runner.ledger, task.intake
        if self._done:
            return
        self._done = True
        deliver = consumer.create_task_handler()
        envelopes = task.runner.left_behind()
        if envelopes:
            log.info("taking over %s", wording.counted(len(envelopes), "job"))
        for envelope in envelopes:
            deliver(transport.message_of(channel, envelope))


class Inbox:
    """Brings a message before this worker as if it had just come, past the broker; nothing comes before it is open."""

    def __init__(self) -> None:
        self._consumer: Any = None

    def open(self, consumer: Any) -> None:
        """Deliver to this consumer from now on."""
        self._consumer = consumer

    def deliver(self, envelope: Mapping[str, Any]) -> None:
        """Deliver a message; for any thread."""
        if self._consumer is not None:
            self._consumer.hub.call_soon(self._take, envelope)

    def _take(self, envelope: Mapping[str, Any]) -> None:
        """Runs in the event loop, since no other thread may."""
        consumer = self._consumer.task_consumer
        if consumer is not None:
            self._consumer.create_task_handler()(transport.message_of(consumer.channel, envelope))
