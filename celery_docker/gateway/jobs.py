"""What is asked about jobs and batches, and their cancel. Every answer has the names of `client.views`."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from celery_docker import errors
from celery_docker.client import views
from celery_docker.core import ids, kinds, lifecycle
from celery_docker.core.lifecycle import State
from celery_docker.gateway import bodies, ownership, parameters, selection
from celery_docker.gateway.routing import Answer, Request
from celery_docker.gateway.shared import Shared
from celery_docker.store import idlookup, pages
from celery_docker.store.jobfilter import JobFilter
from celery_docker.store.jobstore import Store
from celery_docker.store.listing import JobRow
from celery_docker.store.queries import Queries


@dataclass(frozen=True)
class Jobs:
    """The handlers about jobs and batches. Each raises `StoreAway`, `StoreRefused` and what stands with it."""

    store: Store
    queries: Queries
    shared: Shared = field(default_factory=Shared)

    def page(self, request: Request) -> Answer:
        """List jobs, the newest first; those of a batch by their number. Raises `NoSuchJob` or `SpecError`."""
        query = request.query
        if "ids" in query:
            _check_only_ids(query)
            own = ownership.of_jobs(self.queries, request, query["ids"])
            rows = self.queries.jobs.rows([job_id for job_id in query["ids"] if job_id in own])
            return self._listed(request, rows, None)
        batch_id, is_by_number = query.get("batch"), parameters.ORDER.name in query
        if batch_id is not None:
            ownership.check_batch(self.queries, request, batch_id)
        elif is_by_number:
            raise errors.SpecError("order: is for the jobs of a batch; name it as batch")
        rows, following = self.queries.jobs.page(
            self._wanted(request), _before(query), parameters.limit(query), batch_id, newest_first=not is_by_number
        )
        return self._listed(request, rows, following)

    def _wanted(self, request: Request) -> JobFilter:
        query = request.query
        sees_all = request.rights.may_everything and "mine" not in query
        return JobFilter(
            tuple(query.get("state", ())),
            query.get("name"),
            query.get("host"),
            query.get(parameters.IN_QUEUE.name),
            uid=None if sees_all else request.identity.uid,
            since_at=self.queries.now() - query["since"] if "since" in query else None,
        )

    def _listed(self, request: Request, rows: Sequence[JobRow], following: pages.Mark | None) -> Answer:
        now, names = self.queries.now(), selection.wanted(request)
        waits = self.queries.waits.of(rows) if names is None or "wait" in names else {}
        documents = [views.job_json(row, waits.get(row.job_id)) for row in rows]
        return Answer({"jobs": documents, "next": _text(following), "now": views.timestamp(now)})

    def one(self, request: Request) -> Answer:
        """Return all that is known of a job. Raises `NoSuchJob`."""
        job_id = request.names["id"]
        row, record = ownership.whole_job(self.queries, request, job_id)
        document = views.record_json(row, self.queries.waits.of([row]).get(job_id), record)
        return Answer(views.without_values(document) if parameters.ENV.name in request.query else document)

    def states(self, request: Request) -> Answer:
        """Return the state of each job, null for one that is not there."""
        job_ids = request.query.get("ids", [])
        states = ownership.of_jobs(self.queries, request, job_ids)
        return Answer({"states": [State(states[name]).value if name in states else None for name in job_ids]})

    def receipts(self, request: Request) -> Answer:
        """Return the receipt of each job, null for one that has not ended or is not there."""
        job_ids = request.query.get("ids", [])
        # Before the receipts: a state that is not final has none yet.
        states = ownership.of_jobs(self.queries, request, job_ids)
        receipts = dict(zip(states, self.queries.jobs.receipts(list(states)), strict=True))
        return Answer(
            {
                "states": [states.get(job_id) for job_id in job_ids],
                "receipts": [receipts.get(job_id) for job_id in job_ids],
            }
        )

    def settled(self, request: Request) -> Answer:
        """Say whether a job has ended and its container is gone. Raises `NoSuchJob`."""
        job_id = request.names["id"]
        row, _ = ownership.whole_job(self.queries, request, job_id)
        is_settled = row.state.is_final and (row.host is None or self.queries.jobs.is_settled(job_id, row.host))
        return Answer({"id": job_id, "settled": is_settled})

    def lookup(self, request: Request) -> Answer:
        """Return the job or batch that an id, or the beginning of one, stands for.

        Raises `NoSuchJob` or `AmbiguousId`.
        """
        word = request.query.get("id", "")
        jobs = self._beginning_with(word, ownership.jobs_index(request))
        batches = self._beginning_with(word, ownership.batches_index(request))
        name = ids.resolve_prefix(word, [*jobs, *batches])
        return Answer({"id": name, "is_batch": name not in jobs})

    def _beginning_with(self, word: str, index: str) -> list[str]:
        link = self.queries.link
        with link.translated():
            is_whole = bool(word) and link.client.zscore(index, word) is not None
        return [word] if is_whole else idlookup.beginning_with(link, word, index)

    def cancel(self, request: Request) -> Answer:
        """Cancel a job; return the state that it was in. Raises `NoSuchJob`."""
        job_id = request.names["id"]
        ownership.check_jobs(self.queries, request, [job_id])
        (state,) = self.store.cancel_many([job_id], reason=_reason(request))
        return Answer({"id": job_id, "state": state})

    def cancel_many(self, request: Request) -> Answer:
        """Cancel jobs; return the state that each was in, `unknown` for one that is not there."""
        job_ids = bodies.job_ids(request.body)
        known = ownership.of_jobs(self.queries, request, job_ids)
        # A plain Celery client's job has no record before a worker claims it.
        cancelled = job_ids if request.rights.may_everything else list(known)
        # The last first: otherwise the end of one job would start the next, which waits for it, in vain.
        states = self.store.cancel_many(cancelled[::-1], reason=_reason(request))[::-1]
        by_id = dict(zip(cancelled, states, strict=True))
        return Answer({"jobs": [{"id": job_id, "state": by_id.get(job_id, "unknown")} for job_id in job_ids]})

    def batches(self, request: Request) -> Answer:
        """List batches, the newest first."""
        query = request.query

        rows, following = pages.page(
            self.queries.link, ownership.batches_index(request), _before(query), parameters.limit(query), self._batches
        )
        return Answer({"batches": rows, "next": _text(following), "now": views.timestamp(self.queries.now())})

    def _batches(self, names: Sequence[str]) -> Iterator[tuple[str, dict[str, Any]]]:
        for name in names:
            try:
                yield name, self._batch(name)
            except errors.NoSuchJob:
                continue  # Its record is gone, and the index is not cleared yet.

    def batch(self, request: Request) -> Answer:
        """Return a batch, with its jobs in its order and those that failed. Raises `NoSuchJob` and `Busy`."""
        batch_id = request.names["id"]
        ownership.check_batch(self.queries, request, batch_id)
        facts, names = self._facts(batch_id), selection.wanted(request)
        if names is None or "jobs" in names:
            with self.shared.turn(self.queries.batches.count(batch_id)):
                facts = {**facts, "jobs": self.queries.batches.job_ids(batch_id)}
        return Answer(facts if names is None else selection.cut(facts, names))

    def _batch(self, batch_id: str) -> dict[str, Any]:
        return {name: value for name, value in self._facts(batch_id).items() if name != "failed"}

    def _facts(self, batch_id: str) -> dict[str, Any]:
        count = self.queries.batches.count(batch_id)
        return self.shared.answer(batch_id, count, lambda: self._counted(batch_id))

    def _counted(self, batch_id: str) -> dict[str, Any]:
        row = self.queries.batches.row(batch_id)
        finished_at, failed = self.queries.batches.ends(batch_id, lifecycle.FAILURES)
        facts: dict[str, Any] = {name: self.queries.batches.field(batch_id, name) for name in bodies.FACTS}
        facts |= {"failed": failed, "retryable": len(failed)}
        return {**views.batch_json(row, finished_at, self.queries.now(), None), **facts}


def _check_only_ids(query: Mapping[str, Any]) -> None:
    """Raise `SpecError` for what would choose among jobs that are named."""
    for name in query:
        if name not in (parameters.IDS.name, parameters.FIELDS.name):
            raise errors.SpecError(f"{name}: does not choose among the jobs that ids names; leave out one of both")


def _before(query: Mapping[str, Any]) -> pages.Mark:
    text = query.get("before")
    if text is None:
        return pages.NEWEST
    try:
        return pages.mark(text)
    except ValueError as exc:
        raise errors.SpecError(f"before: {kinds.shown(text)} {exc}") from exc


def _text(mark: pages.Mark | None) -> str | None:
    return None if mark is None else str(mark)


def _reason(request: Request) -> str:
    return bodies.reason(request.body) or f"cancelled by {request.identity.name}"
