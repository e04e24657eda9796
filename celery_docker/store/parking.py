"""Questions about parked jobs: how many there are of each group, their places in it, and which no host could hold.

Reads only. Of a group, the first `PLACES` jobs are looked at. Invariant: what somebody else has written there counts
as nothing.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from celery_docker.core import admission, message, waiting
from celery_docker.core.admission import Needs
from celery_docker.core.waiting import HostFacts, Wait
from celery_docker.store import keys, redislink
from celery_docker.store.heads import PLACES, Head


@dataclass(frozen=True)
class ParkedGroup:
    """The number of jobs that wait in one queue for room of one size, with one priority."""

    queue: str
    needs: Needs
    jobs: int


@dataclass(frozen=True)
class Parking:
    """Questions about parked jobs. Each raises `StoreAway` or `StoreRefused`."""

    link: redislink.Link

    def groups(self) -> list[ParkedGroup]:
        """Return the groups that have jobs, by queue; of a queue, those that need most memory first."""
        flat = self.link.call("groups", [keys.PARKED], [keys.PARKED_GROUP])
        parts = ((admission.of_group(name), count) for name, count in zip(flat[::2], flat[1::2], strict=True))
        rows = (ParkedGroup(message.queue_name(part[0]), part[1], count) for part, count in parts if part is not None)
        return sorted(rows, key=lambda row: (row.queue, -row.needs.memory_bytes, str(row.needs)))

    def heads(self, groups: Iterable[str]) -> dict[str, Head]:
        """Return the head of each of these groups, by its name."""
        names = list(dict.fromkeys(groups))
        with self.link.translated(), self.link.client.pipeline(transaction=False) as pipeline:
            for name in names:
                pipeline.zrange(keys.PARKED_GROUP + name, 0, PLACES - 1)
            rows = zip(names, redislink.answers(pipeline, ()), strict=True)
        return {name: _head(list(job_ids)) for name, job_ids in rows}


def stuck(
    lengths: Mapping[str, int], parked: Iterable[ParkedGroup], hosts: Sequence[HostFacts]
) -> Iterator[tuple[str, int, Wait]]:
    """Yield each queue in which jobs wait that no host takes, with their number and why.

    `lengths` are those of queues. Of one that hosts serve, the parked jobs count that need more than any offers.
    """
    waits = {queue: waiting.obstacle(hosts, queue) for queue, length in lengths.items() if length}
    yield from ((queue, lengths[queue], wait) for queue, wait in waits.items() if wait is not None)
    for group in parked:
        wait = waiting.obstacle(hosts, group.queue, group.needs) if waits.get(group.queue) is None else None
        if wait is not None:
            yield group.queue, group.jobs, wait


def _head(job_ids: list[str]) -> Head:
    places = {job_id: number for number, job_id in enumerate(job_ids)}
    return Head(places, len(job_ids), is_all=len(job_ids) < PLACES, read_at=0.0)
