"""The facts about Redis, the hosts and this host that `doctor` judges. Pure values; an unknown one is None."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from celery_docker.core.admission import Offer
from celery_docker.core.policy import Policy
from celery_docker.core.waiting import Wait
from celery_docker.store.notices import FailedNotices


@dataclass(frozen=True)
class Worker:
    """A host that takes jobs: how long ago it was heard, by how much its clock is ahead, and what it runs.

    `version` is that of the process, since its start; `machine` the id of the computer, `unit` the worker's service,
    `offer` what it offers to jobs.
    """

    host: str
    heard_s: float
    ahead_s: float | None = None
    version: str | None = None
    machine: str | None = None
    unit: str = "celery-worker"
    offer: Offer | None = None


@dataclass(frozen=True)
class StuckQueue:
    """A queue in which jobs wait and that no host takes jobs from, and why."""

    name: str
    jobs: int
    wait: Wait


@dataclass(frozen=True)
class Redis:
    """The facts about Redis. `problem`: why it could not be asked. `is_open`: it answers without a password.

    `bind` are the addresses that it listens on, `save` its rule for snapshots, `log_sync` when its append-only file is
    on the disk (appendfsync); `ahead_s`: this host's clock.
    `refused` messages are put aside; `last_refusal` is the reason of the latest. `notices` wait after a failure.
    """

    where: str
    problem: str = ""
    is_local: bool = True
    is_open: bool | None = None
    bind: str | None = None
    is_protected: bool | None = None
    has_log: bool | None = None
    log_sync: str | None = None
    save: str | None = None
    last_save_failed: bool | None = None
    eviction: str | None = None
    used_bytes: int | None = None
    most_bytes: int | None = None
    ahead_s: float | None = None
    workers: tuple[Worker, ...] | None = None
    refused: int | None = None
    last_refusal: str = ""
    stuck: tuple[StuckQueue, ...] = ()
    notices: FailedNotices = field(default_factory=FailedNotices)


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
