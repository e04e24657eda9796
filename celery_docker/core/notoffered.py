"""Wishes of docker run that a job cannot have, each with its reason and with what a job has in its place.

Pure. Invariant: what is in here is no field of a job. Names in braces are fields: a command line shows their flags, a
document their names.
"""

from __future__ import annotations

from collections.abc import Mapping

_NAMESPACES = "a job has namespaces of its own, and never those of the host or of another container"
_REACHED = "nobody reaches a job by the network; it takes its data from {inputpath} and writes it to {outputpath}"
_TERMINAL = "a job has no terminal, and nobody types into it; {stdin} is the text of its standard input"
_OTHER_CONTAINER = "another container may be on another host, or gone; hand data on in a folder, {outputpath}"
_DEVICES = "a job names each device that it needs: {device}"
_DISK = "a job's share of the disks is the host's to limit"
_CPUS = "{cpus} limits a job's share"
_MEMORY = "{memory} limits memory and swap together"
_NETWORK = "the network is one of the host's: {network}"
_LOGS = "the log is the queue's own; {logoutfile} has a copy, and celery-docker logs shows it"
_HEALTH = "nobody asks for the health of a job; {timeout} ends one that hangs"
_HOSTS = "that is the same for all jobs of a host, and its administrator's to choose"

# By the names of docker run's long flags.
_REASONS: Mapping[str, str] = {
    "privileged": "a job is never root of its host, and no policy can allow it; {group_add} gives it a single group",
    **dict.fromkeys(("pid", "ipc", "uts", "userns", "cgroupns"), _NAMESPACES),
    "security-opt": "every job has Docker's own profiles and no-new-privileges",
    **dict.fromkeys(("cgroup-parent", "runtime", "isolation", "storage-opt", "volume-driver", "sysctl"), _HOSTS),
    "device-cgroup-rule": _DEVICES,
    "binds": "write {mounts}",
    **dict.fromkeys(("volumes-from", "link"), _OTHER_CONTAINER),
    **dict.fromkeys(("publish", "publish-all", "expose", "network-alias"), _REACHED),
    **dict.fromkeys(("ip", "ip6", "mac-address", "link-local-ip", "dns-search", "dns-option", "domainname"), _NETWORK),
    "net": "write {network}",
    **dict.fromkeys(("tty", "interactive", "attach", "detach-keys", "sig-proxy"), _TERMINAL),
    "restart": "the queue runs a job again where that helps: {retries}, {retry_on}, {requeue}",
    "rm": "the container is always removed",
    "detach": "submit does not wait for the job",
    "init": "every container has one",
    "cidfile": "the container of a job is called run-ID",
    **dict.fromkeys(("log-driver", "log-opt"), _LOGS),
    **dict.fromkeys(
        ("health-cmd", "health-interval", "health-retries", "health-start-period", "health-timeout", "no-healthcheck"),
        _HEALTH,
    ),
    **dict.fromkeys(("cpu-shares", "cpu-period", "cpu-quota", "cpuset-cpus", "cpuset-mems"), _CPUS),
    **dict.fromkeys(("cpu-rt-period", "cpu-rt-runtime"), _CPUS),
    **dict.fromkeys(
        ("memory-swap", "memory-swappiness", "memory-reservation", "kernel-memory", "oom-kill-disable"), _MEMORY
    ),
    "oom-score-adj": _MEMORY,
    **dict.fromkeys(("blkio-weight", "blkio-weight-device", "device-read-bps", "device-write-bps"), _DISK),
    **dict.fromkeys(("device-read-iops", "device-write-iops"), _DISK),
    "label-file": "write each label as {labels}",
}
_SHORT = {
    "a": "attach",
    "c": "cpu-shares",
    "d": "detach",
    "p": "publish",
    "P": "publish-all",
    "t": "tty",
}
# As compose files and Docker's API call them.
_KEYS = {
    "auto_remove": "rm",
    "links": "link",
    "mount": "binds",
    "network_mode": "net",
    "pid_mode": "pid",
    "ipc_mode": "ipc",
    "uts_mode": "uts",
    "userns_mode": "userns",
    "ports": "publish",
    "security_opts": "security-opt",
    "stdin_open": "interactive",
    "sysctls": "sysctl",
    "volume": "binds",
    "volumes": "binds",
}


def of_flag(word: str, flags: Mapping[str, str]) -> str | None:
    """Return why a job does not have a flag of docker run, as it was typed; None where that has no such flag.

    `flags` are those of the fields, by name.
    """
    name = word.partition("=")[0].removeprefix("--") if word.startswith("--") else _SHORT.get(word[1:2], "")
    return _filled(name, flags)


def of_key(key: str, names: Mapping[str, str]) -> str | None:
    """Return why a job document does not have a key; None for a key that means nothing to Docker either."""
    return _filled(_KEYS.get(key.lower(), key.lower().replace("_", "-")), names)


def _filled(name: str, names: Mapping[str, str]) -> str | None:
    reason = _REASONS.get(name)
    return None if reason is None else reason.format_map(names)
