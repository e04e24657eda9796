"""Submitting and finding jobs from Python: needs Redis or the gateway, neither Celery nor Docker.

Owns what a submitter does: the record is written before a worker can see the message, in one step. A module that a
submission to Redis does not need is imported where it is needed, since that takes longer than to submit a job. The
examples of the docstrings are run as tests, with `client = Client()`.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

from celery_docker import errors
from celery_docker.client import batchlogs, configfiles, documents, usertoken
from celery_docker.client.direct import Direct
from celery_docker.client.handles import Batch, Job, Progress
from celery_docker.client.ports import Queries, Way
from celery_docker.core import batch, batchinputs, gatewayurl, jobspec, redisurl
from celery_docker.core.access import Identity
from celery_docker.core.batch import Expanded
from celery_docker.core.jobspec import JobSpec
from celery_docker.store import livelog
from celery_docker.store.jobstore import Store
from celery_docker.store.refused import RefusedMessages

if TYPE_CHECKING:
    from celery_docker.client.images import HostImages
    from celery_docker.store.figurequeries import FigureQueries

Template = Mapping[str, Any] | Callable[[Any], JobSpec | Mapping[str, Any]]


class Client:
    """A client that submits and finds jobs. `url` is the broker's; without one, that of the command line is used.

    With `https://HOST` it asks celery-docker-api there, by the token of the command line.

    >>> job = client.submit("busybox", ["echo", "hello"])
    >>> print(job.wait())
    succeeded

    Every call raises `StoreAway` if Redis does not answer and `StoreRefused` if it does not let us in; what waits for
    jobs waits for Redis too, once it has answered. A client may be used from several threads.
    """

    def __init__(self, url: str | None = None) -> None:
        self._given_url = url

    def submit(
        self,
        image: str | JobSpec,
        command: str | Sequence[str] | None = None,
        *,
        expires_s: float | None = None,
        before: Callable[[str], object] | None = None,
        **fields: Any,
    ) -> Job:
        """Queue a job and return its handle. `fields` are those of a job document; a `JobSpec` may stand for the image.

        >>> job = client.submit("busybox", "md5sum /etc/passwd", name="sum", memory="64m", priority=3)
        >>> print(job.wait())
        succeeded
        >>> later = client.submit("busybox", ["true"], after=[job])

        A job that no host could start within `expires_s` seconds ends as `expired`. `before` is called with the job's
        id before the job is queued. Raises `SpecError`, and `NoSuchJob`
        if a job it is to run `after` is not known.
        """
        document = {**(image.to_kwargs() if isinstance(image, JobSpec) else {"image": image}), **fields}
        if command is not None:
            document["command"] = command
        spec, options = documents.parsed(document)
        if expires_s is not None:
            options = replace(options, expires=expires_s)
        return Job(self, self._way.submit(spec, options, before))

    def map(
        self,
        template: Template,
        inputs: Iterable[Any],
        *,
        limit: int | None = None,
        name: str | None = None,
        progress: Progress | None = None,
    ) -> Batch:
        """Queue a job for each input, at most `limit` of them running at a time, and return the batch.

        A template is a job document with placeholders, as for `celery-docker batch`: `{}` is the input, `{/}` its last
        part, `{.}` it without extension, `{#}` its number. Or it is a function that makes a document of an input.

        >>> made = client.map({"image": "busybox", "command": "echo {} {/}"}, ["/data/a.txt", "/data/b.txt"], limit=1)
        >>> [receipt["output"] for receipt in made.results()]
        ['/data/a.txt a.txt\\n', '/data/b.txt b.txt\\n']

        Without `{}` in it, the input is mounted as the job's `inputpath`.

        Raises `BatchError`, with the problems of all jobs of a template, before any is queued.
        """
        if callable(template):
            jobs = documents.expanded([template(value) for value in inputs])
        else:
            jobs = batch.expand(
                batch.with_default_input(template), batchinputs.from_paths([str(value) for value in inputs])
            )
        return self.submit_batch(jobs, limit=limit, name=name, progress=progress)

    def submit_batch(
        self,
        jobs: Sequence[Expanded],
        *,
        limit: int | None = None,
        name: str | None = None,
        about: Mapping[str, str] | None = None,
        progress: Progress | None = None,
    ) -> Batch:
        """Queue the jobs that `batch.expand` has made of a template, and return them as a batch.

        >>> from celery_docker import batch, rows
        >>> numbers, limit = rows.from_array("1-3%2")
        >>> made = client.submit_batch(batch.expand({"image": "busybox", "command": "echo {}"}, numbers), limit=limit)
        >>> [receipt["output"] for receipt in made.results()]
        ['1\\n', '2\\n', '3\\n']

        `about` is stored with the batch, for those who look for it later. Raises `BatchError` if jobs share a log file.
        """
        batchlogs.check(jobs)
        return Batch(self, self._way.submit_batch(jobs, limit, name, about or {}), progress)

    def job(self, job_id: str) -> Job:
        """Return the handle of a job, by its id or the beginning of it.

        >>> job = client.submit("busybox", "true")
        >>> client.job(job.id[:13]).id == job.id
        True

        Raises `NoSuchJob` or `AmbiguousId`.
        """
        return Job(self, self.queries.jobs.resolve(job_id))

    def batch(self, batch_id: str, *, progress: Progress | None = None) -> Batch:
        """Return the handle of a batch, by its id or the beginning of it.

        >>> made = client.map(lambda n: {"image": "busybox", "command": ["echo", str(n)]}, range(2))
        >>> client.batch(made.id).id == made.id
        True

        Raises `NoSuchJob` or `AmbiguousId`.
        """
        return Batch(self, self.queries.batches.resolve(batch_id), progress)

    def cancel(self, job_id: str | Job, *, reason: str = "") -> str:
        """Cancel a job wherever it is: queued, waiting or running; return the state it was in.

        The cancel is stored in Redis when this returns; the job is cancelled once its container is gone. A job that
        has ended stays as it is. `unknown` means that there is no record: nothing will run under this id.

        >>> job = client.submit("busybox", "sleep 100")
        >>> before = client.cancel(job)
        >>> print(job.wait())
        cancelled
        """
        return self.cancel_many([str(job_id)], reason=reason)[0]

    def cancel_many(self, job_ids: Sequence[str], *, reason: str = "") -> list[str]:
        """Cancel many jobs; return the state that each was in, in the order given.

        The last is cancelled first: otherwise the end of one job would start the next, which waits for it, in vain.

        >>> jobs = [client.submit("busybox", "sleep 100") for _ in range(2)]
        >>> before = client.cancel_many([job.id for job in jobs], reason="a wrong input")
        >>> for job in jobs:
        ...     print(job.wait(), job.receipt["reason"])
        cancelled a wrong input
        cancelled a wrong input
        """
        checked = [jobspec.check_job_id(job_id) for job_id in job_ids]
        reason = reason or f"cancelled from host {socket.gethostname()}"
        return self._way.cancel_many(checked, reason)

    def retry(self, job_id: str | Job) -> Job:
        """Queue a job that has ended once more, under a new id; in its batch it takes the place of the old one.

        >>> failed = client.submit("busybox", "cat /nothing", retries=0)
        >>> print(failed.wait())
        failed
        >>> client.retry(failed).id != failed.id
        True

        Raises `NoSuchJob` and, while the job has not ended, `NotEnded`.
        """
        return self.retry_many([str(job_id)])[0]

    def retry_many(self, job_ids: Sequence[str]) -> list[Job]:
        """Queue many jobs that have ended once more, as `retry` does.

        >>> first = client.submit("busybox", "true")
        >>> print(first.wait())
        succeeded
        >>> for again in client.retry_many([first.id]):
        ...     print(again.wait())
        succeeded
        """
        return [Job(self, new_id) for new_id in self._way.retry_many(job_ids)]

    def drain(self, host: str, reason: str) -> None:
        """Keep a host from taking jobs; those that run on it go on.

        >>> client.drain("node7", "a new disk")
        >>> client.resume("node7")
        True
        """
        redis = self._redis("drain")
        redis.store.drain(host, f"{redis.builder.name}: {reason}")

    def resume(self, host: str) -> bool:
        """Let a host take jobs again; False if nobody kept it from that.

        >>> client.resume("node8")
        False
        """
        return self._redis("resume").store.resume(host)

    def logs_of(self, job_id: str, **options: Any) -> livelog.Reader:
        """Return a reader of a job's output; `Job.logs` is made of it.

        >>> job = client.submit("busybox", "echo hello")
        >>> [piece.data for piece in client.logs_of(job.id).follow()]
        [b'hello\\n']
        """
        return livelog.Reader(self._way.log, job_id, **options)

    def close(self) -> None:
        """Close the connections.

        >>> from celery_docker import Client
        >>> Client().close()
        """
        if "_way" in self.__dict__:
            self.__dict__.pop("_way").close()

    def documents(self, job_ids: Sequence[str]) -> list[dict[str, Any]]:
        """Return all that is known of jobs, for programs. Raises `NoSuchJob`.

        >>> job = client.submit("busybox", "true")
        >>> [document["image"] for document in client.documents([job.id])]
        ['busybox']
        """
        return self._way.documents(job_ids)

    def summary(self, queue: str) -> dict[str, Any]:
        """Return how much there is to do, and who does it, for programs; `queue` is named in it also where it is empty.

        >>> client.summary("celery")["workers"]
        {'ready': 1}
        """
        return self._way.summary(queue)

    def submitter(self) -> Identity | None:
        """Return the user of this client as the gateway knows him, who has its jobs run as him; None with Redis.

        >>> (client.submitter() is None) == client.url.startswith("redis")
        True
        """
        return self._way.submitter()

    @cached_property
    def url(self) -> str:
        """The address of Redis, or of the gateway, in use."""
        return self._given_url if self._given_url is not None else configfiles.read(os.environ, {}).broker_url

    @property
    def store(self) -> Store:
        """The writer of records; raises `NotAllowed` where the gateway is in use."""
        return self._redis("this").store

    @property
    def refused(self) -> RefusedMessages:
        """Messages that no worker could run; raises `NotAllowed` where the gateway is in use.

        >>> client.refused.count()
        0
        """
        return RefusedMessages(self._redis("queue refused").store.link)

    @property
    def images(self) -> HostImages:
        """Images of the hosts; raises `NotAllowed` where the gateway is in use.

        >>> client.images.reports(["no-such-host"])
        {}
        """
        from celery_docker.client.images import HostImages
        from celery_docker.store.imagestore import ImageStore

        return HostImages(ImageStore(self._redis("images").store.link))

    @property
    def figures(self) -> FigureQueries:
        """Figures of all hosts and queues; raises `NotAllowed` where the gateway is in use.

        >>> client.figures.read().delayed
        0
        """
        from celery_docker.store.figurequeries import FigureQueries

        return FigureQueries(self._redis("metrics").store.link)

    @property
    def queries(self) -> Queries:
        """The reader of jobs, batches, queues and workers."""
        return self._way.queries

    @cached_property
    def _way(self) -> Way:
        if not gatewayurl.is_gateway(self.url):
            return Direct(self.url)
        from celery_docker.client.remote import Remote

        try:
            url = gatewayurl.parse(self.url)
        except ValueError as exc:
            raise errors.SettingsError(f"{redisurl.masked(self.url)}: {exc}") from exc
        return Remote(url, usertoken.read(os.environ).secret if gatewayurl.needs_token(url) else "")

    def _redis(self, what: str) -> Direct:
        way = self._way
        if isinstance(way, Direct):
            return way
        from celery_docker.client.remotequeries import needs_redis

        needs_redis(what)
