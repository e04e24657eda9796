"""Meaning of names on this host: users, paths and sockets, looked up and never changed.

The only importer of `pwd` here. What this host does not have is a problem of the request, beside the broken rules.
"""

from __future__ import annotations

import contextlib
import errno
import grp
import os
import pwd
from dataclasses import dataclass, replace
from typing import Any

from celery_docker.core import devices as device_rules
from celery_docker.core import jobspec, plan, policy, userrules
from celery_docker.core.access import Identity
from celery_docker.core.devices import Node
from celery_docker.core.found import Follow, Look
from celery_docker.core.joblogs import JobLogs
from celery_docker.host import devices, paths

_LOGS = ("logoutfile", "logerrfile")
_OWN_PATHS = ("inputpath", "outputpath", *_LOGS)
_ENGINE_SOCKETS = ("/run/docker.sock", "/run/containerd/containerd.sock")
_ARCHITECTURES = {"x86_64": "amd64", "aarch64": "arm64", "armv7l": "arm", "i686": "386"}
# Debian's nogroup, and the user that goes with it.
_NO_GROUP = 65534
_NOBODY = Identity("nobody", _NO_GROUP, _NO_GROUP, ())


@dataclass(frozen=True)
class _User:
    """A user on this host: `name` is empty where nobody has that number here."""

    uid: int
    name: str
    own_gid: int


def follow(name: str, path: str, roots: tuple[str, ...]) -> str:
    """Follow a path of a job with the rights of this process."""
    return paths.follow(path, roots, must_exist=name not in _LOGS)


def resolve(
    spec: jobspec.JobSpec,
    docker_host: str,
    rules: policy.Policy,
    submitter: Identity | None = None,
    follow: Follow = follow,
    look: Look = devices.look,
) -> tuple[plan.Resolved, policy.Request]:
    """Return what the spec's names mean here, and the same as a question to the policy, with what is not here.

    A name that means nothing here stays as it is. A job with a submitter runs as that user, unless it names another.
    """
    problems: list[str] = []
    sources, log_files = spec.host_sources, spec.log_files
    mounts = {name: _path(name, path, spec, rules.mounts, problems, follow) for name, path in sources.items()}
    log_roots = rules.mounts + rules.logs
    logs = {name: _path(name, path, spec, log_roots, problems, follow) for name, path in log_files.items()}
    _check_distinct(mounts.get("inputpath"), mounts.get("outputpath"), problems)
    is_self = submitter is not None and _is_self(spec.user, submitter, rules)
    if submitter is not None and is_self:
        user: _User | None = _User(submitter.uid, submitter.name, submitter.gid)
    else:
        user = _user(spec.user, problems)
    gid = _gid(spec.user, user)
    groups = _groups(spec.group_add or (), submitter, problems)
    if groups and user is None and spec.user is None:
        problems.append("group_add: an image's own user gets no groups of this host; name the user of the job")
    request = policy.Request(
        image=spec.image,
        user=submitter.name if submitter and is_self and spec.user is None else spec.user,
        uid=str(user.uid) if user else None,
        user_name=user.name if user else "",
        has_own_group=user is not None and gid == user.own_gid,
        is_self=is_self,
        submitter=submitter,
        network=spec.network,
        memory_bytes=spec.memory,
        cpus=spec.cpus,
        pids=spec.pids_limit,
        shm_bytes=spec.shm_size,
        ulimits=spec.ulimits or {},
        tmpfs=spec.tmpfs or {},
        groups=groups,
        capabilities=spec.cap_add or (),
        platform=spec.platform,
        gpus=spec.gpus,
        devices=_devices(spec, rules, problems, look),
        own_platform=own_platform(),
        mounts=tuple(path for path in mounts.values() if path),
        logs=tuple(path for path in logs.values() if path),
        sockets=_sockets(docker_host) if sources else (),
        notify=spec.notify or (),
        problems=tuple(problems),
    )
    real = {name: path.real for name, path in (mounts | logs).items() if path}
    own: dict[str, Any] = {name: real.get(name, getattr(spec, name)) for name in _OWN_PATHS}
    further = tuple(real.get(name, path) for name, path in sources.items() if name not in _OWN_PATHS)
    resolved = plan.Resolved(user=spec.user, user_name=spec.user, **own, mounts=further)
    if user is not None:
        resolved = replace(resolved, user=f"{user.uid}:{gid}", user_name=user.name or str(user.uid))
    gids = {int(asked.uid) for asked in groups if asked.uid is not None}
    if submitter is not None and is_self:
        gids |= {submitter.gid, *submitter.groups}
    resolved = replace(resolved, groups=tuple(sorted(gids - {gid})))
    return resolved, request


def _sockets(docker_host: str) -> tuple[str, ...]:
    return tuple({os.path.realpath(path) for path in (docker_host.removeprefix("unix://"), *_ENGINE_SOCKETS)})


def group_names(submitter: Identity) -> tuple[str, ...]:
    """Return the names that the groups of a submitter have on this host."""
    names = []
    for gid in (submitter.gid, *submitter.groups):
        with contextlib.suppress(KeyError):
            names.append(grp.getgrgid(gid).gr_name)
    return tuple(names)


def boot_id() -> str:
    """Return the id of the kernel's current boot, which is another after each; empty where the kernel tells none."""
    try:
        with open("/proc/sys/kernel/random/boot_id", encoding="ascii") as file:
            return file.read().strip()
    except OSError:
        return ""


def identity(user: str | None, rules: policy.Policy, submitter: Identity | None = None) -> Identity | None:
    """Return the user of a job: its submitter with his groups, or another with those that he has on this host.

    None without one; nobody for an unknown name.
    """
    if submitter is not None and _is_self(user, submitter, rules):
        gid = _gid(user, _User(submitter.uid, submitter.name, submitter.gid))
        return replace(submitter, gid=submitter.gid if gid is None else gid, groups=(submitter.gid, *submitter.groups))
    known = _user(user, [])
    gid = _gid(user, known)
    if known is None or gid is None:
        return None if user is None else _NOBODY
    groups = os.getgrouplist(known.name, gid) if known.name else [gid]
    return Identity(known.name or str(known.uid), known.uid, gid, tuple(groups))


def own_identity() -> Identity:
    """Return the user that this process is."""
    return Identity("", os.geteuid(), os.getegid(), tuple(os.getgroups()))


def own_logs(spec: jobspec.JobSpec) -> JobLogs:
    """Return the log files of a job as this process may open them: those of a container from before its label."""
    out, err = (os.path.realpath(path) if path else None for path in (spec.logoutfile, spec.logerrfile))
    return JobLogs(out, err)


def _path(
    name: str, path: str, spec: jobspec.JobSpec, roots: tuple[str, ...], problems: list[str], follow: Follow
) -> policy.HostPath | None:
    field = name.partition(".")[0]
    try:
        return policy.HostPath(field, path, follow(name, path, roots))
    except paths.Outside as exc:
        return policy.HostPath(field, path, exc.exit or path, is_outside=True)
    except PermissionError:
        whose = f"user {spec.user}" if spec.user else "root"
        problems.append(f"{field}: {whose} may not look at {path!r}; let that user enter the folders above")
    except OSError as exc:
        problems.append(f"{field}: {path!r} on host {os.uname().nodename}: {exc.strerror}")
    return None


def _check_distinct(inputpath: policy.HostPath | None, outputpath: policy.HostPath | None, problems: list[str]) -> None:
    if inputpath and outputpath and not inputpath.is_outside and inputpath.real == outputpath.real:
        problems.append(f"outputpath: {outputpath.path!r} is the inputpath too; they must differ: /input is read-only")


def _is_self(user: str | None, submitter: Identity, rules: policy.Policy) -> bool:
    """Return True where a job is to run as its submitter: it names nobody else, and no group that he is not in.

    Root's job that names nobody is the image's own user's, where everybody is allowed.
    """
    if user is None:
        return submitter.uid != 0 or userrules.ANY not in rules.users
    name, _, gid = user.partition(":")
    is_own = name == submitter.name or (name.isdigit() and int(name) == submitter.uid)
    return is_own and (not gid or int(gid) in (submitter.gid, *submitter.groups))


def _user(user: str | None, problems: list[str]) -> _User | None:
    if user is None:
        return None
    name = user.partition(":")[0]
    try:
        entry = pwd.getpwuid(int(name)) if name.isdigit() else pwd.getpwnam(name)
    except KeyError:
        if name.isdigit():
            return _User(int(name), "", _gid_of_unknown(int(name)))
        problems.append(f"user: {name!r} is not known on host {os.uname().nodename}; create it there or give a uid")
        return None
    return _User(entry.pw_uid, entry.pw_name, entry.pw_gid)


def _groups(groups: tuple[str, ...], submitter: Identity | None, problems: list[str]) -> tuple[userrules.Asked, ...]:
    """Return the groups that a job asks for, as this host knows them."""
    asked = []
    for text in groups:
        try:
            entry = grp.getgrgid(int(text)) if text.isdigit() else grp.getgrnam(text)
            gid, name = entry.gr_gid, entry.gr_name
        except KeyError:
            if not text.isdigit():
                node = os.uname().nodename
                problems.append(f"group_add: {text!r} is not known on host {node}; create it there or give a gid")
                continue
            gid, name = int(text), ""
        is_own = submitter is not None and gid in (submitter.gid, *submitter.groups)
        asked.append(userrules.Asked(text, str(gid), name, has_own_group=True, is_self=is_own))
    return tuple(asked)


def _devices(spec: jobspec.JobSpec, rules: policy.Policy, problems: list[str], look: Look) -> dict[str, Node | None]:
    """Return what is at the paths of a job's devices; nothing is told of one that the rules do not have."""
    there: dict[str, Node | None] = {}
    for path in spec.device_paths:
        there[path] = None
        try:
            if device_rules.allows(rules.devices, path):
                there[path] = look(path)
        except OSError as exc:
            is_link = exc.errno == errno.ELOOP
            reason = "a link, or behind one; name the device that it leads to" if is_link else exc.strerror
            problems.append(f"device: {path!r} on host {os.uname().nodename}: {reason}")
    return there


def own_platform() -> str:
    """Return the platform of this host, as images are named by."""
    machine = os.uname().machine
    return f"linux/{_ARCHITECTURES.get(machine, machine)}"


def _gid_of_unknown(uid: int) -> int:
    """Return the group of a user whom this host does not know: of the same number, but never a group of this host."""
    try:
        grp.getgrgid(uid)
    except KeyError:
        return uid
    return _NO_GROUP


def _gid(submitted: str | None, user: _User | None) -> int | None:
    """Return the group that a job asks for, else its user's own; None without a user."""
    gid = (submitted or "").partition(":")[2]
    if user is None:
        return None
    return int(gid) if gid else user.own_gid
