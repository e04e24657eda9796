"""The facts about Redis and the hosts that report to it, which `redischecks` judges. An unknown one is None. Pure."""

from __future__ import annotations

from dataclasses import dataclass, field

from celery_docker.core.admission import Offer
from celery_docker.core.waiting import Wait


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
class FailedNotices:
    """The notices that wait after a failure: how many, and their targets, as far as the records still say them.

    `is_more`: there are so many notices that some were not looked at.
    """

    count: int = 0
    targets: tuple[str, ...] = ()
    is_more: bool = False


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
