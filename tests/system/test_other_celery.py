"""The package on a machine that has, or had, something else at its paths: what it refuses, and what a purge leaves.

One machine for all; each test leaves it without the package.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conftest import require
from tests.machines import machine
from tests.machines.installed import Installed

# The files of the guide "Daemonization" of Celery, and a worker of its own that runs.
_GUIDE = {
    "/etc/conf.d/celery": """\
CELERYD_NODES="w1"
CELERY_BIN="/opt/celery/venv/bin/python -m celery"
CELERY_APP="proj"
CELERYD_PID_FILE="/var/run/celery/%n.pid"
CELERYD_LOG_FILE="/var/log/celery/%n%I.log"
CELERYD_LOG_LEVEL="INFO"
CELERYD_OPTS="--concurrency=1 --pool=threads"
""",
    "/etc/tmpfiles.d/celery.conf": """\
d /run/celery 0755 celery celery -
d /var/log/celery 0755 celery celery -
""",
    "/etc/systemd/system/celery.service": """\
[Unit]
Description=Celery Service
After=network.target
[Service]
Type=forking
User=celery
Group=celery
EnvironmentFile=/etc/conf.d/celery
WorkingDirectory=/opt/celery
ExecStart=/bin/sh -c '${CELERY_BIN} -A $CELERY_APP multi start $CELERYD_NODES \\
    --pidfile=${CELERYD_PID_FILE} --logfile=${CELERYD_LOG_FILE} --loglevel="${CELERYD_LOG_LEVEL}" $CELERYD_OPTS'
ExecStop=/bin/sh -c '${CELERY_BIN} multi stopwait $CELERYD_NODES --pidfile=${CELERYD_PID_FILE} --loglevel=INFO'
Restart=always
[Install]
WantedBy=multi-user.target
""",
    "/opt/celery/proj.py": """\
from celery import Celery
app = Celery("proj", broker="redis://127.0.0.1:6379/7")
""",
}
_SET_UP = """
useradd --create-home celery
python3 -m venv --without-pip /opt/celery/venv
echo /opt/plain/lib/python3*/site-packages >"$(echo /opt/celery/venv/lib/python3*/site-packages)/plain.pth"
systemd-tmpfiles --create celery.conf
systemctl daemon-reload
systemctl enable --now celery.service
"""
_TAKE_DOWN = """
systemctl disable --now celery.service
userdel --remove celery
rm -r /opt/celery /var/log/celery /run/celery /etc/conf.d /etc/tmpfiles.d/celery.conf /etc/systemd/system/celery.service
systemctl daemon-reload
"""
# What runs writes here, and apt and dpkg keep their books; the package's own file lists are looked at.
_BOOKS = """
/proc /sys /dev /run /tmp /root /var/tmp /var/cache
/var/lib/apt /var/lib/containerd /var/lib/docker /var/lib/redis /var/lib/systemd/timers
/var/lib/dpkg/lock /var/lib/dpkg/lock-frontend /var/lib/dpkg/status /var/lib/dpkg/status-old /var/lib/dpkg/triggers
/var/log/alternatives.log /var/log/apt /var/log/dpkg.log /var/log/journal /var/log/lastlog /var/log/redis
"""
_ELSEWHERE = f"find / -xdev {' '.join(f'-path {path} -prune -o' for path in _BOOKS.split())}"
_LIST = rf"{_ELSEWHERE} -path '/usr/*' -type f -printf '%p\t%y %m %U:%G %s %T@\n' -o -printf '%p\t%y %m %U:%G %l\n'"
_HASH = f"{_ELSEWHERE} -path /usr -prune -o -path /opt/plain -prune -o -type f -print0 | xargs -0 sha256sum"
# The user and its groups, who stay, and what was there before them.
_ACCOUNTS = {f"/etc/{name}{old}" for name in ("passwd", "group", "shadow", "gshadow") for old in ("", "-")}
_STATE = """
dpkg --list
systemctl list-unit-files --plain --no-legend
systemctl list-units --type=service,socket,timer --state=active,failed --plain --no-legend
docker ps --all --format '{{.ID}} {{.Names}}'
docker image ls --format '{{.ID}} {{.Repository}}'
docker network ls --format '{{.ID}} {{.Name}}'
"""


@pytest.fixture(scope="module")
def debian(package: Path, plain_client: Path) -> Iterator[machine.Machine]:
    """A machine with Docker, Redis and the package at hand; nothing of the package was ever installed."""
    require("machine", machine.missing())
    with machine.Machine.boot("shared", machine.ready_image()) as booted:
        machine.import_busybox(booted)
        Installed(booted).add_plain_client(plain_client)
        booted.push(package, "/root/package.deb")
        booted.run("dpkg-deb", "--control", "/root/package.deb", "/root/control")
        yield booted
    assert machine.leftovers() == []


def files(debian: machine.Machine) -> dict[str, str]:
    """Return kind, mode, owner and content of all on the disk, by path; for the content below /usr stands its time."""
    listed = debian.shell(_LIST).stdout.splitlines()
    hashed = debian.shell(_HASH).stdout.splitlines()
    kinds = dict(line.split("\t") for line in listed)
    sums = {path: digest for digest, path in (line.split(maxsplit=1) for line in hashed)}
    return {path: f"{kind}{sums.get(path, '')}" for path, kind in kinds.items()}


def state(debian: machine.Machine) -> set[str]:
    """Return the lines of dpkg, systemctl and docker, without their columns."""
    return {" ".join(line.split()) for line in debian.shell(_STATE).stdout.splitlines()}


def accounts(debian: machine.Machine) -> set[str]:
    return set(debian.shell("getent passwd; getent group").stdout.splitlines())


def difference(before: dict[str, str], after: dict[str, str]) -> set[str]:
    """Return the paths that have come, gone or changed."""
    return {path for path in before | after if before.get(path) != after.get(path)}


def install(debian: machine.Machine, *, check: bool = True) -> str:
    process = debian.run("apt-get", "install", "--yes", "/root/package.deb", check=check, timeout_s=300)
    assert (process.returncode == 0) == check
    return process.stdout + process.stderr


def purge(debian: machine.Machine) -> str:
    return debian.run("apt-get", "purge", "--yes", "celery-docker", timeout_s=120).stdout


@pytest.fixture
def guide(debian: machine.Machine) -> Iterator[None]:
    """Celery as its guide sets it up, with a worker that runs."""
    for path, text in _GUIDE.items():
        debian.write(path, text)
    debian.shell(_SET_UP)
    yield
    debian.shell(_TAKE_DOWN)


@pytest.mark.usefixtures("guide")
def test_an_installation_beside_another_celery_is_refused_and_changes_nothing(debian: machine.Machine) -> None:
    worker = debian.run("systemctl", "show", "--value", "-p", "MainPID", "celery.service").stdout
    before = files(debian), state(debian) | accounts(debian)
    output = install(debian, check=False)
    assert "this machine has another Celery, which this package would take over" in output
    assert "the user celery has the home /home/celery; rename it: usermod --login" in output
    assert "/opt/celery holds " in output
    assert "/var/log/celery holds files (1), such as /var/log/celery/w1.log; move them away" in output
    assert difference(before[0], files(debian)) <= {"/var/log/celery/w1.log"}
    assert before[1] ^ (state(debian) | accounts(debian)) == set()
    assert debian.run("systemctl", "show", "--value", "-p", "MainPID", "celery.service").stdout == worker
    assert debian.run("dpkg", "--audit").stdout == ""


def preinst(debian: machine.Machine) -> str:
    """Return what the package's preinst would complain about; empty if it would let the package in."""
    process = debian.run("/root/control/preinst", "install", check=False)
    assert (process.returncode == 0) == (process.stderr == "")
    debian.run("rm", "-f", "/run/celery-docker.start")
    return process.stderr


# Commands that put something in the way and those that take it away again, and what is said of it; nothing: it is not.
SINGLE = {
    "an empty folder": ("mkdir /opt/celery", "rmdir /opt/celery", ""),
    "settings written beforehand": ("touch /etc/default/celery-worker", "rm /etc/default/celery-worker", ""),
    "a worker masked beforehand": ("systemctl mask celery-worker", "systemctl unmask celery-worker", ""),
    "a unit of that name": (
        "touch /etc/systemd/system/celery-worker.service",
        "rm /etc/systemd/system/celery-worker.service",
        "/etc/systemd/system/celery-worker.service would hide the package's unit",
    ),
    "somebody's program": (
        "mkdir /opt/celery && touch '/opt/celery/a b'",
        "rm -r /opt/celery",
        "/opt/celery holds files (1), such as /opt/celery/a b; move them away",
    ),
    "a user who is not ours, with our home": (
        "useradd --home-dir /opt/celery celery",
        "userdel celery",
        "usermod --home /opt/celery --append --groups docker celery",
    ),
    "such a user, with the rights of ours": (
        "useradd --home-dir /opt/celery --groups docker celery",
        "userdel celery",
        "",
    ),
    "a group without its user": ("groupadd celery", "groupdel celery", "there is a group celery without a user celery"),
}


@pytest.mark.parametrize(("put", "take", "expected"), SINGLE.values(), ids=SINGLE)
def test_each_thing_in_the_way_is_named_with_its_remedy(
    debian: machine.Machine, put: str, take: str, expected: str
) -> None:
    debian.shell(put)
    try:
        complaint = preinst(debian)
    finally:
        debian.shell(take)
    assert bool(complaint) == bool(expected)
    assert expected in complaint


def test_a_purge_leaves_the_machine_as_it_was_but_for_the_user_and_its_groups(debian: machine.Machine) -> None:
    """With a job that has run and written its log, and settings that somebody has changed."""
    before = files(debian), state(debian), accounts(debian)
    install(debian)
    debian.run("celery-docker", "run", "--log-file", "/var/log/celery/a/job.log", "busybox", "echo", "Done")
    debian.shell("echo CELERY_DOCKER_LOG_LEVEL=INFO >>/etc/default/celery-worker")
    debian.shell("echo >>/etc/celery-docker/policy.toml && install -D /dev/null /etc/celery-docker/docker/config.json")
    assert "Docker Docker" not in Installed(debian).log
    debian.run("apt-get", "remove", "--yes", "celery-docker")
    assert debian.read("/var/log/celery/a/job.log") == "Done\n"
    output = purge(debian)
    assert "the user celery and the groups celery and docker stay" in output
    assert "did not make" not in output
    assert difference(before[0], files(debian)) - _ACCOUNTS == set()
    assert before[1] ^ state(debian) == set()
    new = accounts(debian) - before[2]
    assert {line.partition(":")[0] for line in new} == {"celery", "docker"}


def test_files_of_others_outlive_a_purge_and_are_named(debian: machine.Machine) -> None:
    """They do not keep the package from coming back either, where it would not overwrite them."""
    strangers = ("/opt/celery/.profile", "/etc/celery-docker/gpu.toml", "/var/log/celery/others.log")
    install(debian)
    Installed(debian).wait_until_ready()
    debian.run("touch", *strangers)
    debian.shell("cd /opt/celery/venv/lib/python3*/site-packages && touch added.py")
    output = purge(debian)
    added = debian.shell("ls /opt/celery/venv/lib/python3*/site-packages/*").stdout.strip()
    assert added.endswith("/added.py")
    for path in (*strangers, added):
        assert f"{path} stays: this package did not make it" in output
        assert debian.path(path).exists()
    assert f"/opt/celery/venv holds files (1), such as {added}; move them away" in preinst(debian)
    debian.run("rm", added)
    install(debian)
    debian.run("rm", *strangers)
    purge(debian)
