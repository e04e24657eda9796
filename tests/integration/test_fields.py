"""What a job may ask of its container, each field seen from inside of it: a real worker, Redis and Docker."""

from __future__ import annotations

import grp
import json
import os
import shutil
import socket
import stat
import tempfile
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from celery_docker import errors
from celery_docker.client.client import Client
from celery_docker.engine.dockerd import DockerEngine
from tests import commandline, servers
from tests.integration.test_home import make_image
from tests.integration.test_policy import ANYBODY as ANY_RULES
from tests.integration.test_policy import output_of, planned, podman_engine
from tests.integration.test_worker import RESULT_S, Plain, folder
from tests.workers.registry import Registry
from tests.workers.worker import Worker

__all__ = ["folder", "podman_engine"]


@pytest.fixture(autouse=True)
def worker(steady: Worker) -> Worker:
    """The one worker of all these tests, with the policy that allows most."""
    return steady


@pytest.fixture
def plain(server: servers.RedisServer) -> Iterator[Plain]:
    submitter = Plain(server.url)
    yield submitter
    submitter.app.close()


OWN = {"x86_64": "linux/amd64", "aarch64": "linux/arm64"}.get(os.uname().machine, "")


@contextmanager
def under(worker: Worker, rule: str) -> Iterator[None]:
    """Give the worker another rule meanwhile."""
    rules = worker.policy.read_text()
    try:
        for text in (f"{rule}\n{rules}", rules):
            worker.policy.write_text(text)
            worker.hand_over()
            assert worker.wait() == 0
            worker.start()
            if text is not rules:
                yield
    finally:
        worker.policy.write_text(rules)


@pytest.fixture
def allowing(worker: Worker, nodes: Path) -> Iterator[Path]:
    """A folder of devices that the policy allows."""
    with under(worker, f'devices = ["{nodes}/*"]'):
        yield nodes


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
    # Of the two streams either may come first.
    assert sorted(output.splitlines()) == [
        "1",
        "shm",
        "touch: /tmp/x: Read-only file system",
        "touch: /x: Read-only file system",
    ]
    assert shell(plain, "touch /x && echo x", read_only=False) == "x\n"


def test_whom_a_read_only_image_does_not_know_has_a_home_all_the_same(plain: Plain) -> None:
    output = shell(plain, "touch ~/x && echo $HOME $USER; touch /tmp/x || true", user="54321", read_only=True)
    assert "/home/celery-docker 54321" in output
    assert "touch: /tmp/x: Read-only file system" in output


CAPABILITIES = "awk '/CapBnd/ {print $2}' /proc/self/status"


def test_capabilities_that_are_taken_away(plain: Plain) -> None:
    assert shell(plain, CAPABILITIES, cap_drop=["all"]) == "0" * 16 + "\n"
    assert shell(plain, CAPABILITIES, cap_drop=["ALL"], user="54321") == "0" * 16 + "\n"
    net_raw = 1 << 13
    default, without = (int(shell(plain, CAPABILITIES, **fields), 16) for fields in ({}, {"cap_drop": ["NET_RAW"]}))
    assert (default & net_raw, default & ~net_raw) == (net_raw, without)


def test_capabilities_that_the_policy_allows(plain: Plain, worker: Worker) -> None:
    """As shipped none, but those of every container may be had alone. The policy is asked again at a retry."""
    chown, net_admin = 1 << 0, 1 << 12
    assert int(shell(plain, CAPABILITIES, cap_drop=["ALL"], cap_add=["CHOWN"]), 16) == chown
    error, receipt = plain.fail("busybox", "true", cap_add=["NET_ADMIN"])
    assert receipt["state"] == "rejected"
    assert "cap_add: 'NET_ADMIN' is not allowed on this host; rule capabilities = []" in error
    with under(worker, 'capabilities = ["NET_ADMIN"]'):
        assert int(shell(plain, CAPABILITIES, cap_drop=["ALL"], cap_add=["NET_ADMIN"]), 16) == net_admin
        assert shell(plain, "ip link set lo down && echo down", cap_add=["NET_ADMIN"]) == "down\n"
        effective = CAPABILITIES.replace("CapBnd", "CapEff")
        assert int(shell(plain, effective, cap_add=["NET_ADMIN"], user="54321"), 16) == 0


def test_names_of_other_hosts(plain: Plain) -> None:
    output = shell(plain, "cat /etc/hosts; nslookup db 2>&1 | tail -n 1", add_host=["db:10.1.2.3", "v6:fd00::7"])
    lines = [line.split() for line in output.splitlines()]
    assert ["10.1.2.3", "db"] in lines
    assert ["fd00::7", "v6"] in lines


def test_name_servers(plain: Plain) -> None:
    output = shell(plain, "grep ^nameserver /etc/resolv.conf", dns=["10.9.8.7", "fd00::53"])
    assert output == "nameserver 10.9.8.7\nnameserver fd00::53\n"


def test_a_tmpfs(plain: Plain, folder: Path) -> None:
    """Everybody may write there, also where the image is read-only; what is not asked for is Docker's."""
    look = (
        "grep -E ' (/scratch/a|/tools) ' /proc/mounts | cut -d' ' -f2-4 | sort; df -k /scratch/a | awk 'END {print $2}'"
    )
    script = f"{look}; echo 'echo hi' > /tools/x; chmod +x /tools/x; /tools/x; touch /scratch/a/x && ls -ld /scratch/a"
    output = shell(
        plain, script, tmpfs=["/scratch/a:size=1m", "/tools:exec,mode=700,uid=54321"], read_only=True, user="54321"
    )
    lines = output.splitlines()
    assert lines[0].startswith("/scratch/a tmpfs rw,nosuid,nodev,noexec,")
    assert lines[1].startswith("/tools tmpfs rw,nosuid,nodev,relatime,mode=700,uid=54321")
    assert lines[2:4] == ["1024", "hi"]
    assert lines[4].startswith("drwxrwxrwt")
    assert shell(plain, "touch /scratch/x && ls /output", tmpfs={"/scratch": ""}, outputpath=str(folder)) == ""
    assert list(folder.iterdir()) == []


def test_what_is_in_a_tmpfs_counts_as_memory(plain: Plain) -> None:
    fields = {"tmpfs": ["/scratch"], "memory": "32m", "retries": 0}
    error, receipt = plain.fail("busybox", "dd if=/dev/zero of=/scratch/x bs=1M count=99", **fields)
    assert receipt["exit_code"] == 137
    assert "limit 32m" in error


def test_a_tmpfs_behind_a_link_of_the_image_makes_no_folder_in_the_output(
    plain: Plain, dockerd: servers.Dockerd, folder: Path
) -> None:
    """Docker would follow it, and make the folder as root."""
    image = make_image(dockerd, "linked", {"scratch": "output", "var/tmp": "../output", "etc/group": b""})
    for path, link in (("/scratch/a", "/scratch"), ("/var/tmp/a/b", "/var/tmp"), ("/scratch", "/scratch")):
        error, _ = plain.fail(image, "true", tmpfs=[path], outputpath=str(folder), pull="never")
        assert (
            f"tmpfs: {path!r} lies behind {link!r} of image 'linked:latest', which is a link or a file; name" in error
        )
    error, receipt = plain.fail(image, "true", tmpfs=["/etc/group/a"], outputpath=str(folder), pull="never")
    assert receipt["state"] == "rejected"
    assert "tmpfs: '/etc/group/a' lies behind '/etc/group' of image" in error
    assert list(folder.iterdir()) == []
    assert plain.succeed(image, "true", tmpfs=["/other"], outputpath=str(folder))["state"] == "succeeded"


def test_a_tmpfs_that_cannot_be_mounted_is_the_jobs_fault(plain: Plain, dockerd: servers.Dockerd) -> None:
    """Without an output too: no retry would go better, and the host goes on."""
    image = make_image(dockerd, "linked", {"x": "proc", "loop": "loop", "etc/group": b""})
    for path in ("/x/y", "/loop/a", "/etc/group/a", "/etc/hosts", "/bin/sh"):
        error, receipt = plain.fail(image, "true", tmpfs=[path], pull="never")
        assert (receipt["state"], len(receipt["attempts"]) <= 1) == ("rejected", True), error


def test_a_platform(plain: Plain, worker: Worker) -> None:
    """Another than the host's is the administrator's to allow: it would be what others get under that name."""
    other = "linux/s390x"
    assert plain.succeed("busybox", "true", platform=OWN, pull="never")["state"] == "succeeded"
    error, _ = plain.fail("busybox", "true", platform=other)
    assert f"platform: '{other}' is not allowed on this host, which is {OWN}; rule platforms = ['own']" in error
    with under(worker, f'platforms = ["{other}"]'):
        error, _ = plain.fail("busybox", "true", platform=other, pull="never")
        assert f"image 'busybox:latest' for {other} is not on host" in error


def test_the_image_of_a_platform_is_pulled_as_such(
    dockerd: servers.Dockerd, engine: DockerEngine, registry: Registry
) -> None:
    image = f"{registry.address}/tool:1"
    plan = replace(planned(image, "true", rules=ANY_RULES), platform=OWN)
    engine.pull(image, OWN)
    assert output_of(engine, engine.create(plan)) == ""
    with pytest.raises(errors.ImageMissing):
        engine.create(replace(plan, platform="linux/s390x"))
    dockerd.request("DELETE", f"/images/{image}")


# Which every kernel of Debian has, and no container unless it asks for it.
FUSE = (10, 229)


@pytest.fixture
def nodes() -> Iterator[Path]:
    """A folder below /dev with devices and what only looks like one: none of them is what its name says."""
    top = Path(tempfile.mkdtemp(prefix="cdt-", dir="/dev"))
    top.chmod(0o755)
    os.mknod(top / "meter", stat.S_IFCHR | 0o666, os.makedev(1, 5))
    os.mknod(top / "bus", stat.S_IFCHR | 0o666, os.makedev(*FUSE))
    for name in ("meter", "bus"):
        (top / name).chmod(0o666)
    os.mknod(top / "memory", stat.S_IFCHR | 0o666, os.makedev(1, 1))
    os.mknod(top / "disk", stat.S_IFBLK | 0o666, os.makedev(7, 0))
    os.mknod(top / "terminal", stat.S_IFCHR | 0o666, os.makedev(4, 1))
    (top / "link").symlink_to("meter")
    (top / "file").write_text("")
    (top / "folder").mkdir()
    with closing(socket.socket(socket.AF_UNIX)) as listener:
        listener.bind(str(top / "socket"))
        yield top
    shutil.rmtree(top)


def test_devices_that_the_policy_allows(plain: Plain, worker: Worker, nodes: Path) -> None:
    """As shipped it allows none."""
    meter = f"{nodes}/meter"
    error, receipt = plain.fail("busybox", "true", device=[meter])
    assert receipt["state"] == "rejected"
    assert f"device: '{meter}' is not allowed on this host; rule devices = []" in error
    script = "ls -l /dev/meter | awk '{print $1, $5, $6}'; head -c 4 /dev/meter | wc -c"
    opens = "(: </dev/x) && echo read; (: >/dev/x) && echo written; true"
    with under(worker, f'devices = ["{nodes}/*"]'):
        assert shell(plain, script, device=[f"{meter}:/dev/meter"], user="54321") == "crw-rw-rw- 1, 5\n4\n"
        assert shell(plain, f"ls {meter}", device=[meter]) == f"{meter}\n"
        assert shell(plain, opens, device=[f"{nodes}/bus:/dev/x"]) == "read\nwritten\n"
        output = shell(plain, opens, device=[f"{nodes}/bus:/dev/x:r"])
        assert "read\n" in output
        assert "can't create /dev/x: Operation not permitted" in output


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("memory", "is a way to the memory of the host, and no rule gives that to a job"),
        ("disk", "is a disk of the host, or a way to its disks, and no rule gives that to a job"),
        ("terminal", "is a terminal, keyboard or screen of the host, and no rule gives that to a job"),
        ("file", "is no device, and no rule gives that to a job"),
        ("folder", "is no device, and no rule gives that to a job"),
        ("socket", "is no device, and no rule gives that to a job"),
        ("link", "a link, or behind one; name the device that it leads to"),
        ("none", "No such file or directory"),
        ("folder/x", "is not allowed on this host"),
    ],
)
def test_devices_that_no_policy_allows(allowing: Path, plain: Plain, name: str, expected: str) -> None:
    error, receipt = plain.fail("busybox", "true", device=[f"{allowing}/{name}:/dev/x"])
    assert receipt["state"] == "rejected"
    assert f"device: '{allowing}/{name}' " in error
    assert expected in error


def test_a_device_in_a_folder_that_others_can_change(allowing: Path, plain: Plain) -> None:
    allowing.chmod(0o777)
    error, _ = plain.fail("busybox", "true", device=[f"{allowing}/meter:/dev/x"])
    assert "lies in a folder that others than root can change, and no rule gives that to a job" in error


IDS = "id -u; id -g; id -G"


def test_groups_that_the_policy_allows(plain: Plain, worker: Worker) -> None:
    """As shipped it allows none."""
    error, receipt = plain.fail("busybox", ["sh", "-c", IDS], user="54321", group_add=["video"])
    assert "group_add: 'video' is not allowed on this host; rule groups = []" in error
    assert receipt["state"] == "rejected"
    with under(worker, 'groups = ["video"]'):
        video = grp.getgrnam("video").gr_gid
        output = shell(plain, IDS, user="54321:54321", group_add=["video"])
        assert output.split()[:2] == ["54321", "54321"]
        assert set(output.split()[2:]) == {"54321", str(video)}
        error, _ = plain.fail("busybox", "true", user="54321", group_add=["0", video])
        assert error.count("is not allowed on this host; rule groups = ['video']") == 1
        error, _ = plain.fail("busybox", "true", group_add=["video"])
        assert "group_add: an image's own user gets no groups of this host; name the user of the job" in error


def test_a_group_is_never_that_of_the_image(plain: Plain, worker: Worker, dockerd: servers.Dockerd) -> None:
    """Docker looks for the number of a group among the names in the image."""
    video = grp.getgrnam("video").gr_gid
    image = make_image(dockerd, "evil", {"etc/group": f"root:x:0:\n{video}:x:0:\n".encode()})
    with under(worker, 'groups = ["video"]'):
        error, _ = plain.fail(image, "true", user="54321:54321", group_add=["video"], pull="never")
        assert f"its /etc/group has {video} as the name of another group" in error


def test_the_same_with_podman(podman_engine: DockerEngine) -> None:
    """But for ulimits: beside one of a job's Podman raises that of processes, which not every machine allows."""
    script = "hostname; df -m /dev/shm | tail -n 1 | awk '{print $2}'"
    fields: dict[str, Any] = {
        "hostname": "node-1",
        "shm_size": 96 * 2**20,
        "pids_limit": 50,
        "cap_drop": ("ALL",),
        "add_host": ("db:10.1.2.3",),
        "tmpfs": {"/bin/x": "size=1048576", "/scratch": "uid=7,mode=700,exec", "/lib": "size=4096"},
        "platform": OWN,
        "read_only": True,
        "device": ("/dev/zero:/dev/meter:rwm",),
    }
    script += "; head -c 4 /dev/meter | wc -c"
    script += f"; {CAPABILITIES}; grep -c '/bin/x .*noexec' /proc/mounts; touch /scratch/x"
    container_plan = planned(
        "busybox", "sh", "-c", f"{script}; touch /x 2>/dev/null || echo ro", rules=ANY_RULES, **fields
    )
    with pytest.raises(errors.ImageMissing):
        podman_engine.create(replace(container_plan, platform="linux/s390x"))
    assert output_of(podman_engine, podman_engine.create(container_plan)) == (f"node-1\n96\n4\n{16 * '0'}\n1\nro\n")


def test_by_flags_by_a_document_by_a_manifest_and_at_a_retry(server: servers.RedisServer, tmp_path: Path) -> None:
    """The container is the same, and so is what is shown of the job."""
    environ = commandline.environ(server.url, tmp_path)
    script = "hostname; df -k /s | awk 'END {print $2}'; ulimit -n; touch /x 2>/dev/null || echo ro"
    fields: dict[str, Any] = {
        "hostname": "n1",
        "tmpfs": {"/s": "size=1048576"},
        "ulimits": {"nofile": "99:99"},
        "read_only": True,
    }
    expected = "n1\n1024\n99\nro\n"
    flags = ("--hostname", "n1", "--tmpfs", "/s:size=1m", "--ulimit", "nofile=99", "--read-only")
    assert commandline.call("run", *flags, "busybox", "sh", "-c", script, environ=environ).stdout == expected
    (tmp_path / "job.json").write_text(json.dumps({"image": "busybox", "command": ["sh", "-c", script], **fields}))
    assert commandline.call("run", "-f", f"{tmp_path}/job.json", environ=environ).stdout == expected
    columns = "job.hostname,job.tmpfs,job.ulimits,job.read_only\nn1,/s:size=1m,nofile=99,true\n"
    (tmp_path / "jobs.csv").write_text(columns)
    command = ("batch", "--manifest", f"{tmp_path}/jobs.csv", "-q", "busybox", "sh", "-c", script)
    batch_id = commandline.call(*command, environ=environ).stdout.strip()
    with closing(Client(server.url)) as client:
        assert [receipt["output"] for receipt in client.batch(batch_id).results(RESULT_S)] == [expected]
        job = client.submit("busybox", ["sh", "-c", f"{script}; exit 3"], retries=0, **fields)
        assert job.wait(RESULT_S) == "failed"
        again = job.retry()
        assert again.wait(RESULT_S) == "failed"
        assert b"".join(output.data for output in again.logs()).decode() == expected
    for job_id in (job.id, again.id):
        (shown,) = json.loads(commandline.call("inspect", job_id, environ=environ).stdout)
        assert fields.items() <= shown["spec"].items()


def test_a_tmpfs_beside_an_output_with_podman(
    podman: servers.Podman, podman_engine: DockerEngine, folder: Path
) -> None:
    """A link that leads to a mount is not there for Podman, so that the folder has to be."""
    image = make_image(podman, "linked", {"scratch": "output", "etc/group": b"", "mnt": 0o755})

    def made(path: str) -> str:
        fields: dict[str, Any] = {"outputpath": str(folder), "tmpfs": {path: ""}}
        return podman_engine.create(planned(image, "true", rules=ANY_RULES, **fields))

    for path, obstacle in (("/scratch/a", "/scratch"), ("/etc/group/a", "/etc/group"), ("/other", "/other")):
        with pytest.raises(errors.RequestError, match=rf"tmpfs: '{path}' lies behind '{obstacle}' of image"):
            made(path)
    assert output_of(podman_engine, made("/mnt")) == ""
    assert list(folder.iterdir()) == []
