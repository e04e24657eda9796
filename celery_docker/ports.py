"""What the runner asks of the world, declared where it is asked. No adapter is imported here but for its values."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any, Protocol, Self

from celery_docker import lifecycle, plan
from celery_docker.container import Container, Frame, Usage
from celery_docker.job import Job
from celery_docker.store import ANY_TIME, Claim, Taken, Term


class LogStream(Protocol):
    """A container's output as it comes; ends when the container's streams do, or the connection."""

    def __iter__(self) -> Iterator[Frame]: ...
    def __enter__(self) -> Self: ...
    def __exit__(self, *exc: Any) -> None: ...


class Engine(Protocol):
    """What is asked of Docker. Every call but `stop` ends in bounded time, with a `HostError` if it must."""

    def is_up(self) -> bool: ...
    def inspect(self, name: str) -> Container | None: ...
    def create(self, plan: plan.ContainerPlan) -> str: ...
    def pull(self, image: str, *, needed: Callable[[], bool]) -> None: ...
    def digest(self, image_id: str) -> str | None: ...
    def attach(self, container_id: str) -> LogStream: ...
    def replay(self, container_id: str) -> LogStream: ...
    def start(self, container_id: str) -> None: ...
    def ended(self, container_id: str, *, within_s: float) -> bool: ...
    def stop(self, container_id: str, *, signal: str | None = None, grace_s: int) -> None: ...
    def remove(self, container_id: str) -> None: ...
    def usage(self, c: Container) -> Usage: ...


class Records(Protocol):
    """What is asked of the job records."""

    def claim(
        self,
        job_id: str,
        *,
        host: str,
        queue: str,
        envelope: Mapping[str, Any],
        taken: Taken | None = None,
        term: Term = ANY_TIME,
    ) -> Claim: ...
    def owned(self, host: str) -> Mapping[str, Mapping[str, Any] | None]: ...
    def update(
        self,
        job_id: str,
        *,
        host: str,
        fence: int,
        queue: str,
        envelope: Mapping[str, Any],
        values: Mapping[str, str | int | float],
    ) -> None: ...
    def finish(
        self, job_id: str, *, host: str, fence: int, state: lifecycle.State, receipt: Mapping[str, Any]
    ) -> None: ...
    def requeue(
        self,
        job_id: str,
        *,
        host: str,
        fence: int,
        delay_s: float,
        queue: str,
        envelope: Mapping[str, Any],
        tally: lifecycle.Tally,
        attempts: tuple[Mapping[str, Any], ...],
    ) -> None: ...
    def cancel(self, job_id: str, *, reason: str) -> str: ...
    def settle(self, job_id: str, *, host: str, retention_s: int) -> None: ...


class LogFile(Protocol):
    """The open log files of one attempt."""

    def write(self, frame: Frame) -> None: ...
    def __enter__(self) -> Self: ...
    def __exit__(self, *exc: Any) -> None: ...


class Logs(Protocol):
    """Opens log files."""

    def open(self, job_id: str, attempt: int, out: str | None, err: str | None) -> LogFile: ...
    def resume(self, job_id: str, attempt: int, out: str | None, err: str | None) -> LogFile: ...
    def forget(self, job_id: str) -> None: ...


class Broadcaster(Protocol):
    """Tells those who watch what a job has printed."""

    def last_words(self, job: Job) -> None: ...


class Announcer(Protocol):
    """Tells Celery's result backend what a client may see before the end."""

    def started(self, meta: Mapping[str, Any]) -> None: ...
    def retrying(self, reason: str) -> None: ...
