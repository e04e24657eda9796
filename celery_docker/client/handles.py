"""A job and a batch as their submitter holds them: by id alone; all else is asked of Redis when it is wanted."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from celery_docker import errors
from celery_docker.client.outages import Outages
from celery_docker.client.ports import Queries
from celery_docker.core import wording
from celery_docker.core.container import Stream
from celery_docker.core.lifecycle import FAILURES, State
from celery_docker.core.receipt import Receipt
from celery_docker.store import livelog

# Called with the number of jobs in each state, and of all of them.
Progress = Callable[[Mapping[str, int], int], object]

_FIRST_PAUSE_S, _LONGEST_PAUSE_S = 0.05, 0.5


class ClientPort(Protocol):
    """The calls that a handle makes of its client."""

    @property
    def queries(self) -> Queries: ...
    def cancel(self, job_id: str | Job, *, reason: str = "") -> str: ...
    def cancel_many(self, job_ids: Sequence[str], *, reason: str = "") -> list[str]: ...
    def retry(self, job_id: str | Job) -> Job: ...
    def retry_many(self, job_ids: Sequence[str]) -> list[Job]: ...
    def logs_of(self, job_id: str, **options: Any) -> livelog.Reader: ...


@dataclass(frozen=True)
class Job:
    """A job that was submitted. Printed, it is its id.

    >>> job = client.submit("busybox", ["echo", "hello"])
    >>> print(job.wait(), job.result()["output"])
    succeeded hello
    <BLANKLINE>
    """

    client: ClientPort = field(repr=False, compare=False)
    id: str

    def __str__(self) -> str:
        return self.id

    @property
    def state(self) -> State:
        """Where the job is now; raises `NoSuchJob` where Redis does not know it (any more).

        >>> client.submit("busybox", "true").state.is_final
        False
        """
        ((state,),) = self.client.queries.jobs.fields([self.id], "state")
        if state is None:
            raise errors.NoSuchJob(f"no job has the id {self.id!r}; list the jobs with: celery-docker ps --all")
        return State(state)

    @property
    def receipt(self) -> dict[str, Any] | None:
        """All that is known of how the job ended; None while it has not.

        >>> job = client.submit("busybox", "true")
        >>> print(job.wait(), job.receipt["exit_code"])
        succeeded 0
        """
        return self.client.queries.jobs.receipt(self.id)

    def wait(self, timeout: float | None = None) -> State:
        """Return the state in which the job ends, as soon as it does; `timeout` is in seconds.

        >>> print(client.submit("busybox", "false", retries=0).wait(timeout=60))
        failed

        Raises `NotEnded` after the timeout.
        """
        outages = Outages()
        for _ in _turns(timeout):
            with outages:
                state = self.state
                if state.is_final:
                    return state
        raise errors.NotEnded(f"job {self.id} has not ended within {timeout} s; wait longer, or cancel it")

    def result(self, timeout: float | None = None) -> dict[str, Any]:
        """Wait for the job and return its receipt.

        >>> client.submit("busybox", "cat /etc/hostname").result()["exit_code"]
        0

        Raises `JobFailed` if it ends without success, and `NotEnded` after the timeout.
        """
        self.wait(timeout)
        ended = Outages(has_answered=True).answer(lambda: self.receipt)
        if ended is None:
            raise errors.NoSuchJob(f"the record of job {self.id} is gone; it was kept for the time set on the workers")
        if ended["state"] != State.SUCCEEDED:
            raise errors.JobFailed(Receipt.from_dict(ended).failure_line())
        return ended

    def logs(
        self, follow: bool = False, *, lines: int | None = None, streams: Collection[Stream] = livelog.BOTH
    ) -> Iterator[livelog.Output]:
        """Yield what the job has printed, or its last `lines`; with `follow` go on until it has ended.

        >>> for piece in client.submit("busybox", "echo hello").logs(follow=True):
        ...     print(piece.stream.name, piece.data)
        STDOUT b'hello\\n'

        Redis keeps the last 256 KiB; `gap_bytes` of a piece says how much of its stream before it is not there.
        """
        reader = self.client.logs_of(self.id, streams=streams)
        if not follow:
            return reader.so_far(lines=lines)
        outages = Outages()
        outages.answer(lambda: self.state)
        return outages.each(lambda: reader.follow(lines=lines))

    def cancel(self, reason: str = "") -> str:
        """Cancel the job wherever it is; return the state it was in.

        >>> job = client.submit("busybox", "sleep 100")
        >>> before = job.cancel()
        >>> print(job.wait())
        cancelled
        """
        return self.client.cancel(self.id, reason=reason)

    def retry(self) -> Job:
        """Queue the job once more, under a new id; raises `NotEnded` while it has not ended.

        >>> job = client.submit("busybox", "true")
        >>> print(job.wait(), job.retry().wait())
        succeeded succeeded
        """
        return self.client.retry(self.id)


@dataclass(frozen=True)
class Batch:
    """Jobs that were submitted together. Iterate over it to have each job as it ends.

    >>> made = client.map(lambda n: {"image": "busybox", "command": ["echo", str(n)]}, range(3), limit=2)
    >>> sorted(job.receipt["output"] for job in made)
    ['0\\n', '1\\n', '2\\n']
    """

    client: ClientPort = field(repr=False, compare=False)
    id: str
    progress: Progress | None = field(default=None, repr=False, compare=False)

    def __str__(self) -> str:
        return self.id

    def __iter__(self) -> Iterator[Job]:
        return self.as_completed()

    def jobs(self) -> list[Job]:
        """Return the jobs in the order of their inputs; where one was tried again, the latest.

        >>> len(client.map(lambda n: {"image": "busybox", "command": "true"}, range(2)).jobs())
        2
        """
        return [Job(self.client, job_id) for job_id in self.client.queries.batches.job_ids(self.id)]

    def counts(self) -> Mapping[str, int]:
        """Return how many jobs are in which state.

        >>> made = client.map(lambda n: {"image": "busybox", "command": "true"}, range(2))
        >>> made.wait()
        {'succeeded': 2}
        >>> made.counts()
        {'succeeded': 2}
        """
        return self.client.queries.batches.row(self.id).counts

    def as_completed(self, timeout: float | None = None) -> Iterator[Job]:
        """Yield each job as it ends; those that have ended come first.

        >>> for job in client.map(lambda n: {"image": "busybox", "command": "true"}, range(2)).as_completed():
        ...     print(job.state)
        succeeded
        succeeded

        Raises `NotEnded` after the timeout.
        """
        yield from self._ended(Outages().answer(self._job_ids), timeout)

    def _job_ids(self) -> list[str]:
        return [job.id for job in self.jobs()]

    def _ended(self, going: Sequence[str], timeout: float | None) -> Iterator[Job]:
        """Yield each of these jobs as it ends."""
        outages = Outages(has_answered=True)
        total, ended = len(going), Counter[str]()
        for _ in _turns(timeout):
            answers = None
            with outages:
                answers = self.client.queries.jobs.fields(going, "state")
            if answers is None:
                continue
            rows = zip(going, answers, strict=True)
            states = {job_id: State(state) for job_id, (state,) in rows if state is not None}
            # A record that is gone has ended long ago.
            just_ended = [job_id for job_id in going if job_id not in states or states[job_id].is_final]
            ended.update(states[job_id].value for job_id in just_ended if job_id in states)
            going = [job_id for job_id in going if job_id in states and not states[job_id].is_final]
            if self.progress is not None:
                self.progress(ended + Counter(states[job_id].value for job_id in going), total)
            yield from (Job(self.client, job_id) for job_id in just_ended)
            if not going:
                return
        count = f"{len(going):,} of {wording.counted(total, 'job')}"
        raise errors.NotEnded(f"not ended within {timeout} s: {count}; wait longer")

    def wait(self, timeout: float | None = None) -> dict[str, int]:
        """Wait until all jobs have ended; return how many ended in which state.

        >>> client.map(lambda n: {"image": "busybox", "command": "true"}, range(2)).wait()
        {'succeeded': 2}

        Raises `NotEnded` after the timeout.
        """
        for _ in self.as_completed(timeout):
            pass
        return dict(Outages(has_answered=True).answer(self.counts))

    def results(self, timeout: float | None = None) -> list[dict[str, Any]]:
        """Wait until all jobs have ended and return their receipts, in the order of the inputs.

        >>> made = client.map(lambda n: {"image": "busybox", "command": ["echo", n]}, ["a", "b"])
        >>> [receipt["output"] for receipt in made.results()]
        ['a\\n', 'b\\n']

        Raises `NotEnded` after the timeout, and `NoSuchJob` where the record of a job is gone: what is there would be
        taken for other jobs' then. A job that failed raises nothing here.
        """
        # One that somebody runs again meanwhile has ended all the same.
        job_ids = Outages().answer(self._job_ids)
        for _ in self._ended(job_ids, timeout):
            pass
        answers = Outages(has_answered=True).answer(lambda: self.client.queries.jobs.receipts(job_ids))
        receipts = [receipt for receipt in answers if receipt is not None]
        if len(receipts) < len(job_ids):
            count = f"{len(job_ids) - len(receipts):,} of {wording.counted(len(job_ids), 'job')}"
            raise errors.NoSuchJob(f"the records of {count} are gone; ask each of jobs() for its receipt")
        return receipts

    def failed(self) -> list[Job]:
        """Return the jobs that have ended without success so far; what was cancelled is not among them.

        >>> made = client.map(lambda n: {"image": "busybox", "command": ["test", n], "retries": 0}, ["", "x"])
        >>> made.wait() == {"failed": 1, "succeeded": 1}
        True
        >>> [job.receipt["exit_code"] for job in made.failed()]
        [1]
        """
        failed = self.client.queries.batches.each_job(self.id, "state", states=FAILURES)
        return [Job(self.client, job_id) for job_id, _ in failed]

    def retry_failed(self) -> list[Job]:
        """Queue the failed jobs once more, each under a new id in the place of the old one.

        >>> made = client.map(lambda n: {"image": "busybox", "command": "false", "retries": 0}, range(2))
        >>> made.wait()
        {'failed': 2}
        >>> for job in made.retry_failed():
        ...     print(job.wait())
        failed
        failed
        """
        return self.client.retry_many([job.id for job in self.failed()])

    def cancel(self, reason: str = "") -> list[str]:
        """Cancel all jobs that have not ended; return the state that each was in, in the order of the inputs.

        >>> made = client.map(lambda n: {"image": "busybox", "command": "sleep 100"}, range(3), limit=1)
        >>> before = made.cancel()
        >>> made.wait()
        {'cancelled': 3}
        """
        return self.client.cancel_many([job.id for job in self.jobs()], reason=reason)


def _turns(timeout_s: float | None) -> Iterator[None]:
    """Yield at growing intervals, once at least, until the time is over."""
    deadline = None if timeout_s is None else time.monotonic() + timeout_s
    pause_s = _FIRST_PAUSE_S
    while True:
        yield
        left_s = _LONGEST_PAUSE_S if deadline is None else deadline - time.monotonic()
        if left_s <= 0:
            return
        time.sleep(min(pause_s, left_s))
        pause_s = min(pause_s * 1.5, _LONGEST_PAUSE_S)
