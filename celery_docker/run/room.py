"""The ledger of a host's room: what each job here takes of the offer, and who has which GPU; for any thread.

Owns the count. Invariant: a job has its part before its claim is asked of Redis, and until its slot is free; a
container that is in no slot keeps its part until it is gone. What runs is counted, even where it is more than the host
offers.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from threading import Lock

from celery_docker import errors
from celery_docker.core import admission, container, gpus
from celery_docker.core.admission import FreeRoom, Lease, Needs, Offer, Use, Verdict
from celery_docker.core.container import ALIVE, Listed
from celery_docker.core.policy import Defaults
from celery_docker.run.job import Delivery


@dataclass
class Ledger:
    """What jobs have of one host's offer.

    `_leases` are those of jobs in slots; `_left` those of jobs and containers that are in no slot, or not yet.
    """

    offer: Offer = admission.UNBOUNDED
    _leases: dict[str, Lease] = field(default_factory=dict)
    _left: dict[str, Lease] = field(default_factory=dict)
    _reserved_id: str = ""
    _reserved: Needs = admission.NOTHING
    # The jobs that had a slot since the containers were looked at, and those that were expected since.
    _since_look: set[str] = field(default_factory=set)
    _expected: set[str] = field(default_factory=set)
    _changes: int = 0
    _lock: Lock = field(default_factory=Lock)

    def take(self, job_id: str, needs: Needs) -> Lease | None:
        """Give a job that is about to be claimed its part; None if there is no room. It keeps one that it has."""
        with self._lock:
            if job_id not in self._left and admission.verdict(job_id, needs, self.offer, self._use) is Verdict.PARK:
                return None
            return self._put(job_id, needs)

    def adopt(self, job_id: str, needs: Needs) -> Lease:
        """Give a job that was started before its part, whatever room there is."""
        with self._lock:
            return self._put(job_id, needs)

    def expect(self, job_id: str, needs: Needs) -> None:
        """Keep the part of a job that this host owns and has in no slot yet."""
        with self._lock:
            if job_id not in self._leases and job_id not in self._left:
                self._left[job_id] = admission.lease(self.offer, needs, self._leased)
                self._expected.add(job_id)
                self._changes += 1

    def free(self, job_id: str) -> None:
        """Take back the part of a job whose slot is free."""
        with self._lock:
            self._leases.pop(job_id, None)
            self._left.pop(job_id, None)
            self._changes += 1

    def leave(self, job_id: str) -> None:
        """Keep the part of a job that has no slot any more, until a look at the containers says that it is gone."""
        with self._lock:
            lease = self._leases.pop(job_id, None)
            if lease is not None:
                self._left[job_id] = lease
            self._changes += 1

    def begin_look(self) -> None:
        """Say that the containers are about to be listed."""
        with self._lock:
            self._since_look, self._expected = set(self._leases), set()

    def end_look(self, listed: Iterable[Listed]) -> None:
        """Count what is in no slot anew, from this host's containers as they were listed since `begin_look`."""
        alive = leases_of(listed)
        with self._lock:
            # The list is older than what a slot has done since: it says nothing of a job that left one just now.
            left = {job_id: lease for job_id, lease in self._left.items() if job_id in self._since_look}
            expected = [row for row in self._left.items() if row[0] in self._expected - left.keys() - alive.keys()]
            self._left = left | {job_id: lease for job_id, lease in alive.items() if job_id not in self._since_look}
            for job_id, lease in expected:
                self._left[job_id] = admission.lease(self.offer, lease.needs, self._leased)
            self._changes += 1

    def reserve(self, job_id: str, needs: Needs) -> None:
        """Keep room for one parked job from others; '' for none."""
        with self._lock:
            self._reserved_id, self._reserved = job_id, needs
            self._changes += 1

    @property
    def free_room(self) -> FreeRoom:
        """The room for the next job."""
        with self._lock:
            return admission.free_room(self.offer, self._use)

    @property
    def changes(self) -> int:
        """A number that grows whenever there may be more room than before."""
        return self._changes

    @property
    def _use(self) -> Use:
        return Use({**self._left, **self._leases}, self._reserved_id, self._reserved)

    @property
    def _leased(self) -> set[str]:
        return {name for lease in self._use.leases.values() for name in lease.gpus}

    def _put(self, job_id: str, needs: Needs) -> Lease:
        self._since_look.add(job_id)
        if job_id == self._reserved_id:
            self._reserved_id, self._reserved = "", admission.NOTHING
        lease = self._left.pop(job_id, None) or self._leases.get(job_id)
        if lease is None:
            lease = admission.lease(self.offer, needs, self._leased)
        self._leases[job_id] = lease
        return lease


def leases_of(listed: Iterable[Listed]) -> Mapping[str, Lease]:
    """Return what the containers that run have of the host, by their jobs; those of older versions do not say."""
    return {
        row.labels.get(container.LABEL_JOB, ""): Lease(needs, _gpus_of(row.labels))
        for row in listed
        if row.status in ALIVE and (needs := admission.parse(row.labels.get(container.LABEL_NEEDS))) is not None
    }


def _gpus_of(labels: Mapping[str, str]) -> tuple[str, ...]:
    return tuple(filter(None, labels.get(container.LABEL_GPUS, "").split(",")))


def needs_of(delivery: Delivery, offer: Offer, defaults: Defaults) -> Needs:
    """Return what the job of a message takes of an offer; one that will be rejected takes a slot only."""
    if delivery.refusal:
        return admission.NOTHING
    try:
        spec = delivery.spec
    except errors.SpecError:
        return admission.NOTHING
    devices = spec.gpus if isinstance(spec.gpus, tuple) else ()
    # All of a host without any are more than it has.
    number = 0 if spec.gpus is None else max(gpus.count(spec.gpus, offer.gpus), 1)
    return admission.needs_of(spec.cpus or defaults.cpus, spec.memory or defaults.memory_bytes, number, devices)
