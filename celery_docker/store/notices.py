"""The notices that are to be sent: which are due, and what each is about.

`finish.lua` lists a notice in the step that writes its job's receipt; whoever is handed one sends it, and strikes it
off then. Invariant: a notice that was handed out and not struck off is handed out again, so it is sent at least once.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from celery_docker import errors
from celery_docker.core import incoming, messageheaders
from celery_docker.core.notice import LEASE_S, DueNotice, NoticeFacts
from celery_docker.core.receipt import Receipt
from celery_docker.core.redishealth import FailedNotices
from celery_docker.store import keys, redislink
from celery_docker.store.batchqueries import BatchQueries

# What is added to the number of tries then.
_NOT_TRIED = -1
# As many are looked at where somebody asks which have failed: those that are put off for longest.
_MOST_SHOWN = 1000
_MOST_TARGETS = 20
# One that was handed out for the first time is sent by now, or never will be by that host.
_SENT_BY_S = LEASE_S / 2


@dataclass(frozen=True)
class NoticeStore:
    """The notices in one Redis. Each method raises `StoreAway` or `StoreRefused`."""

    link: redislink.Link

    def take(self, most: int) -> list[DueNotice]:
        """Return notices that are due; nobody else gets them for `LEASE_S`."""
        flat = self.link.call("notices", _KEYS, [LEASE_S, most])
        return [_due(str(entry), int(tries)) for entry, tries in zip(flat[::2], flat[1::2], strict=True)]

    def strike_off(self, due: DueNotice) -> None:
        """Forget a notice: it was sent, or is given up."""
        with self.link.translated(), self.link.client.pipeline() as pipeline:
            pipeline.zrem(keys.NOTICES, due.entry)
            pipeline.hdel(keys.NOTICE_TRIES, due.entry)
            pipeline.execute()

    def put_off(self, due: DueNotice, delay_s: float, *, tried: bool) -> None:
        """Let a notice be handed out again after so many seconds."""
        self.link.call("putoff", _KEYS, [due.entry, delay_s, 0 if tried else _NOT_TRIED])

    def facts(self, due: DueNotice) -> NoticeFacts | None:
        """Return what the record of a notice's job says; None where it is gone, or is no record of an end."""
        with self.link.translated(), self.link.client.pipeline(transaction=False) as pipeline:
            pipeline.hmget(keys.job(due.job_id), "queue", "message", "receipt", "finished_at")
            pipeline.time()
            row, (seconds, _) = redislink.answers(pipeline, None)
        queue, text, receipt, finished_at = row or (None,) * 4
        if not queue or not text or not receipt:
            return None
        parsed = incoming.of_envelope(due.job_id, incoming.of_record(due.job_id, text))
        age_s = max(0.0, seconds - _number(finished_at, seconds))
        return NoticeFacts(queue, parsed, Receipt.of_text(due.job_id, receipt), age_s)

    def failed(self) -> FailedNotices:
        """Return the notices that their targets have not taken at the first try, and that are tried again."""
        with self.link.translated(), self.link.client.pipeline(transaction=False) as pipeline:
            pipeline.zrevrange(keys.NOTICES, 0, _MOST_SHOWN - 1, withscores=True)
            pipeline.time()
            pipeline.zcard(keys.NOTICES)
            rows, (seconds, _), count = redislink.answers(pipeline, [])
            entries = [entry for entry, _ in rows]
            tries = self.link.client.hmget(keys.NOTICE_TRIES, entries) if entries else []
        failed = [
            _due(entry, 0)
            for (entry, due_at), text in zip(rows, tries, strict=True)
            if _has_failed(_number(text, 0), due_at - seconds)
        ]
        targets = dict.fromkeys(filter(None, map(self._target, failed[:_MOST_TARGETS])))
        return FailedNotices(len(failed), tuple(targets), is_more=bool(rows) and count > len(rows))

    def _target(self, due: DueNotice) -> str | None:
        facts = self.facts(due)
        named = facts.message.kwargs.get("notify") if facts else None
        return str(named[due.number - 1]) if isinstance(named, list) and 0 < due.number <= len(named) else None

    def batch(self, batch_id: str) -> tuple[str | None, Mapping[str, int]] | None:
        """Return the name of a batch and the number of its jobs in each state; None where it is gone."""
        try:
            row = BatchQueries(self.link).row(batch_id)
        except errors.NoSuchJob:
            return None
        return row.name, row.counts


_KEYS = [keys.NOTICES, keys.NOTICE_TRIES]


def _has_failed(tries: float, in_s: float) -> bool:
    """Tell from the number of tries, and from when the next is due, whether one has failed: the last may go on."""
    return tries >= 2 or (tries == 1 and in_s < _SENT_BY_S)


def _due(entry: str, tries: int) -> DueNotice:
    """Return a notice from its entry, `JOB NUMBER [BATCH]`; one that was damaged is of a job that is not there."""
    job_id, _, rest = entry.partition(" ")
    number, _, batch_id = rest.partition(" ")
    is_sound = number.isascii() and number.isdigit() and len(number) < 4
    # The id of a batch becomes part of a header.
    is_sound = is_sound and (not batch_id or messageheaders.is_usable_id(batch_id))
    return DueNotice(job_id, int(number) if is_sound else 0, batch_id or None, tries, entry)


def _number(text: str | None, default: float) -> float:
    try:
        return float(text or "")
    except ValueError:
        return default
