"""Celery's result backend, with the receipt of a failed job in its result."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Any

from celery import states
from celery.backends.redis import RedisBackend
from celery.exceptions import BackendStoreError

from celery_docker import errors
from celery_docker.core import pauses
from celery_docker.worker import events

log = logging.getLogger(__name__)


class Results(RedisBackend):  # type: ignore[misc]  # Celery ships no types
    """Celery's Redis backend; a failed job's meta holds its receipt and the end of its output, not our call stack."""

    def mark_as_failure(self, task_id: str, exc: Exception, traceback: str | None = None, **options: Any) -> Any:
        """Store a failure; the traceback, which Flower and others show, is the end of the job's own output."""
        request = options.get("request")
        if isinstance(exc, errors.JobFailed):
            receipt = getattr(request, "receipt", None) or {}
            traceback = events.output_of(receipt)
        return super().mark_as_failure(task_id, exc, traceback, **options)

    def store_many(self, results: Sequence[tuple[str, Exception, str, Any]]) -> None:
        """Store the exceptions of many tasks (id, exception, state, request) in one round trip; returns when it has.

        One that has succeeded stays as it is, as in Celery.
        """
        if results:
            self._ensure_retryable(
                self._store_many,
                results,
                fallback_exc=BackendStoreError,
                fallback_msg="failed to store results on the backend",
            )

    def _store_many(self, results: Sequence[tuple[str, Exception, str, Any]]) -> None:
        names = [self.get_key_for_task(task_id) for task_id, *_ in results]
        stored = [self.decode_result(text) if text else {} for text in self.client.mget(names)]
        with self.client.pipeline(transaction=False) as pipeline:
            for name, before, (task_id, exception, state, request) in zip(names, stored, results, strict=True):
                if before.get("status") == states.SUCCESS:
                    continue
                result = self.encode_result(exception, state)
                meta = {**self._get_result_meta(result, state, None, request), "task_id": task_id}
                text = self.encode(meta)
                pipeline.set(name, text, ex=self.expires or None)
                pipeline.publish(name, text)
            pipeline.execute()

    def on_chord_part_return(self, request: Any, state: str, result: Any, **options: Any) -> None:
        """Tell a chord of the end of its part, as soon as Redis answers; Celery would make a failure of a success."""
        kinds = self.redis.exceptions
        for delay_s in pauses.delays(0.1, 2, 5.0):
            try:
                super().on_chord_part_return(request, state, result, **options)
            except (kinds.ConnectionError, kinds.TimeoutError, kinds.InvalidResponse) as exc:
                self.on_backend_retryable_error(exc)
                self._sleep(delay_s)
            else:
                return

    def exception_safe_to_retry(self, exc: Exception) -> bool:
        """True also for what Redis refuses: out of memory, read-only, loading. It passes, or a person mends it.

        So does an answer that is none, from a proxy or somebody else's port while Redis is being moved.
        """
        kinds = self.redis.exceptions
        return bool(super().exception_safe_to_retry(exc)) or isinstance(
            exc, kinds.ResponseError | kinds.InvalidResponse
        )

    def on_backend_retryable_error(self, exc: Exception) -> None:
        """Say so in one line; Celery's own has a traceback and is switched off."""
        log.warning("a result cannot be stored now: %s; trying again", exc)
        super().on_backend_retryable_error(exc)

    def _get_result_meta(self, result: Any, state: str, traceback: Any, request: Any, **options: Any) -> dict[str, Any]:
        meta: dict[str, Any] = super()._get_result_meta(result, state, traceback, request, **options)
        receipt = getattr(request, "receipt", None)
        return {**meta, "receipt": receipt} if state == states.FAILURE and receipt else meta
