"""The command celery-docker as the package installs it: for an ordinary user, and for the administrator at night."""

from __future__ import annotations

import re
from collections.abc import Iterator

import pytest

from changelog import VERSION
from tests import servers
from tests.machines.installed import SETTINGS, Installed
from tests.waiting import eventually

FILES = (
    "/etc/celery-docker/client.conf",
    "/usr/bin/celery-docker",
    "/usr/share/bash-completion/completions/celery-docker",
    "/usr/share/celery-docker/job.schema.json",
    "/usr/share/fish/vendor_completions.d/celery-docker.fish",
    "/usr/share/man/man1/celery-docker.1.gz",
    "/usr/share/man/man5/celery-docker-client.conf.5.gz",
    "/usr/share/man/man5/celery-docker-policy.toml.5.gz",
    "/usr/share/man/man5/celery-worker.default.5.gz",
    "/usr/share/man/man8/celery-docker-api.8.gz",
    "/usr/share/man/man8/celery-worker.8.gz",
    "/usr/share/zsh/vendor-completions/_celery-docker",
)


@pytest.fixture(scope="module")
def alice(installed: Installed) -> str:
    """A user who is in no group that matters, with a home."""
    installed.wait_until_ready()
    installed.debian.run("useradd", "--create-home", "alice")
    return "alice"


@pytest.fixture
def mended(installed: Installed) -> Iterator[Installed]:
    """A machine that a test may break; afterwards everything runs again."""
    yield installed
    installed.debian.run("gpasswd", "--add", "celery", "docker")
    installed.debian.run("systemctl", "start", "docker")
    installed.configure()
    installed.wait_until_ready()


def examined(installed: Installed) -> dict[str, str]:
    """Return what doctor says, by what it is about."""
    text = installed.debian.run("celery-docker", "doctor", check=False).stdout
    findings: dict[str, str] = {}
    subject = ""
    for line in text.splitlines():
        if line.startswith("      | "):
            findings[subject] += "\n" + line.removeprefix("      | ")
        else:
            level, subject, says = line.split(maxsplit=2)
            subject = subject.rstrip(":")
            findings[subject] = f"{level} {says}"
    return findings


def test_everything_is_in_its_place(installed: Installed) -> None:
    assert installed.debian.run("celery-docker", "--version").stdout == f"celery-docker {VERSION}\n"
    release = installed.debian.shell(". /etc/os-release; echo $VERSION_ID").stdout.strip()
    packaged = installed.debian.run("dpkg-query", "-W", "-f", "${Version}", "celery-docker").stdout
    assert packaged.endswith(f"+deb{release}u1")
    # So that apt refuses it on another release.
    python = installed.debian.run("readlink", "-e", "/opt/celery/venv/bin/python").stdout.strip().rpartition("/")[2]
    depends = installed.debian.run("dpkg-query", "-W", "-f", "${Depends}", "celery-docker").stdout
    assert re.fullmatch(r"python3\.\d+", python)
    assert python in depends.split(", ")
    listed = installed.debian.run("dpkg", "-L", "celery-docker").stdout.splitlines()
    assert [path for path in FILES if path not in listed] == []
    conffiles = installed.debian.run("dpkg-query", "-W", "-f", "${Conffiles}", "celery-docker").stdout
    assert "/etc/celery-docker/client.conf" in conffiles
    assert installed.debian.run("stat", "-c", "%a", "/etc/celery-docker/client.conf").stdout == "644\n"


def test_every_link_of_the_documents_leads_to_a_file(installed: Installed) -> None:
    pages = installed.debian.shell("find /usr/share/doc/celery-docker/ -name '*.md'").stdout.splitlines()
    assert len(pages) > 4
    for page in pages:
        links = re.findall(r"\]\(([^)#:]+)\)", installed.debian.read(page))
        installed.debian.run("ls", "--directory", *(f"{page.rpartition('/')[0]}/{link}" for link in links))


def test_a_member_of_no_group_submits_and_owns_the_output(installed: Installed, alice: str) -> None:
    debian = installed.debian
    debian.run("install", "-d", "-o", alice, "/srv/alice")
    script = "cd /srv/alice && mkdir -p out && echo hello >in && exec celery-docker submit -i in -o out "
    line = script + "busybox sh -c 'cp /input /output/copy'"
    job_id = debian.run("sh", "-c", line, user=alice).stdout.strip()
    assert installed.result(job_id)[0] == "SUCCESS"
    assert debian.read("/srv/alice/out/copy") == "hello\n"
    assert debian.run("stat", "-c", "%U", "/srv/alice/out/copy").stdout == "alice\n"
    printed = debian.run("celery-docker", "config", user=alice)
    assert "redis://127.0.0.1:6379/0" in printed.stdout
    assert printed.stderr == f"you may not read {SETTINGS}; a setting in it is not shown here\n"


def test_a_user_without_a_home_works_without_a_memory(installed: Installed, alice: str) -> None:
    """Only @last needs one, and says so."""
    debian = installed.debian
    debian.run("useradd", "--no-create-home", "--home-dir", "/nonexistent", "carol")
    completed = debian.run("sh", "-c", "HOME=/nonexistent celery-docker run busybox echo hello", user="carol")
    assert (completed.stdout, completed.stderr) == ("hello\n", "")
    last = debian.run("sh", "-c", "HOME=/nonexistent celery-docker status @last", user="carol", check=False)
    assert (last.returncode, last.stdout) == (4, "")
    assert last.stderr.startswith("celery-docker: @last: it is not known")
    assert last.stderr.count("\n") == 1


def test_a_user_with_a_read_only_configuration(installed: Installed, alice: str) -> None:
    """Made by the administrator, in a home that alice may not write to."""
    debian = installed.debian
    debian.shell(
        "useradd --create-home dave && install -d /home/dave/.config/celery-docker &&"
        " echo CELERY_DOCKER_QUEUE=night >/home/dave/.config/celery-docker/client.conf &&"
        " chown -R root:root /home/dave && chmod -R a-w,a+rX /home/dave"
    )
    printed = debian.run("sh", "-c", "HOME=/home/dave celery-docker config --json", user="dave").stdout
    assert '"night"' in printed
    assert "/home/dave/.config/celery-docker/client.conf" in printed
    completed = debian.run(
        "sh", "-c", "HOME=/home/dave celery-docker run --queue celery busybox echo hello", user="dave"
    )
    assert (completed.stdout, completed.stderr) == ("hello\n", "")


@pytest.mark.parametrize(
    ("line", "status", "message"),
    [
        ("run busybox sh -c 'exit 3'", 3, "exit code 3"),
        ("run --timeout 1 busybox sleep 60", 124, "timed out"),
        ("run --expires 1 --queue nobody busybox true", 124, "expired"),
        ("run -i /etc busybox true", 125, "rejected"),
        ("run --entrypoint /etc/passwd busybox", 126, "cannot be executed"),
        ("run busybox no-such-command", 127, "was not found"),
        ("run busybox sh -c 'kill -9 $$'", 137, "exit code 137"),
        ("run -m 16m busybox tail /dev/zero", 137, "out of memory: limit 16m, raise it with -m"),
        (
            "wait $(id=$(celery-docker submit busybox sleep 60); celery-docker cancel $id >&2; echo $id)",
            143,
            "cancelled",
        ),
        ("run --memory many busybox", 2, "--memory: "),
        ("status nonsense", 4, "no job"),
    ],
    ids=[
        *("its own code", "timeout", "expired", "policy", "not executable", "no such command", "killed"),
        *("out of memory", "cancelled", "usage", "no such job"),
    ],
)
def test_exit_statuses(installed: Installed, alice: str, line: str, status: int, message: str) -> None:
    """Those of docker run; one line of ours says what it was."""
    prefix = "--retries 0 " if line.startswith("run ") and "--memory" not in line else ""
    command = line.replace("run ", f"run {prefix}", 1)
    completed = installed.debian.run(
        "sh", "-c", f"cd /tmp && celery-docker {command}", user=alice, check=False, timeout_s=90
    )
    assert completed.returncode == status, completed.stderr
    assert message in completed.stdout + completed.stderr
    assert "Traceback" not in completed.stderr


def test_the_environment_of_the_caller_does_not_reach_the_interpreter(installed: Installed, alice: str) -> None:
    """Somebody's PYTHONPATH must not bring other modules in."""
    debian = installed.debian
    debian.shell("mkdir -p /srv/bad && echo 'raise SystemExit(9)' >/srv/bad/argparse.py")
    assert debian.run("sh", "-c", "cd /srv/bad && PYTHONPATH=/srv/bad celery-docker --version", user=alice).stdout


def test_doctor_on_a_good_day(installed: Installed) -> None:
    installed.wait_until_ready()
    findings = examined(installed)
    assert findings["redis"].startswith("ok answers at 127.0.0.1:6379")
    assert findings["password"].startswith("ok ")
    assert findings["celery-worker"] == "ok is active"
    assert findings["docker"].startswith("ok ")
    assert findings["live-restore"].startswith("warn a restart of Docker ends the running jobs")
    assert "group" not in findings


def test_doctor_shows_the_last_lines_of_a_worker_that_failed(mended: Installed) -> None:
    mended.debian.shell(f"echo CELERY_DOCKER_CONCURRENCY=many >{SETTINGS}")
    mended.debian.run("systemctl", "restart", "celery-worker", check=False)
    eventually(lambda: mended.show("ActiveState") == "failed", 30, "the worker to fail")
    finding = examined(mended)["celery-worker"]
    assert finding.startswith("fail has failed → mend what its last lines say, then systemctl restart celery-worker\n")
    assert "CELERY_DOCKER_CONCURRENCY='many': must be a whole number" in finding


def test_doctor_on_a_worker_that_was_stopped(mended: Installed) -> None:
    mended.debian.run("systemctl", "stop", "celery-worker")
    assert examined(mended)["celery-worker"] == "warn is stopped on this host → systemctl start celery-worker"


def test_doctor_without_docker_and_without_the_group(mended: Installed) -> None:
    mended.debian.run("gpasswd", "--delete", "celery", "docker")
    mended.debian.run("systemctl", "stop", "docker.socket", "docker.service")
    findings = examined(mended)
    assert findings["docker"].startswith("fail does not answer at unix:///var/run/docker.sock: ")
    assert findings["docker"].endswith("→ systemctl start docker; if that fails: journalctl -u docker")
    assert findings["group"].startswith(
        "fail user celery, the worker's, is not in group docker → adduser celery docker"
    )


def test_doctor_where_docker_is_too_old(mended: Installed) -> None:
    """Docker answers and so does Redis; the worker's own last line and doctor's name the same remedy."""
    debian = mended.debian
    form = "{{.Server.Version}} {{.Server.APIVersion}}"
    version, newest = debian.run("docker", "version", "--format", form).stdout.split()
    old = servers.with_old_api(debian.path("/usr/sbin/dockerd").read_bytes(), newest)
    debian.run("mv", "/usr/sbin/dockerd", "/root/dockerd")
    try:
        program = debian.path("/usr/sbin/dockerd")
        program.write_bytes(old)
        program.chmod(0o755)
        debian.run("systemctl", "restart", "docker")
        debian.run("systemctl", "restart", "--no-block", "celery-worker")
        eventually(lambda: mended.show("ExecMainStatus") == "69", 30, "the worker to end")
        sent = mended.send(image="busybox", command="true")
        eventually(lambda: mended.log.count("install Docker 20.10 or later") >= 2, 30, "another start")
        findings = examined(mended)
        assert mended.queue_length() == 1
    finally:
        debian.run("mv", "/root/dockerd", "/usr/sbin/dockerd")
        # systemd would not start it for the fourth time within a minute.
        debian.run("systemctl", "reset-failed", "docker")
        debian.run("systemctl", "restart", "docker")
    assert findings["docker"] == f"fail {version} (API 1.40) is too old → install Docker 20.10 or later"
    worker, *lines = findings["celery-worker"].splitlines()
    assert worker.startswith("fail ends again and again; systemd keeps starting it → mend what its last lines say")
    assert (
        "celery-worker: Docker at unix:///var/run/docker.sock is too old: it speaks API 1.40, and 1.41 is the least; "
        "install Docker 20.10 or later"
    ) in lines
    assert mended.result(sent)[0] == "SUCCESS"


def test_doctor_for_somebody_who_only_submits(mended: Installed, alice: str) -> None:
    """Nothing of this host where no worker runs; Docker is not theirs to ask."""
    printed = mended.debian.run("celery-docker", "doctor", user=alice, check=False).stdout
    assert "skip  docker: you may not ask Docker" in printed
    mended.debian.run("systemctl", "disable", "--now", "celery-worker")
    try:
        of_redis = {"redis", "password", "persistence", "eviction", "workers", "clock", "version"}
        assert set(examined(mended)) <= of_redis | {"tokens"}
    finally:
        mended.debian.run("systemctl", "enable", "celery-worker")
