"""The reason for which a job that has not ended does not run, in words.

Owns the kinds of waits and their wording. Pure: the facts come from the job's record, its queue and the reports of the
hosts. Times are in seconds since the epoch by Redis' clock.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum

from celery_docker.core import roomwords, wording
from celery_docker.core.admission import NOTHING, Needs, Offer, Room
from celery_docker.core.hoststate import SILENT_S
from celery_docker.core.lifecycle import State

_NAMED_HOSTS = 3


class WaitKind(StrEnum):
    """The thing that a job waits for, as programs read it."""

    # Its end was requested, and a host has to carry that out.
    END = "end"
    # Other jobs have to succeed first.
    JOBS = "jobs"
    # The limit of its batch holds it back.
    BATCH = "batch"
    # Other jobs of its submitter have all his places in the queue.
    SHARE = "share"
    # It was sent for a later time.
    TIME = "time"
    # The pause after a failed attempt.
    RETRY = "retry"
    # No worker is alive.
    WORKER = "worker"
    # No live worker serves its queue.
    QUEUE = "queue"
    # Every host that serves its queue takes no jobs, or the host that has it is silent.
    HOST = "host"
    # No host that serves its queue offers what it needs, however little runs there.
    OFFER = "offer"
    # Room on a host: as much of what hosts offer as it needs.
    ROOM = "room"
    # A free slot, and its turn in the queue.
    SLOT = "slot"
    # Its image is being pulled.
    PULL = "pull"


# These last until somebody does something about them.
OBSTACLES = (WaitKind.WORKER, WaitKind.QUEUE, WaitKind.HOST, WaitKind.OFFER)


@dataclass(frozen=True)
class Wait:
    """A job's wait, with its reason in one line; None is unknown or does not apply.

    `jobs_before` are served before it, of those that were looked at; `next_try_at` is the time of its next attempt.
    """

    kind: WaitKind
    reason: str
    next_try_at: float | None = None
    jobs_before: int | None = None


@dataclass(frozen=True)
class HostFacts:
    """A host as far as waits depend on it; `obstacle` is the reason for which it takes no jobs, empty if it does.

    `offer` is what it has for jobs, and `room` what is free of that, None of a host of an older version. `reserved_for`
    is the parked job that it keeps room for, empty for none.
    """

    name: str
    queues: Collection[str] = ()
    free_slots: int = 0
    obstacle: str = ""
    silent_s: float = 0.0
    is_lost: bool = False
    offer: Offer | None = None
    room: Room | None = None
    reserved_for: str = ""

    @property
    def is_alive(self) -> bool:
        return not self.is_lost and self.silent_s < SILENT_S

    def could_hold(self, needs: Needs) -> bool:
        """Tell whether a job would fit if it were alone there; of an unknown offer that it does."""
        return self.offer is None or self.offer.could_hold(needs)


@dataclass(frozen=True)
class Place:
    """A place in a queue: so many jobs are served before it, or more where it is not `exact`."""

    before: int
    exact: bool = True


@dataclass(frozen=True)
class SharePlace:
    """A job's place in the line of its submitter: so many of his jobs are published, and so many are let go before it.

    None: it is not in the line, from which it is being let go, or which was lost.
    """

    submitter: str
    published: int
    before: int | None


@dataclass(frozen=True)
class JobFacts:
    """A job as far as its wait depends on it.

    `failure` is the reason of its latest attempt's end, `end_reason` that of an end request, `first_pending` the first
    of the `pending` jobs that have to succeed before it. `share` is its place while other jobs of its submitter hold it
    back. `pull` has the bytes that were pulled, and all that are known of, while its image is being pulled. `needs` is
    what it takes of a host; `is_parked`: no host had room for it.
    """

    state: State
    queue: str = ""
    host: str | None = None
    image: str | None = None
    attempt: int = 0
    failure: str = ""
    end_reason: str | None = None
    pending: int = 0
    first_pending: str | None = None
    is_held: bool = False
    share: SharePlace | None = None
    not_before: float | None = None
    place: Place | None = None
    pull: tuple[int, int] | None = None
    needs: Needs = NOTHING
    is_parked: bool = False


def wait_of(job: JobFacts, hosts: Sequence[HostFacts], now: float) -> Wait | None:
    """Return the wait of a job; None for one that runs, is about to, or has ended."""
    if job.state.is_final:
        return None
    if job.state is State.QUEUED:
        return _in_line(job, hosts, now)
    return _in_hand(job, hosts)


def obstacle(hosts: Sequence[HostFacts], queue: str, needs: Needs = NOTHING) -> Wait | None:
    """Return the reason for which no host takes the jobs of a queue now that need so much; None if one does."""
    alive = [host for host in hosts if host.is_alive]
    if not alive:
        return Wait(WaitKind.WORKER, "no worker is alive")
    serving = [host for host in alive if queue in host.queues]
    if not serving:
        return Wait(WaitKind.QUEUE, f"no worker serves the queue {queue!r}")
    large = [host for host in serving if host.could_hold(needs)]
    if not large:
        offers = {host.name: host.offer for host in serving if host.offer is not None}
        return Wait(WaitKind.OFFER, roomwords.nowhere(needs, offers))
    if any(not host.obstacle for host in large):
        return None
    reasons = [f"{host.name} takes no jobs: {host.obstacle}" for host in large[:_NAMED_HOSTS]]
    others = len(large) - _NAMED_HOSTS
    more = [f"no jobs on {wording.counted(others, 'more host')}"] if others > 0 else []
    return Wait(WaitKind.HOST, "; ".join(reasons + more))


def failed_attempt(number: int, reason: str) -> str:
    """Return the words for the end of an attempt that another one follows."""
    return f"attempt {number} failed: {reason}" if reason else f"attempt {number} failed"


def _in_hand(job: JobFacts, hosts: Sequence[HostFacts]) -> Wait | None:
    """Return the wait of a job that a host has."""
    host = next((host for host in hosts if host.name == job.host), None)
    if host is not None and not host.is_alive:
        return Wait(WaitKind.HOST, f"its host {host.name} has been silent for {wording.duration(host.silent_s)}")
    if job.end_reason:
        return Wait(WaitKind.END, f"being stopped: {job.end_reason}")
    if job.state is State.STARTING and job.pull is not None:
        return Wait(WaitKind.PULL, _pull_sentence(job, *job.pull))
    return None


def _pull_sentence(job: JobFacts, pulled_bytes: int, size_bytes: int) -> str:
    sentence = f"pulling {job.image}" + (f" on {job.host}" if job.host else "")
    return f"{sentence}: {wording.size(pulled_bytes)} of {wording.size(size_bytes)}" if size_bytes else sentence


def _in_line(job: JobFacts, hosts: Sequence[HostFacts], now: float) -> Wait:
    """Return the wait of a job that no host has."""
    stuck = obstacle(hosts, job.queue, job.needs)
    if job.end_reason:
        # Any worker does this, whatever queue it serves.
        nobody = f"; {stuck.reason}" if stuck is not None and stuck.kind is WaitKind.WORKER else ""
        return Wait(WaitKind.END, f"being ended: {job.end_reason}{nobody}")
    if job.pending:
        return Wait(WaitKind.JOBS, _pending_sentence(job))
    if job.is_held:
        return Wait(WaitKind.BATCH, "held back by its batch's limit")
    is_early = job.not_before is not None and job.not_before > now
    if job.attempt:
        return _before_retry(job, hosts, now if is_early else None, stuck)
    if is_early and job.not_before is not None:
        return Wait(WaitKind.TIME, f"delayed until {_moment(job.not_before, now)}", job.not_before)
    return stuck or _in_turn(job, hosts)


def _before_retry(job: JobFacts, hosts: Sequence[HostFacts], early_at: float | None, stuck: Wait | None) -> Wait:
    """Return the wait of a job before its next attempt; `early_at` is the time now if it is too early for that."""
    failure, following = failed_attempt(job.attempt, job.failure), f"attempt {job.attempt + 1}"
    if stuck is None and early_at is not None and job.not_before is not None:
        pause = wording.duration(job.not_before - early_at)
        return Wait(WaitKind.RETRY, f"{failure}; {following} in {pause}", job.not_before)
    then = stuck or _in_turn(job, hosts)
    return Wait(then.kind, f"{failure}; {following}: {then.reason}", job.not_before, then.jobs_before)


def _pending_sentence(job: JobFacts) -> str:
    if job.first_pending is None:
        return f"waits for {wording.counted(job.pending, 'job')}"
    more = f" and {job.pending - 1} more" if job.pending > 1 else ""
    return f"waits for job {wording.short_id(job.first_pending)}{more}"


def _in_turn(job: JobFacts, hosts: Sequence[HostFacts]) -> Wait:
    """Return the wait of a job for its turn: in its share first, then in the queue."""
    if job.share is None:
        return _for_place(job, hosts)
    share, line = job.share, ""
    if share.before is not None:
        line = f", {share.before:,} more before it" if share.before else ", it is the next"
    reason = f"held back: {share.submitter} has {wording.counted(share.published, 'job')} queued or running{line}"
    return Wait(WaitKind.SHARE, reason, jobs_before=share.before)


def _for_place(job: JobFacts, hosts: Sequence[HostFacts]) -> Wait:
    taking = [host for host in hosts if host.is_alive and not host.obstacle and job.queue in host.queues]
    return _for_room(job, taking) if job.is_parked else _for_slot(job, taking)


def _for_room(job: JobFacts, taking: Sequence[HostFacts]) -> Wait:
    """Return the wait of a job for which no host had room, with the hosts that could hold it and have too little."""
    large = [host for host in taking if host.could_hold(job.needs)]
    parts = [f"waits for room: needs {roomwords.needs(job.needs)}"]
    for host in large[:_NAMED_HOSTS]:
        if host.offer is None or host.room is None:
            continue
        lacking = roomwords.lacking(job.needs, host.room, host.offer)
        parts.append(f"{host.name} has {lacking or _unused(host)}")
    others = len(large) - _NAMED_HOSTS
    if others > 0:
        parts.append(f"{wording.counted(others, 'more host')}")
    reason = ", ".join(parts)
    if job.place is None or not job.place.before:
        return Wait(WaitKind.ROOM, reason, jobs_before=None if job.place is None else 0)
    return Wait(WaitKind.ROOM, f"{reason}; {_place_sentence(job.place)}", jobs_before=job.place.before)


def _unused(host: HostFacts) -> str:
    """Return what a host has that has enough room for a job and does not take it."""
    if host.free_slots <= 0:
        return "no free slot"
    return f"enough, which it keeps for job {wording.short_id(host.reserved_for)}" if host.reserved_for else "enough"


def _for_slot(job: JobFacts, taking: Sequence[HostFacts]) -> Wait:
    parts = [] if any(host.free_slots > 0 for host in taking) else ["no free slot"]
    if job.place is not None:
        parts.append(_place_sentence(job.place))
    reason = "; ".join(parts) or "on its way to a host"
    return Wait(WaitKind.SLOT, reason, jobs_before=None if job.place is None else job.place.before)


def _place_sentence(place: Place) -> str:
    if not place.before and place.exact:
        return "it is next"
    count = f"{wording.counted(place.before, 'job')} before it"
    return count if place.exact else f"at least {count}"


def _moment(at: float, now: float) -> str:
    return f"{datetime.fromtimestamp(at, UTC):%Y-%m-%dT%H:%M:%SZ} (in {wording.duration(at - now)})"
