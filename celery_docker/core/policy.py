"""The policy of this host: the rules of `/etc/celery-docker/policy.toml`, and the verdict on one job.

Pure: the file's text and the resolved paths come in as arguments. A verdict lists every violation, each naming the rule
that an administrator would have to change. Allow-lists only; what no rule can allow is in `_never`.
"""

from __future__ import annotations

import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import PurePosixPath
from typing import Any

from celery_docker import errors
from celery_docker.core import imagerules, kinds, sizes, userrules, wording

# As many as Docker can count.
_MOST_PIDS = 2**63 - 1


@dataclass(frozen=True)
class Limits:
    """Ceilings, and what a job gets that asks for nothing. `memory_bytes` and `cpus` None: no limit."""

    pids: int = 4096
    memory_bytes: int | None = None
    cpus: float | None = None


@dataclass(frozen=True)
class Policy:
    """The rules of one host. `networks`: the first is what a job gets that asks for none."""

    images: tuple[str, ...] = ("*",)
    mounts: tuple[str, ...] = ()
    logs: tuple[str, ...] = ()
    users: tuple[str, ...] = ("*",)
    networks: tuple[str, ...] = ("bridge",)
    limits: Limits = field(default_factory=Limits)


@dataclass(frozen=True)
class HostPath:
    """A path that a job names, in the field it came from; `real` has every symlink resolved.

    Of one that `is_outside` of the folders that the policy names, `real` is only how it left them.
    """

    field: str
    path: str
    real: str
    is_outside: bool = False


@dataclass(frozen=True)
class Request:
    """The demands of a job on the host, resolved; None when not asked for.

    `user` as submitted, `uid` as a string, `user_name` the name on this host, empty where it has none. `has_own_group`:
    the job asks for no other group than the user's own. `problems` are what the host cannot meet, whatever its policy.
    """

    image: str
    user: str | None = None
    uid: str | None = None
    user_name: str = ""
    has_own_group: bool = False
    network: str | None = None
    memory_bytes: int | None = None
    cpus: float | None = None
    mounts: tuple[HostPath, ...] = ()
    logs: tuple[HostPath, ...] = ()
    sockets: tuple[str, ...] = ()
    problems: tuple[str, ...] = ()


def parse(text: str) -> Policy:
    """Return the policy that a TOML text describes.

    Raises `PolicyError` that names the key, the value and what is allowed; an unknown key is an error too, because a
    misspelt rule would otherwise protect nothing.
    """
    try:
        table = tomllib.loads(text)
    except RecursionError as exc:
        raise errors.PolicyError("is nested too deeply") from exc
    except ValueError as exc:  # tomllib's own, and Python's for a number of thousands of digits
        raise errors.PolicyError(f"is not TOML: {wording.harmless(str(exc))}") from exc
    _known(table, ("images", "mounts", "logs", "users", "networks", "limits"), "")
    limits = table.get("limits", {})
    if not isinstance(limits, Mapping):
        raise errors.PolicyError(f"limits = {kinds.shown(limits)} must be a table, [limits]")
    _known(limits, ("pids", "memory", "cpus"), "limits.")
    return Policy(
        images=_strings(table, "images", ("*",)),
        mounts=_roots(table, "mounts"),
        logs=_roots(table, "logs"),
        users=_users(table),
        networks=_networks(table),
        limits=Limits(
            pids=_pids(limits.get("pids", 4096)),
            memory_bytes=_memory(limits.get("memory", "")),
            cpus=_cpus(limits.get("cpus", 0)),
        ),
    )


def violations(policy: Policy, request: Request) -> list[str]:
    """Return every rule the request breaks and all that this host lacks, one line each; an empty list is a yes."""
    problems = _image(policy, request) + _user(policy, request) + _network(policy, request)
    problems += _ceilings(policy.limits, request)
    for path in request.mounts:
        problems += _under(path, policy.mounts, "mounts") or _never(path, request.sockets)
    for path in request.logs:
        problems += _under(path, policy.mounts + policy.logs, "mounts or logs")
    return [*problems, *request.problems]


def _image(policy: Policy, request: Request) -> list[str]:
    if imagerules.allows(policy.images, request.image):
        return []
    return [f"image: {request.image!r} is not allowed on this host; rule images = {list(policy.images)}"]


def _user(policy: Policy, request: Request) -> list[str]:
    if userrules.ANY in policy.users:
        return []
    rule = f"rule users = {list(policy.users)}"
    if request.user is None:
        return [f"user: a job has to name its user on this host; {rule}"]
    asked = userrules.Asked(request.user, request.uid, request.user_name, request.has_own_group)
    if userrules.allow(policy.users, asked):
        return []
    return [f"user: {request.user!r} is not allowed on this host; {rule}"]


def _network(policy: Policy, request: Request) -> list[str]:
    if request.network is None or request.network in policy.networks:
        return []
    rule = f"rule networks = {list(policy.networks)}"
    return [f"network: {request.network!r} is not allowed on this host; {rule}"]


def _ceilings(limits: Limits, request: Request) -> list[str]:
    problems = []
    memory, ceiling = request.memory_bytes, limits.memory_bytes
    if memory is not None and ceiling is not None and memory > ceiling:
        rule = f"rule limits.memory = {sizes.shown(ceiling)}"
        problems.append(f"memory: {sizes.shown(memory)} is more than this host allows; {rule}")
    if request.cpus is not None and limits.cpus is not None and request.cpus > limits.cpus:
        problems.append(f"cpus: {request.cpus} is more than this host allows; rule limits.cpus = {limits.cpus}")
    return problems


def _never(path: HostPath, sockets: Sequence[str]) -> list[str]:
    for socket in sockets:
        if _is_under(socket, path.real):
            return [
                f"{path.field}: {path.path!r} holds {socket}, the socket of Docker or Podman, which no job may have"
            ]
    return []


def _under(path: HostPath, roots: Sequence[str], rule: str) -> list[str]:
    if not path.is_outside and any(_is_under(path.real, root) for root in roots):
        return []
    resolved = "" if path.real == path.path else f" (which is {path.real!r})"
    return [f"{path.field}: {path.path!r}{resolved} is outside what this host allows; rule {rule} = {list(roots)}"]


def _is_under(path: str, root: str) -> bool:
    return PurePosixPath(path).is_relative_to(root)


def _known(table: Mapping[str, Any], names: Sequence[str], prefix: str) -> None:
    for name in table:
        if name not in names:
            raise errors.PolicyError(
                f"{prefix}{wording.harmless(name)} is not a rule; known are {', '.join(prefix + n for n in names)}"
            )


def _strings(table: Mapping[str, Any], name: str, default: tuple[str, ...]) -> tuple[str, ...]:
    value = table.get(name, list(default))
    if not isinstance(value, list) or not all(isinstance(item, str) for item in value):
        raise errors.PolicyError(f"{name} = {kinds.shown(value)} must be a list of strings")
    return tuple(value)


def _roots(table: Mapping[str, Any], name: str) -> tuple[str, ...]:
    roots = _strings(table, name, ())
    for root in roots:
        if not root.startswith("/") or ".." in PurePosixPath(root).parts:
            raise errors.PolicyError(f"{name} has {kinds.shown(root)}, which must be an absolute path")
    return roots


def _users(table: Mapping[str, Any]) -> tuple[str, ...]:
    users = _strings(table, "users", (userrules.ANY,))
    for user in users:
        try:
            userrules.check(user)
        except ValueError as exc:
            raise errors.PolicyError(f"users has {kinds.shown(user)}, which {exc}") from exc
    return users


def _networks(table: Mapping[str, Any]) -> tuple[str, ...]:
    networks = _strings(table, "networks", ("bridge",))
    if not networks or any(network not in kinds.NETWORKS for network in networks):
        raise errors.PolicyError(
            f"networks = {kinds.shown(list(networks))} must name one or more of {', '.join(kinds.NETWORKS)}"
        )
    return networks


def _pids(value: object) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or not 1 <= value <= _MOST_PIDS:
        raise errors.PolicyError(f"limits.pids = {kinds.shown(value)} must be a whole number from 1 to {_MOST_PIDS}")
    return value


def _memory(value: object) -> int | None:
    if value == "" or (value == 0 and not isinstance(value, bool)):
        return None
    try:
        return sizes.parse_memory(value)
    except ValueError as exc:
        raise errors.PolicyError(f"limits.memory = {kinds.shown(value)} {exc}") from exc


def _cpus(value: object) -> float | None:
    if value == 0 and not isinstance(value, bool):
        return None
    try:
        return float(kinds.CPUS.parse(None if isinstance(value, str) else value))
    except ValueError as exc:
        raise errors.PolicyError(f"limits.cpus = {kinds.shown(value)} {exc}, or 0 for no limit") from exc
