"""The jobs that have succeeded before, and as whom they ran."""

from __future__ import annotations

import json
from collections.abc import Mapping
from types import SimpleNamespace
from typing import Any, cast

import pytest

from celery_docker.client import donemarks
from celery_docker.client.donemarks import OwnUser
from celery_docker.client.ports import Queries
from celery_docker.core.access import Identity
from celery_docker.core.batch import Expanded
from celery_docker.core.batchinputs import Row, Source

ALICE = Identity("alice", 1000, 100, (100,))


def records(*specs: str) -> Queries:
    """Return a store that has one batch, whose jobs have succeeded."""
    batches = SimpleNamespace(of_template=lambda _: ["b"], job_ids=lambda _: list(map(str, range(len(specs)))))
    jobs = SimpleNamespace(fields=lambda ids, *_: [["succeeded", specs[int(job_id)], "1"] for job_id in ids])
    return cast(Queries, SimpleNamespace(batches=batches, jobs=jobs))


def is_done(asked: Mapping[str, Any], ran: Mapping[str, Any], own: OwnUser) -> bool:
    job = Expanded(Row(1, Source.PATHS, {}), {"image": "busybox", **asked}, {})
    return not donemarks.undone(records(json.dumps({"image": "busybox", **ran})), [job], "t", own)


@pytest.mark.parametrize("default", [None, "1000:100"])
@pytest.mark.parametrize("name", ["alice", "alice:100", "1000", "1000:100"])
def test_a_gateway_runs_jobs_as_their_submitter_by_whichever_name(name: str, default: str | None) -> None:
    own = OwnUser(ALICE, default)
    assert is_done({"user": name}, {"user": "1000:100"}, own)
    assert is_done({} if default is None else {"user": default}, {"user": name}, own)


def test_another_user_is_another_job() -> None:
    assert not is_done({"user": "bob"}, {"user": "1000:100"}, OwnUser(ALICE, None))
    assert is_done({"user": "bob"}, {"user": "bob"}, OwnUser(ALICE, None))
    assert not is_done({"user": "alice"}, {"user": "1000:100"}, OwnUser(None, "1000:100"))


@pytest.mark.parametrize("spec", ["{", "[]", '{"user": 5}', "null"])
def test_a_damaged_record_is_no_success(spec: str) -> None:
    job = Expanded(Row(1, Source.PATHS, {}), {"image": "busybox"}, {})
    assert donemarks.undone(records(spec), [job], "t", OwnUser(ALICE, None)) == [job]
