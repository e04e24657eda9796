"""The installed package in a booted Debian, as its administrator and its users meet it."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.machines import journal
from tests.machines.installed import SETTINGS, Installed
from tests.waiting import eventually

WAIT = "until [ -e /output/go ]; do sleep 0.05; done"


@pytest.fixture
def shared(installed: Installed) -> Iterator[str]:
    """A folder in the machine that every container may write to."""
    installed.debian.shell("rm -rf /srv/job && install -d -m 777 /srv/job")
    yield "/srv/job"
    installed.debian.run("rm", "-rf", "/srv/job")


@pytest.fixture
def worker(installed: Installed) -> Iterator[Installed]:
    """The worker with four slots and quick retries, as an administrator's settings file says."""
    installed.configure(CONCURRENCY=4, RETRY_DELAY=0, LOG_LEVEL="INFO")
    installed.wait_until_ready()
    yield installed
    # A job's result is there before its container goes.
    eventually(lambda: installed.containers("--all") == [], 60, "the end of the containers")


def test_apt_install_alone_brings_up_the_worker(installed: Installed) -> None:
    """Nothing but the installation was done, and `systemctl status` says how many slots are free."""
    installed.wait_until_ready()
    assert installed.is_active
    cpus = int(installed.debian.run("nproc").stdout)
    text = installed.debian.run("systemctl", "status", "celery-worker").stdout
    assert f"0 jobs running, {cpus} of {cpus} slots free" in text
    assert "Traceback" not in installed.log


def test_a_plain_celery_client_gets_its_result(worker: Installed) -> None:
    state, receipt = worker.result(worker.send(image="busybox", command="echo hello"))
    assert state == "SUCCESS"
    assert receipt["output"] == "hello\n"


def test_the_worker_is_not_root_and_its_settings_are_not_for_everybody(worker: Installed) -> None:
    assert worker.show("User") == "celery"
    assert worker.debian.run("stat", "-c", "%U:%G %a", SETTINGS).stdout == "root:celery 640\n"
    groups = worker.debian.run("id", "-nG", "celery").stdout.split()
    assert "docker" in groups


def test_an_edit_of_concurrency_and_retries_takes_effect_after_a_restart(installed: Installed, shared: str) -> None:
    installed.configure(CONCURRENCY=3, MAX_RETRIES=1, RETRY_DELAY=0)
    installed.wait_until_ready()
    assert installed.status == "0 jobs running, 3 of 3 slots free"
    sent = installed.send(image="busybox", command=["sh", "-c", "echo run >> /output/runs; exit 1"], outputpath=shared)
    state, line = installed.result(sent)
    assert state == "FAILURE"
    assert line.startswith("failed: exit code 1")
    assert installed.debian.read(f"{shared}/runs") == "run\n" * 2


def test_a_stop_waits_for_the_running_job(worker: Installed, shared: str) -> None:
    sent = worker.send(image="busybox", command=["sh", "-c", f"touch /output/on; {WAIT}"], outputpath=shared)
    eventually(worker.debian.path(f"{shared}/on").exists, 30, "the job to run")
    worker.debian.run("systemctl", "stop", "--no-block", "celery-worker")
    eventually(lambda: worker.status.startswith("Stopping: waiting for 1 running"), 30, "the status to say so")
    assert worker.show("ActiveState") == "deactivating"
    assert len(worker.containers()) == 1
    worker.debian.run("touch", f"{shared}/go")
    assert worker.result(sent)[0] == "SUCCESS"
    eventually(lambda: worker.show("ActiveState") == "inactive", 30, "the worker to end")


def test_a_second_delivery_of_the_same_message_runs_nothing(worker: Installed, shared: str) -> None:
    debian = worker.debian
    command = ["sh", "-c", f"echo run >> /output/runs; {WAIT}"]
    debian.run("systemctl", "stop", "celery-worker")
    sent = worker.send(image="busybox", command=command, outputpath=shared)
    message = debian.run("redis-cli", "lindex", "celery", "0").stdout.rstrip("\n")
    debian.run("systemctl", "start", "celery-worker")
    eventually(debian.path(f"{shared}/runs").exists, 30, "the job to run")
    debian.run("redis-cli", "-x", "lpush", "celery", input=message)
    eventually(lambda: "second delivery was dropped" in worker.log, 30, "the copy to be dropped")
    debian.run("touch", f"{shared}/go")
    assert worker.result(sent)[0] == "SUCCESS"
    assert debian.read(f"{shared}/runs") == "run\n"


def test_queued_jobs_stay_in_redis_while_all_slots_are_busy(worker: Installed, shared: str) -> None:
    sent = [worker.send(image="busybox", command=["sh", "-c", WAIT], outputpath=shared) for _ in range(7)]
    eventually(lambda: len(worker.containers()) == 4, 60, "four containers")
    assert worker.queue_length() == 3
    assert worker.status == "4 jobs running, 0 of 4 slots free"
    worker.debian.run("touch", f"{shared}/go")
    assert {worker.result(job_id)[0] for job_id in sent} == {"SUCCESS"}


def test_tasks_py_submits_and_prints_the_id(worker: Installed, shared: str) -> None:
    """The README's example, typed by a member of group celery."""
    debian = worker.debian
    debian.run("useradd", "--groups", "celery", "--create-home", "alice")
    debian.run("sh", "-c", "echo input > /home/alice/input.txt && chmod 700 /home/alice")
    tasks = ("/opt/celery/venv/bin/python", "/opt/celery/worker/tasks.py")
    paths = ("--inputpath", "/home/alice/input.txt", "--outputpath", shared, "--out", f"{shared}/job.log")
    script = "md5sum /input > /output/output.txt && echo Done"
    completed = debian.run(*tasks, *paths, "busybox", "--", "sh", "-c", script, user="alice")
    assert worker.result(completed.stdout.strip())[0] == "SUCCESS"
    assert debian.read(f"{shared}/job.log") == "Done\n"
    expected = debian.run("md5sum", "/home/alice/input.txt").stdout.split()[0]
    assert debian.read(f"{shared}/output.txt").split() == [expected, "/input"]


def test_the_readmes_example_works_as_it_is_printed(worker: Installed) -> None:
    """Typed line by line by an ordinary user, after the installation."""
    readme = (Path(__file__).parents[2] / "README.md").read_text()
    blocks = re.findall(r"```console\n(.*?)```", readme, re.DOTALL)
    block = next(block for block in blocks if "tasks.py" in block)
    commands = [line.removeprefix("$ ") for line in block.replace("\\\n", "").splitlines()]
    assert len(commands) == 2
    worker.debian.run("useradd", "--groups", "celery", "bob")
    outputs = [worker.debian.run("sh", "-c", command, user="bob").stdout for command in commands]
    assert worker.result(outputs[-1].strip())[0] == "SUCCESS"
    assert worker.debian.read("/var/log/celery/job.log").splitlines()[-1] == "Done"
    assert worker.debian.read("/tmp/job/out/output.txt") == "b1946ac92492d2347c6235b4d2611184  /input\n"


def test_each_event_is_one_line_of_the_journal_with_the_job_as_a_field(worker: Installed) -> None:
    sent = worker.send(image="busybox", command="true")
    worker.result(sent)
    entries = worker.debian.run("journalctl", "--output=cat", f"CELERY_DOCKER_JOB={sent}").stdout.splitlines()
    assert len(entries) == 2
    assert all(line.startswith(f"job {sent}: ") for line in entries)
    assert "succeeded" in entries[-1]


def test_the_journal_has_the_life_of_a_job_and_explains_it(worker: Installed) -> None:
    journal.tells_a_life(worker)


def test_the_lines_of_very_many_jobs_hide_no_warning(worker: Installed) -> None:
    """More than the journal takes of one service; on a real one, they are as many jobs in half a minute."""
    script = """
import logging
from celery_docker.host import systemd
log = logging.getLogger("celery_docker")
log.addHandler(systemd.log_handler({"JOURNAL_STREAM": "1:1"}))
log.setLevel("INFO")
for number in range(100_000):
    log.info("succeeded", extra={"job": str(number)})
log.warning("takes no jobs")
"""
    python = "/opt/celery/venv/bin/python"
    worker.debian.run("systemd-run", "--wait", "--quiet", "--unit=many", python, "-c", script, timeout_s=300)
    worker.debian.run("journalctl", "--sync")
    lines = worker.debian.run("journalctl", "--unit=many", "--output=cat", timeout_s=120).stdout.splitlines()
    assert "takes no jobs" in lines
    assert 10_000 <= len([line for line in lines if line.endswith(": succeeded")]) < 100_000


def test_systemd_finds_nothing_to_mend_in_the_unit(installed: Installed) -> None:
    completed = installed.debian.run("systemd-analyze", "verify", "celery-worker.service")
    assert completed.stdout + completed.stderr == ""


def test_after_a_kill_the_worker_is_back(worker: Installed) -> None:
    before = worker.show("MainPID")
    worker.debian.run("systemctl", "kill", "-s", "KILL", "celery-worker")
    eventually(lambda: worker.show("MainPID") not in (before, "0"), 30, "another process")
    worker.wait_until_ready()
    assert worker.result(worker.send(image="busybox", command="true"))[0] == "SUCCESS"


BAD_SETTINGS = {
    "a word for a number": ({"CONCURRENCY": "many"}, "CELERY_DOCKER_CONCURRENCY='many': must be a whole number"),
    "a typo in the broker URL": ({"BROKER_URL": "redi://:s3cret@127.0.0.1/0"}, "must look like redis://"),
    "an option that celery does not know": ({"OPTS": "--nonsense"}, "No such option '--nonsense'"),
    "no policy": ({"POLICY": "/etc/none.toml"}, "CELERY_DOCKER_POLICY='/etc/none.toml': cannot be read"),
}


@pytest.mark.parametrize(("settings", "expected"), BAD_SETTINGS.values(), ids=BAD_SETTINGS)
def test_a_bad_setting_is_named_and_the_worker_stays_down(
    installed: Installed, settings: dict[str, str], expected: str
) -> None:
    _goes_down(installed, settings, expected)


def _goes_down(installed: Installed, settings: dict[str, str], expected: str) -> None:
    installed.debian.run("journalctl", "--rotate", "--vacuum-time=1s")
    lines = [f"CELERY_DOCKER_{name}={value}\n" for name, value in settings.items()]
    installed.debian.shell(f"cat >{SETTINGS}", input="".join(lines))
    installed.debian.run("systemctl", "restart", "--no-block", "celery-worker")
    eventually(lambda: installed.show("ActiveState") == "failed", 40, "the worker to stay down")
    assert installed.show("ExecMainStatus") == "78"
    lines = [line for line in installed.log.splitlines() if expected in line]
    assert len(lines) == 1, installed.log
    assert "s3cret" not in installed.log
    assert "Traceback" not in installed.log
    assert expected in installed.debian.run("systemctl", "status", "celery-worker", check=False).stdout


def test_a_wrong_redis_password_is_named_and_not_shown(installed: Installed) -> None:
    installed.debian.run("redis-cli", "config", "set", "requirepass", "right")
    try:
        url = "redis://:s3cret@127.0.0.1/0"
        _goes_down(installed, {"BROKER_URL": url}, "Redis at redis://:***@127.0.0.1/0 refuses")
    finally:
        installed.debian.run("redis-cli", "-a", "right", "config", "set", "requirepass", "")


def test_a_worker_outside_of_group_docker_says_so(installed: Installed) -> None:
    installed.debian.run("gpasswd", "--delete", "celery", "docker")
    try:
        _goes_down(installed, {"LOG_LEVEL": "INFO"}, "usermod -aG docker celery")
    finally:
        installed.debian.run("usermod", "-aG", "docker", "celery")


def test_without_docker_the_worker_waits_and_says_what_for(installed: Installed) -> None:
    """It comes up by itself when Docker does."""
    installed.debian.run("systemctl", "stop", "docker.socket", "docker.service")
    installed.debian.shell(f"echo CELERY_DOCKER_CONCURRENCY=4 >{SETTINGS}")
    installed.debian.run("systemctl", "restart", "--no-block", "celery-worker")
    eventually(lambda: "cannot reach Docker at unix:///var/run/docker.sock" in installed.status, 30, "its status")
    installed.debian.run("systemctl", "start", "docker.service")
    installed.wait_until_ready()


_SPOIL_BYTECODE = """
cd /opt/celery/venv/lib/python3*/site-packages/celery_docker/core/__pycache__
stat -c %i settings.*.pyc
truncate -s 100 message.*.pyc
cp plan.*.pyc "$(echo policy.*.pyc)"
cp plan.*.pyc "$(echo plan.*.pyc | sed s/plan/gone/)"
"""
_CHECK_BYTECODE = """
import marshal, sys
from importlib.util import cache_from_source, source_hash
from pathlib import Path
for source in Path(sys.argv[1]).rglob("*.py"):
    code = Path(cache_from_source(source)).read_bytes()
    assert code[8:16] == source_hash(source.read_bytes()), source
    marshal.loads(code[16:])
"""


def test_an_upgrade_uses_old_bytecode_where_it_fits(worker: Installed) -> None:
    """Code that is torn or of another source is made anew, code without a source goes, and nothing stays put aside."""
    lib = "/opt/celery/venv/lib"
    inode = worker.debian.shell(_SPOIL_BYTECODE).stdout
    worker.debian.shell("apt-get install --yes --reinstall /root/celery-docker_*.deb")
    worker.debian.run("/opt/celery/venv/bin/python", "-c", _CHECK_BYTECODE, lib)
    assert worker.debian.shell(f"stat -c %i {lib}/*/*/celery_docker/core/__pycache__/settings.*.pyc").stdout == inode
    assert worker.debian.run("find", lib, "-name", "gone.*", "-o", "-name", "*.old").stdout == ""
    worker.wait_until_ready()


def test_a_purge_leaves_only_the_user_and_the_groups(worker: Installed, shared: str) -> None:
    worker.result(worker.send(image="busybox", command="true"))
    debian = worker.debian
    debian.run("apt-get", "purge", "--yes", "celery-docker", timeout_s=120)
    leftovers = debian.shell(
        "find / -xdev -path /proc -prune -o -path /sys -prune -o -path /run/user -prune"
        " -o '(' -name '*celery*' -not -path '/opt/plain/*' -not -path '/root/*' -not -path '/var/cache/*' ')' -print"
    ).stdout
    assert leftovers.splitlines() == []
    assert debian.run("systemctl", "list-units", "--all", "--plain", "--no-legend", "*celery*").stdout == ""
    assert debian.run("find", "/proc", "-maxdepth", "1", "-user", "celery").stdout == ""
    assert worker.containers("--all") == []
    debian.run("id", "celery")
