"""The hosts that share a Redis: their heartbeats, and the takeover of a silent one.

Every time here is by Redis' own clock, in seconds since the epoch: those of hosts differ. Invariant: a job is taken
from a silent host in one script, which looks once more whether the host is silent and the job still its own. Nothing
here waits for a Redis that is away: a call raises `StoreAway` and can be repeated.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from celery_docker.core import hostreport
from celery_docker.core.hostloss import Beat, Loss, Silence, Takeover
from celery_docker.core.jobrecord import Ownership
from celery_docker.store import keys, ownership, redislink

# A heartbeat keeps another machine from working under the same name for so long.
NAME_KEPT_S = 30
# How long a lost host is remembered: 16 days.
REMEMBERED_S = 1_382_400


@dataclass(frozen=True)
class HostStore:
    """The hosts in one Redis."""

    link: redislink.Link

    def beat(self, host: str, *, machine: str, about: Mapping[str, Any]) -> Beat:
        """Send a heartbeat, unless another machine has sent one under this name a moment ago."""
        touched = [keys.HOSTS, keys.host_about(host), keys.LOST_HOSTS]
        now, before, rival = self.link.call("beat", touched, [host, machine, _dump(about), NAME_KEPT_S])
        return Beat(float(now), float(before) if before else None, hostreport.parse(rival) if rival else None)

    def leave(self, host: str) -> bool:
        """Take a host that has stopped out of the list; False if it still has a job or a message in hand."""
        touched = [keys.HOSTS, keys.host_about(host), keys.host_jobs(host), keys.host_sources(host)]
        return bool(self.link.call("leave", touched, [host, keys.taken(host)]))

    def hold(self, host: str, *, for_s: int) -> bool:
        """Become the host that takes over from others, for so many seconds; False if another is."""
        return bool(self.link.call("hold", [keys.TAKEOVER_LOCK], [host, for_s]))

    def silent(self, *, now: float, for_s: float) -> list[Silence]:
        """Return the hosts that had been silent for longer than `for_s` seconds at the time `now`."""
        with self.link.translated():
            rows = self.link.client.zrange(keys.HOSTS, "-inf", now - for_s, byscore=True, withscores=True)
        return [Silence(host, heard_at, now - heard_at) for host, heard_at in rows]

    def recall(self, *, now: float) -> None:
        """Put the lost hosts that have something in hand back into the list, as if they were heard at the time `now`.

        A host that comes back takes jobs before its next heartbeat, and could be gone again by then.
        """
        with self.link.translated(), self.link.client.pipeline(transaction=False) as pipeline:
            lost = self.link.client.zrange(keys.LOST_HOSTS, 0, -1)
            for host in lost:
                pipeline.exists(keys.host_jobs(host), keys.host_sources(host))
            for host, count in zip(lost, pipeline.execute(), strict=True):
                if count:
                    self.link.client.zadd(keys.HOSTS, {host: now}, nx=True)

    def jobs(self, host: str) -> dict[str, Mapping[str, str]]:
        """Return the records of the jobs that a host owns; empty ones where Redis has lost them."""
        with self.link.translated():
            job_ids = sorted(self.link.call("owned", [keys.host_jobs(host)], []))
            with self.link.client.pipeline(transaction=False) as pipeline:
                for job_id in job_ids:
                    pipeline.hgetall(keys.job(job_id))
                records = redislink.answers(pipeline, {})
        return dict(zip(job_ids, records, strict=True))

    def lose(self, job_id: str, silence: Silence, *, to_host: str, record: Mapping[str, str], loss: Loss) -> Takeover:
        """Take a job from a silent host; `record` is its record as read before, `loss` the decision."""
        host = silence.host
        touched = [keys.job(job_id), keys.host_jobs(host), keys.host_jobs(to_host), keys.HOSTS, keys.WAITING]
        touched += [keys.CANCELLING, record.get("queue", "")]
        args = [job_id, host, to_host, silence.heard_at, record.get("fence", ""), "1" if loss.ends else ""]
        args += [loss.host_faults, _dump(loss.attempts), _dump(loss.envelope), loss.reason]
        return Takeover(self.link.call("lose", touched, args))

    def bury(self, silence: Silence) -> bool:
        """Declare a silent host lost and give back the messages it took; False if it has jobs, or was heard."""
        host = silence.host
        touched = [keys.HOSTS, keys.LOST_HOSTS, keys.host_about(host), keys.host_jobs(host), keys.host_sources(host)]
        return bool(self.link.call("bury", touched, [host, silence.heard_at, keys.taken(host), REMEMBERED_S]))

    def ownerships(self, job_ids: Sequence[str], *, host: str) -> dict[str, Ownership | None]:
        """Return the ownership of each job as `host` sees it; None where there is no record."""
        return ownership.read(self.link, job_ids, host=host)


def served_queues(client: Any) -> set[str]:
    """Return the queues that the hosts in a Redis say they serve; `client` may answer in bytes."""
    names: set[str] = set()
    for host in client.zrange(keys.HOSTS, 0, -1):
        text = client.hget(keys.host_about(host if isinstance(host, str) else host.decode(errors="replace")), "about")
        names.update(hostreport.parse(text).get("queues", ()))
    return names


def _dump(value: Any) -> str:
    return json.dumps(value, separators=(",", ":"))
