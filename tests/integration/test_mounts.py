"""Further mounts of a job, seen from inside of its container, and images that try to lead Docker into them."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from celery_docker import errors
from celery_docker.client.client import Client
from celery_docker.core import policy
from celery_docker.core.mountkinds import Mount
from celery_docker.engine.dockerd import DockerEngine
from tests import commandline, servers
from tests.integration.test_home import Members, make_image
from tests.integration.test_policy import ANYBODY, NAMED, made, output_of, planned, podman_engine
from tests.integration.test_worker import RESULT_S, WAIT, Plain, folder
from tests.waiting import eventually
from tests.workers.worker import Worker

__all__ = ["folder", "podman_engine"]

RULES = policy.Policy(networks=("none",), mounts=("/tmp",))
# Shows for each place whether it can be written to.
LOOK = "for p in {}; do touch $p/new 2>/dev/null && echo $p: rw || echo $p: ro; done"


@pytest.fixture(autouse=True)
def worker(steady: Worker) -> Worker:
    """The one worker of all these tests, with the policy that allows most."""
    return steady


@pytest.fixture
def plain(server: servers.RedisServer) -> Iterator[Plain]:
    submitter = Plain(server.url)
    yield submitter
    submitter.app.close()


@pytest.fixture
def data(folder: Path) -> Path:
    """A folder of the host with a file and a folder for everybody."""
    (folder / "sub").mkdir()
    for path in (folder, folder / "sub"):
        path.chmod(0o777)
    (folder / "file").write_text("of the host\n")
    return folder


BEFORE = ["file", "sub"]


def shell(plain: Plain, script: str, **fields: Any) -> str:
    """Return what a shell prints in the container of a job."""
    return str(plain.succeed("busybox", ["sh", "-c", script], **fields)["output"])


def refused(plain: Plain, image: str = "busybox", **fields: Any) -> str:
    """Return why a job is rejected, at once."""
    error, receipt = plain.fail(image, "true", pull="never", **fields)
    assert (receipt["state"], len(receipt["attempts"]) <= 1) == ("rejected", True), error
    return error.removeprefix("rejected: ")


@pytest.mark.parametrize("user", [None, "54321"])
def test_folders_and_files_read_only_and_writable(plain: Plain, data: Path, user: str | None) -> None:
    mounts = [f"{data}:/ref:ro", f"{data}/sub:/deep/in/the/image", f"type=bind,src={data}/file,dst=/file,readonly"]
    look = LOOK.format("/ref /ref/sub /deep/in/the/image")
    script = f"cat /ref/file /file; {look}; (echo x >> /file) 2>/dev/null || echo closed"
    output = shell(plain, script, mounts=mounts, user=user, read_only=True)
    assert output.splitlines() == ["of the host"] * 2 + ["/ref: ro", "/ref/sub: ro", "/deep/in/the/image: rw", "closed"]
    assert made(data) == [*BEFORE, "sub/new"]
    assert (data / "sub/new").stat().st_uid == int(user or 0)


def test_beside_input_and_output(plain: Plain, data: Path) -> None:
    """The same folder may be there several times; each place has its own right."""
    fields = {"inputpath": str(data), "outputpath": f"{data}/sub", "mounts": [f"{data}:/a:ro", f"{data}:/b"]}
    script = LOOK.format("/input /output /a /b /input/sub /a/sub /b/sub")
    assert shell(plain, script, **fields).split("\n")[:-1] == [
        *("/input: ro", "/output: rw", "/a: ro", "/b: rw", "/input/sub: ro", "/a/sub: ro", "/b/sub: rw")
    ]


def test_what_is_mounted_below_is_read_only_too(plain: Plain, data: Path) -> None:
    servers.run("mount", "-t", "tmpfs", "-o", "mode=777", "tmpfs", str(data / "sub"))
    try:
        mounts = [f"{data}:/ref:ro", f"{data}:/desk"]
        assert shell(plain, LOOK.format("/ref/sub /desk/sub"), mounts=mounts) == "/ref/sub: ro\n/desk/sub: rw\n"
    finally:
        servers.run("umount", "-l", str(data / "sub"))


def test_a_folder_in_memory_by_mount(plain: Plain) -> None:
    script = "grep ' /s ' /proc/mounts | cut -d' ' -f2-4; df -k /s | awk 'END {print $2}'"
    output = shell(plain, script, mounts=["type=tmpfs,dst=/s,tmpfs-size=1m,tmpfs-mode=0700"])
    assert output.startswith("/s tmpfs rw,nosuid,nodev,noexec,")
    assert output.endswith("\n1024\n")


def test_any_name(plain: Plain, folder: Path) -> None:
    names = ["a b", "ü", "line\nline", "a,b", 'a"b', "a'b", "-rf", "{}", "*", "\\040", "a=b"]
    for name in [*names, "a:b"]:
        (folder / name).mkdir()
        (folder / name / "x").write_text(name)
    tables = [{"type": "bind", "source": f"{folder}/{name}", "target": f"/m/{name}"} for name in names]
    tables.append({"type": "bind", "source": f"{folder}/a:b", "target": "/m/colon"})
    output = shell(plain, "for name in $(ls /m | wc -l); do echo $name; done; cat /m/*/x", mounts=tables)
    assert output.startswith("12\n")
    assert all(name in output for name in [*names, "a:b"])


def test_as_many_as_there_may_be(plain: Plain, data: Path) -> None:
    mounts = [f"{data}:/m/{number}:{'ro' if number % 2 else 'rw'}" for number in range(64)]
    assert shell(plain, "ls -d /m/*/sub | wc -l; grep -c ' /m/' /proc/mounts", mounts=mounts) == "64\n64\n"
    assert "has 65 entries; 64 are the most" in refused(plain, mounts=[*mounts, f"{data}:/m/64"])


# What is refused


@pytest.mark.parametrize("user", [None, "54321"])
def test_a_path_that_a_job_may_not_have(plain: Plain, data: Path, user: str | None) -> None:
    """The same answers as for input and output; what is not there is not made."""
    fields: dict[str, Any] = {} if user is None else {"user": user}
    node = os.uname().nodename
    assert refused(plain, mounts=["/etc:/a"], **fields).startswith("mounts: '/etc' is outside what this host allows")
    missing = refused(plain, mounts=[f"{data}:/a", f"{data}/new:/b"], **fields)
    assert missing.startswith(f"mounts: '{data}/new' on host {node}: No such file or directory")
    (data / "link").symlink_to("/etc/passwd")
    assert f"mounts: '{data}/link' (which is '/etc/passwd') is outside" in refused(plain, mounts=[f"{data}/link:/a"])
    (data / "closed").mkdir(mode=0o700)
    (data / "closed/x").mkdir()
    if user is not None:
        problem = refused(plain, mounts=[f"{data}/closed/x:/a"], **fields)
        assert problem.startswith(f"mounts: user {user} may not look at '{data}/closed/x'")
    assert made(data) == ["closed", "closed/x", "file", "link", "sub"]


@pytest.mark.parametrize(
    ("target", "image_has"),
    [
        ("/link/new", {"link": "desk"}),
        ("/link", {"link": "etc"}),
        ("/link/group", {"link": "etc"}),
        ("/link/a", {"link": "proc"}),
        ("/link/a", {"link": "output"}),
        ("/link/a", {"link": "link"}),
        ("/a/../link", {}),
        ("/link/a", {"link": b"a file"}),
        ("/a/b", {"a/b": "../desk"}),
    ],
    ids=str,
)
def test_a_place_behind_a_link_of_the_image(
    plain: Plain, dockerd: servers.Dockerd, data: Path, target: str, image_has: Members
) -> None:
    image = make_image(dockerd, "linked", image_has)
    mounts = [f"{data}:{target}:ro", f"{data}:/desk"]
    problem = refused(plain, image, mounts=mounts, outputpath=str(data))
    assert "must be written without '..'" in problem or (
        f"mounts: '{target}' lies behind a link or a file of image 'linked:latest'; name a" in problem
    )
    assert made(data) == BEFORE


@pytest.mark.parametrize(
    ("target", "image_has", "changes"),
    [
        ("/desk", {"sbin": "desk", "bin/sh": None}, ""),
        ("/usr/sbin", {"sbin": "usr/sbin", "usr/sbin": 0o755}, ""),
        ("/usr", {"sbin": "usr/sbin", "usr/sbin": 0o755}, ""),
        ("/desk", {"run": "desk/run"}, ""),
        ("/desk", {}, "VOLUME /desk/a"),
        ("/desk", {"link": "desk"}, "VOLUME /link/a"),
        ("/desk", {"link": "desk"}, "VOLUME /link"),
        ("/output", {"sbin": "output"}, ""),
        ("/output", {"link": "output"}, "VOLUME /link/a"),
    ],
    ids=str,
)
@pytest.mark.parametrize("mode", ["rw", "ro"])
def test_what_docker_makes_in_each_container_is_not_made_on_the_host(
    dockerd: servers.Dockerd,
    engine: DockerEngine,
    data: Path,
    target: str,
    image_has: Members,
    changes: str,
    mode: str,
) -> None:
    image = make_image(dockerd, "making", image_has, changes=changes)
    mounts = () if target == "/output" else (Mount(str(data), target, mode == "ro"),)
    fields: dict[str, Any] = {"outputpath": str(data)} if target == "/output" else {"mounts": mounts}
    with pytest.raises(errors.RequestError, match=r"is in the way of|its VOLUME"):
        engine.create(planned(image, "true", rules=NAMED, **fields))
    assert made(data) == BEFORE
    assert dockerd.containers() == []


def test_docker_would_still_make_the_folder_of_a_volume(dockerd: servers.Dockerd, data: Path) -> None:
    """Where this fails, Docker has mended it, and such images need no refusal."""
    image = make_image(dockerd, "making", {"link": "desk"}, changes="VOLUME /link/a")
    mount = {"Type": "bind", "Source": str(data), "Target": "/desk"}
    body = {"Image": image, "Cmd": ["true"], "HostConfig": {"Init": True, "NetworkMode": "none", "Mounts": [mount]}}
    assert dockerd.request("POST", "/containers/create?name=making", json.dumps(body).encode())[0] == 201
    dockerd.request("POST", "/containers/making/start")
    dockerd.remove_containers()
    assert made(data) == ["a", *BEFORE]


@pytest.mark.parametrize("mode", ["rw", "ro"])
def test_a_workdir_in_a_mount_has_to_be_there(plain: Plain, data: Path, mode: str) -> None:
    mounts = [f"{data}:/desk:{mode}"]
    for user in (None, "54321"):
        fields: dict[str, Any] = {"mounts": mounts} | ({"user": user} if user else {})
        assert refused(plain, workdir="/desk/a/b", **fields).startswith(
            "workdir: '/desk/a/b' is not there in the container, and Docker would make it in the mount '/desk', as root"
        )
        assert shell(plain, "pwd", workdir="/desk/sub", **fields) == "/desk/sub\n"
    assert made(data) == BEFORE


def test_the_workdir_of_an_image_in_a_mount_has_to_be_there(plain: Plain, dockerd: servers.Dockerd, data: Path) -> None:
    image = make_image(dockerd, "working", {}, changes="WORKDIR /desk/a")
    assert "WORKDIR: '/desk/a' is not there" in refused(plain, image, mounts=[f"{data}:/desk"])
    assert made(data) == BEFORE
    image = make_image(dockerd, "working", {}, changes="WORKDIR /desk/sub")
    assert plain.succeed(image, "pwd", mounts=[f"{data}:/desk"], pull="never")["output"] == "/desk/sub\n"


@pytest.mark.parametrize(("source", "target"), [("sub", "/bin/busybox"), ("file", "/usr")])
def test_a_file_over_a_folder_is_the_jobs_fault(
    plain: Plain, dockerd: servers.Dockerd, data: Path, source: str, target: str
) -> None:
    image = make_image(dockerd, "shaped", {"usr": 0o755})
    assert "the container cannot be started" in refused(plain, image, mounts=[f"{data}/{source}:{target}"])


def test_a_home_is_made_beside_a_mount(plain: Plain, data: Path) -> None:
    """Not in it, where Docker would make a folder of root's."""
    script = "echo $HOME; touch ~/x && echo written"
    for mounts, home in (
        (["/tmp"], "/home/celery-docker"),
        (["/home"], "/tmp"),
        (["/home", "/tmp"], "/celery-docker"),
    ):
        entries = [f"{data}:{target}" for target in mounts]
        assert shell(plain, script, user="54321", mounts=entries) == f"{home}\nwritten\n"
    assert made(data) == BEFORE


def test_the_groups_of_a_user_are_not_those_of_a_mount(engine: DockerEngine, data: Path) -> None:
    """A mount at /etc/group is refused where it is parsed; one that came through would not be asked for groups."""
    (data / "group").write_text("root:x:0:\nshadow:x:42:alice\n")
    (data / "passwd").write_text("alice:x:54321:54321::/:/bin/sh\n")
    mounts = (Mount(f"{data}/group", "/etc/group"), Mount(f"{data}/passwd", "/etc/passwd"))
    with pytest.raises(errors.RequestError, match="is in the way of /etc of image"):
        engine.create(planned("busybox", "id", rules=NAMED, mounts=mounts))


# By all ways, and over the life of a job


def test_by_flags_by_a_document_by_a_manifest_and_at_a_retry(
    server: servers.RedisServer, data: Path, tmp_path: Path
) -> None:
    environ = commandline.environ(server.url, tmp_path)
    script = f"cat /ref/file; {LOOK.format('/ref /desk')}; rm -f /desk/new"
    tables = [
        {"type": "bind", "source": str(data), "target": "/ref", "readonly": True},
        {"type": "bind", "source": f"{data}/sub", "target": "/desk"},
    ]
    expected = "of the host\n/ref: ro\n/desk: rw\n"
    flags = ("-v", f"{data}:/ref:ro", "--mount", f"type=bind,source={data}/sub,target=/desk")
    assert commandline.call("run", *flags, "busybox", "sh", "-c", script, environ=environ).stdout == expected
    shown = commandline.call("run", "--dry-run", *flags, "busybox", environ=environ).stdout
    assert f"--mount type=bind,source={data},target=/ref,readonly --mount type=bind,source={data}/sub,target=/" in shown
    document = {"image": "busybox", "command": ["sh", "-c", script]}
    for mounts in (tables, [f"{data}:/ref:ro", f"{data}/sub:/desk"]):
        (tmp_path / "job.json").write_text(json.dumps({**document, "mounts": mounts}))
        assert commandline.call("run", "-f", f"{tmp_path}/job.json", environ=environ).stdout == expected
    (tmp_path / "jobs.jsonl").write_text(json.dumps({"job.mounts": tables}))
    command = ("batch", "--manifest", f"{tmp_path}/jobs.jsonl", "-q", "busybox", "sh", "-c", script)
    batch_id = commandline.call(*command, environ=environ).stdout.strip()
    with closing(Client(server.url)) as client:
        assert [receipt["output"] for receipt in client.batch(batch_id).results(RESULT_S)] == [expected]
        job = client.submit("busybox", ["sh", "-c", f"{script}; exit 3"], retries=0, mounts=tables)
        assert job.wait(RESULT_S) == "failed"
        again = job.retry()
        assert again.wait(RESULT_S) == "failed"
        assert b"".join(output.data for output in again.logs()).decode() == expected
    (inspected,) = json.loads(commandline.call("inspect", again.id, environ=environ).stdout)
    assert inspected["spec"]["mounts"] == tables


def test_a_container_that_is_taken_over_keeps_its_mounts(plain: Plain, worker: Worker, data: Path) -> None:
    """Nothing is looked up again: the folder has been moved away, and a link to another lies in its place."""
    script = f"touch /output/on; {WAIT}; cat /ref/x; touch /desk/seen"
    for path in (data / "ref", data / "desk", data / "other"):
        path.mkdir()
        (path / "x").write_text(f"{path.name}\n")
    fields: dict[str, Any] = {"mounts": [f"{data}/ref:/ref:ro", f"{data}/desk:/desk"], "outputpath": str(data)}
    sent = plain.send("busybox", ["sh", "-c", script], retries=0, **fields)
    eventually((data / "on").exists, RESULT_S, "the job to run")
    assert len(pins(worker)) == 3
    worker.kill()
    (data / "ref").rename(data / "moved")
    (data / "ref").symlink_to("other")
    worker.start()
    assert len(pins(worker)) == 3
    (data / "go").touch()
    assert sent.get(timeout=RESULT_S)["output"] == "ref\n"
    assert (data / "desk/seen").exists()
    eventually(lambda: pins(worker) == [], RESULT_S, "its pins to go")


def pins(worker: Worker) -> list[str]:
    return worker.opener.mounts()


# Podman


def test_the_same_with_podman(podman: servers.Podman, podman_engine: DockerEngine, data: Path) -> None:
    """A link that leads nowhere is not there to Podman, so that the place in the image has to be."""
    have: Members = {"ref": 0o755, "desk": 0o755}
    mounts = (Mount(str(data), "/ref", is_read_only=True), Mount(f"{data}/sub", "/desk"))
    script = f"cat /ref/file; {LOOK.format('/ref /desk')}"
    image = make_image(podman, "linked", have)
    job = planned(image, "sh", "-c", script, rules=ANYBODY, mounts=mounts, user="0:0")
    assert output_of(podman_engine, podman_engine.create(job)) == "of the host\n/ref: ro\n/desk: rw\n"
    cases: list[tuple[Members, str, str]] = [
        ({"link": "desk"}, "/link/a", "lies behind a link or a file"),
        ({"link": "link"}, "/link/a", "lies behind a link or a file"),
        ({"link": "nowhere"}, "/link", "lies behind a link or a file of image 'linked:latest', or is not there"),
        ({"etc": "desk"}, "/desk", "is in the way of /etc"),
        ({"run": "desk"}, "/desk", "is in the way of /run"),
    ]
    for image_has, target, words in cases:
        image = make_image(podman, "linked", {**have, **image_has})
        with pytest.raises(errors.RequestError, match=words):
            podman_engine.create(planned(image, "true", rules=ANYBODY, mounts=(Mount(str(data), target),)))
    image = make_image(podman, "linked", {**have, "link": "desk", "desk/a": 0o755}, changes="VOLUME /link/a")
    with pytest.raises(errors.RequestError, match="its VOLUME '/link/a' lies in"):
        podman_engine.create(planned(image, "true", rules=ANYBODY, mounts=(Mount(str(data), "/desk"),)))
    assert made(data) == [*BEFORE, "sub/new"]
