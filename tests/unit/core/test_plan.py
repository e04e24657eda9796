"""The plan of a container: the exact request that Docker gets."""

from __future__ import annotations

import json
from typing import Any

import pytest

from celery_docker.core import plan
from celery_docker.core.jobspec import JobSpec
from celery_docker.core.mountkinds import Mount
from celery_docker.core.plan import ContainerPlan, Resolved, in_slice
from celery_docker.core.policy import Defaults, Limits, Policy

# Read-only, and nothing that is mounted below comes with it.
# What every container gets, whatever the job says.
LOG = {"Type": "local", "Config": {"max-size": "1000p", "max-file": "1", "compress": "false"}}


def planned(
    spec: JobSpec, resolved: Resolved, policy: Policy, attempt: int = 1, given: tuple[str, ...] | None = None
) -> ContainerPlan:
    return plan.plan(spec, job_id="0f3a", attempt=attempt, host="node1", resolved=resolved, policy=policy, given=given)


def test_the_least_that_can_be_asked_for() -> None:
    assert planned(JobSpec("busybox"), Resolved(), Policy()) == ContainerPlan(
        name="run-0f3a",
        body={
            "Image": "busybox:latest",
            "Env": ["CELERY_DOCKER_JOB_ID=0f3a"],
            "Labels": {"celery-docker.job": "0f3a", "celery-docker.host": "node1", "celery-docker.attempt": "1"},
            "AttachStdout": True,
            "AttachStderr": True,
            "HostConfig": {
                "Init": True,
                "NetworkMode": "bridge",
                "SecurityOpt": ["no-new-privileges"],
                "PidsLimit": 4096,
                "LogConfig": LOG,
                "Mounts": [],
            },
        },
    )


def test_everything_that_can_be_asked_for() -> None:
    """Paths and users are those that were looked up, not those that were typed."""
    spec = JobSpec(
        image="r.example.org:5000/lab/tool:1",
        command=("sh", "-c", "echo 'a  b'"),
        user="alice",
        logoutfile="/log/o",
        logerrfile="/log/e",
        inputpath="/link/in",
        outputpath="/link/out",
        retries=1,
        retry_on=(75,),
        timeout=60,
        stop_signal="SIGINT",
        stop_grace=5,
        env={"Z": "1=2", "A": "a b"},
        memory=2**29,
        cpus=0.57,
        gpus=2,
        pids_limit=32,
        shm_size=2**27,
        ulimits={"nofile": "1024:2048", "core": "0:-1"},
        workdir="/work",
        entrypoint=("tini", "--"),
        cap_drop=("ALL",),
        cap_add=("CHOWN",),
        group_add=("video",),
        device=("/dev/ttyUSB0:/dev/meter:rw", "/dev/snd/seq:/dev/snd/seq:rwm"),
        read_only=True,
        mounts=(Mount("/link/ref", "/ref", is_read_only=True), Mount("/link/work", "/work")),
        tmpfs={"/a": "", "/b": "size=4096,exec"},
        hostname="node-1",
        add_host=("db:10.0.0.1", "db:::1"),
        dns=("10.0.0.53",),
        network="bridge",
        pull="always",
        platform="linux/arm/v7",
        name="night run",
        labels={"team": "lab"},
        requeue=False,
    )
    paths = ("/data/in", "/data/out", "/log/o", "/log/e")
    resolved = Resolved("1001:100", *paths, groups=(44,), mounts=("/data/ref", "/data/work"))
    policy = Policy(networks=("none", "bridge"), limits=Limits(pids=64, memory_bytes=2**30, cpus=1.5))
    result = planned(spec, resolved, policy, attempt=3, given=("0", "vendor.com/gpu=1"))
    assert (result.pull, result.platform, result.is_strict) == ("always", "linux/arm/v7", True)
    assert result.body == {
        "Image": "r.example.org:5000/lab/tool:1",
        "Entrypoint": ["tini", "--"],
        "Cmd": ["sh", "-c", "echo 'a  b'"],
        "Env": ["A=a b", "CELERY_DOCKER_JOB_ID=0f3a", "Z=1=2"],
        "WorkingDir": "/work",
        "User": "1001:100",
        "StopSignal": "SIGINT",
        "Hostname": "node-1",
        "Labels": {
            "team": "lab",
            "celery-docker.name": "night run",
            "celery-docker.job": "0f3a",
            "celery-docker.host": "node1",
            "celery-docker.attempt": "3",
            "celery-docker.gpus": "0,vendor.com/gpu=1",
        },
        "AttachStdout": True,
        "AttachStderr": True,
        "HostConfig": {
            "Init": True,
            "NetworkMode": "bridge",
            "SecurityOpt": ["no-new-privileges"],
            "PidsLimit": 32,
            "LogConfig": LOG,
            "Mounts": [
                {"Type": "bind", "Source": "/data/in", "Target": "/input", "ReadOnly": True},
                {"Type": "bind", "Source": "/data/out", "Target": "/output", "ReadOnly": False},
                {"Type": "bind", "Source": "/data/ref", "Target": "/ref", "ReadOnly": True},
                {"Type": "bind", "Source": "/data/work", "Target": "/work", "ReadOnly": False},
            ],
            # No swap beyond the memory limit.
            "Memory": 2**29,
            "MemorySwap": 2**29,
            "NanoCpus": 570_000_000,
            "ShmSize": 2**27,
            "Ulimits": [
                {"Name": "nofile", "Soft": 1024, "Hard": 2048},
                {"Name": "core", "Soft": 0, "Hard": -1},
            ],
            "ReadonlyRootfs": True,
            "Tmpfs": {"/a": "", "/b": "size=4096,exec"},
            "CapDrop": ["ALL"],
            "CapAdd": ["CHOWN"],
            "GroupAdd": ["44"],
            "Devices": [
                {"PathOnHost": "/dev/ttyUSB0", "PathInContainer": "/dev/meter", "CgroupPermissions": "rw"},
                {"PathOnHost": "/dev/snd/seq", "PathInContainer": "/dev/snd/seq", "CgroupPermissions": "rwm"},
            ],
            "ExtraHosts": ["db:10.0.0.1", "db:::1"],
            "Dns": ["10.0.0.53"],
            "DeviceRequests": [
                {"Driver": "", "Count": 0, "DeviceIDs": ["0"], "Capabilities": [["gpu"]], "Options": {}},
                {
                    "Driver": "cdi",
                    "Count": 0,
                    "DeviceIDs": ["vendor.com/gpu=1"],
                    "Capabilities": None,
                    "Options": None,
                },
            ],
        },
    }


def test_a_job_that_asks_for_gpus_and_is_given_none_has_none() -> None:
    """Docker would give a number of them to each container, the same ones."""
    body = planned(JobSpec("busybox", gpus="all"), Resolved(), Policy(), given=()).body
    assert "DeviceRequests" not in body["HostConfig"]
    assert "celery-docker.gpus" not in body["Labels"]


@pytest.mark.parametrize(
    ("wanted", "expected"),
    [
        (2, "--gpus 2 "),
        ("all", "--gpus all "),
        (("0",), "--gpus device=0 "),
        (("0", "GPU-1"), "--gpus '\"device=0,GPU-1\"' "),
        (("v.com/gpu=0", "v.com/gpu=1"), "--device v.com/gpu=0 --device v.com/gpu=1 "),
        (("0", "v.com/gpu=1"), "--gpus device=0 --device v.com/gpu=1 "),
    ],
)
def test_the_docker_run_of_a_job_that_is_not_to_be_run_asks_as_the_job_does(wanted: Any, expected: str) -> None:
    assert expected in plan.docker_run_line(planned(JobSpec("busybox", gpus=wanted), Resolved(), Policy()))


def test_a_job_that_asks_for_nothing_gets_what_the_policy_sets() -> None:
    policy = Policy(networks=("none", "bridge"), limits=Limits(memory_bytes=2**30, cpus=1.5))
    config = planned(JobSpec("busybox"), Resolved(), policy).body["HostConfig"]
    assert (config["NetworkMode"], config["Memory"], config["MemorySwap"], config["NanoCpus"]) == (
        "none",
        2**30,
        2**30,
        1_500_000_000,
    )


@pytest.mark.parametrize(
    ("spec", "limits", "expected"),
    [
        (JobSpec("busybox"), Limits(memory_bytes=2**33, cpus=8), (2**31, 500_000_000)),
        (JobSpec("busybox"), Limits(), (2**31, 500_000_000)),
        (JobSpec("busybox", memory=2**32, cpus=4), Limits(memory_bytes=2**33, cpus=8), (2**32, 4_000_000_000)),
    ],
)
def test_the_policys_defaults_come_before_its_limits(spec: JobSpec, limits: Limits, expected: tuple[int, int]) -> None:
    config = planned(spec, Resolved(), Policy(limits=limits, defaults=Defaults(2**31, 0.5))).body["HostConfig"]
    assert (config["Memory"], config["NanoCpus"]) == expected
    assert config["MemorySwap"] == config["Memory"]


@pytest.mark.parametrize(("driver", "parent"), [("systemd", "lab-gpu.slice"), ("cgroupfs", "/lab.slice/lab-gpu.slice")])
def test_a_container_in_a_slice_as_the_driver_wants_it_named(driver: str, parent: str) -> None:
    plain = planned(JobSpec("busybox"), Resolved(), Policy())
    placed = in_slice(plain, "/lab.slice/lab-gpu.slice", driver)
    assert placed.body["HostConfig"] == {**plain.body["HostConfig"], "CgroupParent": parent}
    assert "CgroupParent" not in plain.body["HostConfig"]


def test_an_empty_entrypoint_takes_the_images_own_away() -> None:
    """An empty list would mean the image's own to Docker."""
    assert planned(JobSpec("busybox", entrypoint=()), Resolved(), Policy()).body["Entrypoint"] == [""]


@pytest.mark.parametrize(
    ("script", "entrypoint"),
    [
        ("#!/usr/bin/env python3\nprint()\n", ["/celery-docker/script"]),
        ("#! /bin/sh", ["/celery-docker/script"]),
        ("echo a", ["/bin/sh", "/celery-docker/script"]),
        ("# !/bin/sh", ["/bin/sh", "/celery-docker/script"]),
        (" #!/bin/sh", ["/bin/sh", "/celery-docker/script"]),
    ],
)
def test_a_script_is_the_entrypoint_and_the_command_has_its_arguments(script: str, entrypoint: list[str]) -> None:
    made = planned(JobSpec("busybox", script=script, command=("a", "b")), Resolved(), Policy())
    assert (made.script, made.body["Entrypoint"], made.body["Cmd"]) == (script, entrypoint, ["a", "b"])
    assert script not in repr(made), "it may hold passwords"
    assert script not in json.dumps(made.body), "so that docker inspect does not show it"


def test_a_script_beside_files_that_cannot_be_changed_lies_in_a_volume() -> None:
    made = planned(JobSpec("busybox", script="true", read_only=True), Resolved(), Policy())
    ours = {"celery-docker.job": "0f3a", "celery-docker.host": "node1"}
    assert made.body["HostConfig"]["Mounts"] == [
        {
            "Type": "volume",
            "Target": "/celery-docker",
            "ReadOnly": False,
            "VolumeOptions": {"NoCopy": True, "Labels": ours},
        }
    ]
    assert "--mount type=bind,source=SCRIPT,target=/celery-docker/script,readonly" in plan.docker_run_line(made)
    assert "type=volume" not in plan.docker_run_line(made)
    assert planned(JobSpec("busybox", script="true"), Resolved(), Policy()).body["HostConfig"]["Mounts"] == []


def test_a_scratch_folder_is_home_and_where_temporary_files_lie_unless_the_job_says_otherwise() -> None:
    made = planned(JobSpec("busybox", scratch=True, env={"HOME": "/h"}), Resolved(), Policy())
    assert made.has_scratch
    assert made.body["Env"] == ["CELERY_DOCKER_JOB_ID=0f3a", "HOME=/h", "TMPDIR=/celery-docker/scratch"]
    assert made.body["HostConfig"]["Mounts"] == []
    (volume,) = planned(JobSpec("b", scratch=True, read_only=True), Resolved(), Policy()).body["HostConfig"]["Mounts"]
    assert (volume["Type"], volume["Target"]) == ("volume", "/celery-docker")
    assert not planned(JobSpec("busybox", scratch=False), Resolved(), Policy()).has_scratch


def test_a_standard_input_is_in_no_body_and_no_repr() -> None:
    """Whose command it is, only the image may know."""
    made = planned(JobSpec("busybox", stdin="hunter2", read_only=True), Resolved(), Policy())
    assert made.stdin == "hunter2"
    assert "hunter2" not in repr(made)
    assert {"Entrypoint", "Cmd", "OpenStdin"}.isdisjoint(made.body)
    assert [mount["Target"] for mount in made.body["HostConfig"]["Mounts"]] == ["/celery-docker"]
    empty = planned(JobSpec("busybox", stdin="", read_only=True), Resolved(), Policy())
    assert [mount["Target"] for mount in empty.body["HostConfig"]["Mounts"]] == ["/celery-docker"]


def test_what_is_ours_cannot_be_overridden() -> None:
    spec = JobSpec("b", env={"CELERY_DOCKER_JOB_ID": "other"}, labels={"celery-docker.job": "other"})
    body = planned(spec, Resolved(), Policy()).body
    assert body["Env"] == ["CELERY_DOCKER_JOB_ID=0f3a"]
    assert body["Labels"]["celery-docker.job"] == "0f3a"


def test_the_same_job_gives_the_same_plan_and_it_is_json() -> None:
    plan, same_plan = (planned(JobSpec("busybox"), Resolved(), Policy()) for _ in range(2))
    assert plan == same_plan
    assert json.loads(json.dumps(plan.body)) == plan.body


def test_a_container_never_removes_itself() -> None:
    """It is the evidence of how the job ended."""
    assert "AutoRemove" not in planned(JobSpec("busybox"), Resolved(), Policy()).body["HostConfig"]


@pytest.mark.parametrize(
    ("image", "expected"),
    [
        ("busybox", "busybox:latest"),
        ("busybox:1.36", "busybox:1.36"),
        ("lab/tool", "lab/tool:latest"),
        ("localhost:5000/tool", "localhost:5000/tool:latest"),
        ("localhost:5000/tool:1", "localhost:5000/tool:1"),
        ("tool@sha256:" + "0" * 64, "tool@sha256:" + "0" * 64),
        ("localhost:5000/tool@sha256:" + "0" * 64, "localhost:5000/tool@sha256:" + "0" * 64),
        ("3f5ef9003cef", "3f5ef9003cef"),
        (64 * "a", 64 * "a"),
        ("deadbeef", "deadbeef:latest"),
        ("lab/3f5ef9003cef", "lab/3f5ef9003cef:latest"),
    ],
)
def test_tagged(image: str, expected: str) -> None:
    assert plan.tagged(image) == expected
    assert planned(JobSpec(image), Resolved(), Policy()).image == expected


_EVER = (
    "--security-opt no-new-privileges --pids-limit 4096 --log-driver local "
    "--log-opt max-size=1000p --log-opt max-file=1 --log-opt compress=false"
)
_LABELS = "--label celery-docker.job=0f3a --label celery-docker.host=node1 --label celery-docker.attempt=1"
_ENV = "--env CELERY_DOCKER_JOB_ID=0f3a"
_HEAD = "docker run --init --name run-0f3a --pull"


@pytest.mark.parametrize(
    ("spec", "resolved", "expected"),
    [
        pytest.param(
            JobSpec("busybox"),
            Resolved(),
            f"{_HEAD} missing --network bridge {_EVER} {_ENV} {_LABELS} busybox:latest",
            id="the least",
        ),
        pytest.param(
            JobSpec(
                "busybox",
                command=("sh", "-c", "echo $A; echo it's"),
                user="alice",
                env={"A": "a b"},
                memory=512 * 2**20,
                cpus=1.5,
                pids_limit=4096,
                shm_size=2**27,
                ulimits={"nofile": "1024:2048", "core": "0:-1"},
                read_only=True,
                hostname="node-1",
                cap_drop=("CHOWN", "NET_RAW"),
                cap_add=("NET_ADMIN",),
                device=("/dev/ttyUSB0:/dev/meter:rw",),
                mounts=(Mount("/x", "/ref,1", is_read_only=True), Mount("/y", "/y")),
                tmpfs={"/a": "", "/b": "size=4096,exec"},
                add_host=("db:10.0.0.1",),
                dns=("10.0.0.53", "::1"),
                platform="linux/arm64",
                workdir="/w",
                entrypoint=("tini", "--"),
                network="none",
                pull="never",
                stop_signal="SIGINT",
                labels={"team": "lab 1"},
            ),
            Resolved(user="1001:100", inputpath="/data/a,b", outputpath='/data/"out"', mounts=("/a\nb", "/y")),
            f"{_HEAD.replace('--init', '--init --read-only')} never --platform linux/arm64 --network none "
            "--hostname node-1 --add-host db:10.0.0.1 --dns 10.0.0.53 --dns ::1 --cap-drop CHOWN --cap-drop NET_RAW "
            f"--cap-add NET_ADMIN {_EVER} "
            "--memory 536870912 --memory-swap 536870912 --cpus 1.5 --shm-size 134217728 --ulimit nofile=1024:2048 "
            "--ulimit core=0:-1 --device /dev/ttyUSB0:/dev/meter:rw "
            "--mount 'type=bind,\"source=/data/a,b\",target=/input,readonly' "
            '--mount \'type=bind,"source=/data/""out""",target=/output\' '
            '--mount \'type=bind,"source=/a\nb","target=/ref,1",readonly\' --mount type=bind,source=/y,target=/y '
            "--tmpfs /a --tmpfs /b:size=4096,exec "
            f"--env 'A=a b' {_ENV} --label 'team=lab 1' {_LABELS} --user 1001:100 --workdir /w --stop-signal SIGINT "
            """--entrypoint tini busybox:latest -- sh -c 'echo $A; echo it'"'"'s'""",
            id="everything",
        ),
        pytest.param(
            JobSpec("busybox", command=("true",), entrypoint=()),
            Resolved(),
            f"{_HEAD} missing --network bridge {_EVER} {_ENV} {_LABELS} --entrypoint '' busybox:latest true",
            id="no entrypoint",
        ),
        pytest.param(
            JobSpec("busybox", command=("a",), script="echo"),
            Resolved(),
            f"{_HEAD} missing --network bridge {_EVER} "
            "--mount type=bind,source=SCRIPT,target=/celery-docker/script,readonly "
            f"{_ENV} {_LABELS} --entrypoint /bin/sh busybox:latest /celery-docker/script a",
            id="script",
        ),
        pytest.param(
            JobSpec("busybox", command=("wc",), stdin="a"),
            Resolved(),
            f"{_HEAD.replace('--init', '--init --interactive')} missing --network bridge {_EVER} {_ENV} {_LABELS} "
            "busybox:latest wc < STDIN",
            id="stdin",
        ),
        pytest.param(
            JobSpec("busybox", scratch=True, read_only=True),
            Resolved(),
            f"{_HEAD.replace('--init', '--init --read-only')} missing --network bridge {_EVER} "
            "--mount type=volume,target=/celery-docker/scratch "
            f"{_ENV} --env HOME=/celery-docker/scratch --env TMPDIR=/celery-docker/scratch {_LABELS} busybox:latest",
            id="scratch",
        ),
    ],
)
def test_docker_run_line(spec: JobSpec, resolved: Resolved, expected: str) -> None:
    assert plan.docker_run_line(planned(spec, resolved, Policy())) == expected


@pytest.mark.parametrize(("users", "is_strict"), [(("*",), False), (("alice", "*"), False), (("alice",), True)])
def test_where_the_policy_names_users_the_groups_of_an_image_have_to_be_known(
    users: tuple[str, ...], is_strict: bool
) -> None:
    result = planned(JobSpec("busybox"), Resolved(user="1001:100"), Policy(users=users))
    assert result.is_strict is is_strict


def test_a_submitter_has_his_groups_and_nobody_else_has() -> None:
    made = planned(JobSpec("busybox"), Resolved(user="1000:1000", groups=(27, 100)), Policy())
    assert made.body["HostConfig"]["GroupAdd"] == ["27", "100"]
    assert "--group-add 27 --group-add 100" in plan.docker_run_line(made)
    assert "GroupAdd" not in planned(JobSpec("busybox"), Resolved(user="1000:1000"), Policy()).body["HostConfig"]


def test_a_container_says_of_which_arguments_it_was_made() -> None:
    forged = JobSpec("busybox", labels={"celery-docker.arguments": "evil"})
    made = plan.plan(forged, job_id="j", attempt=1, host="h", resolved=Resolved(), policy=Policy(), digest="d")
    assert made.body["Labels"]["celery-docker.arguments"] == "d"
