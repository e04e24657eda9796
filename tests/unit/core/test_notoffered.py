"""What docker run has and a job has not: a reason for each, and none for what a job has."""

from __future__ import annotations

import pytest

from celery_docker.core import jobfields, notoffered
from celery_docker.core.batchinputs import from_csv
from celery_docker.errors import BatchError

FLAGS = {line.name: line.flag for line in jobfields.DOCUMENT}
NAMES = {line.name: line.name for line in jobfields.DOCUMENT}


@pytest.mark.parametrize(
    "flag",
    [
        *("--privileged", "--pid", "--ipc", "--uts", "--userns", "--cgroupns", "--restart", "-p", "--publish", "--rm"),
        *(
            "-d",
            "--detach",
            "-t",
            "--tty",
            "--interactive",
            "--device-cgroup-rule",
            "--volumes-from",
            "--link",
            "-P",
            "--expose",
        ),
        *("--security-opt", "--init", "--memory-swap", "-c", "--runtime", "-a"),
    ],
)
def test_each_has_a_reason(flag: str) -> None:
    reason = notoffered.of_flag(flag, FLAGS)
    assert reason
    assert reason.isprintable()
    assert "{" not in reason
    if flag.startswith("--"):
        assert notoffered.of_key(flag[2:].replace("-", "_"), NAMES)


def test_the_remedy_is_named_as_it_is_written() -> None:
    assert notoffered.of_flag("--restart=always", FLAGS) == (
        "the queue runs a job again where that helps: --retries, --retry-on, --no-requeue"
    )
    assert notoffered.of_key("restart", NAMES) == (
        "the queue runs a job again where that helps: retries, retry_on, requeue"
    )
    for key in ("Volumes", "volume", "binds", "mount"):
        assert notoffered.of_key(key, NAMES) == "write mounts"


@pytest.mark.parametrize("line", jobfields.DOCUMENT, ids=lambda line: line.name)
def test_what_a_job_has_is_not_among_them(line: jobfields.Field) -> None:
    assert notoffered.of_key(line.name, NAMES) is None
    assert [flag for flag in line.flags if notoffered.of_flag(flag, FLAGS) is not None] == []


@pytest.mark.parametrize("word", ["--memry", "-x", "-", "--", "", "x"])
def test_what_docker_run_has_not_either(word: str) -> None:
    assert notoffered.of_flag(word, FLAGS) is None
    assert notoffered.of_key(word, NAMES) is None


def test_a_column_of_a_manifest_says_why_too() -> None:
    with pytest.raises(BatchError, match=r"'job\.privileged' is not a field of a job: a job is never root of its host"):
        from_csv("a,job.privileged\n1,2\n")
