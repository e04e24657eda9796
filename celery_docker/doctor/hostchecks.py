"""The checks of this machine: each turns facts into findings, with the remedy.

Pure: `hostfacts` gathers the `facts`. A fact that could not be learnt is None, and gives no finding.
"""

from __future__ import annotations

from collections.abc import Callable

from celery_docker.core import wording
from celery_docker.core.findings import AS_ROOT, Finding, Level
from celery_docker.doctor import facts
from celery_docker.engine import faults, podman

_LEAST_FREE = 0.05
_LEAST_FREE_BYTES = 2**30
_LEAST_API = (1, 41)
_CLOSE = "chmod 640"


def services(host: facts.Host) -> list[Finding]:
    """Tell whether each worker of this host does its work."""
    return [finding for unit in host.units for finding in _service(unit)]


def _service(unit: facts.Unit) -> list[Finding]:
    # Between two tries, or in the next one.
    ends_again = unit.sub == "auto-restart" or (unit.active == "activating" and unit.restarts > 0)
    if unit.active == "failed" or ends_again:
        says = "has failed" if unit.active == "failed" else "ends again and again; systemd keeps starting it"
        remedy = f"mend what its last lines say, then systemctl restart {unit.name}"
        closed = [] if unit.log else [Finding(Level.SKIP, "journal", "you may not read the worker's log", AS_ROOT)]
        return [Finding(Level.FAIL, unit.name, says, remedy, unit.log), *closed]
    if unit.active == "inactive":
        return [Finding(Level.WARN, unit.name, "is stopped on this host", f"systemctl start {unit.name}")]
    return [Finding(Level.OK, unit.name, f"is {unit.active}")]


def docker(host: facts.Host) -> list[Finding]:
    """Tell whether Docker can run jobs here."""
    answer = host.docker
    service = _service_of(answer)
    if answer.is_denied:
        says = f"you may not ask {service.capitalize()} at {answer.where}, so it was not looked at"
        return [Finding(Level.SKIP, "docker", says, f"{AS_ROOT}; or join group docker, which is as good as root")]
    if answer.problem:
        says = f"does not answer at {answer.where}: {answer.problem}"
        unit = {"docker": "docker", "podman": "podman.socket"}[service]
        return [Finding(Level.FAIL, "docker", says, f"systemctl start {unit}; if that fails: journalctl -u {service}")]
    if _api(answer.api) < _LEAST_API:
        says = f"{answer.version} (API {answer.api}) is too old"
        return [Finding(Level.FAIL, "docker", says, f"install {podman.LEAST[service]} or later")]
    return [Finding(Level.OK, "docker", f"{answer.version} (API {answer.api})")]


def _service_of(answer: facts.DockerFacts) -> str:
    return podman.service_of(answer.where, answer.version)


def _api(text: str) -> tuple[int, ...]:
    return tuple(int(part) for part in text.split(".") if part.isdigit())


def opener(host: facts.Host) -> list[Finding]:
    """Tell whether the paths of jobs can be opened."""
    if host.has_opener is not False:
        return []
    says = "celery-docker-open does not listen, and jobs with paths wait"
    return [Finding(Level.FAIL, "paths", says, "systemctl restart celery-docker-open.socket")]


def live_restore(host: facts.Host) -> list[Finding]:
    """Tell whether running jobs survive a restart of Docker."""
    if host.docker.has_live_restore is None:
        return []
    if host.docker.has_live_restore:
        return [
            Finding(
                Level.OK, "live-restore", f"containers survive a restart of {_service_of(host.docker).capitalize()}"
            )
        ]
    remedy = 'put "live-restore": true into /etc/docker/daemon.json, then systemctl reload docker'
    return [Finding(Level.WARN, "live-restore", "a restart of Docker ends the running jobs; they start again", remedy)]


def group(host: facts.Host) -> list[Finding]:
    """Tell whether the worker may use Docker."""
    if host.is_in_docker_group is not False:
        return []
    remedy = f"adduser celery docker; systemctl restart {' '.join(unit.name for unit in host.units)}"
    return [Finding(Level.FAIL, "group", "user celery, the worker's, is not in group docker", remedy)]


def disks(host: facts.Host) -> list[Finding]:
    """Tell which disk is nearly full."""
    tight = [
        Finding(
            Level.FAIL,
            "disk",
            f"{disk.path} has {wording.size(disk.free_bytes)} left of {wording.size(disk.total_bytes)}",
            f"make room; {_service_of(host.docker)} system prune removes unused images",
        )
        for disk in host.disks
        if disk.free_bytes < max(_LEAST_FREE * disk.total_bytes, _LEAST_FREE_BYTES)
    ]
    least = min((disk.free_bytes for disk in host.disks), default=None)
    return tight or ([] if least is None else [Finding(Level.OK, "disk", f"at least {wording.size(least)} are free")])


def release(host: facts.Host) -> list[Finding]:
    """Tell whether the package is that of another release of Debian, as after an upgrade of Debian without it."""
    if None in (host.python, host.debian_python) or host.python == host.debian_python:
        return []
    says = (
        f"the package is of another release of Debian: it runs on {host.python}, and this one has {host.debian_python}"
    )
    remedy = "install the celery-docker of this release; Debian no longer mends the other Python"
    return [Finding(Level.WARN, "release", says, remedy)]


def gpus(host: facts.Host) -> list[Finding]:
    """Tell which GPUs jobs can have, and what hides others."""
    if host.gpus is None:
        return []
    names, reason = host.gpus.names, host.gpus.reason
    count = f"jobs can have {wording.counted(len(names), 'GPU')}: {', '.join(names)}" if names else "jobs can have none"
    hidden = [
        Finding(Level.WARN, "gpus", problem, "mend that, or name them by CELERY_DOCKER_GPUS; then reload the worker")
        for problem in host.gpus.problems
    ]
    return [Finding(Level.OK, "gpus", f"{count} ({reason})"), *hidden]


def files(host: facts.Host) -> list[Finding]:
    """Tell which file of secrets the workers of this host cannot use, or others can read."""
    return [finding for file in host.files for finding in _file(file, _service_of(host.docker))]


def _file(file: facts.SecretFile, service: str) -> list[Finding]:
    if file.is_denied:
        return [Finding(Level.SKIP, file.subject, f"you may not read {file.path}", AS_ROOT)]
    results = []
    if file.failure:
        anew = f"write it anew: {faults.login('', service)}"
        remedy = anew if file.subject == facts.LOGINS else "mend it; until then nobody of it is told"
        results.append(Finding(Level.FAIL, file.subject, f"{file.path} {file.failure}", remedy))
    if file.is_closed:
        says = f"the workers may not read {file.path}"
        remedy = (
            faults.open_login(file.path)
            if file.subject == facts.LOGINS
            else f"chgrp celery {file.path}; {_CLOSE} {file.path}"
        )
        results.append(Finding(Level.FAIL, file.subject, says, remedy))
    if file.is_public:
        says = f"{file.path} has secrets in it, and everybody can read it"
        results.append(Finding(Level.WARN, file.subject, says, f"{_CLOSE} {file.path}"))
    if file.names and not results:
        results.append(Finding(Level.OK, file.subject, f"{file.path} has {', '.join(file.names)}"))
    return results


CHECKS: tuple[Callable[[facts.Host], list[Finding]], ...] = (
    services,
    release,
    docker,
    group,
    opener,
    live_restore,
    disks,
    gpus,
    files,
)
