"""The wait of one job for the pull of its image; the job's record says how far that has come."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable
from dataclasses import dataclass

from celery_docker import errors
from celery_docker.core import imagepin
from celery_docker.run.job import Job
from celery_docker.run.ports import Engine, Records

_WRITE_EVERY_S = 3.0


@dataclass
class Pull:
    """One job's wait; its progress is written to the record at its beginning, and then every few seconds.

    `since_s` says on the monotonic clock when the image was missing; `fresh`: its tag is to be asked for anew.
    """

    engine: Engine
    records: Records
    job: Job
    image: str
    platform: str | None
    since_s: float
    fresh: bool = False
    write_every_s: float = _WRITE_EVERY_S
    _pulled_bytes: int = 0
    _size_bytes: int = 0
    _written_s: float = 0.0

    def run(self, check: Callable[[], None]) -> None:
        """Have the image pulled. `check` is called while that goes on; what it raises ends the wait for the pull.

        Raises what the engine raises.
        """
        began_s = time.monotonic()
        self._write()

        def look() -> None:
            check()
            if time.monotonic() - self._written_s >= self.write_every_s:
                self._write()

        # A registry may say nothing for minutes: an end request does not wait for it.
        digest = self.engine.pull(
            *(self.image, self.platform),
            since_s=self.since_s,
            fresh=self.fresh,
            check=look,
            progress=self._progress,
        )
        if digest:
            self.job.attempt.image_digest = imagepin.pinned(self.image, digest)
        self.job.attempt.pull_s = round(time.monotonic() - began_s, 3)
        check()

    def _progress(self, pulled_bytes: int, size_bytes: int) -> None:
        self._pulled_bytes, self._size_bytes = pulled_bytes, size_bytes

    def _write(self) -> None:
        """Write how far the pull is, for people only: what Redis does not take now is not repeated."""
        self._written_s = time.monotonic()
        values: dict[str, str | int | float] = {
            "image": self.image,
            "pulled_bytes": self._pulled_bytes,
            "pull_size_bytes": self._size_bytes,
        }
        with contextlib.suppress(errors.CeleryDockerError):
            self.records.update(self.job.holding, values)
