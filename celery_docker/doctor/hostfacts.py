"""Gathers the facts about this host: the worker's service, Docker, groups and disks. Changes nothing."""

from __future__ import annotations

import grp
import http.client
import os
import pwd
import subprocess
import sys
from pathlib import Path
from typing import Any

from celery_docker import errors
from celery_docker.core import policyfile, textinput
from celery_docker.core.policy import Policy
from celery_docker.doctor import facts, filefacts
from celery_docker.engine import answers, podman, unixhttp
from celery_docker.host import capacity
from celery_docker.host import gpus as host_gpus

FOLDERS = ("/var/log/celery", "/var/lib/docker", "/var/lib/celery-docker")
OPENER = Path("/run/celery-docker/open.sock")
TCP_SOCKET = "celery-docker-api-tcp.socket"
_UNITS = ("celery-worker.service", "celery-worker@*.service")
_USER, _GROUP = "celery", "docker"
_PROPERTIES = ("LoadState", "UnitFileState", "ActiveState", "SubState", "NRestarts")
_LOG_LINES = 5
_TIMEOUT_S = 5.0


def gather(docker_host: str, policy_file: str, gpus_setting: str) -> facts.Host | None:
    """Return the facts about this host; None if it runs no jobs: there is no worker, or it is switched off."""
    workers = units()
    if not workers:
        return None
    pythons = interpreter(sys.executable), interpreter("/usr/bin/python3")
    rules, answer = policy(policy_file), docker(docker_host)
    has_opener, offered = OPENER.exists(), gpus(answer, gpus_setting)
    return facts.Host(
        *(workers, answer, disks(), is_in_group(), machine_id(), *pythons, rules, has_opener, offered),
        capacity=capacity.machine(),
        files=filefacts.gather(),
    )


def units() -> tuple[facts.Unit, ...]:
    """Return the services of the workers of this host that run or are switched on; none where there is no systemd."""
    listed = _asked("systemctl", "list-units", "--all", "--full", "--plain", "--no-legend", *_UNITS)
    workers = [_unit(line.split()[0]) for line in sorted(listed.splitlines()) if line.strip()]
    return tuple(worker for worker in workers if worker is not None)


def _unit(name: str) -> facts.Unit | None:
    output = _asked("systemctl", "show", name, f"--property={','.join(_PROPERTIES)}")
    properties = dict(line.partition("=")[::2] for line in output.splitlines())
    if properties.get("LoadState") != "loaded":
        return None
    is_enabled = properties["UnitFileState"].startswith("enabled")
    if not is_enabled and properties["ActiveState"] == "inactive":
        return None
    log = _asked("journalctl", "--unit", name, "--lines", str(_LOG_LINES), "--output=cat", "--no-pager", "--quiet")
    return facts.Unit(
        name.removesuffix(".service"),
        properties["ActiveState"],
        properties["SubState"],
        tuple(log.splitlines()),
        int(properties["NRestarts"]),
    )


def listens_over_tcp() -> bool | None:
    """Tell whether celery-docker-api can be reached over TCP; None where there is no systemd, or no such socket."""
    output = _asked("systemctl", "show", TCP_SOCKET, "--property=LoadState,ActiveState")
    properties = dict(line.partition("=")[::2] for line in output.splitlines())
    return properties.get("ActiveState") == "active" if properties.get("LoadState") == "loaded" else None


def docker(docker_host: str) -> facts.DockerFacts:
    """Return what the Docker at `docker_host` (unix:///PATH) reports about itself."""
    calls = unixhttp.Http(docker_host.removeprefix("unix://"), keep=0)
    try:
        version = calls.call("GET", "/version", timeout_s=_TIMEOUT_S).json()
        info = calls.call("GET", "/info", timeout_s=_TIMEOUT_S).json()
    except PermissionError as exc:
        return facts.DockerFacts(docker_host, problem=str(exc.strerror), is_denied=True)
    except (OSError, http.client.HTTPException) as exc:
        return facts.DockerFacts(docker_host, problem=(getattr(exc, "strerror", None) or str(exc)))
    return facts.DockerFacts(
        docker_host,
        version=podman.name(version) if podman.is_podman(version) else str(version.get("Version", "?")),
        api=str(version.get("ApiVersion", "")),
        has_live_restore=podman.is_podman(version) or info.get("LiveRestoreEnabled"),
        cdi_folders=answers.cdi_folders_of(info),
    )


def gpus(docker: facts.DockerFacts, setting: str) -> facts.Gpus | None:
    """Return the GPUs that a worker with this setting offers here; None where Docker could not be asked."""
    if docker.problem:
        return None
    is_podman = podman.service_of(docker.where, docker.version) == "podman"
    offered = host_gpus.offered(setting, docker.cdi_folders, is_podman=is_podman)
    return facts.Gpus(offered.names, offered.reason, offered.problems)


def disks(folders: tuple[str, ...] = FOLDERS) -> tuple[facts.Disk, ...]:
    """Return the file systems of those folders that are there."""
    file_systems = []
    for path in folders:
        try:
            state = os.statvfs(path)
        except OSError:
            continue
        file_systems.append(facts.Disk(path, state.f_blocks * state.f_frsize, state.f_bavail * state.f_frsize))
    return tuple(file_systems)


def is_in_group(user: str = _USER, group: str = _GROUP) -> bool | None:
    """Tell whether the worker's user may use Docker; None where there is no such user."""
    try:
        entry = pwd.getpwnam(user)
    except KeyError:
        return None
    try:
        members = grp.getgrnam(group)
    except KeyError:
        return False
    return user in members.gr_mem or entry.pw_gid == members.gr_gid


def policy(path: str) -> Policy | None:
    """Return the rules in a file; None where it is not usable, which the worker's log says."""
    try:
        return policyfile.parse(textinput.text(Path(path).read_bytes()))
    except (OSError, ValueError, errors.PolicyError):
        return None


def machine_id(path: str = "/etc/machine-id") -> str | None:
    """Return the id that the worker of this machine reports; None where the machine has none."""
    try:
        return Path(path).read_text().strip() or None
    except OSError:
        return None


def interpreter(path: str) -> str | None:
    """Return the name of the interpreter that a link leads to, such as python3.13; None where there is none."""
    try:
        return Path(path).resolve(strict=True).name
    except OSError:
        return None


def _asked(*command: str) -> str:
    """Return the output of a program, empty where it is not there or fails."""
    options: Any = {"capture_output": True, "text": True, "errors": "replace", "timeout": _TIMEOUT_S, "check": False}
    try:
        process = subprocess.run(command, **options)  # noqa: S603  # both commands are written above
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return str(process.stdout) if process.returncode == 0 else ""
