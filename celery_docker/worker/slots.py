"""Celery's pool: a thread for each slot."""

from __future__ import annotations

import logging
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from celery.concurrency.thread import TaskPool
from celery.worker import state

log = logging.getLogger(__name__)


class Slots(TaskPool):  # type: ignore[misc]  # Celery ships no types
    """Celery's thread pool; it wakes the event loop when a slot is free, which otherwise idles up to a second."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        # Threads are made when they are needed: more of them than slots only while jobs are taken over.
        self.executor = ThreadPoolExecutor(max_workers=_MOST_THREADS)
        self._loop: Any = None

    def register_with_event_loop(self, loop: Any) -> None:
        """Remember the loop. (kombu's own `get_event_loop` forgets it at the first reconnect.)"""
        self._loop = loop

    def on_apply(self, *args: Any, accept_callback: Any = None, **kwargs: Any) -> Any:
        """Run a request in a slot."""
        result = super().on_apply(*args, accept_callback=accept_callback, **kwargs)
        request = getattr(accept_callback, "__self__", None)
        result.f.add_done_callback(lambda future: self._free(future.exception(), request))
        return result

    def _free(self, mistake: BaseException | None, request: Any) -> None:
        """Take note that a slot is free; also where a mistake of ours or Celery's would keep its job in it for ever.

        Celery keeps one to itself if its second try to store a failure is good, and then does not say that it is done.
        """
        if request is not None:
            if mistake is not None:
                state.task_ready(request)
            is_left = request.task.let_go(request.request_dict)
            if mistake is not None or is_left:
                why = "its end could not be told" if mistake is None else repr(mistake)
                log.error("its slot broke: %s; it is looked at again within a minute", why, extra={"job": request.id})
        if self._loop is not None:
            self._loop.call_soon(_nothing)


_MOST_THREADS = 1000


def _nothing() -> None: ...
