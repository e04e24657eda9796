"""The samples of the last 24 hours: some worker takes one in each step of five minutes. Times are by Redis' clock.

Invariant: a step has one sample at most, however many workers there are, and all samples together are bounded.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

from celery_docker.core import figures, history, hostreport
from celery_docker.core.history import Sample
from celery_docker.core.hoststate import WorkerState
from celery_docker.store import keys, redislink
from celery_docker.store.hostqueries import HostQueries
from celery_docker.store.listing import WorkerRow, state_of

# Without a worker for so long there is no history.
_KEPT_S = 2 * history.STEP_S * history.KEPT
_HERE = (WorkerState.READY, WorkerState.DRAINED, WorkerState.SICK, WorkerState.STOPPING)


@dataclass(frozen=True)
class HistoryKeeping:
    """The samples in one Redis. Each call raises `StoreAway` or `StoreRefused`."""

    link: redislink.Link

    def keep(self, now: float) -> bool:
        """Take the sample of this step, unless another worker does; return whether it was taken here."""
        step = history.step_of(now)
        # The lock ends with the step, so the first who asks in the next one takes that.
        left_s = max(1, round(step + history.STEP_S - now))
        with self.link.translated():
            if not self.link.client.set(keys.HISTORY_LOCK, "1", nx=True, ex=left_s):
                return False
        self.link.call("sample", [keys.HISTORY], [step, self._sample(step).text(), history.KEPT, _KEPT_S])
        return True

    def _sample(self, step: int) -> Sample:
        hosts = HostQueries(self.link).rows()
        with self.link.translated(), self.link.client.pipeline(transaction=False) as pipeline:
            pipeline.zcard(keys.live(keys.INDEX)).zcard(keys.WAITING).hgetall(keys.COUNTS)
            live, in_queues, counts = redislink.answers(pipeline)
        ended: Counter[str] = Counter()
        for counted in figures.parse(counts or {}).values():
            ended += counted.ended
        running = sum(row.jobs for row in hosts)
        return Sample(
            step,
            queued=max(0, (live or 0) - running),
            running=running,
            in_queues=in_queues or 0,
            ended=dict(ended),
            hosts=history.chosen({row.host: (_slots(row), _use(row)) for row in hosts if state_of(row) in _HERE}),
        )

    def samples(self) -> list[Sample]:
        """Return the samples that can be read."""
        with self.link.translated(), self.link.client.pipeline(transaction=False) as pipeline:
            pipeline.zrange(keys.HISTORY, -history.KEPT, -1)
            (texts,) = redislink.answers(pipeline, ())
        return [sample for sample in map(history.parse, texts) if sample is not None]


def _slots(row: WorkerRow) -> int:
    return int(row.about.get("slots", 0))


def _use(row: WorkerRow) -> list[int | None]:
    return history.use(row.jobs, _slots(row), hostreport.offer(row.about), hostreport.room(row.about))
