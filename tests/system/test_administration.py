"""Reload, check-config, upgrade and removal by an administrator's hand, on a Debian without procps."""

from __future__ import annotations

import json
import re
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from changelog import VERSION
from tests.machines import machine
from tests.machines.installed import NEXT, SETTINGS, Installed
from tests.waiting import eventually

HELD = "touch /output/on; until [ -e /output/go ]; do sleep 0.05; done"
RELOAD = ("systemctl", "reload", "celery-worker")
# Sends jobs and revokes each at once, from before a reload until the next process has taken over; prints the states.
_REVOKE = """
import json, subprocess, sys
from celery import Celery
app = Celery(broker=sys.argv[1], backend=sys.argv[1])
sent = []

def revoke_one():
    sent.append(app.send_task("tasks.run_docker", ["busybox", "true"], countdown=3600))
    app.control.revoke(sent[-1].id)

def shown(name):
    command = ("systemctl", "show", "--value", "-p", name, "celery-worker")
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout

def is_over():
    return shown("MainPID") not in (pid, "0\\n") and "free" in shown("StatusText") and reload.poll() is not None

pid = shown("MainPID")
revoke_one()
reload = subprocess.Popen(["systemctl", "reload", "celery-worker"])
while not is_over():
    revoke_one()
for result in sent:
    try:
        result.get(timeout=60, propagate=False)
    except Exception as exc:
        print(exc, file=sys.stderr)
        break
print(json.dumps([reload.returncode, [result.state for result in sent]]))
"""


@dataclass
class Held:
    """A machine whose worker runs a job until the test lets it end."""

    installed: Installed
    job_id: str
    folder: str
    unit: str = "celery-worker"

    def state(self) -> tuple[str, str]:
        """Return the worker's process and the container's start: what a harmless event leaves as it is."""
        inspect = ("docker", "inspect", "--format", "{{.Id}} {{.State.StartedAt}}", f"run-{self.job_id}")
        return self.installed.show("MainPID", self.unit), self.installed.debian.run(*inspect).stdout

    @property
    def log(self) -> str:
        return self.installed.debian.journal(self.unit)

    def edit(self, **settings: str | int) -> None:
        lines = [f"CELERY_DOCKER_{name}={value}\n" for name, value in settings.items()]
        self.installed.debian.shell(f"cat >{SETTINGS}", input="".join(lines))

    def succeeds(self) -> None:
        """Let the job end; it has run once."""
        self.installed.debian.run("touch", f"{self.folder}/go")
        state, receipt = self.installed.result(self.job_id)
        assert (state, len(receipt["attempts"])) == ("SUCCESS", 1)


@pytest.fixture
def held(installed: Installed) -> Iterator[Held]:
    with _held(installed) as held:
        yield held


@contextmanager
def _held(installed: Installed) -> Iterator[Held]:
    debian = installed.debian
    debian.shell("rm -rf /srv/held && install -d -m 777 /srv/held")
    installed.configure(CONCURRENCY=2, LOG_LEVEL="INFO")
    installed.wait_until_ready()
    job_id = installed.send(image="busybox", command=["sh", "-c", HELD], outputpath="/srv/held", retries=0)
    eventually(debian.path("/srv/held/on").exists, 30, "the job to run")
    yield Held(installed, job_id, "/srv/held")
    debian.run("touch", "/srv/held/go")
    eventually(lambda: installed.containers("--all") == [], 30, "the end of the container")


def test_a_reload_applies_a_changed_setting_and_leaves_the_running_job_alone(held: Held) -> None:
    """Without the program kill, which a small Debian does not have."""
    assert held.installed.debian.run("which", "kill", check=False).stdout == ""
    pid, container = held.state()
    held.edit(CONCURRENCY=5, LOG_LEVEL="INFO")
    held.installed.debian.run(*RELOAD)
    eventually(lambda: held.installed.status == "1 job running, 4 of 5 slots free", 30, "the new setting")
    assert held.state()[1] == container
    assert held.state()[0] != pid
    held.succeeds()


def test_a_stop_in_the_middle_of_a_reload_is_no_failure(installed: Installed) -> None:
    """The reload waits for Redis, which hangs, until the stop ends it."""
    debian = installed.debian
    installed.configure(CONCURRENCY=2, LOG_LEVEL="INFO")
    installed.wait_until_ready()
    debian.run("systemctl", "kill", "-s", "STOP", "redis-server")
    try:
        debian.run("systemctl", "reload", "--no-block", "celery-worker")
        eventually(lambda: installed.show("ControlPID") != "0", 30, "the reload to begin")
        debian.run("systemctl", "stop", "--no-block", "celery-worker")
        eventually(lambda: installed.show("ControlPID") == "0", 30, "the end of the reload")
    finally:
        debian.run("systemctl", "kill", "-s", "CONT", "redis-server")
    eventually(lambda: installed.show("ActiveState") in ("inactive", "failed"), 120, "the end of the worker")
    assert (installed.show("ActiveState"), installed.show("Result")) == ("inactive", "success")
    debian.run("systemctl", "start", "celery-worker")


def test_no_revoke_is_lost_during_a_reload(held: Held) -> None:
    """Redis forgets a revoke that nobody listens to, so systemd keeps a socket for the next process."""
    returned, states = json.loads(held.installed.python(_REVOKE, timeout_s=200))
    assert returned == 0
    assert len(states) > 1
    assert set(states) == {"REVOKED"}, f"{states.count('PENDING')} of {len(states)} were lost"
    held.succeeds()


BAD = {
    "a word for a number": ({"CONCURRENCY": "many"}, "CELERY_DOCKER_CONCURRENCY='many': must be a whole number from 0"),
    "an option that celery does not know": ({"OPTS": "--nonsense"}, "No such option '--nonsense'"),
    "no policy": ({"POLICY": "/etc/none.toml"}, "CELERY_DOCKER_POLICY='/etc/none.toml': cannot be read"),
    "another database": ({"BROKER_URL": "redis://127.0.0.1/1"}, "systemctl restart celery-worker waits for them"),
    "a wrong login": ({"BROKER_URL": "redis://me:s3cret@127.0.0.1/0"}, "refuses the login"),
}


@pytest.mark.parametrize(("settings", "expected"), BAD.values(), ids=BAD)
def test_a_reload_with_a_bad_setting_fails_and_names_it(held: Held, settings: dict[str, str], expected: str) -> None:
    """The old worker goes on, and the next good reload works."""
    before, debian = held.state(), held.installed.debian
    held.edit(**settings)
    assert debian.run(*RELOAD, check=False).returncode != 0
    assert held.state() == before
    assert held.installed.is_active
    status = debian.run("systemctl", "status", "celery-worker", check=False).stdout
    (line,) = [line for line in status.splitlines() if "not reloaded, the worker goes on" in line]
    assert expected in line
    assert "s3cret" not in status
    urgent = debian.run("journalctl", "--unit=celery-worker", "--priority=err", "--output=cat").stdout
    assert expected in urgent
    held.edit(CONCURRENCY=3)
    debian.run(*RELOAD)
    eventually(lambda: held.installed.status == "1 job running, 2 of 3 slots free", 30, "the good setting")
    held.succeeds()


def test_check_config_by_root_by_a_member_of_the_group_and_by_anybody(installed: Installed) -> None:
    debian = installed.debian
    debian.run("useradd", "--groups", "celery", "member")
    debian.run("useradd", "anybody")
    debian.shell(f"echo CELERY_DOCKER_CONCURRENCY=many >{SETTINGS}")
    for user in (None, "member"):
        bad = debian.run("celery-docker", "check-config", user=user, check=False)
        expected = f"{SETTINGS}: CELERY_DOCKER_CONCURRENCY='many': must be a whole number from 0 to 500\n"
        assert (bad.returncode, bad.stdout, bad.stderr) == (78, "", expected)
    closed = debian.run("celery-docker", "check-config", user="anybody", check=False)
    assert closed.returncode != 0
    assert f"you may not read {SETTINGS}: run this with sudo, or as a member of group celery" in closed.stderr
    debian.shell(f"echo CELERY_DOCKER_CONCURRENCY=3 >{SETTINGS}")
    assert f"{SETTINGS} and the policy are in order" in debian.run("celery-docker", "check-config").stdout


def test_doctor_names_what_an_ordinary_user_could_not_look_at(installed: Installed) -> None:
    lines = installed.debian.run("celery-docker", "doctor", user="nobody", check=False).stdout.splitlines()
    skipped = [line for line in lines if line.startswith("skip")]
    assert [line.split()[1] for line in skipped] == ["docker:", "registries:", "settings:"]
    assert all("→ sudo celery-docker doctor" in line for line in skipped)


def test_an_upgrade_with_a_bad_setting_leaves_the_worker_running(held: Held) -> None:
    """apt says what is wrong, doctor says which version runs; once it is mended, a reload brings the new one."""
    before, debian = held.state(), held.installed.debian
    held.installed.make_next()
    held.edit(CONCURRENCY="many")
    output = debian.run("apt-get", "install", "--yes", "/root/next.deb", timeout_s=300).stdout
    assert f"celery-docker: {SETTINGS}: CELERY_DOCKER_CONCURRENCY='many': must be" in output
    assert "the worker goes on as it is; then: systemctl reload celery-worker" in output
    eventually(lambda: "not reloaded" in held.installed.log, 30, "the refused reload")
    assert held.state() == before

    def version_line() -> str:
        lines = debian.run("celery-docker", "doctor", check=False).stdout.splitlines()
        return next(line for line in lines if " version: " in line)

    expected = f"package runs {VERSION}, installed is {NEXT} → systemctl reload celery-worker"
    eventually(lambda: version_line() == f"warn  version: {expected}", 30, "doctor to say so")
    held.edit(CONCURRENCY=3)
    debian.run(*RELOAD)
    eventually(lambda: held.installed.status == "1 job running, 2 of 3 slots free", 30, "the new process")
    assert held.state()[1] == before[1]
    eventually(lambda: version_line() == f"ok    version: all run {NEXT}", 30, "doctor to be content")
    held.succeeds()


def test_an_upgrade_leaves_a_stopped_worker_stopped(installed: Installed) -> None:
    debian = installed.debian
    debian.run("systemctl", "stop", "celery-worker")
    debian.shell("apt-get install --yes --allow-downgrades /root/celery-docker_*.deb", timeout_s=300)
    assert installed.show("ActiveState") == "inactive"
    debian.shell(f"echo CELERY_DOCKER_CONCURRENCY=many >{SETTINGS}")
    debian.shell("apt-get install --yes --reinstall /root/celery-docker_*.deb", timeout_s=300)
    assert installed.show("ActiveState") == "inactive"


@dataclass
class Pair:
    """Two workers on one machine, each with a job of its own queue that runs until the test lets it end."""

    first: Held
    gpu: Held

    def hosts(self) -> dict[str, dict[str, Any]]:
        lines = self.first.installed.debian.run("celery-docker", "workers", "--json").stdout.splitlines()
        return {row["host"]: row for row in map(json.loads, lines)}

    def states(self) -> tuple[tuple[str, str], tuple[str, str]]:
        return self.first.state(), self.gpu.state()

    def containers(self) -> tuple[str, str]:
        """Return the start of each container."""
        return self.first.state()[1], self.gpu.state()[1]


@pytest.fixture
def pair(held: Held) -> Iterator[Pair]:
    debian = held.installed.debian
    debian.shell("rm -rf /srv/gpu && install -d -m 777 /srv/gpu && echo CELERY_DOCKER_CONCURRENCY=3 >$1-gpu", SETTINGS)
    debian.run("systemctl", "enable", "--now", "celery-worker@gpu")
    submit = ("celery-docker", "submit", "--queue", "gpu", "--retries", "0", "-o", "/srv/gpu")
    job_id = debian.run(*submit, "busybox", "sh", "-c", HELD).stdout.split()[0]
    eventually(debian.path("/srv/gpu/on").exists, 30, "the job of the queue gpu to run")
    yield Pair(held, Held(held.installed, job_id, "/srv/gpu", "celery-worker@gpu"))
    debian.run("touch", "/srv/gpu/go", f"{held.folder}/go")
    eventually(lambda: held.installed.containers("--all") == [], 30, "the end of the containers")


def test_a_second_worker_has_its_own_queue_slots_and_jobs(pair: Pair) -> None:
    """It runs without the first one too, and neither takes the other's name, or its container after a kill."""
    debian = pair.first.installed.debian
    hosts = {
        "package": (2, ["celery"], "celery-worker", 1),
        "gpu@package": (3, ["gpu"], "celery-worker@gpu", 1),
    }

    def reported() -> dict[str, tuple[object, ...]]:
        names = ("slots", "queues", "unit", "running")
        return {host: tuple(row[name] for name in names) for host, row in pair.hosts().items()}

    eventually(lambda: reported() == hosts, 30, f"two workers: {reported()}")
    doctor = debian.run("celery-docker", "doctor", check=False).stdout.splitlines()
    assert {"ok    celery-worker: is active", "ok    celery-worker@gpu: is active"} < set(doctor)
    drained = debian.run("celery-docker", "drain", "--json").stdout
    assert {row["host"] for row in json.loads(drained)} == set(hosts)
    debian.run("celery-docker", "resume")
    (pid, _), (gpu_pid, _) = pair.states()
    containers = pair.containers()
    debian.shell("systemctl kill --signal=KILL celery-worker celery-worker@gpu")
    eventually(lambda: {state[0] for state in pair.states()}.isdisjoint({pid, gpu_pid, "0"}), 30, "the next processes")
    eventually(lambda: "taken over" in pair.first.log and "taken over" in pair.gpu.log, 30, "both to take over")
    for held in (pair.first, pair.gpu):
        assert set(re.findall(r"job ([0-9a-f-]+): ", held.log)) >= {held.job_id}
    assert pair.first.job_id not in pair.gpu.log
    assert pair.gpu.job_id not in pair.first.log
    assert pair.containers() == containers
    debian.shell("echo CELERY_DOCKER_OPTS=-n gpu@%h >$1-two; systemctl start --no-block celery-worker@two", SETTINGS)
    clash = "another worker on this machine works under the name gpu@package"
    eventually(lambda: clash in debian.journal("celery-worker@two"), 60, "the second of one name to be refused")
    debian.shell("systemctl stop celery-worker@two; rm $1-two", SETTINGS)
    pair.first.succeeds()
    debian.run("systemctl", "stop", "celery-worker")
    pair.gpu.succeeds()
    debian.run("celery-docker", "run", "--queue", "gpu", "busybox", "true")


def test_workers_and_containers_share_a_slice_and_the_journal_explains(pair: Pair) -> None:
    debian = pair.first.installed.debian
    for held in (pair.first, pair.gpu):
        pid = debian.run("docker", "inspect", "--format", "{{.State.Pid}}", f"run-{held.job_id}").stdout.strip()
        for process in (pid, held.state()[0]):
            assert "/celery-docker.slice/" in debian.read(f"/proc/{process}/cgroup")
    assert "celery-docker.slice" in debian.run("systemd-cgtop", "--iterations=1", "--batch").stdout
    explained = debian.run("journalctl", "--unit=celery-worker@gpu", "--catalog", "--no-pager").stdout
    assert "Subject: The worker takes jobs" in explained
    assert "Defined-By: celery-docker" in explained
    assert (
        debian.run("systemd-analyze", "verify", "--man=no", "celery-worker@gpu.service", "celery-docker.slice").stderr
        == ""
    )


def test_an_upgrade_hands_both_workers_over(pair: Pair) -> None:
    debian = pair.first.installed.debian
    containers, (before, gpu_before) = pair.containers(), pair.states()
    pair.first.installed.make_next()
    debian.run("apt-get", "install", "--yes", "/root/next.deb", timeout_s=300)
    eventually(lambda: [row["version"] for row in pair.hosts().values()] == [NEXT, NEXT], 60, "both in the new version")
    assert pair.containers() == containers
    assert pair.first.state()[0] != before[0]
    assert pair.gpu.state()[0] != gpu_before[0]
    pair.first.succeeds()
    pair.gpu.succeeds()


def test_a_redis_of_our_own_comes_and_goes(installed: Installed) -> None:
    """It is said beforehand and done once; no job is left behind, and the settings are those of before in the end."""
    debian, config = installed.debian, "/etc/redis/redis-celery-docker.conf"
    installed.configure(CONCURRENCY=2, LOG_LEVEL="INFO")
    installed.wait_until_ready()
    client = "/etc/celery-docker/client.conf"
    before = debian.read(SETTINGS), debian.read(client)

    def setup(*flags: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        return debian.run("celery-docker", "setup-redis", *flags, check=check)

    def submit(*words: str, user: str | None = None) -> str:
        return debian.run("celery-docker", "submit", *words, "busybox", "true", user=user).stdout.split()[0]

    gateway = {"CELERY_DOCKER_BROKER_URL": "http+unix:///run/celery-docker/api.sock"}

    def submitted_through_the_service() -> bool:
        return debian.run("celery-docker", "run", "busybox", "true", env=gateway, timeout_s=60).returncode == 0

    debian.run("systemctl", "start", "celery-docker-api.socket")
    assert submitted_through_the_service()
    announced = setup("--dry-run").stdout
    assert "restart celery-docker-api celery-worker" in announced
    assert f"set CELERY_DOCKER_BROKER_URL=redis://:***@127.0.0.1:6380/0 in {SETTINGS}" in announced
    assert not debian.path(config).exists()
    waiting = submit("--queue", "nobody")
    refusal = setup("--yes", check=False)
    assert refusal.returncode == 2
    assert refusal.stderr.startswith("celery-docker: the Redis at redis://127.0.0.1:6379/0 has 1 job to run")
    debian.run("celery-docker", "cancel", waiting)
    eventually(lambda: "cancelled" in debian.run("celery-docker", "status", waiting, check=False).stdout, 30, "its end")
    assert setup("--yes").stdout == announced
    installed.wait_until_ready()
    assert debian.run("stat", "-c", "%U:%G %a", SETTINGS).stdout == "root:celery 640\n"
    assert submitted_through_the_service()
    debian.run("systemctl", "stop", "celery-docker-api.socket", "celery-docker-api.service")
    assert setup("--yes").stderr == "nothing to do: all is set up\n"
    doctor = debian.run("celery-docker", "doctor", check=False).stdout
    for line in ("redis: answers at 127.0.0.1:6380", "password: Redis asks for one", "eviction: Redis throws nothing"):
        assert f"ok    {line}" in doctor
    assert "ok    persistence: Redis writes every change to its append-only file\n" in doctor
    debian.run("useradd", "--create-home", "--groups", "celery", "submitter")
    debian.run("celery-docker", "wait", submit(user="submitter"), user="submitter")
    refused = debian.run("celery-docker", "ps", user="nobody", check=False)
    assert refused.returncode != 0
    assert "ask the administrator for membership in group celery" in refused.stderr
    waiting = submit("--queue", "nobody")
    assert setup("--remove", "--yes", check=False).returncode == 2
    setup("--remove", "--yes", "--leave-jobs")
    assert (debian.read(SETTINGS), debian.read(client)) == before
    assert not debian.path(config).exists()
    installed.wait_until_ready()
    assert debian.run("celery-docker", "status", waiting, check=False).returncode != 0
    assert setup("--remove").stderr == "nothing to do: there is no Redis of setup-redis\n"
    setup("--yes", "--port", "6390")
    assert "queued" in debian.run("celery-docker", "status", waiting, check=False).stdout
    setup("--remove", "--yes", "--leave-jobs", "--delete-data")
    assert not debian.path("/var/lib/redis/celery-docker").exists()
    installed.wait_until_ready()


def test_a_removal_says_what_it_waits_for(pair: Pair) -> None:
    """And ends with the jobs of all workers; one that has only just begun, which no status tells yet, counts too."""
    held, debian = pair.first, pair.first.installed.debian
    debian.shell(
        "systemd-run --quiet --unit=removal --setenv=DEBIAN_FRONTEND=noninteractive apt-get remove --yes celery-docker"
    )

    def output() -> str:
        return debian.journal("removal")

    eventually(lambda: "celery-docker cancel JOB ends one" in output(), 60, "the removal to say what it waits for")
    assert re.search(r"waiting for the running jobs to end, up to 7200 s .*: .*1 (job running|running job)", output())
    held.succeeds()
    assert debian.run("systemctl", "is-active", "removal", check=False).stdout == "active\n"
    pair.gpu.succeeds()
    eventually(lambda: debian.run("systemctl", "is-active", "removal", check=False).stdout != "active\n", 60, "its end")
    assert debian.run("which", "celery-docker", check=False).stdout == ""


def test_installation_and_upgrade_from_the_signed_repository(
    installed: Installed, package: Path, tmp_path: Path
) -> None:
    """As README says; what is signed by another key is not taken. A running job goes on."""
    debian, release = installed.debian, machine.package_release()
    sources = "/etc/apt/sources.list.d/celery-docker.sources"
    debian.run("apt-get", "purge", "--yes", "celery-docker", timeout_s=120)
    debian.shell("rm -f /etc/apt/sources.list /etc/apt/sources.list.d/*")  # the machine cannot reach them
    _publish(debian, tmp_path / "repository", release, package)
    debian.run("systemd-run", "--unit=web", "python3", "-m", "http.server", "--bind=127.0.0.1", "--directory=/srv/apt")
    fetch = ("/usr/lib/apt/apt-helper", "download-file", f"http://127.0.0.1:8000/{release}.sources", sources)
    eventually(lambda: debian.run(*fetch, check=False).returncode == 0, 20, "the web server")
    debian.shell("apt update && apt install --yes celery-docker", timeout_s=300)
    with _held(installed) as held:
        before = held.state()
        installed.make_next()
        _publish(debian, tmp_path / "other", release, debian.path("/root/next.deb"))
        debian.run("apt-get", "update", check=False)
        assert NEXT not in debian.run("apt-cache", "policy", "celery-docker").stdout
        _publish(debian, tmp_path / "repository", release, debian.path("/root/next.deb"))
        debian.shell("apt update && apt upgrade --yes", timeout_s=300)
        eventually(lambda: held.state()[0] not in (before[0], "0"), 30, "the new process")
        installed.wait_until_ready()
        assert held.state()[1] == before[1]
        version = debian.run("dpkg-query", "--show", "--showformat=${Version}", "celery-docker").stdout
        assert version == NEXT
        held.succeeds()


def _publish(debian: machine.Machine, folder: Path, release: str, package: Path) -> None:
    """Make a repository of one package where the machine's web server looks; its key is that of the folder."""
    program = Path(__file__).parents[2] / "debian/repository"
    command = (program, folder, "http://127.0.0.1:8000", "", f"{release}={package}")
    subprocess.run(command, check=True, capture_output=True, timeout=60)
    debian.run("rm", "-rf", "/srv/apt")
    debian.push(folder, "/srv/apt")
