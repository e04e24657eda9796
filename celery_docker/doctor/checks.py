"""The checks of `doctor`: each turns facts into findings, with the remedy.

Pure: `redisfacts` and `hostfacts` gather the `facts`. A fact that could not be learnt is None, and gives no finding.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from celery_docker.core import wording
from celery_docker.core.hoststate import SILENT_S
from celery_docker.core.waiting import WaitKind
from celery_docker.doctor import facts

_APART_S = 5
_FULL = 0.8
_LEAST_FREE = 0.05
_LEAST_FREE_BYTES = 2**30
_LEAST_API = (1, 41)
_AS_ROOT = "sudo celery-docker doctor"


class Level(StrEnum):
    """The gravity of a finding."""

    OK = "ok"
    # It could not be looked at.
    SKIP = "skip"
    WARN = "warn"
    FAIL = "fail"


@dataclass(frozen=True)
class Finding:
    """One line: the thing that was checked, the result, and the remedy; `details` are lines of its own log."""

    level: Level
    what: str
    says: str
    remedy: str = ""
    details: tuple[str, ...] = ()

    def lines(self) -> list[str]:
        """Return the finding as people read it."""
        first = f"{self.level:<4}  {self.what}: {self.says}" + (f" → {self.remedy}" if self.remedy else "")
        return [wording.harmless(line) for line in (first, *(f"      | {line}" for line in self.details))]

    def to_json(self) -> dict[str, Any]:
        """Return the finding for programs."""
        return {
            "level": self.level.value,
            "what": self.what,
            "says": self.says,
            "remedy": self.remedy or None,
            "details": list(self.details),
        }


def findings(gathered: facts.Facts) -> list[Finding]:
    """Return the findings of all checks."""
    results = [reach(gathered.redis)]
    if not gathered.redis.problem:
        results += [finding for check in _REDIS_CHECKS for finding in check(gathered.redis)]
        results += versions(gathered)
        results += closed_questions(gathered.redis)
    if gathered.host is not None:
        results += [finding for check in _HOST_CHECKS for finding in check(gathered.host)]
        results += closed_files(gathered.closed)
    return results


def reach(redis: facts.Redis) -> Finding:
    """Tell whether Redis answers."""
    if redis.problem:
        return Finding(Level.FAIL, "redis", redis.problem)
    return Finding(Level.OK, "redis", f"answers at {redis.where}")


def access(redis: facts.Redis) -> list[Finding]:
    """Tell whether anybody on the network may use Redis."""
    if redis.is_open is None:
        return []
    if not redis.is_open:
        return [Finding(Level.OK, "password", "Redis asks for one")]
    if redis.is_local and not _listens_publicly(redis):
        return [Finding(Level.OK, "password", "Redis asks for none, and others cannot reach it")]
    return [
        Finding(
            Level.FAIL,
            "password",
            f"Redis at {redis.where} can be reached from the network and asks for no password: whoever can connect is "
            "root on the workers",
            "set requirepass in redis.conf, or bind 127.0.0.1 -::1",
        )
    ]


def _listens_publicly(redis: facts.Redis) -> bool:
    if redis.bind is None or redis.is_protected:
        return False
    addresses = [address.removeprefix("-") for address in redis.bind.split()]
    return not addresses or any(
        not (address.startswith("127.") or address in ("::1", "localhost")) for address in addresses
    )


def persistence(redis: facts.Redis) -> list[Finding]:
    """Tell what of the queue survives the end of Redis."""
    remedy = "set appendonly yes in redis.conf"
    if redis.last_save_failed:
        return [
            Finding(Level.FAIL, "persistence", "Redis could not write to its disk", "see its log, and mend its disk")
        ]
    if redis.has_log is None:
        return []
    if redis.has_log:
        return [Finding(Level.OK, "persistence", "Redis writes every change to its append-only file")]
    if redis.save == "":
        return [Finding(Level.FAIL, "persistence", "a restart of Redis loses every job", remedy)]
    return [Finding(Level.WARN, "persistence", "a power cut loses what came since Redis' last snapshot", remedy)]


def eviction(redis: facts.Redis) -> list[Finding]:
    """Tell whether Redis throws jobs away when its memory is full."""
    if redis.eviction is None:
        return []
    if redis.eviction == "noeviction":
        return [Finding(Level.OK, "eviction", "Redis throws nothing away")]
    level = Level.FAIL if redis.most_bytes else Level.WARN
    says = f"with maxmemory-policy {redis.eviction} Redis throws jobs away when its memory is full"
    return [Finding(level, "eviction", says, "set maxmemory-policy noeviction in redis.conf")]


def memory(redis: facts.Redis) -> list[Finding]:
    """Tell whether Redis will soon refuse new jobs."""
    if not redis.most_bytes or redis.used_bytes is None:
        return []
    share = redis.used_bytes / redis.most_bytes
    says = f"Redis uses {share:.0%} of its {wording.size(redis.most_bytes)}"
    if share > _FULL:
        return [Finding(Level.WARN, "memory", says, "raise maxmemory in redis.conf, or keep results for less long")]
    return [Finding(Level.OK, "memory", says)]


def workers(redis: facts.Redis) -> list[Finding]:
    """Tell whether anybody takes jobs."""
    if redis.workers is None:
        return []
    alive = [worker.host for worker in redis.workers if worker.heard_s < SILENT_S]
    silent = [
        Finding(
            Level.WARN,
            "workers",
            f"{worker.host} was last heard {wording.ago(worker.heard_s)}",
            f"on {worker.host}: systemctl status celery-worker",
        )
        for worker in redis.workers
        if worker.heard_s >= SILENT_S
    ]
    if alive:
        return [Finding(Level.OK, "workers", f"{len(alive)} alive: {', '.join(sorted(alive))}"), *silent]
    return [Finding(Level.FAIL, "workers", "none is alive", "systemctl start celery-worker, on each host"), *silent]


def queues(redis: facts.Redis) -> list[Finding]:
    """Tell which queues have jobs that no host takes. That no worker is alive is told already."""
    return [
        Finding(
            Level.WARN,
            "queue",
            f"{stuck.jobs} {'job waits' if stuck.jobs == 1 else 'jobs wait'} in {stuck.name!r}: {stuck.wait.reason}",
            _queue_remedy(stuck),
        )
        for stuck in redis.stuck
        if stuck.wait.kind is not WaitKind.WORKER
    ]


def _queue_remedy(stuck: facts.StuckQueue) -> str:
    if stuck.wait.kind is WaitKind.HOST:
        return "celery-docker resume HOST for a drained one; mend what another says"
    return (
        f"let a worker serve it (CELERY_DOCKER_OPTS=-Q {stuck.name}), or cancel "
        f"them: celery-docker queue purge --queue {stuck.name}"
    )


def clocks(redis: facts.Redis) -> list[Finding]:
    """Tell which clocks differ from that of Redis, by which everything is timed."""
    apart = [(worker.host, worker.ahead_s) for worker in redis.workers or () if worker.ahead_s is not None]
    apart += [("this host", redis.ahead_s)] if redis.ahead_s is not None else []
    wrong = [(host, ahead_s) for host, ahead_s in apart if abs(ahead_s) > _APART_S]
    if not apart or wrong:
        return [
            Finding(
                Level.WARN,
                "clock",
                f"{host} is {wording.duration(abs(ahead_s))} {'ahead of' if ahead_s > 0 else 'behind'} Redis' host",
                "let both keep the time with systemd-timesyncd or chrony",
            )
            for host, ahead_s in wrong
        ]
    return [Finding(Level.OK, "clock", "all clocks agree to 5 s")]


def versions(gathered: facts.Facts) -> list[Finding]:
    """Find the workers that run another version than the one installed here."""
    ours, machine = gathered.version, gathered.host and gathered.host.machine
    alive = [worker for worker in gathered.redis.workers or () if worker.version and worker.heard_s < SILENT_S]
    if not alive or not ours:
        return []
    different = [worker for worker in alive if worker.version != ours]
    here = [worker for worker in different if worker.machine == machine and machine]
    others = [f"{worker.host} {worker.version}" for worker in different if worker not in here]
    results = [
        Finding(
            Level.WARN,
            "version",
            f"{worker.host} runs {worker.version}, installed is {ours}",
            "systemctl reload celery-worker",
        )
        for worker in here
    ]
    if others:
        says = f"this is {ours}, others are not: {', '.join(others)}"
        results.append(Finding(Level.WARN, "version", says, "install the same package on all hosts"))
    return results or [Finding(Level.OK, "version", f"all run {ours}")]


def closed_questions(redis: facts.Redis) -> list[Finding]:
    """Name what this user of Redis may not ask."""
    answers = {
        "persistence": redis.has_log,
        "eviction": redis.eviction,
        "memory": redis.used_bytes,
        "workers": redis.workers,
        "clock": redis.ahead_s,
    }
    missing = [name for name, answer in answers.items() if answer is None]
    if not missing:
        return []
    says = f"this user of Redis may not ask about it, so these were not looked at: {', '.join(missing)}"
    return [
        Finding(Level.SKIP, "redis", says, "celery-docker doctor --broker URL, with the login of its administrator")
    ]


def closed_files(paths: Sequence[str]) -> list[Finding]:
    """Name the files of settings that this user may not read."""
    if not paths:
        return []
    says = f"you may not read {', '.join(paths)}, so the usual values are taken for granted"
    return [Finding(Level.SKIP, "settings", says, _AS_ROOT)]


def service(host: facts.Host) -> list[Finding]:
    """Tell whether the worker of this host does its work."""
    unit = host.unit
    if unit.active == "failed" or unit.sub == "auto-restart":
        says = "has failed" if unit.active == "failed" else "ends again and again; systemd keeps starting it"
        remedy = "mend what its last lines say, then systemctl restart celery-worker"
        closed = [] if unit.log else [Finding(Level.SKIP, "journal", "you may not read the worker's log", _AS_ROOT)]
        return [Finding(Level.FAIL, "celery-worker", says, remedy, unit.log), *closed]
    if unit.active == "inactive":
        return [Finding(Level.WARN, "celery-worker", "is stopped on this host", "systemctl start celery-worker")]
    return [Finding(Level.OK, "celery-worker", f"is {unit.active}")]


def docker(host: facts.Host) -> list[Finding]:
    """Tell whether Docker can run jobs here."""
    answer = host.docker
    if answer.is_denied:
        says = f"you may not ask Docker at {answer.where}, so it was not looked at"
        return [Finding(Level.SKIP, "docker", says, f"{_AS_ROOT}; who is in group docker may ask, and is root")]
    if answer.problem:
        says = f"does not answer at {answer.where}: {answer.problem}"
        return [Finding(Level.FAIL, "docker", says, "systemctl start docker; if that fails: journalctl -u docker")]
    if _api(answer.api) < _LEAST_API:
        says = f"{answer.version} (API {answer.api}) is too old"
        return [Finding(Level.FAIL, "docker", says, "install Docker 20.10 or later")]
    return [Finding(Level.OK, "docker", f"{answer.version} (API {answer.api})")]


def _api(text: str) -> tuple[int, ...]:
    return tuple(int(part) for part in text.split(".") if part.isdigit())


def live_restore(host: facts.Host) -> list[Finding]:
    """Tell whether running jobs survive a restart of Docker."""
    if host.docker.has_live_restore is None:
        return []
    if host.docker.has_live_restore:
        return [Finding(Level.OK, "live-restore", "containers survive a restart of Docker")]
    remedy = 'put "live-restore": true into /etc/docker/daemon.json, then systemctl reload docker'
    return [Finding(Level.WARN, "live-restore", "a restart of Docker ends the running jobs; they start again", remedy)]


def group(host: facts.Host) -> list[Finding]:
    """Tell whether the worker may use Docker."""
    if host.is_in_docker_group is not False:
        return []
    remedy = "adduser celery docker; systemctl restart celery-worker"
    return [Finding(Level.FAIL, "group", "user celery, the worker's, is not in group docker", remedy)]


def disks(host: facts.Host) -> list[Finding]:
    """Tell which disk is nearly full."""
    tight = [
        Finding(
            Level.FAIL,
            "disk",
            f"{disk.path} has {wording.size(disk.free_bytes)} left of {wording.size(disk.total_bytes)}",
            "make room; docker system prune removes unused images",
        )
        for disk in host.disks
        if disk.free_bytes < max(_LEAST_FREE * disk.total_bytes, _LEAST_FREE_BYTES)
    ]
    least = min((disk.free_bytes for disk in host.disks), default=None)
    return tight or ([] if least is None else [Finding(Level.OK, "disk", f"at least {wording.size(least)} are free")])


def refused(redis: facts.Redis) -> list[Finding]:
    """Tell whether messages are put aside that no worker could run."""
    if not redis.refused:
        return []
    messages = "message is" if redis.refused == 1 else "messages are"
    says = f"{redis.refused} {messages} put aside that no worker could run; the last: {redis.last_refusal}"
    return [Finding(Level.WARN, "queue", says, "see: celery-docker queue refused; then put-back or throw-away")]


_REDIS_CHECKS: tuple[Callable[[facts.Redis], list[Finding]], ...] = (
    access,
    refused,
    persistence,
    eviction,
    memory,
    workers,
    queues,
    clocks,
)
_HOST_CHECKS: tuple[Callable[[facts.Host], list[Finding]], ...] = (service, docker, group, live_restore, disks)
