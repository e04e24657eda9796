"""The job records in memory, for tests of what stands on them.

It may be trusted because `tests/contract` holds it to the same promises as the real store. Records are hashes of
strings, as Redis has them.
"""

from __future__ import annotations

import json
import math
import random
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from celery_docker import errors
from celery_docker.core import admission, figures, lifecycle, message
from celery_docker.core.admission import NOTHING, FreeRoom, Needs, Room
from celery_docker.core.jobrecord import (
    ANY_TIME,
    TO_END_AT_ONCE,
    Claim,
    Finished,
    Holding,
    JobToEnd,
    New,
    Ownership,
    Taken,
    Term,
    Verdict,
)
from celery_docker.core.outlook import Outlook


@dataclass
class FakeBatch:
    """A batch's limit of jobs on their way at once, how many it is to have, has and has ended, and the held ones."""

    limit: int | None
    size: int = 0
    joined: int = 0
    ended: int = 0
    is_announced: bool = False
    active: int = 0
    held: list[str] = field(default_factory=list)


@dataclass
class FakeRecords:
    """Redis in memory.

    `failures` are raised by the next calls of a method, in order; `calls` lists the names of the methods called.
    `queues` holds the published envelopes of each list, newest first, `waiting` the jobs whose message is in one,
    `delayed` those that wait and until when, `expiring` those that must have started and by when, `in_hand` each host's
    jobs, `taken` its unclaimed messages, `blocked` the jobs that wait for others, `dependents` who waits for whom,
    `expiry` the seconds that a finished job's record is kept, `parked` the jobs of each group by when they were parked.
    `counts` has how many jobs were started, retried and ended.
    `lists` says in which list by state each job is, for all and for each user.
    `windows` says how many jobs of a share may be published,
    by queue list; `published` and `held` have the jobs of each share.
    """

    clock: Callable[[], float] = time.time
    failures: dict[str, list[Exception]] = field(default_factory=dict)
    calls: list[str] = field(default_factory=list)
    jobs: dict[str, dict[str, str]] = field(default_factory=dict)
    index: dict[str, float] = field(default_factory=dict)
    in_hand: dict[str, set[str]] = field(default_factory=dict)
    delayed: dict[str, float] = field(default_factory=dict)
    waiting: dict[str, float] = field(default_factory=dict)
    expiring: dict[str, float] = field(default_factory=dict)
    taken: dict[str, list[Taken]] = field(default_factory=dict)
    marked: set[str] = field(default_factory=set)
    blocked: set[str] = field(default_factory=set)
    dependents: dict[str, set[str]] = field(default_factory=dict)
    batches: dict[str, FakeBatch] = field(default_factory=dict)
    notices: set[str] = field(default_factory=set)
    queues: dict[str, list[str]] = field(default_factory=dict)
    expiry: dict[str, int] = field(default_factory=dict)
    parked: dict[str, dict[str, float]] = field(default_factory=dict)
    lists: dict[str, dict[str, str]] = field(default_factory=dict)
    windows: dict[str, int] = field(default_factory=dict)
    published: dict[str, set[str]] = field(default_factory=dict)
    held: dict[str, list[str]] = field(default_factory=dict)
    counts: dict[str, figures.QueueCounts] = field(default_factory=dict)
    _lock: threading.RLock = field(default_factory=threading.RLock)

    def submit(self, jobs: Sequence[New]) -> list[bool]:
        with self._call("submit"):
            return [self._submit(new) for new in jobs]

    def begin_batch(self, batch_id: str, values: Mapping[str, str | int]) -> None:
        with self._call("begin_batch"):
            limit = values.get("limit")
            self.batches[batch_id] = FakeBatch(None if limit is None else int(limit), int(values.get("size", 0)))

    def _submit(self, new: New) -> bool:
        if new.job_id in self.jobs:
            return False
        for earlier in new.after:
            if earlier not in self.jobs:
                raise errors.NoSuchJob(f"job {new.job_id} cannot run after {earlier!r}: no job has this id")
        now = self.clock()
        job = self.jobs[new.job_id] = {
            "state": "queued",
            "fence": "0",
            "attempt": "0",
            "submitted_at": repr(now),
            "queue": new.queue,
            "message": json.dumps(new.envelope),
            "spec": json.dumps(new.spec),
            **new.about,
        }
        self.index[new.job_id] = now
        self._list(new.job_id, "live", job)
        if new.expires_s is not None:
            job["expires_at"] = repr(now + new.expires_s)
            self.expiring[new.job_id] = now + new.expires_s
        self._join(new, job)
        waits = [self._wait_for(earlier, new.job_id, job) for earlier in dict.fromkeys(new.after)]
        if any(waits):
            job["pending"] = str(sum(waits))
        self.blocked.add(new.job_id)
        self._release(new.job_id)
        return True

    def _list(self, job_id: str, name: str, job: Mapping[str, str]) -> None:
        """Put a job into a list by state, and into that of its user; it leaves the one that it was in."""
        for uid in {"", job.get("uid", "")}:
            self.lists.setdefault(uid, {})[job_id] = name

    def _join(self, new: New, job: dict[str, str]) -> None:
        if new.batch_id is None:
            return
        batch = self.batches[new.batch_id]
        batch.joined += 1
        job |= {"batch": new.batch_id, "batch_index": str(new.batch_index)}
        if batch.limit is not None and batch.active >= batch.limit:
            job["held"] = "1"
            batch.held.append(new.job_id)
        else:
            batch.active += 1

    def _wait_for(self, earlier: str, job_id: str, job: dict[str, str]) -> bool:
        if "receipt" not in self.jobs[earlier]:
            self.dependents.setdefault(earlier, set()).add(job_id)
            return True
        if self.jobs[earlier]["state"] != "succeeded":
            self._give_up(job_id, job, earlier)
        return False

    def _give_up(self, job_id: str, job: dict[str, str], earlier: str) -> None:
        job.setdefault("cancelled_at", repr(self.clock()))
        state = self.jobs[earlier]["state"]
        job.setdefault("cancel_reason", f"job {earlier}, after which it was to run, ended as {state}")
        self.marked.add(job_id)

    def _release(self, job_id: str) -> None:
        """Publish a job that nothing holds back any more."""
        job = self.jobs[job_id]
        is_free = "held" not in job and int(job.get("pending", 0)) <= 0 and "cancelled_at" not in job
        if job_id in self.blocked and is_free:
            self.blocked.discard(job_id)
            self._publish_in_turn(job_id, job)

    def _publish_in_turn(self, job_id: str, job: dict[str, str]) -> None:
        """Publish a job, or hold it back while its share is full or has others before it."""
        share, window = job.get("share"), self.windows.get(job["queue"])
        if share is None or window is None:
            return self._push(job_id, job)
        line, published = self.held.setdefault(share, []), self.published.setdefault(share, set())
        if not line and len(published) < window:
            published.add(job_id)
            return self._push(job_id, job)
        job["over_share"] = "1"
        self.delayed[job_id] = self.clock() + 90
        if job_id not in line:
            line.append(job_id)
            line.sort(key=lambda held_id: float(self.jobs.get(held_id, {}).get("submitted_at", self.clock())))
        return None

    def _leave(self, job_id: str, job: Mapping[str, str]) -> None:
        """Take a job out of its share; the next one has its place."""
        if share := job.get("share"):
            self.published.setdefault(share, set()).discard(job_id)
            self.held[share] = [held_id for held_id in self.held.get(share, []) if held_id != job_id]
            self._release_share(share, job["queue"])

    def _release_share(self, share: str, queue: str) -> int:
        """Publish the first of a share's line while there is room for them; return how many."""
        line, published, count = self.held.get(share, []), self.published.setdefault(share, set()), 0
        while line and len(published) < self.windows.get(queue, len(published) + 1):
            job_id = line.pop(0)
            job = self.jobs.get(job_id, {})
            if job.get("state") != "queued" or "over_share" not in job or "cancelled_at" in job:
                continue
            del job["over_share"]
            if job_id in self.delayed or job_id not in self.waiting:
                self.delayed.pop(job_id, None)
                published.add(job_id)
                self._push(job_id, job)
                count += 1
        return count

    def claim(
        self,
        job_id: str,
        *,
        host: str,
        queue: str,
        envelope: Mapping[str, Any],
        taken: Taken | None = None,
        term: Term = ANY_TIME,
        needs: Needs = NOTHING,
        fits: bool = True,
    ) -> Claim:
        with self._call("claim"):
            if taken is not None and taken in self.taken.get(host, []):
                self.taken[host].remove(taken)
            if job_id not in self.jobs:
                self.jobs[job_id] = {"state": "queued", "queue": queue, "message": json.dumps(envelope)}
                self.index[job_id] = self.clock()
                self._list(job_id, "live", {})
            job = self.jobs[job_id]
            if taken is not None and "message" not in job:
                job["message"] = json.dumps(envelope)
                if "receipt" in job:
                    job["owner"] = host
                    self.in_hand.setdefault(host, set()).add(job_id)
                    return self._answer(Verdict.REPORT, job)
            if job["state"] != "queued":
                if job["owner"] != host or job_id not in self.in_hand.get(host, set()):
                    return self._answer(Verdict.DROP, job)
                return self._answer(Verdict.REPORT if "receipt" in job else Verdict.ADOPT, job)
            if "cancelled_at" not in job and (job_id in self.delayed or self._must_wait(job_id, job, term)):
                return self._answer(Verdict.DROP, job)
            self._unpark(job_id, job)
            if not fits and "cancelled_at" not in job:
                self._park(job_id, job, needs)
                if "expires_at" not in job and term.not_after is not None and int(job.get("attempt", 0)) == 0:
                    job["expires_at"] = repr(term.not_after)
                    self.expiring[job_id] = term.not_after
                return self._answer(Verdict.PARK, job)
            self._count_start(job)
            for index in (self.delayed, self.waiting, self.expiring):
                index.pop(job_id, None)
            for name in ("parked_at", "pulled_bytes", "pull_size_bytes"):
                job.pop(name, None)
            job |= {"state": "starting", "owner": host, "claimed_at": repr(self.clock())}
            job["fence"] = str(int(job.get("fence", 0)) + 1)
            job["attempt"] = str(int(job.get("attempt", 0)) + 1)
            self.in_hand.setdefault(host, set()).add(job_id)
            return self._answer(Verdict.RUN, job)

    def _park(self, job_id: str, job: dict[str, str], needs: Needs) -> None:
        job["needs"] = str(needs)
        job.setdefault("parked_at", repr(self.clock()))
        group = admission.group(job["queue"], needs)
        self.parked.setdefault(group, {})[job_id] = float(job["parked_at"])
        self.waiting.setdefault(job_id, self.clock())

    def _unpark(self, job_id: str, job: dict[str, str]) -> None:
        group = f"{job.get('queue', '')}|{job.get('needs', '')}"
        self.parked.get(group, {}).pop(job_id, None)
        if not self.parked.get(group):
            self.parked.pop(group, None)

    def take(self, host: str, lists: Sequence[str], room: FreeRoom) -> Taken | int | None:
        """Take one message or parked job for a host; the number of those put aside, 0: jobs are parked; or None."""
        with self._call("take"):
            for job_id, fitting in [(room.reserved_id, room.reserved), ("", room.free)]:
                for queue in lists:
                    taken = self._take_parked(host, queue, job_id, fitting)
                    if taken is not None:
                        return taken
                    if job_id == room.reserved_id and job_id:
                        continue
                    count = self._put_aside(queue, room)
                    if count:
                        return count
                    if self.queues.get(queue):
                        return self._hand_over(host, queue, self.queues[queue].pop())
            could = [parts for group in self.parked if (parts := admission.of_group(group)) and parts[0] in lists]
            return 0 if any(admission.fits(needs, room.whole) for _, needs in could) else None

    def _take_parked(self, host: str, queue: str, only_id: str, room: Room) -> Taken | None:
        groups = [(min(jobs.values()), group) for group, jobs in self.parked.items() if jobs]
        for _, group in sorted(groups):
            queue_list, needs = admission.of_group(group) or ("", NOTHING)
            if queue_list != queue or not admission.fits(needs, room):
                continue
            for job_id in sorted(self.parked[group], key=lambda name: (self.parked[group][name], name)):
                if only_id in ("", job_id):
                    job = self.jobs.get(job_id, {})
                    del self.parked[group][job_id]
                    if job.get("state") == "queued" and "cancelled_at" in job:
                        self.waiting.pop(job_id, None)
                        self.marked.add(job_id)
                    elif job.get("state") == "queued" and f"{job['queue']}|{job['needs']}" == group:
                        return self._hand_over(host, queue, job["message"])
        return None

    def _hand_over(self, host: str, queue: str, text: str) -> Taken:
        taken = Taken(queue, text.encode())
        self.taken.setdefault(host, []).insert(0, taken)
        return taken

    def _put_aside(self, queue: str, room: FreeRoom) -> int:
        texts, count = self.queues.get(queue, []), 0
        while texts:
            headers = json.loads(texts[-1])["headers"]
            job = self.jobs.get(headers["id"], {})
            needs = admission.parse(job.get("needs"))
            if "cancelled_at" in job:
                self.waiting.pop(headers["id"], None)
                self.marked.add(headers["id"])
            elif not self._has_to_park(headers, job, texts[-1], needs, room):
                break
            else:
                self._park(headers["id"], job, needs or NOTHING)
            texts.pop()
            count += 1
        return count

    def _has_to_park(
        self, headers: Mapping[str, Any], job: Mapping[str, str], text: str, needs: Needs | None, room: FreeRoom
    ) -> bool:
        if needs is None or job.get("state") != "queued" or job.get("message") != text or headers.get("eta"):
            return False
        is_reserved = headers["id"] == room.reserved_id and admission.fits(needs, room.reserved)
        return not admission.fits(needs, room.free) and not is_reserved

    def claim_many(self, jobs: Sequence[JobToEnd], *, host: str) -> list[Claim]:
        with self._call("claim_many"):
            return [self.claim(job.job_id, host=host, queue=job.queue, envelope=job.envelope or {}) for job in jobs]

    def _must_wait(self, job_id: str, job: dict[str, str], term: Term) -> bool:
        now = self.clock()
        expires_at = float(job["expires_at"]) if "expires_at" in job else term.not_after
        if int(job.get("attempt", 0)) > 0:
            return False
        if expires_at is not None and expires_at <= now:
            self._mark_expired(job)
            return False
        if term.not_before is None or term.not_before <= now:
            return False
        self.delayed[job_id] = term.not_before
        self.waiting.pop(job_id, None)
        if expires_at is not None:
            job["expires_at"] = repr(expires_at)
            self.expiring[job_id] = expires_at
        return True

    def _mark_expired(self, job: dict[str, str]) -> None:
        reason = "no host had a free slot and room for it before it expired"
        if int(job.get("pending", 0)) > 0:
            reason = "the jobs after which it was to run had not succeeded before it expired"
        elif "held" in job:
            reason = "the limit of its batch held it back until it expired"
        elif "over_share" in job:
            reason = "other jobs of its submitter were before it until it expired"
        job |= {"cancelled_at": repr(self.clock()), "cancel_cause": "expired", "cancel_reason": reason}

    def image_pin(self, job_id: str) -> str:
        with self._call("image_pin"):
            return self.jobs.get(job_id, {}).get("image_pin", "")

    def owned(self, host: str) -> dict[str, Mapping[str, Any] | None]:
        with self._call("owned"):
            texts = {job_id: self.jobs.get(job_id, {}).get("message") for job_id in sorted(self.in_hand.get(host, ()))}
            return {job_id: json.loads(text) if text else None for job_id, text in texts.items()}

    def update(self, holding: Holding, values: Mapping[str, str | int | float]) -> None:
        with self._call("update"):
            was_lost = holding.job_id not in self.jobs
            job = self._owned_by(holding)
            if was_lost:
                job |= {"queue": holding.queue, "message": json.dumps(holding.envelope)}
            if "receipt" in job:
                raise self._fenced(holding.job_id)
            job |= {name: str(value) for name, value in values.items()}

    def finish(self, holding: Holding, state: lifecycle.State, receipt: Mapping[str, Any], *, notices: int = 0) -> None:
        with self._call("finish"):
            job, job_id = self._owned_by(holding), holding.job_id
            self.marked.discard(job_id)
            if "receipt" not in job:
                job |= {"state": state.value, "receipt": json.dumps(receipt), "finished_at": repr(self.clock())}
                counts = self._counts(job.get("queue", holding.queue))
                counts.ended[figures.end_class(state, receipt)] += 1
                _observe(counts.run_s, figures.RUN_S_BOUNDS, figures.run_s(receipt))
                self._list(job_id, state.value, job)
                self.blocked.discard(job_id)
                self._go_on_after(job_id, job)
                self._leave(job_id, job)
                self._announce(job_id, job, notices)

    def _announce(self, job_id: str, job: dict[str, str], notices: int) -> None:
        batch = self.batches.get(job.get("batch", ""))
        if batch is not None:
            batch.ended += 1
            if batch.ended < batch.joined or batch.joined < batch.size or batch.is_announced or not notices:
                return
            batch.is_announced = True
        suffix = f" {job['batch']}" if batch is not None else ""
        self.notices.update(f"{job_id} {number}{suffix}" for number in range(1, notices + 1))

    def finish_many(self, ends: Sequence[Finished]) -> list[bool]:
        with self._call("finish_many"):
            return [self._is_finished(end) for end in ends]

    def _is_finished(self, end: Finished) -> bool:
        try:
            self.finish(end.holding, end.state, end.receipt, notices=end.notices)
        except errors.Fenced:
            return False
        return True

    def _go_on_after(self, job_id: str, job: dict[str, str]) -> None:
        for later in self.dependents.pop(job_id, ()):
            waiting = self.jobs.get(later, {})
            if "pending" not in waiting or "receipt" in waiting:
                continue
            if job["state"] == "succeeded":
                waiting["pending"] = str(int(waiting["pending"]) - 1)
                self._release(later)
            else:
                self._give_up(later, waiting, job_id)
        if "batch" in job and "held" not in job:
            self._release_next(self.batches[job["batch"]])

    def _release_next(self, batch: FakeBatch) -> None:
        batch.active -= 1
        while batch.held:
            job_id = batch.held.pop(0)
            job = self.jobs.get(job_id, {})
            if job.get("state") == "queued" and "held" in job and "cancelled_at" not in job:
                del job["held"]
                batch.active += 1
                return self._release(job_id)
        return None

    def cancel(self, job_id: str, *, reason: str) -> str:
        with self._call("cancel"):
            has_record = job_id in self.jobs
            job = self.jobs.setdefault(job_id, {"state": "queued"})
            if "receipt" in job:
                return job["state"]
            if not has_record:
                self.index[job_id] = self.clock()
                self._list(job_id, "live", job)
            job.setdefault("cancelled_at", repr(self.clock()))
            job.setdefault("cancel_reason", reason)
            self.delayed.pop(job_id, None)
            self.marked.add(job_id)
            return job["state"] if has_record else "unknown"

    def cancel_many(self, job_ids: Sequence[str], *, reason: str) -> list[str]:
        with self._call("cancel_many"):
            return [self.cancel(job_id, reason=reason) for job_id in job_ids]

    def end_requests(self, host: str) -> list[JobToEnd]:
        with self._call("end_requests"):
            own = self.marked & self.in_hand.get(host, set())
            drawn = random.sample(sorted(self.marked), min(TO_END_AT_ONCE, len(self.marked)))
            return [self._to_end(job_id, self.jobs.get(job_id, {})) for job_id in sorted(own.union(drawn))]

    def _to_end(self, job_id: str, job: dict[str, str]) -> JobToEnd:
        text = job.get("message")
        envelope = json.loads(text) if text else None
        return JobToEnd(job_id, job.get("state", ""), job.get("queue", ""), envelope, _end_request(job))

    def requeue(
        self, holding: Holding, *, delay_s: float, tally: lifecycle.Tally, attempts: Sequence[Mapping[str, Any]]
    ) -> None:
        with self._call("requeue"):
            if self.jobs.get(holding.job_id, {}).get("released") == str(holding.fence):
                return
            job = self._owned_by(holding)
            if "receipt" in job:
                raise self._fenced(holding.job_id)
            job |= {
                "state": "queued",
                "owner": "",
                "released": str(holding.fence),
                "queue": holding.queue,
                "message": json.dumps(holding.envelope),
                "exits": str(tally.exits),
                "host_faults": str(tally.host_faults),
                "attempts": json.dumps(attempts),
            }
            job.setdefault("attempt", str(len(attempts)))
            self.in_hand.get(holding.host, set()).discard(holding.job_id)
            self.delayed[holding.job_id] = self.clock() + delay_s
            self._counts(holding.queue).retried += 1
            self._leave(holding.job_id, job)

    def _counts(self, queue: str) -> figures.QueueCounts:
        """Return the counters of a queue list; those beyond the first have theirs together."""
        name = message.queue_name(queue)
        if not 0 < len(name.encode()) <= 128 or (name not in self.counts and len(self.counts) >= figures.MOST_QUEUES):
            name = figures.OTHER
        return self.counts.setdefault(name, figures.QueueCounts())

    def _count_start(self, job: Mapping[str, str]) -> None:
        if "cancelled_at" not in job:
            counts = self._counts(job["queue"])
            counts.started += 1
            if "submitted_at" in job and int(job.get("attempt", 0)) == 0:
                waited_s = max(0.0, self.clock() - float(job["submitted_at"]))
                _observe(counts.queue_s, figures.QUEUE_S_BOUNDS, waited_s)

    def settle(self, job_id: str, *, host: str, retention_s: int) -> None:
        with self._call("settle"):
            self.in_hand.get(host, set()).discard(job_id)
            if "receipt" in self.jobs.get(job_id, {}):
                self.expiry[job_id] = retention_s

    def settle_many(self, job_ids: Sequence[str], *, host: str, retention_s: int) -> None:
        with self._call("settle_many"):
            for job_id in job_ids:
                self.settle(job_id, host=host, retention_s=retention_s)

    def now(self) -> float:
        with self._call("now"):
            return self.clock()

    def look(self, host: str) -> Outlook:
        with self._call("look"):
            now = self.clock()
            due, expired = (bool(_up_to(index, now)) for index in (self.delayed, self.expiring))
            return Outlook(now, due, expired, bool(self.marked), has_parked=bool(self.parked))

    def publish_due(self, now: float) -> int:
        with self._call("publish_due"):
            return sum(self._publish(job_id) for job_id in _up_to(self.delayed, now))

    def expire_due(self, now: float) -> int:
        with self._call("expire_due"):
            return sum(self._expire(job_id) for job_id in _up_to(self.expiring, now))

    def repair(self) -> list[str]:
        return []

    def keep_lists(self, now: float) -> None:
        """Leave them as they are: they are never wrong here."""

    def keep_history(self, now: float) -> bool:
        with self._call("keep_history"):
            return True

    def release_held(self) -> int:
        with self._call("release_held"):
            for published in self.published.values():
                published.difference_update({job_id for job_id in published if not self._is_published(job_id)})
            return sum(
                self._release_share(share, self.jobs[line[0]]["queue"]) for share, line in self.held.items() if line
            )

    def _is_published(self, job_id: str) -> bool:
        job = self.jobs.get(job_id)
        return job is not None and "receipt" not in job and job_id not in self.delayed

    def republish(self, before: float) -> int:
        with self._call("republish"):
            for jobs in self.parked.values():
                for job_id in jobs.keys() - self.waiting.keys():
                    del jobs[job_id]
            listed = {json.loads(text)["headers"]["id"] for texts in self.queues.values() for text in texts}
            listed |= {job_id for jobs in self.parked.values() for job_id in jobs}
            missing = [job_id for job_id in _up_to(self.waiting, before) if job_id not in listed]
            return sum(self._republish(job_id) for job_id in missing)

    def forget_expired(self, before: float) -> int:
        with self._call("forget_expired"):
            gone = [job_id for job_id in _up_to(self.index, before) if job_id not in self.jobs]
            for job_id in gone:
                del self.index[job_id]
                for lists in self.lists.values():
                    lists.pop(job_id, None)
            return len(gone)

    def ownerships(self, job_ids: Sequence[str], *, host: str) -> dict[str, Ownership | None]:
        with self._call("ownerships"):
            return {job_id: self.ownership(job_id, host) for job_id in job_ids}

    def ownership(self, job_id: str, host: str) -> Ownership | None:
        """Return the ownership of a job for the other fakes, which have failures of their own."""
        job, in_hand = self.jobs.get(job_id, {}), job_id in self.in_hand.get(host, ())
        if "state" not in job:
            return None
        fence = int(job["fence"]) if "fence" in job else None
        envelope = json.loads(job["message"]) if "message" in job else None
        return Ownership(job["state"], job.get("owner", ""), fence, "receipt" in job, in_hand, envelope)

    def record(self, job_id: str) -> dict[str, str]:
        with self._call("record"):
            return dict(self.jobs.get(job_id, {}))

    def _call(self, method: str) -> threading.RLock:
        """Take note of a call, raise the failure that is due, and return the lock that makes the call one step."""
        with self._lock:
            self.calls.append(method)
            waiting = self.failures.get(method)
            if waiting:
                raise waiting.pop(0)
        return self._lock

    def _owned_by(self, holding: Holding) -> dict[str, str]:
        """Return the job's record, begun again if Redis has lost it."""
        job_id, host, fence = holding.job_id, holding.host, str(holding.fence)
        if job_id not in self.jobs:
            self.jobs[job_id] = {"owner": host, "fence": fence}
            self.in_hand.setdefault(host, set()).add(job_id)
            self.index.setdefault(job_id, self.clock())
            self._list(job_id, "live", {})
        job = self.jobs[job_id]
        if (job.get("owner"), job.get("fence")) != (host, fence):
            raise self._fenced(job_id)
        return job

    def _fenced(self, job_id: str) -> errors.Fenced:
        return errors.Fenced(f"job {job_id} belongs to another host now")

    def _publish(self, job_id: str) -> int:
        del self.delayed[job_id]
        job = self.jobs.get(job_id, {})
        if job.get("state") != "queued":
            return 0
        was_held = job.pop("over_share", None)
        self._publish_in_turn(job_id, job)
        if was_held and job_id in self.delayed:
            return self._release_share(job["share"], job["queue"])
        return int(job_id not in self.delayed)

    def _expire(self, job_id: str) -> int:
        del self.expiring[job_id]
        job = self.jobs.get(job_id, {})
        if job.get("state") != "queued" or int(job.get("attempt", 0)) > 0 or "cancelled_at" in job:
            return 0
        self._mark_expired(job)
        self.delayed.pop(job_id, None)
        self.marked.add(job_id)
        return 1

    def _republish(self, job_id: str) -> int:
        job = self.jobs.get(job_id, {})
        if job.get("state") != "queued":
            del self.waiting[job_id]
            return 0
        self.queues.setdefault(job["queue"], []).append(job["message"])
        self.waiting[job_id] = self.clock()
        return 1

    def _push(self, job_id: str, job: Mapping[str, str]) -> None:
        self.queues.setdefault(job["queue"], []).insert(0, job["message"])
        self.waiting[job_id] = self.clock()

    def _answer(self, verdict: Verdict, job: Mapping[str, str]) -> Claim:
        return Claim(
            verdict=verdict,
            fence=int(job.get("fence", 0)),
            attempt=int(job.get("attempt", 0)),
            tally=lifecycle.Tally(int(job.get("exits", 0)), int(job.get("host_faults", 0))),
            submitted_at=float(job["submitted_at"]) if "submitted_at" in job else None,
            attempts=tuple(json.loads(job.get("attempts", "[]"))),
            receipt=json.loads(job["receipt"]) if "receipt" in job else None,
            end_request=_end_request(job) if job.get("cancel_reason") else None,
            container_id=job.get("container_id") if job["state"] == "running" else None,
            batch_id=job.get("batch", ""),
        )


def _end_request(job: Mapping[str, str]) -> lifecycle.EndRequest:
    return lifecycle.EndRequest(lifecycle.Cause(job.get("cancel_cause", "cancelled")), job.get("cancel_reason", ""))


def _up_to(index: Mapping[str, float], moment: float) -> list[str]:
    return [job_id for at, job_id in sorted((at, job_id) for job_id, at in index.items()) if at <= moment]


def _observe(histogram: figures.Histogram, bounds: Sequence[float], seconds: float | str) -> None:
    if isinstance(seconds, int | float):
        histogram.within[next((float(bound) for bound in bounds if seconds <= bound), math.inf)] += 1
        histogram.sum_s += round(seconds, 3)
