"""The work that follows a job: only immutable signatures of ours, for no job takes another's result."""

from __future__ import annotations

from typing import Any

import pytest

from celery_docker.core import canvas
from celery_docker.core.strictjson import NotUsable

JOB: dict[str, Any] = {
    "task": "tasks.run_docker",
    "args": ["busybox"],
    "kwargs": {},
    "options": {},
    "subtask_type": None,
}
WITH, WITHOUT = {**JOB, "immutable": True}, {**JOB, "immutable": False}


def group(*jobs: Any) -> dict[str, Any]:
    return {"task": "celery.group", "args": [], "kwargs": {"tasks": list(jobs)}, "options": {}, "subtask_type": "group"}


@pytest.mark.parametrize(
    ("embed", "name"),
    [
        ({"chain": [WITHOUT]}, "chain"),
        ({"chain": [WITH, WITHOUT]}, "chain"),
        ({"chain": [JOB]}, "chain"),
        ({"callbacks": [WITHOUT]}, "callbacks"),
        ({"errbacks": [WITHOUT]}, "errbacks"),
        ({"chord": WITHOUT}, "chord"),
        ({"chain": [group(WITH, WITHOUT)]}, "chain"),
        ({"callbacks": [{**WITH, "options": {"link": [WITHOUT]}}]}, "callbacks"),
    ],
)
def test_what_would_get_a_result_is_refused_by_name(embed: dict[str, Any], name: str) -> None:
    with pytest.raises(
        NotUsable, match=rf"^{name} passes the job's result on, .*: write \.si\(\) for it instead of \.s"
    ):
        canvas.check(embed, lambda queue: True)


def test_what_gets_none_may_follow() -> None:
    embed = {"chain": [WITH, group(WITH)], "callbacks": [WITH], "errbacks": None, "chord": WITH}
    assert canvas.check(embed, lambda queue: True) == embed
