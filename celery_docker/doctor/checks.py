"""All checks of `doctor`, and those that need facts of both Redis and this machine.

Pure: `redisfacts` and `hostfacts` gather the `facts`. A fact that could not be learnt is None, and gives no finding.
"""

from __future__ import annotations

from collections.abc import Sequence

from celery_docker.core import redischecks, roomwords, settings, userrules
from celery_docker.core.admission import Offer
from celery_docker.core.findings import AS_ROOT, Finding, Level
from celery_docker.core.hoststate import SILENT_S
from celery_docker.core.policy import SIGNED
from celery_docker.core.redishealth import Redis
from celery_docker.doctor import facts, hostchecks, tokenchecks


def findings(gathered: facts.Facts) -> list[Finding]:
    """Return the findings of all checks."""
    results = [redischecks.reach(gathered.redis)]
    if not gathered.redis.problem:
        results += [finding for check in redischecks.CHECKS for finding in check(gathered.redis)]
        results += versions(gathered)
        results += redischecks.closed_questions(gathered.redis)
    if gathered.host is not None:
        results += [finding for check in hostchecks.CHECKS for finding in check(gathered.host)]
        results += openness(gathered.redis, gathered.host)
        results += offers(gathered.redis, gathered.host)
        results += closed_files(gathered.closed)
    return results + tokenchecks.tokens(gathered.tokens)


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
            f"systemctl reload {worker.unit}",
        )
        for worker in here
    ]
    if others:
        says = f"this is {ours}, others are not: {', '.join(others)}"
        results.append(Finding(Level.WARN, "version", says, "install the same package on all hosts"))
    return results or [Finding(Level.OK, "version", f"all run {ours}")]


def offers(redis: Redis, host: facts.Host) -> list[Finding]:
    """Find what the workers of this host offer to jobs beyond what it has."""
    here = [worker for worker in redis.workers or () if worker.machine == host.machine and worker.heard_s < SILENT_S]
    offered = [worker.offer for worker in here if worker.offer is not None]
    if host.machine is None or host.capacity is None or not offered:
        return []
    total = Offer(sum(offer.millicpus for offer in offered), sum(offer.memory_bytes for offer in offered))
    files = [settings.FILE] if len(offered) == 1 else [f"{settings.FILE}-NAME of each worker"]
    remedy = f"set {settings.PREFIX}CPUS and {settings.PREFIX}MEMORY in {files[0]}, then reload it"
    return [Finding(Level.WARN, "offer", line, remedy) for line in roomwords.excess(total, host.capacity)]


def openness(redis: Redis, host: facts.Host) -> list[Finding]:
    """Tell in one line who can do what on this host by a job, and what closes it."""
    rules = host.policy
    if rules is None:
        return []
    who = "any local user" if redis.is_open and redis.is_local else "whoever can write to Redis"
    closes = f"set submitters = {SIGNED!r} in its policy.toml"
    if rules.submitters == SIGNED:
        if rules.unsigned is None:
            return [Finding(Level.OK, "open", "only signed jobs run here")]
        rules, closes = rules.unsigned, "remove [unsigned] from its policy.toml"
    if userrules.ANY in rules.users:
        return [Finding(Level.WARN, "open", f"{who} can be root here, by a job that runs as root", closes)]
    users = ", ".join(map(repr, rules.users))
    return [Finding(Level.WARN, "open", f"{who} can run a job here as {users}", closes)]


def closed_files(paths: Sequence[str]) -> list[Finding]:
    """Name the files of settings that this user may not read."""
    if not paths:
        return []
    says = f"you may not read {', '.join(paths)}, so the defaults are assumed"
    return [Finding(Level.SKIP, "settings", says, AS_ROOT)]
