"""The plan of a container: the exact request that Docker gets."""

from __future__ import annotations

import json

import pytest

from celery_docker import plan
from celery_docker.jobspec import JobSpec
from celery_docker.plan import ContainerPlan, Resolved
from celery_docker.policy import Limits, Policy

# What every container gets, whatever the job says.
LOG = {"Type": "json-file", "Config": {"max-size": "1000p", "max-file": "1", "compress": "false"}}


def planned(spec: JobSpec, resolved: Resolved, rules: Policy, attempt: int = 1) -> ContainerPlan:
    return plan.plan(spec, job_id="0f3a", attempt=attempt, host="node1", resolved=resolved, rules=rules)


def test_the_least_that_can_be_asked_for() -> None:
    assert planned(JobSpec("busybox"), Resolved(), Policy()) == ContainerPlan(
        name="run-0f3a",
        body={
            "Image": "busybox:latest",
            "Labels": {"celery-docker.job": "0f3a", "celery-docker.host": "node1", "celery-docker.attempt": "1"},
            "AttachStdout": True,
            "AttachStderr": True,
            "HostConfig": {
                "Init": True,
                "NetworkMode": "bridge",
                "SecurityOpt": ["no-new-privileges"],
                "PidsLimit": 4096,
                "LogConfig": LOG,
                "Mounts": [],
            },
        },
    )


def test_everything_that_can_be_asked_for() -> None:
    """Paths and users are those that were looked up, not those that were typed."""
    spec = JobSpec(
        image="r.example.org:5000/lab/tool:1",
        command=("sh", "-c", "echo 'a  b'"),
        user="alice",
        logoutfile="/log/o",
        logerrfile="/log/e",
        inputpath="/link/in",
        outputpath="/link/out",
        retries=1,
        retry_on=(75,),
    )
    resolved = Resolved(
        user="1001:100", inputpath="/data/in", outputpath="/data/out", logoutfile="/log/o", logerrfile="/log/e"
    )
    rules = Policy(networks=("none", "bridge"), limits=Limits(pids=64, memory_bytes=2**30, cpus=1.5))
    assert planned(spec, resolved, rules, attempt=3).body == {
        "Image": "r.example.org:5000/lab/tool:1",
        "Cmd": ["sh", "-c", "echo 'a  b'"],
        "User": "1001:100",
        "Labels": {"celery-docker.job": "0f3a", "celery-docker.host": "node1", "celery-docker.attempt": "3"},
        "AttachStdout": True,
        "AttachStderr": True,
        "HostConfig": {
            "Init": True,
            "NetworkMode": "none",
            "SecurityOpt": ["no-new-privileges"],
            "PidsLimit": 64,
            "LogConfig": LOG,
            "Mounts": [
                {"Type": "bind", "Source": "/data/in", "Target": "/input", "ReadOnly": True},
                {"Type": "bind", "Source": "/data/out", "Target": "/output", "ReadOnly": False},
            ],
            # No swap beyond the memory limit.
            "Memory": 2**30,
            "MemorySwap": 2**30,
            "NanoCpus": 1_500_000_000,
        },
    }


def test_the_same_job_gives_the_same_plan_and_it_is_json() -> None:
    one, other = (planned(JobSpec("busybox"), Resolved(), Policy()) for _ in range(2))
    assert one == other
    assert json.loads(json.dumps(one.body)) == one.body


def test_a_container_never_removes_itself() -> None:
    """It is the evidence of how the job ended."""
    assert "AutoRemove" not in planned(JobSpec("busybox"), Resolved(), Policy()).body["HostConfig"]


@pytest.mark.parametrize(
    ("image", "expected"),
    [
        ("busybox", "busybox:latest"),
        ("busybox:1.36", "busybox:1.36"),
        ("lab/tool", "lab/tool:latest"),
        ("localhost:5000/tool", "localhost:5000/tool:latest"),
        ("localhost:5000/tool:1", "localhost:5000/tool:1"),
        ("tool@sha256:" + "0" * 64, "tool@sha256:" + "0" * 64),
        ("localhost:5000/tool@sha256:" + "0" * 64, "localhost:5000/tool@sha256:" + "0" * 64),
    ],
)
def test_tagged(image: str, expected: str) -> None:
    assert plan.tagged(image) == expected
    assert planned(JobSpec(image), Resolved(), Policy()).image == expected
