"""Meaning of names on this host: users, paths and sockets, looked up and never changed.

The only importer of `pwd` here. What this host does not have is a problem of the request, beside the broken rules.
"""

from __future__ import annotations

import contextlib
import grp
import os
import pwd
from dataclasses import dataclass, replace
from typing import Any

from celery_docker.core import jobspec, plan, policy, userrules
from celery_docker.core import submounts as mounttable
from celery_docker.core.access import Identity
from celery_docker.host import paths

_ENGINE_SOCKETS = ("/run/docker.sock", "/run/containerd/containerd.sock")
# Each is a mount of its own in the container.
_MOST_SUBMOUNTS = 256
# Debian's nogroup.
_NO_GROUP = 65534


@dataclass(frozen=True)
class _User:
    """A user on this host: `name` is empty where nobody has that number here."""

    uid: int
    name: str
    own_gid: int


def resolve(
    spec: jobspec.JobSpec, docker_host: str, rules: policy.Policy, submitter: Identity | None = None
) -> tuple[plan.Resolved, policy.Request]:
    """Return what the spec's names mean here, and the same as a question to the policy, with what is not here.

    A name that means nothing here stays as it is. A job with a submitter runs as that user, unless it names another.
    """
    problems: list[str] = []
    mounts = {name: _mount(name, getattr(spec, name), rules.mounts, problems) for name in ("inputpath", "outputpath")}
    logs = {name: _log(name, getattr(spec, name), rules.mounts + rules.logs) for name in ("logoutfile", "logerrfile")}
    _check_distinct(mounts["inputpath"], mounts["outputpath"], problems)
    submounts = _submounts(mounts["inputpath"], problems)
    is_self = submitter is not None and _is_self(spec.user, submitter, rules)
    if submitter is not None and is_self:
        user: _User | None = _User(submitter.uid, submitter.name, submitter.gid)
    else:
        user = _user(spec.user, problems)
    gid = _gid(spec.user, user)
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
        mounts=tuple(path for path in mounts.values() if path),
        logs=tuple(path for path in logs.values() if path),
        sockets=tuple({os.path.realpath(s) for s in (docker_host.removeprefix("unix://"), *_ENGINE_SOCKETS)}),
        problems=tuple(problems),
    )
    real: dict[str, Any] = {name: path.real if path else getattr(spec, name) for name, path in (mounts | logs).items()}
    resolved = plan.Resolved(user=spec.user, user_name=spec.user, submounts=submounts, **real)
    if user is not None:
        resolved = replace(resolved, user=f"{user.uid}:{gid}", user_name=user.name or str(user.uid))
    if submitter is not None and is_self:
        resolved = replace(resolved, groups=tuple(sorted({submitter.gid, *submitter.groups} - {gid})))
    return resolved, request


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


def log_paths(spec: jobspec.JobSpec) -> tuple[str | None, str | None]:
    """Return where the spec's log files really are, symlinks resolved."""
    out, err = (os.path.realpath(path) if path else None for path in (spec.logoutfile, spec.logerrfile))
    return out, err


def _mount(field: str, path: str | None, roots: tuple[str, ...], problems: list[str]) -> policy.HostPath | None:
    if path is None:
        return None
    try:
        return policy.HostPath(field, path, paths.follow(path, roots))
    except paths.Outside as exc:
        return policy.HostPath(field, path, exc.exit or path, is_outside=True)
    except PermissionError:
        problems.append(f"{field}: the worker's user may not look at {path!r}; let it enter the folders above")
    except OSError as exc:
        problems.append(f"{field}: {path!r} on host {os.uname().nodename}: {exc.strerror}")
    return None


def _log(field: str, path: str | None, roots: tuple[str, ...]) -> policy.HostPath | None:
    if path is None:
        return None
    try:
        return policy.HostPath(field, path, paths.follow(path, roots, must_exist=False))
    except paths.Outside as exc:
        return policy.HostPath(field, path, exc.exit or path, is_outside=True)


def _check_distinct(inputpath: policy.HostPath | None, outputpath: policy.HostPath | None, problems: list[str]) -> None:
    if inputpath and outputpath and not inputpath.is_outside and inputpath.real == outputpath.real:
        problems.append(f"outputpath: {outputpath.path!r} is the inputpath too; they must differ: /input is read-only")


def _submounts(inputpath: policy.HostPath | None, problems: list[str]) -> tuple[str, ...]:
    """Return the places below an input at which other file systems are mounted, as this process sees them."""
    if inputpath is None or inputpath.is_outside:
        return ()
    with open("/proc/self/mountinfo", encoding="utf-8", errors="surrogateescape") as file:
        places = mounttable.below(file.read(), inputpath.real)
    if len(places) > _MOST_SUBMOUNTS:
        problems.append(
            f"inputpath: {len(places)} file systems are mounted below {inputpath.path!r}, and a job may have "
            f"{_MOST_SUBMOUNTS} at most; name a folder with fewer"
        )
    elif any("\udc80" <= character <= "\udcff" for place in places for character in place):
        problems.append(f"inputpath: a file system below {inputpath.path!r} is mounted at a path that is not UTF-8")
    return tuple(places)


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
