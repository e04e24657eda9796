"""What a job may ask of its container, each field seen from inside of it: a real worker, Redis and Docker."""

from __future__ import annotations

import grp
import hashlib
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
from tests.integration.test_home import Members, make_image
from tests.integration.test_policy import ANYBODY as ANY_RULES
from tests.integration.test_policy import output_of, planned, podman_engine
from tests.integration.test_worker import RESULT_S, Plain, folder
from tests.waiting import eventually
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


def volumes(dockerd: servers.Dockerd) -> list[str]:
    """Return the names of all volumes of Docker."""
    answer = json.loads(dockerd.request("GET", "/volumes")[1])
    return [volume["Name"] for volume in answer["Volumes"] or ()]


SHOW = """#!/bin/sh
printf '%s' "$(basename $0)"; printf ' <%s>' "$@"; echo
ls -ln /celery-docker | awk 'NR > 1 {print $1, $3, $4, $NF}'; id -u
"""


@pytest.mark.parametrize(
    "fields",
    [
        {},
        {"user": "54321"},
        {"read_only": True},
        {"read_only": True, "user": "54321", "cap_drop": ["ALL"], "tmpfs": ["/tmp", "/run"]},
        {"user": "54321:54321", "workdir": "/proc", "pids_limit": 20},
    ],
    ids=str,
)
def test_a_script(plain: Plain, dockerd: servers.Dockerd, fields: dict[str, Any]) -> None:
    """The image need not have a folder for it, nor may the user write there."""
    expected = f"script <a  b> <*> <>\n-r-xr-xr-x 0 0 script\n{fields.get('user', '0').partition(':')[0]}\n"
    output = plain.succeed("busybox", ["a  b", "*", ""], script=SHOW, **fields)["output"]
    assert output == expected
    eventually(lambda: volumes(dockerd) == [], RESULT_S, "nothing to be left")


def test_scripts_of_every_kind(plain: Plain, folder: Path) -> None:
    assert plain.succeed("busybox", ["x"], script='echo "$0" $#')["output"] == "/celery-docker/script 1\n"
    assert plain.succeed("busybox", script="\ufeff#!/bin/cat\nä 漢 \r\n\1")["output"] == "#!/bin/cat\nä 漢 \r\n\1"
    assert plain.succeed("busybox", script="#!/bin/awk -f\nBEGIN {print ARGC}\n")["output"] == "1\n"
    largest = "#!/bin/wc -c\n".ljust(256 * 1024, "x")
    assert plain.succeed("busybox", script=largest)["output"].split()[0] == str(256 * 1024)
    command = ["sh", "-c", "cat > /output/x"]
    error, _ = plain.fail("busybox", command, script="exit 3", outputpath=str(folder), retries=0)
    assert error.startswith("failed: exit code 3")
    assert list(folder.iterdir()) == []


def test_a_script_without_its_interpreter(plain: Plain, dockerd: servers.Dockerd) -> None:
    """It is not retried: no other try would go better."""
    image = make_image(dockerd, "shellless", {"bin/sh": None})
    for script in ("#!/no/such/program\n", "true"):
        error, receipt = plain.fail(image, script=script)
        assert error.startswith("failed: exit code 127"), error
        assert len(receipt["attempts"]) <= 1
    assert plain.succeed(image, script="#!/bin/echo\n")["output"] == "/celery-docker/script\n"


@pytest.mark.parametrize("target", ["output", "output/x", "etc/passwd", "proc/1", "/celery-docker"])
def test_an_image_does_not_lead_a_script_elsewhere(
    plain: Plain, dockerd: servers.Dockerd, folder: Path, target: str
) -> None:
    """Docker would follow a link to the place of a volume, and make a folder of root's in the output."""
    image = make_image(dockerd, "leading", {"celery-docker": target})
    script = "ls -l / | grep -c 'celery-docker$'; ls /output"
    assert plain.succeed(image, script=script, outputpath=str(folder))["output"] == "1\n"
    assert list(folder.iterdir()) == []
    error, _ = plain.fail(image, script=script, outputpath=str(folder), read_only=True)
    assert error.startswith(
        "rejected: image 'leading:latest': its '/celery-docker' is a link or a file, and what a job with read_only "
        "brings is to lie there; build the image without it"
    )
    assert list(folder.iterdir()) == []


def test_an_image_that_has_something_at_the_place_of_a_script(plain: Plain, dockerd: servers.Dockerd) -> None:
    members: Members = {"celery-docker": 0o700, "celery-docker/script": "/bin/true", "celery-docker/own": b"x"}
    image = make_image(dockerd, "occupied", members)
    script = "#!/bin/sh\nls /celery-docker"
    assert plain.succeed(image, script=script, user="54321")["output"] == "own\nscript\n"
    assert plain.succeed(image, script=script, user="54321", read_only=True)["output"] == "script\n"


def test_what_a_script_says_is_in_no_log(plain: Plain, worker: Worker, dockerd: servers.Dockerd) -> None:
    sent = plain.send("busybox", script="#!/bin/sh\necho on; : hunter2; sleep 100")
    eventually(lambda: f"run-{sent.id}" in dockerd.running(), RESULT_S, "the job to run")
    assert b"hunter2" not in dockerd.request("GET", f"/containers/run-{sent.id}/json")[1]
    worker.kill()
    worker.start()
    plain.app.control.revoke(sent.id)
    eventually(lambda: sent.state == "REVOKED", RESULT_S, "the end of the job")
    plain.fail("busybox", script="hunter2\r")
    plain.fail("busybox", script="hunter2", entrypoint="x")
    assert "hunter2" not in worker.log


def test_a_script_is_there_at_a_retry_too(plain: Plain, folder: Path) -> None:
    script = "#!/bin/sh\necho x >> /output/runs; [ $(wc -l < /output/runs) = 2 ]"
    receipt = plain.succeed("busybox", script=script, outputpath=str(folder), retries=1, read_only=True)
    assert len(receipt["attempts"]) == 2


def test_a_script_of_the_command_line(server: servers.RedisServer, tmp_path: Path) -> None:
    environ = commandline.environ(server.url, tmp_path)
    path = str(tmp_path / "show {}.sh")
    Path(path).write_text("#!/bin/sh\necho {} $1\n")
    assert commandline.call("run", "--script", path, "busybox", "a", environ=environ).stdout == "{} a\n"
    shown = json.loads(
        commandline.call("run", "--dry-run", "--json", "--script", path, "busybox", environ=environ).stdout
    )
    assert shown["job"]["script"] == "#!/bin/sh\necho {} $1\n"
    command = ("batch", "--array", "7", "-q", "--script", path, "busybox", "{}")
    batch_id = commandline.call(*command, environ=environ).stdout.strip()
    with closing(Client(server.url)) as client:
        (job,) = client.batch(batch_id).jobs()
        assert job.wait(RESULT_S) == "succeeded"
        again = job.retry()
        assert again.wait(RESULT_S) == "succeeded"
        for done in (job, again):
            assert b"".join(output.data for output in done.logs()).decode() == "{} 7\n"


TEXT = "\ufeffa\r\n\0\r ä 漢\n" * 9000
BRINGS = """#!/bin/sh
md5sum; id -u; stat -c '%a %u %g' $HOME /celery-docker/*; echo > $TMPDIR/needle; [ ! -e /output ] || ls /output
"""


@pytest.mark.parametrize("read_only", [False, True])
@pytest.mark.parametrize("uid", ["0", "54321"])
def test_what_a_job_brings_with_podman(
    podman: servers.Podman, podman_engine: DockerEngine, folder: Path, uid: str, read_only: bool
) -> None:
    fields: dict[str, Any] = {"script": BRINGS, "stdin": TEXT, "scratch": True, "read_only": read_only}

    def made(image: str, **mounts: str) -> str:
        return podman_engine.create(planned(image, rules=ANY_RULES, user=f"{uid}:{uid}", **fields, **mounts))

    own = f"700 {uid} {uid}\n"
    expected = f"{hashlib.md5(TEXT.encode()).hexdigest()}  -\n{uid}\n{own}{own}555 0 0\n444 0 0\n"  # noqa: S324
    assert output_of(podman_engine, made("busybox")) == expected
    assert json.loads(podman.request("GET", "/volumes")[1])["Volumes"] in (None, [])
    output = {"outputpath": str(folder)}
    image = make_image(podman, "prepared", {"celery-docker": 0o755})
    assert output_of(podman_engine, made(image, **output)) == expected
    image = make_image(podman, "leading", {"celery-docker": "output/x"})
    if read_only:
        with pytest.raises(errors.RequestError, match="its '/celery-docker' is a link or a file, or is not there"):
            made(image, **output)
    else:
        assert output_of(podman_engine, made(image, **output)) == expected
    assert list(folder.iterdir()) == [], "nothing of root's in the output"


SCRATCH = "/celery-docker/scratch"


def remains(dockerd: servers.Dockerd, prefix: str) -> list[str]:
    """Return the names on the disk of Docker that begin so."""
    found = (name for _, folders, files in os.walk(dockerd.folder) for name in (*folders, *files))
    return [name for name in found if name.startswith(prefix)]


@pytest.mark.parametrize(
    ("fields", "about"),
    [
        ({}, "1777 0 0"),
        ({"user": "0:0"}, "700 0 0"),
        ({"user": "54321:54322"}, "700 54321 54322"),
        ({"user": "54321:54322", "read_only": True, "tmpfs": ["/tmp"]}, "700 54321 54322"),
        ({"read_only": True, "cap_drop": ["ALL"]}, "1777 0 0"),
        ({"user": "54321", "script": '#!/bin/sh\nexec "$@"', "read_only": True}, "700 54321 54321"),
    ],
    ids=str,
)
def test_a_scratch_folder(plain: Plain, dockerd: servers.Dockerd, fields: dict[str, Any], about: str) -> None:
    """It is empty, its user may write and run programs there, and programs find it."""
    script = f"""stat -c '%a %u %g' {SCRATCH}; ls -A {SCRATCH}; echo $HOME $TMPDIR; cd; pwd
        printf '#!/bin/sh\\necho run\\n' > needle-1; chmod 700 needle-1; ./needle-1; mktemp | grep -c ^{SCRATCH}/tmp"""
    output = plain.succeed("busybox", ["sh", "-c", script], scratch=True, **fields)["output"]
    assert output.split("\n") == [about, f"{SCRATCH} {SCRATCH}", SCRATCH, "run", "1", ""]
    eventually(lambda: remains(dockerd, "needle-") == [] == volumes(dockerd), RESULT_S, "nothing to be left")


@pytest.mark.parametrize("read_only", [False, True])
def test_a_scratch_folder_is_gone_whatever_is_in_it(
    plain: Plain, dockerd: servers.Dockerd, folder: Path, read_only: bool
) -> None:
    """Links are not followed, and each run begins with an empty one."""
    (folder / "kept").write_text("kept")
    script = f"""ls -A {SCRATCH} | wc -l >> /output/runs; cd {SCRATCH}
        mkdir -p needle-$(seq -s / 300); ln -s /output needle-2; ln -s /output/kept needle-3; mkfifo needle-4
        mkdir needle-5; touch needle-5/x; chown -R 54321 needle-5; chmod 0 needle-5; chmod 7777 needle-4
        touch "$(printf 'needle-\\377\\n')"; [ $(wc -l < /output/runs) = 2 ]"""
    fields: dict[str, Any] = {"scratch": True, "read_only": read_only, "outputpath": str(folder), "retries": 1}
    receipt = plain.succeed("busybox", ["sh", "-c", script], **fields)
    assert len(receipt["attempts"]) == 2
    assert (folder / "runs").read_text() == "0\n0\n"
    assert sorted(path.name for path in folder.iterdir()) == ["kept", "runs"]
    assert (folder / "kept").read_text() == "kept"
    eventually(lambda: remains(dockerd, "needle-") == [], RESULT_S, "nothing to be left")


@pytest.mark.parametrize("read_only", [False, True])
def test_a_scratch_folder_stays_while_the_job_runs_and_goes_with_a_cancel(
    plain: Plain, worker: Worker, dockerd: servers.Dockerd, folder: Path, read_only: bool
) -> None:
    """The worker is handed over and killed meanwhile."""
    script = (
        "echo > ~/needle-6; until [ -e /output/go ]; do sleep 0.1; done; rm ~/needle-6; touch ~/needle-6 /output/on"
    )
    fields: dict[str, Any] = {"scratch": True, "read_only": read_only, "outputpath": str(folder)}
    sent = plain.send("busybox", ["sh", "-c", f"{script}; sleep 99"], **fields)
    eventually(lambda: len(remains(dockerd, "needle-6")) > 0, RESULT_S, "the job to run")
    worker.hand_over()
    assert worker.wait() == 0
    worker.start()
    worker.kill()
    worker.start()
    (folder / "go").touch()
    eventually((folder / "on").exists, RESULT_S, "the job to go on")
    plain.app.control.revoke(sent.id)
    eventually(lambda: sent.state == "REVOKED", RESULT_S, "the end of the job")
    eventually(lambda: dockerd.containers() == [], RESULT_S, "the end of its container")
    eventually(lambda: remains(dockerd, "needle-6") == [] == volumes(dockerd), RESULT_S, "nothing to be left")


@pytest.mark.parametrize(
    "fields",
    [
        {},
        {"user": "54321"},
        {"read_only": True, "user": "54321:54321", "cap_drop": ["ALL"], "tmpfs": ["/tmp"]},
        {"entrypoint": ["env", "-u", "X"], "scratch": True},
        {"script": '[ $# = 1 ] && "$1"'},
        {"script": '#!/bin/sh\n"$@"', "read_only": True},
    ],
    ids=str,
)
def test_a_standard_input(plain: Plain, dockerd: servers.Dockerd, fields: dict[str, Any]) -> None:
    expected = f"{hashlib.md5(TEXT.encode()).hexdigest()}  -\n"  # noqa: S324  # busybox has it
    assert plain.succeed("busybox", ["md5sum"], stdin=TEXT, **fields)["output"] == expected
    eventually(lambda: volumes(dockerd) == [], RESULT_S, "nothing to be left")


def test_the_command_that_reads_may_be_the_images(plain: Plain, dockerd: servers.Dockerd) -> None:
    image = make_image(dockerd, "counting", {}, 'ENTRYPOINT ["wc", "-w"]\nCMD ["-c"]')
    assert plain.succeed(image, stdin="a b")["output"].split() == ["2", "3"]
    assert plain.succeed(image, ["-l"], stdin="a b\n")["output"].split() == ["1", "2"]
    assert plain.succeed(image, ["cat"], stdin="a b", entrypoint="")["output"] == "a b"
    assert plain.succeed(image, stdin="a b", entrypoint=["tr", "a", "c"])["output"] == "c b"
    assert plain.succeed(image, stdin="", script="cat; echo $#")["output"] == "0\n"
    assert plain.succeed("busybox", ["printf", "<%s>", "", "$(id)", "a  b"], stdin="x")["output"] == "<><$(id)><a  b>"


def test_a_standard_input_that_nobody_reads_or_can_open(plain: Plain, dockerd: servers.Dockerd) -> None:
    assert plain.succeed("busybox", ["true"], stdin=TEXT)["output"] == ""
    error, receipt = plain.fail("busybox", ["no-such-command"], stdin=TEXT)
    assert error.startswith("failed: exit code 127, the command was not found in the image")
    assert len(receipt["attempts"]) <= 1
    image = make_image(dockerd, "shellless", {"bin/sh": None})
    error, _ = plain.fail(image, ["cat"], stdin="a")
    assert error.startswith(
        "rejected: stdin: image 'shellless:latest' has no /bin/sh, which opens the standard input of its command; "
        "put the text into a file that the job mounts"
    )
    circle = make_image(dockerd, "circle", {"bin/sh": "sh"})
    assert plain.fail(circle, ["cat"], stdin="a")[0].startswith("rejected: stdin: image 'circle:latest' has no /bin/sh")
    error, _ = plain.fail("busybox", stdin="a")
    assert error.startswith("rejected: command: image 'busybox:latest' names none; name the command to run")


def test_a_standard_input_is_read_on_while_the_worker_is_killed_and_whole_at_a_retry(
    plain: Plain, worker: Worker, folder: Path
) -> None:
    script = """read line; echo $line >> /output/runs; until [ -e /output/go ]; do sleep 0.1; done
        wc -l; [ $(wc -l < /output/runs) = 2 ]"""
    sent = plain.send("busybox", stdin="a\n" * 131_072, script=script, outputpath=str(folder), retries=1)
    eventually((folder / "runs").exists, RESULT_S, "the job to run")
    worker.kill()
    worker.start()
    (folder / "go").touch()
    receipt = sent.get(timeout=RESULT_S)
    assert (folder / "runs").read_text() == "a\na\n"
    # A shell that reads one byte at a time leaves the rest to the next program.
    assert (receipt["output"], len(receipt["attempts"])) == ("131071\n", 2)


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
