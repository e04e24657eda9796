"""The results of a batch: one for each of its jobs, in their order, or none at all."""

from __future__ import annotations

from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any

import pytest

from celery_docker import errors
from celery_docker.client.handles import Batch


class Redis:
    """A batch of three jobs that have ended; by its id, the receipt of each whose record is there."""

    def __init__(self) -> None:
        self.order = ["j1", "j2", "j3"]
        self.records = {job_id: {"id": job_id, "state": "failed"} for job_id in self.order}

    @property
    def queries(self) -> Redis:
        return self

    jobs = batches = queries

    def job_ids(self, _: str) -> list[str]:
        return list(self.order)

    def row(self, _: str) -> Any:
        return SimpleNamespace(counts={})

    def fields(self, job_ids: Sequence[str], _: str) -> list[list[str | None]]:
        states: list[list[str | None]] = [[self.records[job_id]["state"]] for job_id in job_ids]
        # Somebody runs one again as soon as all have ended.
        self.order[1] = "again"
        return states

    def receipts(self, job_ids: Sequence[str]) -> list[dict[str, str] | None]:
        return [self.records.get(job_id) for job_id in job_ids]


def test_a_job_that_somebody_runs_again_has_ended_all_the_same() -> None:
    batch = Batch(Redis(), "b1")  # type: ignore[arg-type]
    assert [receipt["id"] for receipt in batch.results()] == ["j1", "j2", "j3"]


def test_results_of_some_jobs_are_not_taken_for_those_of_others(monkeypatch: pytest.MonkeyPatch) -> None:
    redis = Redis()
    monkeypatch.setattr(redis, "receipts", lambda job_ids: [redis.records[job_ids[0]], None, redis.records["j3"]])
    with pytest.raises(errors.NoSuchJob, match=r"the records of 1 of 3 jobs are gone"):
        Batch(redis, "b1").results()  # type: ignore[arg-type]
