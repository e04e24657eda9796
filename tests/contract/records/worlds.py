"""The records under test, in memory and in a real Redis, with a look at what they left behind."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any, Protocol

from celery_docker.background.duties import Housekeeping
from celery_docker.core import figures, jobrecord, message
from celery_docker.core.admission import FreeRoom
from celery_docker.core.jobrecord import Claim, Holding, Taken
from celery_docker.core.lifecycle import State, Tally
from celery_docker.run import ports
from celery_docker.store import housekeeping, jobstore, keys, taking
from tests import servers
from tests.fakes.records import FakeRecords

HOST, OTHER = "node1", "node2"
QUEUE = "celery"
RECEIPT: dict[str, Any] = {
    "id": "j1",
    "state": "succeeded",
    "output": "äöü\n",
    "exit_code": 0,
    "attempts": [{"attempt": 1}],
}
LATE = 1e12
LATER: dict[str, Any] = {"id": "j1", "state": "error", "output": "", "exit_code": None, "attempts": []}


class Records(ports.Records, Protocol):
    """All that is asked of the records, by the runner and the submitter."""

    def submit(self, jobs: Sequence[jobrecord.New]) -> list[bool]: ...
    def begin_batch(self, batch_id: str, values: Mapping[str, str | int]) -> None: ...
    def record(self, job_id: str) -> dict[str, str]: ...


class World(Protocol):
    """The records under test, and a look at what they left behind."""

    @property
    def records(self) -> Records: ...
    @property
    def housekeeping(self) -> Housekeeping: ...
    def queued(self, queue: str = QUEUE) -> list[dict[str, Any]]: ...
    def owned(self, host: str) -> set[str]: ...
    def delayed(self) -> dict[str, float]: ...
    def indexed(self) -> set[str]: ...
    def listed(self, uid: str = "") -> dict[str, set[str]]: ...
    def kept_for_s(self, job_id: str) -> int | None: ...
    def lose(self, job_id: str) -> None: ...
    def lose_everything(self) -> None: ...
    def empty(self) -> None: ...
    def open_window(self, size: int) -> None: ...
    def lose_shares(self) -> None: ...
    def take_part(self, share: str, job_id: str) -> None: ...
    def hand_over(self, host: str, taken: jobrecord.Taken) -> None: ...
    def taken(self, host: str) -> list[bytes]: ...
    def take(self, room: FreeRoom, host: str = HOST, lists: Sequence[str] = (QUEUE,)) -> Taken | int | None: ...
    def parked(self) -> dict[str, list[str]]: ...
    def lose_groups(self) -> None: ...
    def write(self, job_id: str, **values: str) -> None: ...
    def notices(self) -> set[str]: ...
    def counts(self) -> dict[str, figures.QueueCounts]: ...
    def damage_counts(self) -> None: ...


class FakeWorld:
    def __init__(self) -> None:
        self.housekeeping = self.records = FakeRecords()

    def queued(self, queue: str = QUEUE) -> list[dict[str, Any]]:
        return [json.loads(text) for text in self.records.queues.get(queue, [])]

    def owned(self, host: str) -> set[str]:
        return set(self.records.in_hand.get(host, set()))

    def delayed(self) -> dict[str, float]:
        return dict(self.records.delayed)

    def indexed(self) -> set[str]:
        return set(self.records.index)

    def listed(self, uid: str = "") -> dict[str, set[str]]:
        lists: dict[str, set[str]] = {}
        for job_id, name in self.records.lists.get(uid, {}).items():
            lists.setdefault(name, set()).add(job_id)
        return lists

    def kept_for_s(self, job_id: str) -> int | None:
        return self.records.expiry.get(job_id)

    def lose(self, job_id: str) -> None:
        del self.records.jobs[job_id]

    def lose_everything(self) -> None:
        self.records.jobs.clear()
        self.records.index.clear()
        self.records.lists.clear()
        self.records.in_hand.clear()
        self.records.delayed.clear()
        self.records.queues.clear()

    def empty(self) -> None:
        self.records.queues.clear()

    def open_window(self, size: int) -> None:
        self.records.windows[QUEUE] = size

    def lose_shares(self) -> None:
        self.records.published.clear()
        self.records.held.clear()

    def take_part(self, share: str, job_id: str) -> None:
        self.records.published.setdefault(share, set()).add(job_id)

    def hand_over(self, host: str, taken: jobrecord.Taken) -> None:
        self.records.taken.setdefault(host, []).append(taken)

    def taken(self, host: str) -> list[bytes]:
        return [taken.text for taken in self.records.taken.get(host, [])]

    def take(self, room: FreeRoom, host: str = HOST, lists: Sequence[str] = (QUEUE,)) -> Taken | int | None:
        return self.records.take(host, lists, room)

    def parked(self) -> dict[str, list[str]]:
        return {
            group: sorted(jobs, key=lambda job_id: jobs[job_id]) for group, jobs in self.records.parked.items() if jobs
        }

    def lose_groups(self) -> None:
        self.records.parked.clear()

    def write(self, job_id: str, **values: str) -> None:
        self.records.jobs[job_id].update(values)

    def notices(self) -> set[str]:
        return set(self.records.notices)

    def counts(self) -> dict[str, figures.QueueCounts]:
        return dict(self.records.counts)

    def damage_counts(self) -> None:
        self.records.counts.clear()


class RedisWorld:
    def __init__(self, server: servers.RedisServer) -> None:
        self.records = jobstore.connect(server.url)
        self.housekeeping = housekeeping.Housekeeping(self.records.link)
        self._client: Any = server.client(decode_responses=True)

    def queued(self, queue: str = QUEUE) -> list[dict[str, Any]]:
        return [json.loads(text) for text in self._client.lrange(queue, 0, -1)]

    def owned(self, host: str) -> set[str]:
        return set(self._client.smembers(keys.host_jobs(host)))

    def delayed(self) -> dict[str, float]:
        return dict(self._client.zrange(keys.DELAYED, 0, -1, withscores=True))

    def indexed(self) -> set[str]:
        return set(self._client.zrange(keys.INDEX, 0, -1))

    def listed(self, uid: str = "") -> dict[str, set[str]]:
        index = keys.user_jobs(uid) if uid else keys.INDEX
        places = {key: dict(self._client.zrange(key, 0, -1, withscores=True)) for key in [index, *keys.lists(index)]}
        everything = places.pop(index)
        for entries in places.values():
            assert entries.items() <= everything.items(), "a job has its place of the index in every list"
        return {key.rpartition(":")[2]: set(entries) for key, entries in places.items() if entries}

    def kept_for_s(self, job_id: str) -> int | None:
        seconds = int(self._client.ttl(keys.job(job_id)))
        return None if seconds < 0 else seconds

    def lose(self, job_id: str) -> None:
        self._client.delete(keys.job(job_id))

    def lose_everything(self) -> None:
        self._client.flushdb()

    def empty(self) -> None:
        self._client.delete(QUEUE)

    def open_window(self, size: int) -> None:
        self._client.hset(keys.WINDOWS, QUEUE, size)

    def lose_shares(self) -> None:
        self._client.delete(keys.SHARES, *self._client.keys(f"{keys.SHARE}*"))

    def take_part(self, share: str, job_id: str) -> None:
        self._client.zadd(keys.share_published(share), {job_id: 0})
        self._client.hset(keys.SHARES, share, QUEUE)

    def hand_over(self, host: str, taken: jobrecord.Taken) -> None:
        self._client.lpush(keys.taken(host, taken.source), taken.text)

    def taken(self, host: str) -> list[bytes]:
        return [text.encode() for text in self._client.lrange(keys.taken(host, QUEUE), 0, -1)]

    def take(self, room: FreeRoom, host: str = HOST, lists: Sequence[str] = (QUEUE,)) -> Taken | int | None:
        answer = self.records.link.call("take", *taking.take_call(host, lists, room, is_new=False))
        if answer is None:
            return None
        return Taken(answer[0], answer[1].encode()) if answer[0] else int(answer[1])

    def parked(self) -> dict[str, list[str]]:
        groups = self._client.smembers(keys.PARKED)
        return {group: self._client.zrange(keys.PARKED_GROUP + group, 0, -1) for group in groups}

    def lose_groups(self) -> None:
        self._client.delete(*self._client.keys(keys.PARKED_GROUP + "*"))

    def write(self, job_id: str, **values: str) -> None:
        self._client.hset(keys.job(job_id), mapping=values)

    def notices(self) -> set[str]:
        return set(self._client.zrange(keys.NOTICES, 0, -1))

    def counts(self) -> dict[str, figures.QueueCounts]:
        return figures.parse(self._client.hgetall(keys.COUNTS))

    def damage_counts(self) -> None:
        self._client.set(keys.COUNTS, "no hash")

    def close(self) -> None:
        self._client.flushdb()
        self._client.close()
        self.records.close()


def envelope(tag: str = "t1", job_id: str = "j1") -> dict[str, Any]:
    return message.task_message(job_id, {"image": "busybox"}, queue=QUEUE, tag=tag, origin="1@here")


def submit(records: Records, job_id: str = "j1") -> bool:
    (is_new,) = records.submit([jobrecord.New(job_id, QUEUE, envelope(job_id=job_id), {"image": "busybox"})])
    return is_new


def claim(records: Records, host: str = HOST, job_id: str = "j1") -> Claim:
    return records.claim(job_id, host=host, queue=QUEUE, envelope=envelope())


def new(job_id: str, **options: Any) -> jobrecord.New:
    return jobrecord.New(job_id, QUEUE, envelope(job_id=job_id), {"image": "busybox"}, **options)


def held(fence: int, host: str = HOST, job_id: str = "j1", tag: str = "t1") -> Holding:
    return Holding(job_id, host, fence, QUEUE, envelope(tag, job_id))


def end(records: Records, job_id: str, state: State = State.SUCCEEDED, notices: int = 0) -> None:
    """Claim a job and end it, as the worker does with one that runs and with one that is not to run."""
    holding = held(claim(records, job_id=job_id).fence, job_id=job_id)
    records.finish(holding, state, {**RECEIPT, "id": job_id, "state": state.value}, notices=notices)


def published(world: World) -> list[str]:
    """Return the ids of the messages in the queue, the next one first."""
    return [message["headers"]["id"] for message in reversed(world.queued())]


def finish(records: Records, fence: int, host: str = HOST, receipt: Mapping[str, Any] = RECEIPT) -> None:
    records.finish(held(fence, host), State(receipt["state"]), receipt)


def requeue(records: Records, fence: int, host: str = HOST, delay_s: float = 60.0, exits: int = 1) -> None:
    attempts = ({"attempt": 1, "host": host},)
    records.requeue(held(fence, host, tag="t2"), delay_s=delay_s, tally=Tally(exits, 2), attempts=attempts)


def update(records: Records, fence: int, host: str = HOST) -> None:
    records.update(held(fence, host), {"state": "running", "container_id": "c" * 64, "pid": 7})
