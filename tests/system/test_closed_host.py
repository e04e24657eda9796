"""The steps of docs/SECURITY.md on a fresh Debian: what a local user can do before them, and after."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.machines import machine
from tests.machines.installed import Installed

PAGE = (Path(__file__).parents[2] / "docs" / "SECURITY.md").read_text()
# A shell of root's that alice may keep, if a job of hers could run as root.
SETUID = "cp /bin/busybox /output/sh && chmod 4755 /output/sh"
TIGHT = 'submitters = "signed"\nusers = ["self"]\nmounts = ["/srv"]\nlogs = ["/var/log/celery"]\n'


@pytest.fixture(scope="module")
def installed(package: Path) -> Iterator[Installed]:
    with machine.Machine.boot("closed", machine.ready_image()) as booted:
        machine.import_busybox(booted)
        debian = Installed(booted)
        debian.install(package)
        booted.run("useradd", "--create-home", "alice")
        booted.shell("install -d -o alice -g alice /srv/alice")
        debian.wait_until_ready()
        yield debian
    assert machine.leftovers() == []


def submitted(installed: Installed, user: str, *words: str) -> str:
    """Return all that a job says that somebody tries to run, or why it does not run."""
    made = installed.debian.run("celery-docker", "run", *words, user=user, check=False, timeout_s=120)
    return made.stdout + made.stderr


def url_of(installed: Installed) -> str:
    return installed.debian.shell(". /etc/default/celery-worker; echo $CELERY_DOCKER_BROKER_URL").stdout.strip()


def steps() -> list[str]:
    """Return the commands of the page, without the one that opens an editor; nobody is here to say yes."""
    block = PAGE.split("## A host that is closed")[1].split("```console\n")[1].split("```")[0]
    lines = [line.removeprefix("$ sudo ") for line in block.splitlines() if "sudoedit" not in line]
    return [line.replace("setup-redis", "setup-redis --yes") for line in lines]


def test_the_steps_close_a_host(installed: Installed) -> None:
    debian = installed.debian
    trick = ("--user", "0:0", "-o", "/srv/alice", "busybox", "sh", "-c", SETUID)
    submitted(installed, "alice", *trick)
    assert debian.run("stat", "-c", "%U %a", "/srv/alice/sh").stdout == "root 4755\n", "as shipped, it works"
    debian.run("rm", "/srv/alice/sh")

    debian.shell(f"cat >/etc/celery-docker/policy.toml <<'EOF'\n{TIGHT}EOF")
    doctor = [debian.shell(line, timeout_s=120) for line in steps()][-1]
    assert re.search(r"ok +open: only signed jobs run here", doctor.stdout)

    assert "is not the submitter" in submitted(installed, "alice", *trick)
    assert debian.run("test", "-e", "/srv/alice/sh", check=False).returncode == 1
    uid = debian.run("id", "-u", "alice").stdout
    assert submitted(installed, "alice", "-o", "/srv/alice", "busybox", "sh", "-c", "touch /output/x; id -u") == uid
    assert debian.run("stat", "-c", "%U", "/srv/alice/x").stdout == "alice\n"


def test_a_user_has_no_way_to_redis(installed: Installed) -> None:
    debian = installed.debian
    port = url_of(installed).rsplit(":", 1)[1].split("/")[0]
    answer = debian.run("redis-cli", "-p", port, "keys", "*", user="alice", check=False)
    assert "NOAUTH" in answer.stdout + answer.stderr
    for path in ("/etc/default/celery-worker", "/etc/celery-docker/key"):
        assert debian.run("cat", path, user="alice", check=False).returncode == 1


def test_who_can_write_to_redis_starts_nothing(installed: Installed) -> None:
    """As a plain client with the password, and no signature."""
    debian = installed.debian
    code = (
        "from celery import Celery\n"
        "app = Celery(broker=URL, backend=URL)\n"
        "job = app.send_task('tasks.run_docker', ['busybox'], {'command': 'true', 'user': '0:0'})\n"
        "try: print(job.get(timeout=60))\n"
        "except Exception as exc: print(exc)\n"
    )
    answer = debian.run("/opt/celery/venv/bin/python", "-c", f"URL = {url_of(installed)!r}\n{code}")
    assert "signature: the job has none, and this host runs signed jobs only" in answer.stdout
