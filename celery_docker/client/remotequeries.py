"""Questions about jobs, batches and hosts, asked of a gateway: the same rows as from Redis."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, NoReturn

from celery_docker import errors
from celery_docker.client import remoterows, understood
from celery_docker.client.httpsocket import HttpSocket
from celery_docker.core.lifecycle import State
from celery_docker.core.receipt import Receipt
from celery_docker.core.waiting import Wait
from celery_docker.store.jobfilter import ALL, JobFilter
from celery_docker.store.listing import BatchRow, JobRow, Load, Match, WorkerRow

_ROWS_AT_ONCE = 500
_STATES_AT_ONCE = 200
_IDS_AT_ONCE = 100
_STATES = list[str | None]
# The jobs that have not ended, in the order of a listing; and those that a host has taken since.
_LIVE = ((State.RUNNING, State.STARTING), (State.QUEUED,), (State.RUNNING, State.STARTING))
# The order of a batch.
_BY_NUMBER = "number"
# Without its jobs, which may be many.
_BATCH_FIELDS = "id,name,submitted_at,size,limit,submitted_by,counts,uid"
# What listings have under another name than records.
_OTHER_NAMES = {"owner": "host", "batch": "batch_id", "pending": "waits_for"}


def needs_redis(what: str) -> NoReturn:
    """Raise `NotAllowed` for what only an administrator can do, with the URL of Redis."""
    raise errors.NotAllowed(
        f"{what}: not through celery-docker-api; an administrator does it with sudo on a host of the queue, "
        "or with --broker redis://..."
    )


@understood.questions
@dataclass(frozen=True)
class RemoteJobs:
    """Questions about jobs and queues; `waits` has those of the jobs that were listed last."""

    http: HttpSocket
    waits: dict[str, Wait] = field(default_factory=dict)

    def rows(self, job_ids: Sequence[str]) -> list[JobRow]:
        """Return the rows of these jobs, in this order; those without a record are left out."""
        return [
            row for part in _parts(job_ids, _IDS_AT_ONCE) for row in self._listed(self.http.get("jobs", ids=list(part)))
        ]

    def row(self, job_id: str) -> JobRow:
        """Return the row of a job; raises `NoSuchJob`."""
        for row in self.rows([job_id]):
            return row
        raise errors.NoSuchJob(f"no job of yours has the id {job_id!r}; list them with: celery-docker ps --all")

    def fields(self, job_ids: Sequence[str], *names: str) -> list[list[str | None]]:
        """Return these fields of the record of each job, None for what is not there."""
        if names == ("state",):
            return [[state] for state in self._states(job_ids)]
        documents = {str(document["id"]): document for document in self._documents(job_ids)}
        if "spec" in names:
            documents = {job_id: self.http.get("jobs", job_id) for job_id in documents}
        return [[_text(documents.get(job_id, {}), name) for name in names] for job_id in job_ids]

    def _states(self, job_ids: Sequence[str]) -> list[str | None]:
        parts = _parts(job_ids, _STATES_AT_ONCE)
        answers = ((part, understood.table(self.http.get("states", ids=list(part)), states=_STATES)) for part in parts)
        return [state for part, answer in answers for _, state in zip(part, answer["states"], strict=True)]

    def _documents(self, job_ids: Sequence[str]) -> list[Mapping[str, Any]]:
        parts = _parts(job_ids, _IDS_AT_ONCE)
        return [document for part in parts for document in self.http.get("jobs", ids=list(part))["jobs"]]

    def each_live(self, wanted: JobFilter = ALL) -> Iterator[JobRow]:
        """Yield the jobs that have not ended, each once: those that run first."""
        yielded: set[str] = set()
        for states in _LIVE:
            asked = tuple(state for state in states if not wanted.states or state in wanted.states)
            for row in self._pages(replace(wanted, states=asked)) if asked else ():
                if row.job_id not in yielded:
                    yielded.add(row.job_id)
                    yield row

    def each_recent(self, wanted: JobFilter = ALL) -> Iterator[JobRow]:
        """Yield all jobs that have a record, the newest first."""
        yield from self._pages(wanted)

    def each_of_batch(self, batch_id: str, wanted: JobFilter = ALL) -> Iterator[JobRow]:
        """Yield the jobs of a batch in its order."""
        yield from self._pages(wanted, batch=batch_id, order=_BY_NUMBER)

    def _pages(self, wanted: JobFilter, **query: str) -> Iterator[JobRow]:
        filters = {"name": wanted.name, "host": wanted.host, "queue": wanted.queue}
        for page in _pages(self.http, wanted.states, **filters, **query):
            yield from filter(wanted.has, self._listed(page))

    def _listed(self, page: Mapping[str, Any]) -> list[JobRow]:
        rows = [remoterows.job(document) for document in page["jobs"]]
        for document in page["jobs"]:
            wait = remoterows.wait(document)
            self.waits.pop(document["id"], None)
            if wait is not None:
                self.waits[document["id"]] = wait
        return rows

    def load(self) -> Load:
        """Count the jobs that have not ended, by what they wait for."""
        return Load(**self.http.get("queue")["jobs"])

    def receipt(self, job_id: str) -> dict[str, Any] | None:
        """Return the receipt of a job, None if it has not ended or has no record."""
        return self.receipts([job_id])[0]

    def receipts(self, job_ids: Sequence[str]) -> list[dict[str, Any] | None]:
        """Return the receipt of each job, None for one that has not ended or has no record."""
        return [receipt for part in _parts(job_ids, _IDS_AT_ONCE) for _, receipt in ended(self.http, part)]

    def receipt_texts(self, job_ids: Sequence[str]) -> Iterator[str]:
        """Yield the receipts of those jobs that have ended, each a JSON text in one line."""
        for part in _parts(job_ids, _IDS_AT_ONCE):
            yield from (json.dumps(receipt) for receipt in self.receipts(part) if receipt is not None)

    def is_settled(self, job_id: str, host: str) -> bool:
        """Return whether a host has nothing left of a job that has ended: its container is gone."""
        return bool(self.http.get("jobs", job_id, "settled")["settled"])

    def resolve(self, text: str) -> str:
        """Return the id of the job named by an id or its beginning. Raises `NoSuchJob` or `AmbiguousId`."""
        found = _looked_up(self.http, text)
        if found["is_batch"]:
            raise errors.NoSuchJob(
                f"no job has an id that begins with {text!r}; list the jobs with: celery-docker ps --all"
            )
        return str(found["id"])

    def queue_lengths(self, queues: Iterable[str]) -> dict[str, int]:
        """Return the number of messages in each queue."""
        return {queue: self.http.get("queue", queue=queue)["queues"][queue] for queue in queues}

    def in_queue(self, queue: str) -> list[str]:
        """Refuse: they are everybody's jobs. Raises `NotAllowed`."""
        needs_redis("queue purge")


@understood.questions
@dataclass(frozen=True)
class RemoteBatches:
    """Questions about batches."""

    http: HttpSocket

    def row(self, batch_id: str) -> BatchRow:
        """Return a batch with the number of its jobs in each state. Raises `NoSuchJob`."""
        return remoterows.batch(self.http.get("batches", batch_id, fields=_BATCH_FIELDS))

    def going(self, batch_id: str) -> tuple[int, int]:
        """Return how many jobs of a batch have not ended, of how many."""
        counts = self.row(batch_id).counts
        return sum(count for state, count in counts.items() if not State(state).is_final), sum(counts.values())

    def ends(self, batch_id: str, failures: Iterable[str]) -> tuple[float | None, list[str]]:
        """Return when a batch that is over ended, and the jobs that failed, in order."""
        answer = self.http.get("batches", batch_id, fields="finished_at,failed")
        document = understood.table(answer, failed=list[str])
        return remoterows.moment(document["finished_at"]), document["failed"]

    def each_job(
        self, batch_id: str, *names: str, states: Iterable[State] = ()
    ) -> Iterator[tuple[str, list[str | None]]]:
        """Yield the jobs of a batch in its order with these fields of their records; those in some states, or all."""
        fields = ",".join(dict.fromkeys(("id", *(_OTHER_NAMES.get(name, name) for name in names))))
        for page in _pages(self.http, states, batch=batch_id, order=_BY_NUMBER, fields=fields):
            for document in page["jobs"]:
                yield understood.table(document, id=str)["id"], [_text(document, name) for name in names]

    def of_template(self, template_id: str, limit: int = 1000) -> list[str]:
        """Return the batches that were made of this template, the newest first."""
        found: list[str] = []
        before, left = None, limit
        while left > 0:
            page = self.http.get("batches", limit=min(left, _ROWS_AT_ONCE), before=before)
            found += [document["id"] for document in page["batches"] if document["template"] == template_id]
            before, left = page["next"], left - _ROWS_AT_ONCE
            if before is None:
                break
        return found

    def field(self, batch_id: str, name: str) -> str | None:
        """Return one field of the record of a batch, None if it has no such field."""
        value = self.http.get("batches", batch_id, fields=name).get(name)
        return None if value is None else str(value)

    def job_ids(self, batch_id: str) -> list[str]:
        """Return the jobs of a batch in its order; where one was tried again, the latest."""
        answer = self.http.get("batches", batch_id, fields="jobs")
        jobs: list[str] = understood.table(answer, jobs=list[str])["jobs"]
        return jobs

    def resolve(self, text: str) -> str:
        """Return the id of the batch named by an id or its beginning. Raises `NoSuchJob` or `AmbiguousId`."""
        found = _looked_up(self.http, text)
        if not found["is_batch"]:
            raise errors.NoSuchJob(f"no batch has an id that begins with {text!r}")
        return str(found["id"])


@understood.questions
@dataclass(frozen=True)
class RemoteHosts:
    """Questions about hosts."""

    http: HttpSocket

    def rows(self) -> list[WorkerRow]:
        """Return the hosts, by name."""
        return [remoterows.host(document) for document in self.http.get("hosts")["hosts"]]


@understood.questions
@dataclass(frozen=True)
class RemoteWaits:
    """Questions about the reasons for which jobs wait: the gateway says them with the rows."""

    jobs: RemoteJobs

    def of(self, rows: Sequence[JobRow]) -> dict[str, Wait]:
        """Return the wait of each of these jobs that has one."""
        known = self.jobs.waits
        return {row.job_id: known[row.job_id] for row in rows if row.job_id in known}

    def attempts(self, job_ids: Sequence[str]) -> dict[str, list[Mapping[str, Any]]]:
        """Return the attempts of jobs that another one followed, or is to follow, as in a receipt."""
        rows = self.jobs.rows(job_ids)
        again = [row.job_id for row in rows if row.attempt > (0 if row.state is State.QUEUED else 1)]
        documents = {job_id: self.jobs.http.get("jobs", job_id) for job_id in again}
        return {job_id: document["attempts"] for job_id, document in documents.items() if document["attempts"]}


@understood.questions
@dataclass(frozen=True)
class RemoteQueries:
    """Questions to one gateway."""

    http: HttpSocket
    jobs: RemoteJobs
    batches: RemoteBatches
    hosts: RemoteHosts
    waits: RemoteWaits

    def now(self) -> float:
        """Return the time by Redis' clock."""
        return remoterows.moment(self.http.get("healthz")["now"]) or 0.0

    def match(self, text: str) -> Match:
        """Return the job or batch named by an id or its beginning. Raises `NoSuchJob` or `AmbiguousId`."""
        found = _looked_up(self.http, text)
        return Match(found["id"], is_batch=found["is_batch"])


def ended(http: HttpSocket, job_ids: Sequence[str]) -> list[tuple[str | None, dict[str, Any] | None]]:
    """Return state and receipt of each job, as far as there are any."""
    answer = understood.table(
        http.get("receipts", ids=list(job_ids)), states=_STATES, receipts=list[Mapping[str, Any] | None]
    )
    return [
        (state, None if receipt is None else Receipt.of_table(job_id, receipt))
        for job_id, state, receipt in zip(job_ids, answer["states"], answer["receipts"], strict=True)
    ]


def _pages(http: HttpSocket, states: Iterable[State], **query: str | None) -> Iterator[Mapping[str, Any]]:
    """Yield the pages of a listing of jobs, as they are consumed."""
    before = None
    while True:
        page = http.get("jobs", limit=_ROWS_AT_ONCE, before=before, state=",".join(states) or None, **query)
        yield page
        before = page["next"]
        if before is None:
            return


def _looked_up(http: HttpSocket, text: str) -> dict[str, Any]:
    return understood.table(http.get("lookup", id=text), id=str, is_batch=bool)


def of(http: HttpSocket) -> RemoteQueries:
    """Return the questions to a gateway."""
    jobs = RemoteJobs(http)
    return RemoteQueries(http, jobs, RemoteBatches(http), RemoteHosts(http), RemoteWaits(jobs))


def _text(document: Mapping[str, Any], name: str) -> str | None:
    value = document.get(_OTHER_NAMES.get(name, name))
    if value is None:
        return None
    return json.dumps(value) if isinstance(value, dict | list) else str(value)


def _parts(job_ids: Sequence[str], size: int) -> Iterator[Sequence[str]]:
    for first in range(0, len(job_ids), size):
        yield job_ids[first : first + size]
