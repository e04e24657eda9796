"""The policy of this host: the rules of `/etc/celery-docker/policy.toml`, and the verdict on one job.

Pure: the file's text and the resolved paths come in as arguments. A verdict lists every violation, each naming the rule
that an administrator would have to change. Allow-lists only; what no rule can allow is in `_never`. `policyfile` reads
the file.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import PurePosixPath

from celery_docker import errors
from celery_docker.core import (
    devices,
    imagerules,
    limitkinds,
    noticetargets,
    privilegekinds,
    sizes,
    tmpfskinds,
    userrules,
)
from celery_docker.core.access import Identity
from celery_docker.core.devices import Node
from celery_docker.core.gpus import Wanted

# Whose jobs a host runs: those of anybody who can write to the queue, or signed ones.
ANYBODY, SIGNED = "any", "signed"
# The platform of the host itself.
OWN_PLATFORM = "own"
# The limits of a process with which a job can do no harm: its memory and processes are limited anyway. Others give it
# precedence over the rest of the host, or memory of the kernel's.
HARMLESS_ULIMITS = ("core", "cpu", "fsize", "memlock", "nofile", "rttime", "sigpending", "stack")


@dataclass(frozen=True)
class Limits:
    """Ceilings, and what a job gets that asks for nothing. `memory_bytes` and `cpus` None: no limit."""

    pids: int = 4096
    memory_bytes: int | None = None
    cpus: float | None = None


@dataclass(frozen=True)
class Defaults:
    """The memory and CPUs of a job that asks for none; None: as `Limits` say."""

    memory_bytes: int | None = None
    cpus: float | None = None


@dataclass(frozen=True)
class Policy:
    """The rules of one host, or of it for one submitter. `networks`: the first is what a job gets that asks for none.

    `submitters` says whose jobs are run. `sections` are the rules for single submitters, by user name or @group, in the
    order of the file; `unsigned` those for unsigned jobs where `submitters` are signed, None: they are refused.
    `self_only`: a submitter runs as himself, but root. `origins` has the section of each rule that has one.
    """

    images: tuple[str, ...] = ("*",)
    mounts: tuple[str, ...] = ()
    logs: tuple[str, ...] = ()
    users: tuple[str, ...] = ("*",)
    networks: tuple[str, ...] = ("bridge",)
    groups: tuple[str, ...] = ()
    capabilities: tuple[str, ...] = ()
    ulimits: tuple[str, ...] = HARMLESS_ULIMITS
    platforms: tuple[str, ...] = (OWN_PLATFORM,)
    notify: tuple[str, ...] = ()
    limits: Limits = field(default_factory=Limits)
    gpus: bool = True
    devices: tuple[str, ...] = ()
    defaults: Defaults = Defaults()
    submitters: str = ANYBODY
    sections: Mapping[str, Policy] = field(default_factory=dict)
    unsigned: Policy | None = None
    self_only: bool = False
    origins: Mapping[str, str] = field(default_factory=dict)

    def rule(self, *names: str) -> str:
        """Return a rule as the file has it, with its section; several are one list."""
        value = [item for name in names for item in getattr(self, name)]
        return f"rule {' or '.join(self.origins.get(name, '') + name for name in names)} = {value}"

    @property
    def usual_memory_bytes(self) -> int | None:
        """The limit of a job that asks for no memory; None: it has none."""
        return self.defaults.memory_bytes or self.limits.memory_bytes

    @property
    def usual_cpus(self) -> float | None:
        """The limit of a job that asks for no CPUs; None: it has none."""
        return self.defaults.cpus or self.limits.cpus

    def defaults_for(self, *, memory_bytes: int | None, cpus: float | None) -> list[str]:
        """Return a line for each default that a job gets that asks for this much."""
        origin, lines = self.origins.get("defaults", ""), []
        if memory_bytes is None and self.defaults.memory_bytes is not None:
            size = sizes.shown(self.defaults.memory_bytes)
            lines.append(f"memory: the job asks for none and gets {size}; rule {origin}defaults.memory")
        if cpus is None and self.defaults.cpus is not None:
            lines.append(f"cpus: the job asks for none and gets {self.defaults.cpus:g}; rule {origin}defaults.cpus")
        return lines


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
    the job asks for no other group than the user's own. `submitter` has signed the job, and `is_self`: it runs as him.
    `groups` are asked for like users, by name and gid; `is_self` of one: the submitter is in it. `own_platform` is the
    host's. `devices` are by path; None: it was not looked at, or is not there. `problems` are what the host cannot
    meet, whatever its policy.
    """

    image: str
    user: str | None = None
    uid: str | None = None
    user_name: str = ""
    has_own_group: bool = False
    submitter: Identity | None = None
    is_self: bool = False
    network: str | None = None
    memory_bytes: int | None = None
    cpus: float | None = None
    pids: int | None = None
    shm_bytes: int | None = None
    ulimits: Mapping[str, str] = field(default_factory=dict)
    tmpfs: Mapping[str, str] = field(default_factory=dict)
    groups: tuple[userrules.Asked, ...] = ()
    capabilities: tuple[str, ...] = ()
    platform: str | None = None
    own_platform: str = ""
    gpus: Wanted | None = None
    devices: Mapping[str, Node | None] = field(default_factory=dict)
    mounts: tuple[HostPath, ...] = ()
    logs: tuple[HostPath, ...] = ()
    sockets: tuple[str, ...] = ()
    notify: tuple[str, ...] = ()
    problems: tuple[str, ...] = ()


def applying(policy: Policy, submitter: Identity | None, groups: Sequence[str]) -> Policy:
    """Return the rules for the jobs of a submitter who is in these groups of this host; None: nobody has signed.

    Those for the user come before those for a group; of these, the first in the file. Raises `SignatureError` where
    unsigned jobs are refused.
    """
    if submitter is None:
        if policy.submitters == ANYBODY:
            return policy
        if policy.unsigned is None:
            raise errors.SignatureError(
                f"signature: the job has none, and this host runs signed jobs only; rule submitters = {SIGNED!r}: "
                "submit it with celery-docker on a host of this queue, as root or a member of group celery, or "
                "through celery-docker-api"
            )
        return policy.unsigned
    own = [name for name in policy.sections if name == submitter.name]
    of_groups = [name for name in policy.sections if name.startswith("@") and name[1:] in groups]
    return next((policy.sections[name] for name in (*own, *of_groups)), policy)


def violations(policy: Policy, request: Request) -> list[str]:
    """Return every rule the request breaks and all that this host lacks, one line each; an empty list is a yes."""
    problems = _image(policy, request) + _user(policy, request) + _network(policy, request)
    problems += _groups(policy, request) + _capabilities(policy, request) + _platform(policy, request)
    problems += _notify(policy, request)
    problems += _ceilings(policy, request) + _ulimits(policy, request)
    problems += _gpus(policy, request) + _devices(policy, request)
    for path in request.mounts:
        problems += _under(path, policy.mounts, policy.rule("mounts")) or _never(path, request.sockets)
    for path in request.logs:
        problems += _under(path, policy.mounts + policy.logs, policy.rule("mounts", "logs"))
    return [*problems, *request.problems]


def pull_violations(policy: Policy, image: str, platform: str | None, own_platform: str) -> list[str]:
    """Return every rule that a pull before any job breaks; an empty list is a yes."""
    request = Request(image, platform=platform, own_platform=own_platform)
    return _image(policy, request) + _platform(policy, request)


def _image(policy: Policy, request: Request) -> list[str]:
    if imagerules.allows(policy.images, request.image):
        return []
    return [f"image: {request.image!r} is not allowed on this host; {policy.rule('images')}"]


def _user(policy: Policy, request: Request) -> list[str]:
    who, rule = request.submitter, policy.rule("users")
    if policy.self_only and who is not None and who.uid != 0 and not request.is_self:
        return [
            f"user: {request.user!r} is not {who.name}, who submitted the job; "
            f"rule submitters = {policy.submitters!r}: submitter.{who.name}.users could name others"
        ]
    if userrules.ANY in policy.users:
        return []
    if request.user is None:
        return [f"user: a job has to name its user on this host; {rule}"]
    asked = userrules.Asked(request.user, request.uid, request.user_name, request.has_own_group, request.is_self)
    if userrules.allow(policy.users, asked):
        return []
    return [f"user: {request.user!r} is not allowed on this host; {rule}"]


def _network(policy: Policy, request: Request) -> list[str]:
    if request.network is None or request.network in policy.networks:
        return []
    return [f"network: {request.network!r} is not allowed on this host; {policy.rule('networks')}"]


def _groups(policy: Policy, request: Request) -> list[str]:
    return [
        f"group_add: {asked.user!r} is not allowed on this host; {policy.rule('groups')}"
        for asked in request.groups
        if userrules.ANY not in policy.groups and not userrules.allow(policy.groups, asked)
    ]


def _capabilities(policy: Policy, request: Request) -> list[str]:
    return [
        f"cap_add: {name!r} is not allowed on this host; {policy.rule('capabilities')}"
        for name in request.capabilities
        if name not in privilegekinds.EVERYBODYS_CAPABILITIES and name not in policy.capabilities
    ]


def _platform(policy: Policy, request: Request) -> list[str]:
    platform = request.platform
    is_own = platform is not None and f"{platform}/".startswith(f"{request.own_platform}/")
    if platform is None or platform in policy.platforms or (is_own and OWN_PLATFORM in policy.platforms):
        return []
    rule = policy.rule("platforms")
    return [f"platform: {platform!r} is not allowed on this host, which is {request.own_platform}; {rule}"]


def _gpus(policy: Policy, request: Request) -> list[str]:
    if request.gpus is None or policy.gpus:
        return []
    return [f"gpus: a job may have none on this host; rule {policy.origins.get('gpus', '')}gpus = false"]


def _devices(policy: Policy, request: Request) -> list[str]:
    problems = []
    for path, node in request.devices.items():
        if not devices.allows(policy.devices, path):
            problems.append(f"device: {path!r} is not allowed on this host; {policy.rule('devices')}")
        elif node is not None and (reason := devices.never(node)):
            problems.append(f"device: {path!r} {reason}, and no rule gives that to a job")
    return problems


def _notify(policy: Policy, request: Request) -> list[str]:
    return [
        f"notify: {target!r} is not allowed on this host; {policy.rule('notify')}"
        for target in request.notify
        if not noticetargets.allows(policy.notify, target)
    ]


def _ceilings(policy: Policy, request: Request) -> list[str]:
    limits, origin = policy.limits, policy.origins.get("limits", "")
    problems = []
    ceiling = limits.memory_bytes
    sizes_ = [("memory", request.memory_bytes), ("shm_size", request.shm_bytes)]
    sizes_ += [(f"tmpfs: {path!r}", tmpfskinds.size_of_tmpfs(options)) for path, options in request.tmpfs.items()]
    for name, size in sizes_:
        if size is not None and ceiling is not None and size > ceiling:
            rule = f"rule {origin}limits.memory = {sizes.shown(ceiling)}"
            problems.append(f"{name}: {sizes.shown(size)} is more than this host allows; {rule}")
    if request.cpus is not None and limits.cpus is not None and request.cpus > limits.cpus:
        problems.append(f"cpus: {request.cpus} is more than this host allows; rule {origin}limits.cpus = {limits.cpus}")
    if request.pids is not None and request.pids > limits.pids:
        rule = f"rule {origin}limits.pids = {limits.pids}"
        problems.append(f"pids_limit: {request.pids} is more than this host allows; {rule}")
    return problems


def _ulimits(policy: Policy, request: Request) -> list[str]:
    return [
        f"ulimits: {name}={limit} is not allowed on this host; {policy.rule('ulimits')}"
        for name, limit in request.ulimits.items()
        if not any(_allows_ulimit(rule, name, limit) for rule in policy.ulimits)
    ]


def _allows_ulimit(rule: str, name: str, limit: str) -> bool:
    """Tell whether a rule, NAME or NAME=MOST, allows a limit; without a number it allows any."""
    rule_name, _, most = rule.partition("=")
    _, hard = limitkinds.ulimit_of(limit)
    return rule_name == name and (not most or limitkinds.UNLIMITED < hard <= int(most))


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
    return [f"{path.field}: {path.path!r}{resolved} is outside what this host allows; {rule}"]


def _is_under(path: str, root: str) -> bool:
    return PurePosixPath(path).is_relative_to(root)
