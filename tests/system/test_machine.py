"""The machine that the system tests stand on: it boots, runs Docker and Redis, dies and returns."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conftest import require
from tests.machines import machine

_DETACHED = ("docker", "run", "--detach", "--init", "--network", "none")

_A_RUN_THAT_WAITS = """\
import importlib, signal, sys
signal.signal(signal.SIGINT, signal.default_int_handler)  # a background shell has it ignored
machine = importlib.import_module(sys.argv[1])
with machine.Machine.boot("doomed", machine.ready_image()) as doomed:
    doomed.run("docker", "info")
    print("it runs", flush=True)
    signal.pause()
"""


@pytest.fixture(scope="module")
def debian() -> Iterator[machine.Machine]:
    require("machine", machine.missing())
    with machine.Machine.boot("selftest", machine.ready_image()) as booted:
        machine.import_busybox(booted)
        yield booted
    assert machine.leftovers() == []


def test_boots_into_a_systemd_without_failed_units(debian: machine.Machine) -> None:
    failed = debian.run("systemctl", "--failed", "--plain", "--no-legend").stdout
    assert debian.run("systemctl", "is-system-running", check=False).stdout == "running\n", failed
    assert debian.read("/proc/1/comm") == "systemd\n"
    assert not debian.path("/usr/sbin/policy-rc.d").exists()


def test_services_start_at_boot(debian: machine.Machine) -> None:
    """Redis and Docker run, and localhost is the machine's own."""
    assert debian.run("redis-cli", "-h", "localhost", "ping").stdout == "PONG\n"
    debian.run("systemctl", "is-active", "redis-server.service", "docker.service")


def test_docker_runs_a_container(debian: machine.Machine) -> None:
    run = ("docker", "run", "--rm", "--network", "none")
    debian.run(*run, "busybox", "true")
    assert debian.run(*run, "--user", "nobody", "busybox", "id", "-u").stdout == "65534\n"
    assert debian.run("docker", "run", "--rm", "busybox", "hostname", "-i").stdout.strip()


def test_docker_limits_memory(debian: machine.Machine) -> None:
    """Without a writable cgroup the limit would be ignored, or the container would not start.

    Docker's own OOMKilled is not looked at: it misses it where it hears of the end first.
    """
    limits = ("--memory", "16m", "--memory-swap", "16m", "--network", "none")
    completed = debian.run(
        *("docker", "run", "--rm", *limits, "busybox", "dd", "if=/dev/zero", "of=/dev/null", "bs=64M"),
        check=False,
    )
    assert completed.returncode == 137


def test_run_has_input_user_and_a_clean_environment(debian: machine.Machine) -> None:
    os.environ["LEAKED"] = "1"
    try:
        output = debian.shell('cat; id -un; echo "$1 $X ${LEAKED-none}"', "arg", user="redis",
                            input="in\n", env={"X": "set"}).stdout  # fmt: skip
    finally:
        del os.environ["LEAKED"]
    assert output == "in\nredis\narg set none\n"


def test_a_failing_command_shows_everything(debian: machine.Machine) -> None:
    with pytest.raises(AssertionError, match=r"(?s)exit 3.*stdout\nout.*stderr\nerr"):
        debian.shell("echo out; echo err >&2; exit 3")
    assert debian.shell("exit 3", check=False).returncode == 3


def test_a_command_that_hangs_is_killed_inside(debian: machine.Machine) -> None:
    with pytest.raises(AssertionError, match=r"no end after 0\.3 s"):
        debian.run("sleep", "1234", timeout_s=0.3, check=False)
    assert debian.run("pgrep", "-xf", "sleep 1234", check=False).stdout == ""


def test_files_go_in_and_out(debian: machine.Machine, tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "file").write_text("pushed")
    debian.push(tmp_path / "folder", "/srv/a/folder")
    debian.write("/tmp/secret", "written", mode=0o600)
    assert debian.run("cat", "/srv/a/folder/file").stdout == "pushed"
    assert debian.run("stat", "-c", "%a %U", "/tmp/secret").stdout == "600 root\n"


def test_power_off_ends_every_process_and_keeps_the_disk(debian: machine.Machine) -> None:
    debian.run(*_DETACHED, "--name", "left", "busybox", "sleep", "99")
    before = debian.pids()
    debian.poweroff()
    assert debian.pids() == []
    assert not any(Path(f"/proc/{pid}").exists() for pid in before)
    assert not [trace for trace in machine.leftovers() if trace.startswith(("cgroup", "folder"))]
    debian.start()
    debian.run("docker", "rm", "-f", "left")


def test_a_power_cut_keeps_the_disk(debian: machine.Machine) -> None:
    """After the cut: the file, the container that ran (now dead) and Redis with its AOF."""
    debian.write("/root/kept", "kept")
    debian.run("redis-cli", "config", "set", "appendonly", "yes")
    debian.run("redis-cli", "config", "rewrite")
    debian.run("redis-cli", "set", "kept", "yes")
    debian.run(*_DETACHED, "--name", "cut", "busybox", "sleep", "99")
    before = debian.pids()
    debian.kill()
    assert not any(Path(f"/proc/{pid}").exists() for pid in before)
    debian.start()
    assert debian.read("/root/kept") == "kept"
    assert debian.run("redis-cli", "get", "kept").stdout == "yes\n"
    cut = debian.run("docker", "inspect", "--format", "{{.State.ExitCode}}", "cut").stdout
    assert cut == "255\n"
    debian.run("docker", "rm", "cut")


def test_a_boot_that_fails_leaves_nothing(tmp_path: Path) -> None:
    """The image holds no system at all."""
    (tmp_path / "etc/systemd/system").mkdir(parents=True)
    with pytest.raises(AssertionError, match="does not boot"):
        machine.Machine.boot("broken", tmp_path)
    assert not [trace for trace in machine.leftovers() if "-broken-" in trace]


def test_nat_is_a_way_out_of_a_private_network() -> None:
    """Its ports and its Docker bridge stay the machine's own."""
    with machine.Machine.boot("nat", machine.ready_image(), nat=True) as natted:
        assert "default via" in natted.run("ip", "route").stdout
        assert natted.run("redis-cli", "ping").stdout == "PONG\n"
        natted.reboot()
        assert "default via" in natted.run("ip", "route").stdout
    assert not [trace for trace in machine.leftovers() if "-nat-" in trace]


@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGINT, signal.SIGKILL])
def test_an_interrupted_run_leaves_nothing(how: signal.Signals, debian: machine.Machine) -> None:
    """SIGTERM and Ctrl-C clean up at once; after SIGKILL the next boot does."""
    top = Path(__file__).parents[__name__.count(".")]
    argv = [sys.executable, "-c", _A_RUN_THAT_WAITS, machine.__name__]
    with subprocess.Popen(argv, cwd=top, stdout=subprocess.PIPE, text=True) as run:
        assert run.stdout is not None
        assert run.stdout.readline() == "it runs\n"
        with machine.no_sweep():
            run.send_signal(how)
            run.wait(30)
            assert bool(machine.leftovers(run.pid)) == (how is signal.SIGKILL)
    if how is signal.SIGKILL:
        machine.Machine.boot("next", machine.ready_image()).close()
        assert machine.leftovers(run.pid) == []
