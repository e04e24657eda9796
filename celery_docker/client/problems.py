"""The things that are wrong now: in hosts, queues and Redis, the gravest first, each with its remedy. Pure.

Invariant: whoever is no administrator is told of no other's job, and not how Redis is set up.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from celery_docker.client.summary import Overall
from celery_docker.core import hoststate, redischecks, wording
from celery_docker.core.findings import Finding, Level
from celery_docker.core.hoststate import WorkerState
from celery_docker.core.redishealth import Redis
from celery_docker.core.waiting import Wait, WaitKind
from celery_docker.store.listing import JobRow, WorkerRow, host_facts, state_of

# So long may a job be on its way to a free slot.
LATE_S = 60.0
# A host that was lost before is told of in the list of hosts only.
_LOST_S = 86_400.0
_MOST = 20
_MOST_SAID, _MOST_ADVICE, _MOST_NAME = 250, 160, 64
_COMMANDS = {
    "workers": "celery-docker workers",
    "host": "celery-docker workers",
    "queue": "celery-docker queue",
    "refused": "celery-docker queue refused",
    "wait": "celery-docker ps",
}
# Those that stop jobs come before those that somebody wishes, or that are about later.
_RANKS = ("workers", "queue", "host", "wait", "refused", "persistence", "password")


@dataclass(frozen=True)
class Problem:
    """A finding that is none of the good ones, about a host or a queue where it is about one."""

    finding: Finding
    host: str | None = None
    queue: str | None = None
    is_wished: bool = False

    @property
    def order(self) -> tuple[bool, bool, int]:
        """The place among all, the gravest first."""
        what = self.finding.what
        return self.finding.level != Level.FAIL, self.is_wished, _RANKS.index(what) if what in _RANKS else len(_RANKS)

    def to_json(self) -> dict[str, Any]:
        """Return the problem for programs."""
        finding = self.finding
        return {
            "level": finding.level.value,
            "what": finding.what,
            "says": wording.one_line(finding.says, _MOST_SAID),
            "advice": wording.one_line(finding.remedy, _MOST_ADVICE),
            "command": _COMMANDS.get(finding.what, "sudo celery-docker doctor"),
            "host": self.host and wording.one_line(self.host, _MOST_NAME),
            "queue": self.queue and wording.one_line(self.queue, _MOST_NAME),
        }


def listed(problems: Iterable[Problem]) -> dict[str, Any]:
    """Return problems for programs, and how many there are besides those."""
    ordered = sorted(problems, key=lambda problem: problem.order)
    return {
        "problems": [problem.to_json() for problem in ordered[:_MOST]],
        "more_problems": max(0, len(ordered) - _MOST),
    }


def of(overall: Overall) -> Iterator[Problem]:
    """Yield what is wrong with hosts and queues, which everybody may know."""
    # One that is drained or sick is alive too.
    if not any(not row.lost and row.heard_s < hoststate.SILENT_S for row in overall.workers):
        yield Problem(redischecks.NO_WORKER)
    for row in overall.workers:
        finding = _of_host(row)
        if finding is not None:
            yield Problem(finding, host=row.host, is_wished=row.drained is not None)
    for stuck in overall.stuck:
        if stuck.wait.kind is not WaitKind.WORKER:
            yield Problem(redischecks.queue(stuck), queue=stuck.name)


def _of_host(row: WorkerRow) -> Finding | None:
    unit = str(row.about.get("unit", "celery-worker"))
    state = state_of(row)
    if state is WorkerState.SILENT:
        return redischecks.silence(row.host, row.heard_s, unit)
    if state is WorkerState.LOST and row.heard_s < _LOST_S:
        silence = redischecks.silence(row.host, row.heard_s, unit)
        return Finding(Level.WARN, "host", f"{silence.says} and is lost: its jobs are others' now", silence.remedy)
    if state is WorkerState.SICK:
        says = f"{row.host} takes no jobs: {hoststate.obstacle(row.about)}"
        return Finding(Level.WARN, "host", says, f"on {row.host}: sudo celery-docker doctor")
    if state is WorkerState.DRAINED:
        says = f"{row.host} takes no jobs: drained by {row.drained}"
        return Finding(Level.WARN, "host", says, f"celery-docker resume {row.host}")
    return None


def late(
    rows: Sequence[JobRow], put_at: Mapping[str, float], waits: Mapping[str, Wait], overall: Overall, now: float
) -> Iterator[Problem]:
    """Yield the queue with the job that has waited longest for a slot where hosts have free ones; none, most often."""
    hosts = [facts for facts in map(host_facts, overall.workers) if facts.is_alive and not facts.obstacle]
    for row in sorted(rows, key=lambda row: put_at[row.job_id]):
        wait, waited_s = waits.get(row.job_id), now - put_at[row.job_id]
        free = [host.name for host in hosts if row.queue in host.queues and host.free_slots > 0]
        if wait is None or wait.kind is not WaitKind.SLOT or waited_s < LATE_S or not free:
            continue
        says = f"a job has waited in {row.queue!r} for {wording.duration(waited_s)} while {free[0]} has free slots"
        remedy = f"on {free[0]}: journalctl -u celery-worker; then systemctl reload celery-worker"
        yield Problem(Finding(Level.WARN, "wait", says, remedy), queue=row.queue)
        return


def of_redis(redis: Redis) -> Iterator[Problem]:
    """Yield what is wrong with Redis and the clocks, for administrators."""
    for check in (*redischecks.ITS_OWN, redischecks.clocks):
        for finding in check(redis):
            if finding.level in (Level.WARN, Level.FAIL):
                is_refused = check is redischecks.refused
                yield Problem(
                    Finding(finding.level, "refused" if is_refused else finding.what, finding.says, finding.remedy)
                )
