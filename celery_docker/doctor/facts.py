"""The facts that `doctor` judges: about this host, its tokens, and Redis. Pure values; an unknown one is None."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from celery_docker.core.admission import Offer
from celery_docker.core.policy import Policy
from celery_docker.core.redishealth import Redis


@dataclass(frozen=True)
class Disk:
    """The file system that a folder is on."""

    path: str
    total_bytes: int
    free_bytes: int


@dataclass(frozen=True)
class DockerFacts:
    """The facts about Docker. `problem`: why it could not be asked; `is_denied`: this user may not ask.

    `cdi_folders` are those in which it looks for devices of CDI; none: it has no CDI.
    """

    where: str
    problem: str = ""
    is_denied: bool = False
    version: str = ""
    api: str = ""
    has_live_restore: bool | None = None
    cdi_folders: tuple[str, ...] = ()


@dataclass(frozen=True)
class Gpus:
    """The GPUs that jobs can have here, and why those or none; `problems` are what hides some."""

    names: tuple[str, ...]
    reason: str
    problems: tuple[str, ...] = ()


@dataclass(frozen=True)
class Unit:
    """A worker's service as systemd sees it, by the name that systemctl is told, and the last lines of its log.

    `restarts`: how often systemd has started it again by itself, since somebody last started it.
    """

    name: str
    active: str
    sub: str
    log: tuple[str, ...] = ()
    restarts: int = 0


# The subjects of files of secrets.
NOTICES, LOGINS = "notices", "registries"


@dataclass(frozen=True)
class SecretFile:
    """A file of secrets that workers read when a job needs it: the `names` in it, or why there are none (`failure`).

    `is_denied`: this user may not read it; `is_closed`: the workers may not; `is_public`: others may.
    """

    subject: str
    path: str
    names: tuple[str, ...] = ()
    failure: str = ""
    is_denied: bool = False
    is_closed: bool = False
    is_public: bool = False


@dataclass(frozen=True)
class Host:
    """The facts about a host that runs jobs; `machine` is the id of the computer. It has a unit for each worker.

    `python` is the name of the interpreter that the package runs on, `debian_python` of that of this release of Debian;
    `policy` are its rules, `capacity` its CPUs and memory, `files` those of secrets.
    """

    units: tuple[Unit, ...]
    docker: DockerFacts
    disks: tuple[Disk, ...] = ()
    is_in_docker_group: bool | None = None
    machine: str | None = None
    python: str | None = None
    debian_python: str | None = None
    policy: Policy | None = None
    has_opener: bool | None = None
    gpus: Gpus | None = None
    capacity: Offer | None = None
    files: tuple[SecretFile, ...] = ()


@dataclass(frozen=True)
class Tokens:
    """The tokens of users on other hosts: the account of each by its id, and those whose account is not there.

    `problems` are those of their file, `failure` why it cannot be used; `is_denied`: this user may not read it.
    `is_listening`: the socket over TCP, to which they are shown, is on.
    """

    is_listening: bool | None = None
    accounts: Mapping[str, str] = field(default_factory=dict)
    strangers: frozenset[str] = frozenset()
    problems: tuple[str, ...] = ()
    failure: str = ""
    is_denied: bool = False


@dataclass(frozen=True)
class Facts:
    """All that was gathered; no `host` where none of the jobs run on this one.

    `version` is that of this command, hence the one installed here; `closed` are the files of settings that this user
    may not read.
    """

    redis: Redis
    host: Host | None = None
    version: str = ""
    closed: tuple[str, ...] = ()
    tokens: Tokens = Tokens()
