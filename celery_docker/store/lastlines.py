"""The last lines of jobs, for lists: from the end of each live log or receipt, in one question. Reads only."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from celery_docker.core import lastlines
from celery_docker.core.lastlines import LastLine
from celery_docker.store import keys, redislink

# A line of 200 characters that JSON has in twelve bytes each, and what follows it.
_MOST_BYTES = 4096
_ENTRIES = 4


@dataclass(frozen=True)
class LastLines:
    """The question for last lines. `link` answers in bytes."""

    link: redislink.Link

    def of(self, job_ids: Sequence[str]) -> list[LastLine | None]:
        """Return the last line of each job, None where it has none. Raises `StoreAway` or `StoreRefused`."""
        touched = [key for job_id in job_ids for key in (keys.job(job_id), keys.log(job_id))]
        rows = self.link.call("lastlines", touched, [_MOST_BYTES, _ENTRIES]) if job_ids else []
        return [_line(*row) for row in rows]


def _line(receipt: bytes, *flat: bytes) -> LastLine | None:
    if receipt:
        return lastlines.of_receipt(receipt.decode("utf-8", "replace"))
    streams = [int(text) if text.isdigit() else 0 for text in flat[::2]]
    return lastlines.of_entries(list(zip(streams, flat[1::2], strict=True)))
