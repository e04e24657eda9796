"""The service celery-docker-api in a booted Debian: its administrator turns it on, and users without groups use it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.machines import machine
from tests.machines.installed import Installed
from tests.waiting import eventually

SOCKET = "/run/celery-docker/api.sock"
KEY = "/etc/celery-docker/key"
HIDDEN = "hunter2"
# Forty clients ask until they are told to end; prints how often they got each status.
CLIENTS = """
import collections, http.client, json, os, socket, threading
class Connection(http.client.HTTPConnection):
    def connect(self):
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.connect("/run/celery-docker/api.sock")
counts = collections.Counter()
def ask():
    while not os.path.exists("/tmp/over"):
        connection = Connection("localhost", timeout=60)
        try:
            connection.request("GET", "/api/v1/jobs")
            counts[str(connection.getresponse().status)] += 1
        except Exception as exc:
            counts[repr(exc)] += 1
        connection.close()
threads = [threading.Thread(target=ask) for _ in range(40)]
[thread.start() for thread in threads]
open("/tmp/begun", "w").close()
[thread.join() for thread in threads]
print(json.dumps(counts))
"""


@pytest.fixture(scope="module")
def installed(package: Path) -> Iterator[Installed]:
    """A machine with the package, a Redis with a password that only the worker knows, and two users."""
    with machine.Machine.boot("gateway", machine.ready_image()) as booted:
        machine.import_busybox(booted)
        debian = Installed(booted)
        debian.install(package)
        for name in ("alice", "bob"):
            booted.run("useradd", "--create-home", name)
        booted.shell(f"echo requirepass {HIDDEN} >>/etc/redis/redis.conf && systemctl restart redis-server")
        debian.configure(BROKER_URL=f"redis://:{HIDDEN}@127.0.0.1:6379/0")
        debian.wait_until_ready()
        yield debian
    assert machine.leftovers() == []


def said(installed: Installed, user: str, *words: str) -> str:
    return installed.debian.run("celery-docker", *words, user=user).stdout.strip()


def refused(installed: Installed, user: str, *words: str) -> str:
    made = installed.debian.run("celery-docker", *words, user=user, check=False)
    assert made.returncode != 0
    return made.stderr


def test_an_installation_opens_no_door(installed: Installed) -> None:
    debian = installed.debian
    assert debian.run("systemctl", "is-enabled", "celery-docker-api.socket", check=False).stdout == "disabled\n"
    assert debian.run("test", "-e", SOCKET, check=False).returncode == 1
    # Jobs are signed with a key of this installation's own.
    assert debian.run("stat", "-c", "%a %U:%G", KEY).stdout == "640 root:celery\n"
    assert "Redis" in refused(installed, "alice", "ps")


def test_the_socket_is_there_and_no_process_before_the_first_request(installed: Installed) -> None:
    debian = installed.debian
    debian.run("systemctl", "enable", "--now", "celery-docker-api.socket")
    assert debian.run("stat", "-c", "%a", SOCKET).stdout == "666\n"
    assert installed.show("ActiveState", "celery-docker-api") == "inactive"
    assert json.loads(said(installed, "alice", "config", "--json"))["way"]["value"] == "celery-docker-api"
    assert said(installed, "alice", "run", "busybox", "id", "-u") == debian.run("id", "-u", "alice").stdout.strip()
    assert installed.show("ActiveState", "celery-docker-api") == "active"


def test_users_see_their_own_and_not_the_password(installed: Installed) -> None:
    debian = installed.debian
    job_id = said(installed, "alice", "submit", "busybox", "echo", "secret")
    assert said(installed, "alice", "wait", job_id) == ""
    assert said(installed, "alice", "logs", job_id) == "secret"
    assert said(installed, "bob", "ps", "--all", "-q") == ""
    assert "no job" in refused(installed, "bob", "logs", job_id)
    assert job_id in said(installed, "root", "ps", "--all", "-q")
    pid = installed.show("MainPID", "celery-docker-api")
    assert debian.run("cat", f"/proc/{pid}/environ", user="alice", check=False).returncode == 1
    assert HIDDEN in debian.run("cat", f"/proc/{pid}/environ").stdout
    assert HIDDEN not in debian.journal("celery-docker-api")
    # The setuid trick: whoever may name another user in a job has his rights, and root's.
    assert "is not the submitter" in refused(installed, "alice", "run", "--user", "0", "busybox", "id")


def test_systemd_finds_nothing_to_mend_in_the_units(installed: Installed) -> None:
    for unit in ("celery-docker-api.service", "celery-docker-api.socket"):
        made = installed.debian.run("systemd-analyze", "verify", unit)
        assert made.stdout + made.stderr == ""
    score = installed.debian.run("systemd-analyze", "security", "celery-docker-api.service", check=False).stdout
    assert float(score.split("celery-docker-api.service: ")[1].split()[0]) < 2.5


def test_a_restart_under_forty_clients_answers_every_request(installed: Installed) -> None:
    debian = installed.debian
    debian.run("rm", "-f", "/tmp/over", "/tmp/begun")
    debian.shell("cat >/tmp/clients.py && chmod 644 /tmp/clients.py", input=CLIENTS)
    debian.shell("setsid runuser -u alice -- /usr/bin/python3 /tmp/clients.py >/tmp/counts 2>&1 </dev/null &")
    eventually(lambda: debian.run("test", "-e", "/tmp/begun", check=False).returncode == 0, 60, "the clients")
    for _ in range(3):
        debian.run("systemctl", "restart", "celery-docker-api")
        said(installed, "bob", "ps", "-q")
    debian.run("touch", "/tmp/over")
    counts = eventually(lambda: debian.read("/tmp/counts"), 60, "the clients to end")
    assert json.loads(counts).keys() == {"200"}


def test_an_upgrade_keeps_the_socket(installed: Installed) -> None:
    debian = installed.debian
    said(installed, "alice", "ps")
    pid = installed.show("MainPID", "celery-docker-api")
    files = [debian.run("stat", "-c", "%i", SOCKET).stdout, debian.run("sha256sum", KEY).stdout]
    debian.run("dpkg", "-i", installed.make_next(), timeout_s=300)
    assert [debian.run("stat", "-c", "%i", SOCKET).stdout, debian.run("sha256sum", KEY).stdout] == files
    assert debian.run("stat", "-c", "%a %U:%G", KEY).stdout == "640 root:celery\n"
    # dpkg does not wait for it.
    eventually(lambda: installed.show("MainPID", "celery-docker-api") not in (pid, "0"), 30, "the new process")
    installed.wait_until_ready()
    said(installed, "alice", "ps")


def test_a_purge_takes_the_socket_too(installed: Installed) -> None:
    debian = installed.debian
    debian.run("apt-get", "purge", "--yes", "celery-docker", timeout_s=300)
    leftovers = debian.shell(
        "find /etc /run /var/lib/systemd /usr/lib/systemd -name '*celery-docker*' -not -path '/run/user/*'"
    ).stdout
    assert leftovers == ""
    assert debian.run("systemctl", "list-units", "--all", "--plain", "--no-legend", "*celery*").stdout == ""
