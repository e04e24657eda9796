"""The root helper as the package sets it up: who may ask it, what its rights are, and a reboot with pinned jobs."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest

from tests.machines.installed import Installed
from tests.waiting import eventually

PINS = "/run/celery-docker/pins"
_HELD = "echo run >> /output/runs; touch /input/sub/x || echo closed; until [ -e /output/go ]; do sleep 0.1; done"
_RIGHTS = {"cap_chown", "cap_dac_read_search", "cap_kill", "cap_setgid", "cap_setuid", "cap_sys_admin"}
_ASK = "import socket; socket.socket(socket.AF_UNIX).connect('/run/celery-docker/open.sock')"


@pytest.fixture(scope="module")
def home(installed: Installed) -> Iterator[str]:
    """The closed home of a user, with a file system mounted below."""
    installed.debian.shell("useradd --create-home alice 2>/dev/null || true; chmod 700 /home/alice")
    installed.debian.shell("mkdir -p /home/alice/in/sub; mount -t tmpfs -o mode=777 tmpfs /home/alice/in/sub")
    installed.debian.shell("chown -R alice: /home/alice")
    yield "/home/alice"
    installed.debian.shell("umount /home/alice/in/sub || true")


def mounts(installed: Installed) -> int:
    return installed.debian.read("/proc/1/mountinfo").count(f" {PINS}/")


def held(installed: Installed, home: str) -> str:
    """Submit a job that runs until its output folder has a file `go`, and wait until it runs."""
    fields = {"inputpath": f"{home}/in", "outputpath": f"{home}/out", "logoutfile": f"{home}/logs/job.log"}
    installed.debian.shell(f"rm -rf {home}/out {home}/logs; install -d -o alice -g alice {home}/out")
    document = {"image": "busybox", "command": ["sh", "-c", _HELD], "user": "alice", **fields}
    installed.debian.write("/root/job.json", json.dumps(document))
    job_id = installed.debian.run("celery-docker", "submit", "-f", "/root/job.json").stdout.strip()
    eventually(lambda: installed.debian.path(f"{home}/out/runs").exists(), 120, "the job to run")
    return job_id


def test_a_job_runs_in_the_closed_home_of_its_user(installed: Installed, home: str) -> None:
    job_id = held(installed, home)
    assert mounts(installed) == 3, "input, what is mounted below it, output"
    installed.debian.run("touch", f"{home}/out/go")
    installed.debian.run("celery-docker", "wait", job_id)
    # Of the two streams either may come last.
    assert "closed" in installed.debian.read(f"{home}/logs/job.log").splitlines()
    owners = installed.debian.shell(f"stat -c %U {home}/out/runs {home}/logs {home}/logs/job.log").stdout
    assert owners.split() == ["alice"] * 3
    eventually(lambda: mounts(installed) == 0, 60, "its pins to go")


def test_the_rights_of_worker_and_helper(installed: Installed) -> None:
    for unit, rights in (("celery-worker", set[str]()), ("celery-docker-open", _RIGHTS)):
        assert set(installed.show("CapabilityBoundingSet", unit).split()) == rights
        status = installed.debian.read(f"/proc/{installed.show('MainPID', unit)}/status")
        assert bin(int(status.partition("CapEff:")[2].split()[0], 16)).count("1") == len(rights)
    assert installed.show("AmbientCapabilities") == ""


def test_only_the_worker_may_ask(installed: Installed) -> None:
    asked = installed.debian.run("runuser", "-u", "alice", "--", "python3", "-c", _ASK, check=False)
    assert "PermissionError" in asked.stderr
    installed.debian.run("runuser", "-u", "celery", "--", "python3", "-c", _ASK)
    assert installed.debian.run("stat", "-c", "%a %U", PINS).stdout == "700 root\n"


def test_kills_reload_and_restart_leave_the_job_and_no_pin(installed: Installed, home: str) -> None:
    job_id, killed = held(installed, home), installed.show("MainPID")
    installed.debian.run("systemctl", "kill", "-s", "KILL", "celery-docker-open", "celery-worker")
    eventually(lambda: installed.is_active and installed.show("MainPID") != killed, 60, "the next worker")
    installed.debian.run("systemctl", "restart", "celery-docker-open.socket")
    installed.debian.run("systemctl", "reload", "celery-worker")
    installed.wait_until_ready()
    installed.debian.run("touch", f"{home}/out/go")
    installed.debian.run("celery-docker", "wait", job_id)
    assert installed.debian.read(f"{home}/out/runs") == "run\n"
    eventually(lambda: mounts(installed) == 0, 60, "its pins to go")


def test_without_the_socket_doctor_says_so(installed: Installed) -> None:
    installed.debian.run("systemctl", "stop", "celery-docker-open.socket")
    said = installed.debian.run("celery-docker", "doctor", check=False).stdout
    assert "fail  paths: celery-docker-open does not listen" in said
    installed.debian.run("systemctl", "restart", "celery-docker-open.socket")
    said = installed.debian.run("celery-docker", "doctor", check=False).stdout
    assert "paths" not in said


def test_a_reboot_with_pinned_jobs(installed: Installed, home: str) -> None:
    """The job runs again, with new pins."""
    installed.debian.shell("cd /etc/redis && sed -i 's/^appendonly no/appendonly yes/' redis.conf")
    installed.debian.run("systemctl", "restart", "redis-server")
    installed.wait_until_ready()
    job_id = held(installed, home)
    installed.debian.reboot()
    eventually(lambda: installed.debian.read(f"{home}/out/runs") == "run\nrun\n", 120, "its second run")
    assert mounts(installed) == 2, "nobody has mounted what was below the input again"
    installed.debian.run("touch", f"{home}/out/go")
    installed.debian.run("celery-docker", "wait", job_id)
    eventually(lambda: mounts(installed) == 0, 60, "its pins to go")


def test_a_purge_leaves_nothing(installed: Installed, home: str) -> None:
    """Nothing of ours, and all that is the user's."""
    installed.debian.run("apt-get", "purge", "--yes", "celery-docker", timeout_s=300)
    assert not installed.debian.path("/run/celery-docker").exists()
    assert PINS not in installed.debian.read("/proc/1/mountinfo")
    assert installed.debian.path(f"{home}/out/runs").exists()
    listed = installed.debian.run("systemctl", "list-unit-files", "celery-docker-open*", check=False).stdout
    assert "celery-docker-open" not in listed
