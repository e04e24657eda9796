"""The numbers of jobs in each state: of all, or of one user. Reads only.

Invariant: what it costs depends on the numbers of states, hosts and slots, never on that of jobs.
"""

from __future__ import annotations

from dataclasses import dataclass

from celery_docker.core.lifecycle import State
from celery_docker.store import keys, redislink

_FINAL = tuple(state for state in State if state.is_final)


@dataclass(frozen=True)
class StateCounts:
    """The question for the numbers. Raises `StoreAway` or `StoreRefused`."""

    link: redislink.Link

    def of(self, index: str) -> dict[str, int]:
        """Return the number of jobs of an index, `keys.INDEX` or a user's, in each state in which there are some.

        Jobs that hosts have are running, those that start among them; all others that have not ended are queued.
        """
        live = keys.live(index)
        with self.link.translated(), self.link.client.pipeline(transaction=False) as pipeline:
            for key in (live, *(keys.ended(index, state) for state in _FINAL)):
                pipeline.zcard(key)
            alive, *ended = redislink.answers(pipeline, 0)
        running = min(self._in_hand(live), alive)
        counts = {State.QUEUED: alive - running, State.RUNNING: running, **dict(zip(_FINAL, ended, strict=True))}
        return {state.value: count for state, count in counts.items() if count}

    def are_complete(self) -> bool:
        """Tell whether all jobs are in the lists that are counted; not yet, after an upgrade."""
        with self.link.translated():
            return bool(self.link.client.exists(keys.LISTS))

    def _in_hand(self, live: str) -> int:
        """Return how many jobs of a list hosts have; jobs that have ended may be with them too."""
        with self.link.translated():
            hosts = self.link.client.zrange(keys.HOSTS, 0, -1)
            with self.link.client.pipeline(transaction=False) as pipeline:
                for host in hosts:
                    pipeline.smembers(keys.host_jobs(host))
                owned = [job_id for job_ids in redislink.answers(pipeline, ()) for job_id in job_ids] if hosts else []
            scores = self.link.client.zmscore(live, owned) if owned else []
        return sum(score is not None for score in scores)

    def longest_waiting(self, most: int) -> dict[str, float]:
        """Return the jobs that wait longest in queues, with the times at which they were put there, the first first."""
        with self.link.translated():
            return dict(self.link.client.zrange(keys.WAITING, 0, most - 1, withscores=True))
