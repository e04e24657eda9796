"""Meaning of names on this host: users, paths and sockets, looked up and never changed.

The only importer of `pwd`. Raises `RequestError` for what this host does not have.
"""

from __future__ import annotations

import os
import pwd

from celery_docker import errors
from celery_docker.core import jobspec, plan, policy

_ENGINE_SOCKETS = ("/run/docker.sock", "/run/containerd/containerd.sock")


def resolve(spec: jobspec.JobSpec, docker_host: str) -> tuple[plan.Resolved, policy.Request]:
    """Return what the spec's names mean here, and the same as a question to the policy.

    Raises `RequestError` that names the first path or user that is not there.
    """
    paths = {name: _existing(name, getattr(spec, name)) for name in ("inputpath", "outputpath")}
    logs = {name: _log(name, getattr(spec, name)) for name in ("logoutfile", "logerrfile")}
    user = _user(spec.user)
    request = policy.Request(
        image=spec.image,
        user=spec.user,
        uid=user.partition(":")[0] if user else None,
        network=spec.network,
        memory_bytes=spec.memory,
        cpus=spec.cpus,
        mounts=tuple(path for path in paths.values() if path),
        logs=tuple(path for path in logs.values() if path),
        sockets=tuple({os.path.realpath(s) for s in (docker_host.removeprefix("unix://"), *_ENGINE_SOCKETS)}),
    )
    _distinct(paths["inputpath"], paths["outputpath"])
    real = {name: path.real if path else None for name, path in (paths | logs).items()}
    return plan.Resolved(user=user, user_name=_user_name(user), **real), request


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


def _existing(field: str, path: str | None) -> policy.HostPath | None:
    if path is None:
        return None
    try:
        return policy.HostPath(field, path, os.path.realpath(path, strict=True))
    except PermissionError as exc:
        raise errors.RequestError(
            f"{field}: the worker's user may not look at {path!r}; let it enter the folders above"
        ) from exc
    except OSError as exc:
        raise errors.RequestError(f"{field}: {path!r} on host {os.uname().nodename}: {exc.strerror}") from exc


def _log(field: str, path: str | None) -> policy.HostPath | None:
    return policy.HostPath(field, path, os.path.realpath(path)) if path is not None else None


def _distinct(inputpath: policy.HostPath | None, outputpath: policy.HostPath | None) -> None:
    if inputpath and outputpath and inputpath.real == outputpath.real:
        raise errors.RequestError(
            f"outputpath: {outputpath.path!r} is the inputpath too; they must differ: /input is read-only"
        )


def _user_name(user: str | None) -> str | None:
    """Return the name on this host of a user in the form `uid[:gid]`, the uid where it has none."""
    if user is None:
        return None
    uid = user.partition(":")[0]
    try:
        return pwd.getpwuid(int(uid)).pw_name
    except KeyError:
        return uid


def _user(user: str | None) -> str | None:
    if user is None or (":" in user and user.partition(":")[0].isdigit()):
        return user
    name, _, gid = user.partition(":")
    try:
        entry = pwd.getpwuid(int(name)) if name.isdigit() else pwd.getpwnam(name)
    except KeyError as exc:
        if name.isdigit():
            return user
        raise errors.RequestError(
            f"user: {name!r} is not known on host {os.uname().nodename}; create it there or give a uid"
        ) from exc
    return f"{entry.pw_uid}:{gid or entry.pw_gid}"
