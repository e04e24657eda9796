"""The messages that no worker could read: put aside, shown to people, and put back or thrown away by them.

Invariants: the most recent `MOST` are kept, and of each at most `MOST_TEXT_BYTES`; a message is put aside once.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

from celery_docker import errors
from celery_docker.core import incoming, strictjson, wording
from celery_docker.core.incoming import Refusal
from celery_docker.core.jobrecord import Taken
from celery_docker.store import keys, redislink

MOST = 500
MOST_TEXT_BYTES = 64 * 1024


@dataclass(frozen=True)
class RefusedRow:
    """A message that was refused, as it is listed; what is not known is empty. `whole`: it can be put back."""

    number: str
    reason: str
    queue: str
    job_id: str
    task: str
    origin: str
    host: str
    refused_at: float
    size: int
    whole: bool


@dataclass(frozen=True)
class RefusedMessages:
    """The refused messages in one Redis. Each call raises `StoreAway` or `StoreRefused`."""

    link: redislink.Link

    def count(self) -> int:
        """Return how many there are."""
        with self.link.translated():
            return int(self.link.client.hlen(keys.REFUSED))

    def rows(self) -> list[RefusedRow]:
        """Return them, the oldest first."""
        with self.link.translated():
            texts: dict[str, str] = self.link.client.hgetall(keys.REFUSED)
        rows = [_row(number, text) for number, text in texts.items()]
        return sorted(rows, key=lambda row: (len(row.number), row.number))

    def put_back(self, row: RefusedRow) -> None:
        """Put a message back to the end of its queue; raises `NotPutBack` with the reason and the remedy."""
        if not row.queue:
            raise errors.NotPutBack(
                f"message {row.number} cannot be put back: its queue is not known; throw it away with: "
                f"celery-docker queue throw-away {row.number}"
            )
        touched = [keys.REFUSED, keys.REFUSED_TEXTS, row.queue, keys.INDEX, keys.job(row.job_id)]
        answer = self.link.call("restore", touched, [row.number, row.job_id])
        if answer == "cut":
            size, most = wording.size(row.size), wording.size(MOST_TEXT_BYTES)
            raise errors.NotPutBack(
                f"message {row.number} cannot be put back: of its {size}, more than {most} is not kept"
            )
        if answer == "ended":
            raise errors.NotPutBack(
                f"message {row.number} cannot be put back: job {row.job_id} has ended; queue it again with: "
                f"celery-docker retry {row.job_id}"
            )

    def throw_away(self, number: str) -> bool:
        """Throw a message away; False if there is none of that number."""
        with self.link.translated(), self.link.client.pipeline() as pipeline:
            pipeline.hdel(keys.REFUSED, number).hdel(keys.REFUSED_TEXTS, number)
            return bool(pipeline.execute()[0])


def refuse_call(taken: Taken, refusal: Refusal, host: str) -> tuple[list[str], list[Any], Taken | None]:
    """Return keys and arguments of `lua/refuse.lua`, and where the message lies that takes the refused one's place."""
    place = None
    if refusal.job_id:
        stand_in = json.dumps(incoming.rejected(refusal, taken.source).envelope).encode()
        place = Taken(taken.source, stand_in)
    about = {
        "reason": refusal.reason,
        "job_id": refusal.job_id,
        "task": refusal.task,
        "origin": refusal.origin,
        "host": host,
        "queue": taken.source,
    }
    touched = [keys.taken(host, taken.source), keys.REFUSED, keys.REFUSED_TEXTS, keys.REFUSED_COUNT]
    words = [taken.text, place.text if place else "", json.dumps(about).removesuffix("}"), MOST, MOST_TEXT_BYTES]
    return touched, words, place


def _row(number: str, text: str) -> RefusedRow:
    try:
        about = strictjson.table(text)
    except strictjson.NotUsable:
        about = {"reason": "what was written down about it cannot be read"}
    words = {name: str(about.get(name) or "") for name in ("reason", "queue", "job_id", "task", "origin", "host")}
    when, size = about.get("refused_at"), about.get("bytes")
    return RefusedRow(
        number=number,
        **words,
        refused_at=float(when) if isinstance(when, int | float) else 0.0,
        size=size if isinstance(size, int) else 0,
        whole=about.get("whole") is True,
    )
