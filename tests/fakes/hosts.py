"""The list of hosts in memory, for tests of what stands on it, beside the job records in memory.

It may be trusted because `tests/contract` holds it to the same promises as the real one.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from celery_docker.core.hostloss import Beat, Loss, Silence, Takeover
from celery_docker.core.jobrecord import Ownership
from celery_docker.store import listing
from celery_docker.store.hosts import NAME_KEPT_S, REMEMBERED_S
from celery_docker.store.listing import WorkerRow
from tests.fakes.records import FakeRecords


@dataclass
class FakeHosts:
    """Redis in memory; its clock is that of the records.

    `heard` holds each host's last heartbeat, `lost` that of the lost ones, `reports` each host's machine and report,
    `taken` each host's unclaimed messages by source, newest first, `waiting` when a job's message was put into its
    list.
    """

    records: FakeRecords
    failures: dict[str, list[Exception]] = field(default_factory=dict)
    calls: list[str] = field(default_factory=list)
    heard: dict[str, float] = field(default_factory=dict)
    lost: dict[str, float] = field(default_factory=dict)
    reports: dict[str, tuple[str, Mapping[str, Any]]] = field(default_factory=dict)
    expiry: dict[str, int] = field(default_factory=dict)
    taken: dict[str, dict[str, list[str]]] = field(default_factory=dict)
    waiting: dict[str, float] = field(default_factory=dict)
    takeover_lock: tuple[str, float] = ("", 0.0)

    def beat(self, host: str, *, machine: str, about: Mapping[str, Any]) -> Beat:
        self._called("beat")
        now, before = self.records.clock(), self.heard.get(host)
        holder, report = self.reports.get(host, (machine, {}))
        if before is not None and holder != machine and now - before < NAME_KEPT_S:
            return Beat(now, before, report)
        self.heard[host] = now
        self.lost.pop(host, None)
        self.expiry.pop(host, None)
        self.reports[host] = (machine, dict(about))
        return Beat(now, before)

    def leave(self, host: str) -> bool:
        self._called("leave")
        if self.records.in_hand.get(host) or any(self.taken.get(host, {}).values()):
            return False
        self.heard.pop(host, None)
        self.reports.pop(host, None)
        return True

    def hold(self, host: str, *, for_s: int) -> bool:
        self._called("hold")
        holder, until = self.takeover_lock
        if holder != host and until > self.records.clock():
            return False
        self.takeover_lock = (host, self.records.clock() + for_s)
        return True

    def silent(self, *, now: float, for_s: float) -> list[Silence]:
        self._called("silent")
        rows = sorted((heard_at, host) for host, heard_at in self.heard.items() if heard_at <= now - for_s)
        return [Silence(host, heard_at, now - heard_at) for heard_at, host in rows]

    def recall(self, *, now: float) -> None:
        self._called("recall")
        for host in self.lost:
            if self.records.in_hand.get(host) or host in self.taken:
                self.heard.setdefault(host, now)

    def jobs(self, host: str) -> dict[str, Mapping[str, str]]:
        self._called("jobs")
        return {
            job_id: dict(self.records.jobs.get(job_id, {})) for job_id in sorted(self.records.in_hand.get(host, ()))
        }

    def lose(self, job_id: str, silence: Silence, *, to_host: str, record: Mapping[str, str], loss: Loss) -> Takeover:
        self._called("lose")
        if not self._is_silent(silence):
            return Takeover.KEPT
        job = self.records.jobs.get(job_id, {})
        in_hand = self.records.in_hand.setdefault(silence.host, set())
        if job.get("owner") != silence.host:
            in_hand.discard(job_id)
            return Takeover.FOREIGN
        if job.get("fence") != record.get("fence"):
            return Takeover.KEPT
        in_hand.discard(job_id)
        if "receipt" in job:
            job["owner"] = to_host
            self.records.in_hand.setdefault(to_host, set()).add(job_id)
            return Takeover.ENDED
        return self._release(job_id, job, loss)

    def bury(self, silence: Silence) -> bool:
        self._called("bury")
        host = silence.host
        if not self._is_silent(silence) or self.records.in_hand.get(host):
            return False
        for source, texts in self.taken.pop(host, {}).items():
            self.records.queues.setdefault(source, []).extend(texts)
        heard_at = self.heard.pop(host)
        self.lost = {name: at for name, at in self.lost.items() if at > heard_at - REMEMBERED_S} | {host: heard_at}
        self.expiry[host] = REMEMBERED_S
        return True

    def ownerships(self, job_ids: Sequence[str], *, host: str) -> dict[str, Ownership | None]:
        self._called("ownerships")
        return {job_id: self.records.ownership(job_id, host) for job_id in job_ids}

    def workers(self) -> list[WorkerRow]:
        """Return what a listing shows of the hosts; nobody drains one here."""
        return [self._row(host, heard_at) for host, heard_at in sorted({**self.lost, **self.heard}.items())]

    def _row(self, host: str, heard_at: float) -> WorkerRow:
        about = self.reports[host][1]
        heard_s, ahead_s = self.records.clock() - heard_at, listing.ahead_s(about.get("clock"), heard_at)
        jobs = len(self.records.in_hand.get(host, ()))
        return WorkerRow(host, heard_s, ahead_s, jobs, about, drained=None, lost=host not in self.heard)

    def _release(self, job_id: str, job: dict[str, str], loss: Loss) -> Takeover:
        envelope = json.dumps(loss.envelope)
        job |= {"state": "queued", "owner": "", "host_faults": str(loss.host_faults), "message": envelope}
        job["attempts"] = json.dumps(loss.attempts)
        if "cancelled_at" in job:
            self.records.marked.add(job_id)
            return Takeover.CANCELLED
        if loss.ends:
            job |= {"cancelled_at": repr(self.records.clock()), "cancel_reason": loss.reason, "cancel_cause": "lost"}
            self.records.marked.add(job_id)
            return Takeover.LOST
        self.records.queues.setdefault(job["queue"], []).append(envelope)
        self.waiting[job_id] = self.records.clock()
        return Takeover.QUEUED

    def _is_silent(self, silence: Silence) -> bool:
        heard_at = self.heard.get(silence.host)
        return heard_at is not None and heard_at <= silence.heard_at

    def _called(self, method: str) -> None:
        self.calls.append(method)
        due = self.failures.get(method)
        if due:
            raise due.pop(0)
