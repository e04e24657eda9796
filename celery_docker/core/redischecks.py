"""The checks of Redis and of the workers that report to it: each turns facts into findings, with the remedy.

Pure: `store.redishealth` gathers the facts. One that could not be learnt is None, and gives no finding.
"""

from __future__ import annotations

from collections.abc import Callable

from celery_docker.core import settings, wording
from celery_docker.core.findings import Finding, Level
from celery_docker.core.hoststate import SILENT_S
from celery_docker.core.redishealth import Redis, StuckQueue
from celery_docker.core.waiting import WaitKind

_APART_S = 5
_FULL = 0.8
_NAMED_TARGETS = 5
_OUR_OWN = "sudo celery-docker setup-redis"
NO_WORKER = Finding(Level.FAIL, "workers", "none is alive", "systemctl start celery-worker, on each host")


def reach(redis: Redis) -> Finding:
    """Tell whether Redis answers."""
    if redis.problem:
        return Finding(Level.FAIL, "redis", redis.problem)
    return Finding(Level.OK, "redis", f"answers at {redis.where}")


def access(redis: Redis) -> list[Finding]:
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


def _listens_publicly(redis: Redis) -> bool:
    if redis.bind is None or redis.is_protected:
        return False
    addresses = [address.removeprefix("-") for address in redis.bind.split()]
    return not addresses or any(
        not (address.startswith("127.") or address in ("::1", "localhost")) for address in addresses
    )


def refused(redis: Redis) -> list[Finding]:
    """Tell whether messages are put aside that no worker could run."""
    if not redis.refused:
        return []
    messages = "message is" if redis.refused == 1 else "messages are"
    says = f"{redis.refused} {messages} put aside that no worker could run; the last: {redis.last_refusal}"
    return [Finding(Level.WARN, "queue", says, "see: celery-docker queue refused; then put-back or throw-away")]


def notices(redis: Redis) -> list[Finding]:
    """Tell how many notices of ends could not be sent so far, and to whom."""
    failed = redis.notices
    if not failed.count:
        return []
    least = "at least " if failed.is_more else ""
    count, waits = wording.counted(failed.count, "notice"), "waits" if failed.count == 1 else "wait"
    targets = ", ".join(failed.targets[:_NAMED_TARGETS]) + (", ..." if len(failed.targets) > _NAMED_TARGETS else "")
    says = f"{least}{count} of ends {waits} after a failure{f', to {targets}' if targets else ''}"
    return [Finding(Level.WARN, "notices", says, "see why, on each host: journalctl -u celery-worker -g 'tried again'")]


def persistence(redis: Redis) -> list[Finding]:
    """Tell what of the queue survives the end of Redis."""
    remedy = f"set appendonly yes in redis.conf, or: {_OUR_OWN}"
    if redis.last_save_failed:
        return [
            Finding(Level.FAIL, "persistence", "Redis could not write to its disk", "see its log, and mend its disk")
        ]
    if redis.has_log is None:
        return []
    if redis.has_log:
        says = "Redis writes every change to its append-only file"
        if redis.log_sync not in (None, "always"):
            says += "; a power cut loses those of the last second"
        return [Finding(Level.OK, "persistence", says)]
    if redis.save == "":
        return [Finding(Level.FAIL, "persistence", "a restart of Redis loses every job", remedy)]
    return [Finding(Level.WARN, "persistence", "a power cut loses what came since Redis' last snapshot", remedy)]


def eviction(redis: Redis) -> list[Finding]:
    """Tell whether Redis throws jobs away when its memory is full."""
    if redis.eviction is None:
        return []
    if redis.eviction == "noeviction":
        return [Finding(Level.OK, "eviction", "Redis throws nothing away")]
    level = Level.FAIL if redis.most_bytes else Level.WARN
    says = f"with maxmemory-policy {redis.eviction} Redis throws jobs away when its memory is full"
    remedy = f"set maxmemory-policy noeviction in redis.conf, or: {_OUR_OWN}"
    return [Finding(level, "eviction", says, remedy)]


def memory(redis: Redis) -> list[Finding]:
    """Tell whether Redis will soon refuse new jobs."""
    if not redis.most_bytes or redis.used_bytes is None:
        return []
    share = redis.used_bytes / redis.most_bytes
    says = f"Redis uses {share:.0%} of its {wording.size(redis.most_bytes)}"
    if share > _FULL:
        return [Finding(Level.WARN, "memory", says, "raise maxmemory in redis.conf, or keep results for less long")]
    return [Finding(Level.OK, "memory", says)]


def workers(redis: Redis) -> list[Finding]:
    """Tell whether anybody takes jobs."""
    if redis.workers is None:
        return []
    alive = [worker.host for worker in redis.workers if worker.heard_s < SILENT_S]
    silent = [
        silence(worker.host, worker.heard_s, worker.unit) for worker in redis.workers if worker.heard_s >= SILENT_S
    ]
    if alive:
        return [Finding(Level.OK, "workers", f"{len(alive)} alive: {', '.join(sorted(alive))}"), *silent]
    return [NO_WORKER, *silent]


def silence(host: str, heard_s: float, unit: str) -> Finding:
    """Return the finding of a host that sends no heartbeat."""
    says = f"{host} was last heard {wording.ago(heard_s)}"
    return Finding(Level.WARN, "workers", says, f"on {host}: systemctl status {unit}")


def queues(redis: Redis) -> list[Finding]:
    """Tell which queues have jobs that no host takes. That no worker is alive is told already."""
    return [queue(stuck) for stuck in redis.stuck if stuck.wait.kind is not WaitKind.WORKER]


def queue(stuck: StuckQueue) -> Finding:
    """Return the finding of a queue that has jobs which no host takes."""
    jobs = "job waits" if stuck.jobs == 1 else "jobs wait"
    says = f"{stuck.jobs} {jobs} in {stuck.name!r}: {stuck.wait.reason}"
    return Finding(Level.WARN, "queue", says, _queue_remedy(stuck))


def _queue_remedy(stuck: StuckQueue) -> str:
    if stuck.wait.kind is WaitKind.HOST:
        return "celery-docker resume HOST for a drained one; mend what another says"
    if stuck.wait.kind is WaitKind.OFFER:
        names = f"{settings.PREFIX}CPUS, _MEMORY, _GPUS"
        return f"let a host of this queue offer as much ({names}), or cancel them: celery-docker ps shows their ids"
    return (
        f"let a worker serve it (CELERY_DOCKER_OPTS=-Q {stuck.name}), or cancel "
        f"them: celery-docker queue purge --queue {stuck.name}"
    )


def clocks(redis: Redis) -> list[Finding]:
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
    return [Finding(Level.OK, "clock", "all clocks agree within 5 s")]


def closed_questions(redis: Redis) -> list[Finding]:
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


# Those of Redis itself, and of what lies in it.
ITS_OWN: tuple[Callable[[Redis], list[Finding]], ...] = (access, refused, notices, persistence, eviction, memory)
CHECKS: tuple[Callable[[Redis], list[Finding]], ...] = (*ITS_OWN, workers, queues, clocks)
