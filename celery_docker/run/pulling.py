"""The pull of an image for one job, in a thread of its own; the job's record says how far it has come."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable
from concurrent.futures import Future, wait
from dataclasses import dataclass
from threading import Thread

from celery_docker import errors
from celery_docker.run.job import Job
from celery_docker.run.ports import Engine, Records

_CHECK_S = 0.5
_WRITE_EVERY_S = 3.0


@dataclass
class Pull:
    """One pull; its progress is written to the record at its beginning, and then every few seconds."""

    engine: Engine
    records: Records
    job: Job
    image: str
    platform: str | None = None
    write_every_s: float = _WRITE_EVERY_S
    _pulled_bytes: int = 0
    _size_bytes: int = 0

    def run(self, check: Callable[[], None]) -> None:
        """Pull the image. `check` is called while that goes on; what it raises ends the wait for the pull.

        Raises what the engine raises.
        """
        began_s = written_s = time.monotonic()
        pulled: Future[None] = Future()
        Thread(target=self._pull, args=(pulled,), daemon=True).start()
        self._write()
        # A registry may say nothing for minutes: an end request does not wait for it.
        while not wait([pulled], _CHECK_S).done:
            check()
            if time.monotonic() - written_s >= self.write_every_s:
                self._write()
                written_s = time.monotonic()
        pulled.result()
        self.job.attempt.pull_s = round(time.monotonic() - began_s, 3)
        check()

    def _pull(self, pulled: Future[None]) -> None:
        try:
            self.engine.pull(
                *(self.image, self.platform),
                needed=lambda: self.job.end_request is None,
                progress=self._progress,
            )
            pulled.set_result(None)
        except Exception as exc:  # noqa: BLE001  # raised again where it is waited for
            pulled.set_exception(exc)

    def _progress(self, pulled_bytes: int, size_bytes: int) -> None:
        self._pulled_bytes, self._size_bytes = pulled_bytes, size_bytes

    def _write(self) -> None:
        """Write how far the pull is, for people only: what Redis does not take now is not repeated."""
        values: dict[str, str | int | float] = {
            "image": self.image,
            "pulled_bytes": self._pulled_bytes,
            "pull_size_bytes": self._size_bytes,
        }
        with contextlib.suppress(errors.CeleryDockerError):
            self.records.update(self.job.holding, values)
