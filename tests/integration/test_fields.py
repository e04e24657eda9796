"""What a job may ask of its container, each field seen from inside of it: a real worker, Redis and Docker."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from celery_docker.engine.dockerd import DockerEngine
from tests import servers
from tests.integration.test_policy import ANYBODY as ANY_RULES
from tests.integration.test_policy import output_of, planned, podman_engine
from tests.integration.test_worker import Plain
from tests.workers.worker import Worker

__all__ = ["podman_engine"]


@pytest.fixture(autouse=True)
def worker(steady: Worker) -> Worker:
    """The one worker of all these tests, with the policy that allows most."""
    return steady


@pytest.fixture
def plain(server: servers.RedisServer) -> Iterator[Plain]:
    submitter = Plain(server.url)
    yield submitter
    submitter.app.close()


def shell(plain: Plain, script: str, **fields: Any) -> str:
    """Return what a shell prints in the container of a job."""
    return str(plain.succeed("busybox", ["sh", "-c", script], **fields)["output"])


def test_hostname(plain: Plain) -> None:
    assert shell(plain, "hostname; cat /proc/sys/kernel/hostname", hostname="node-1.example.org") == (
        "node-1.example.org\n" * 2
    )


def test_the_size_of_dev_shm(plain: Plain) -> None:
    script = "df -m /dev/shm | tail -n 1 | awk '{print $2}'; dd if=/dev/zero of=/dev/shm/x bs=1M count=99 2>/dev/null"
    assert shell(plain, f"{script}; ls -l /dev/shm/x | awk '{{print $5}}'", shm_size="96m") == f"96\n{96 * 2**20}\n"
    assert shell(plain, "df -m /dev/shm | tail -n 1 | awk '{print $2}'") == "64\n"


def test_what_is_in_dev_shm_counts_as_memory(plain: Plain) -> None:
    error, receipt = plain.fail(
        "busybox", "dd if=/dev/zero of=/dev/shm/x bs=1M count=99", shm_size="96m", memory="32m", retries=0
    )
    assert receipt["exit_code"] == 137
    assert "limit 32m" in error


def test_the_number_of_processes(plain: Plain) -> None:
    """The init of the container and the shell are two of them."""
    script = "for i in 1 2 3 4 5 6 7 8; do sleep 60 & done; ls -d /proc/[0-9]* | wc -l"
    error, _ = plain.fail("busybox", ["sh", "-c", script], pids_limit=6, retries=0)
    assert "can't fork" in error
    script = "cat /sys/fs/cgroup/pids/pids.max /sys/fs/cgroup/pids.max 2>/dev/null"
    assert shell(plain, f"{script}; true", pids_limit=6) == "6\n"
    assert shell(plain, "sleep 0 & wait; echo $?", pids_limit=3) == "0\n"
    assert shell(plain, "echo $?", pids_limit=2) == "0\n"


def test_ulimits(plain: Plain) -> None:
    script = "ulimit -Sn; ulimit -Hn; ulimit -c; ulimit -s"
    fields = {"nofile": "100:200", "core": 0, "stack": 4 * 2**20}
    assert shell(plain, script, ulimits=fields) == "100\n200\n0\n4096\n"
    assert shell(plain, "ulimit -Sn; ulimit -Hn", ulimits=["nofile=64"]) == "64\n64\n", "Docker starts with so few"


def test_a_ulimit_above_that_of_the_host_is_the_jobs_fault(plain: Plain) -> None:
    """It is refused at once: no retry would go better, and the host goes on."""
    error, receipt = plain.fail("busybox", "true", ulimits=["nofile=9007199254740991"])
    assert error.startswith("rejected: the container cannot be started: ")
    assert "rlimit" in error
    assert len(receipt["attempts"]) <= 1


def test_an_image_that_is_read_only(plain: Plain) -> None:
    script = "touch /x; touch /tmp/x; grep -c '^overlay / [^ ]* ro,' /proc/mounts; touch /dev/shm/x && echo shm"
    output = shell(plain, script, read_only=True)
    assert output.splitlines() == [
        "touch: /x: Read-only file system",
        "touch: /tmp/x: Read-only file system",
        "1",
        "shm",
    ]
    assert shell(plain, "touch /x && echo x", read_only=False) == "x\n"


def test_whom_a_read_only_image_does_not_know_has_a_home_all_the_same(plain: Plain) -> None:
    output = shell(plain, "touch ~/x && echo $HOME $USER; touch /tmp/x || true", user="54321", read_only=True)
    assert "/home/celery-docker 54321" in output
    assert "touch: /tmp/x: Read-only file system" in output


def test_the_same_with_podman(podman_engine: DockerEngine) -> None:
    """But for ulimits: beside one of a job's Podman raises that of processes, which not every machine allows."""
    script = "hostname; df -m /dev/shm | tail -n 1 | awk '{print $2}'"
    fields: dict[str, Any] = {
        "hostname": "node-1",
        "shm_size": 96 * 2**20,
        "pids_limit": 50,
        "read_only": True,
    }
    container_plan = planned(
        "busybox", "sh", "-c", f"{script}; touch /x 2>/dev/null || echo ro", rules=ANY_RULES, **fields
    )
    assert output_of(podman_engine, podman_engine.create(container_plan)) == "node-1\n96\nro\n"
