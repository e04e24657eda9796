"""The policy against jobs that try to get round it, with a real worker and Docker: groups, folders, other spellings."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import pytest

from celery_docker import errors
from celery_docker.core import plan, policy
from celery_docker.core.jobspec import JobSpec
from celery_docker.engine.dockerd import DockerEngine
from celery_docker.host import resolver
from tests import servers
from tests.integration.test_home import Members, make_image
from tests.integration.test_worker import Plain, folder
from tests.workers.opener import Asking, Opener
from tests.workers.worker import Worker

__all__ = ["folder"]

# Nobody on the computer of the tests.
UID = "54321"
GROUPS = "root:x:0:\nshadow:x:42:evil\ndocker:x:999:evil\n"
RULES = 'mounts = ["/tmp"]\nnetworks = ["none"]\nusers = ["root", "54000-54999"]\n'


@pytest.fixture(scope="module")
def strict(server: servers.RedisServer, dockerd: servers.Dockerd) -> Iterator[Worker]:
    """One worker that allows root and a range of uids, for all tests of the module."""
    worker = Worker(server.url, dockerd, CELERY_DOCKER_RETRY_DELAY="0")
    worker.policy.write_text(RULES)
    with worker:
        yield worker


@pytest.fixture
def plain(server: servers.RedisServer, strict: Worker) -> Iterator[Plain]:
    submitter = Plain(server.url)
    yield submitter
    submitter.app.close()


@pytest.fixture
def podman_engine(podman: servers.Podman) -> Iterator[DockerEngine]:
    engine = DockerEngine(podman.url, connections=4)
    yield engine
    engine.close()
    podman.remove_containers()


@pytest.fixture
def pin() -> Iterator[Callable[[Path], str]]:
    """Pin an input as root would, and return where Docker finds it."""
    with Opener() as process:
        asked = Asking(process.socket, "policy", policy.Policy(mounts=("/tmp",)))
        yield lambda path: asked.pin("policy", JobSpec("busybox", inputpath=str(path))).pins["inputpath"]


def evil_image(server: servers.DockerSocket, groups: str) -> str:
    """Make an image that knows our uid: with a gid and groups of its own, and root under our number as a name."""
    users = f"{UID}:x:0:0::/:/bin/sh\nevil:x:{UID}:42::/:/bin/sh\n"
    return make_image(server, "evil", {"etc/passwd": users.encode(), "etc/group": groups.encode()})


IDS = "echo $(grep -E '^[UG]id:' /proc/self/status | cut -f2) $(grep ^Groups: /proc/self/status | cut -d: -f2)"


def planned(
    image: str, *command: str, rules: policy.Policy, user: str = f"{UID}:{UID}", **fields: Any
) -> plan.ContainerPlan:
    """Return the plan of a job as the worker makes it; `fields` are those of the document."""
    spec = JobSpec(image, command, network="none", **fields)
    resolved, _ = resolver.resolve(spec, "", policy.Policy(mounts=("/tmp",)))
    resolved = replace(resolved, user=user, user_name="alice")
    return plan.plan(spec, job_id="policy", attempt=1, host="here", resolved=resolved, policy=rules)


def output_of(engine: DockerEngine, container_id: str) -> str:
    """Start a container, wait for its end, and return what it printed."""
    with engine.attach(container_id) as stream:
        engine.start(container_id)
        text = b"".join(frame.payload for frame in stream).decode()
    assert engine.ended(container_id, within_s=60)
    engine.remove(container_id)
    return text


def ids(engine: DockerEngine, image: str, user: str = f"{UID}:{UID}", *, rules: policy.Policy) -> list[int]:
    """Return the uid, the gid and all groups of a job's process."""
    text = output_of(engine, engine.create(planned(image, "sh", "-c", IDS, rules=rules, user=user)))
    return [int(word) for word in text.split()]


ANYBODY = policy.Policy(networks=("none",))
NAMED = policy.Policy(networks=("none",), users=("54000-54999",))


@pytest.mark.parametrize("rules", [ANYBODY, NAMED], ids=["anybody", "named users"])
@pytest.mark.parametrize("service", ["dockerd", "podman"])
def test_an_image_has_no_say_in_the_groups(service: str, rules: policy.Policy, request: pytest.FixtureRequest) -> None:
    """It knows the uid as a member of docker and shadow, and its number as a name of root's."""
    server = request.getfixturevalue(service)
    engine = request.getfixturevalue("engine" if service == "dockerd" else "podman_engine")
    image = evil_image(server, GROUPS)
    for _ in ("the first of an image", "the next"):
        uid, gid, *groups = ids(engine, image, rules=rules)
        assert (uid, gid) == (int(UID), int(UID))
        assert set(groups) <= {int(UID)}


@pytest.mark.parametrize("rules", [ANYBODY, NAMED], ids=["anybody", "named users"])
@pytest.mark.parametrize("line", [f"{UID}:x:42:", f"  {UID}:x:0:", f"{UID}"])
def test_an_image_that_gives_our_number_to_another_group_is_refused(
    dockerd: servers.Dockerd, engine: DockerEngine, rules: policy.Policy, line: str
) -> None:
    """Docker looks for the number of the group among the names of the image's groups."""
    image = evil_image(dockerd, f"{GROUPS}{line}\n")
    for _ in ("the first of an image", "the next"):
        with pytest.raises(errors.RequestError, match=rf"its /etc/group has {UID} as the name of another group"):
            ids(engine, image, rules=rules)
    assert dockerd.containers() == []
    assert ids(engine, image, "54322:54322", rules=rules)[:2] == [54322, 54322]


def test_docker_still_takes_the_number_of_a_group_for_a_name(dockerd: servers.Dockerd) -> None:
    """Where this fails, Docker has mended it, and the refusal of such images may go."""
    image = evil_image(dockerd, f"{GROUPS}{UID}:x:42:\n")
    body = {"Image": image, "User": f"{UID}:{UID}", "Cmd": ["sh", "-c", IDS], "HostConfig": {"NetworkMode": "none"}}
    assert dockerd.request("POST", "/containers/create?name=ids", json.dumps(body).encode())[0] == 201
    assert dockerd.request("POST", "/containers/ids/start")[0] == 204
    dockerd.request("POST", "/containers/ids/wait")
    logged = dockerd.request("GET", f"/containers/ids/logs?{urlencode({'stdout': 1})}")[1]
    dockerd.remove_containers()
    assert logged[8:].split() == [UID.encode(), UID.encode(), b"42"]


def test_a_file_that_a_mount_would_show_in_place_of_the_images_is_not_believed(
    dockerd: servers.Dockerd, engine: DockerEngine, folder: Path
) -> None:
    """The image's /etc/group is a link into /output, where Docker finds the image's file and not that of the host."""
    members: Members = {"etc/group": "../output/group", "output": 0o755, "output/group": f"{UID}:x:42:\n".encode()}
    image = make_image(dockerd, "linked", members)
    (folder / "group").write_text(GROUPS)
    with pytest.raises(errors.RequestError, match="as the name of another group"):
        engine.create(planned(image, "true", rules=NAMED, outputpath=str(folder)))


@pytest.mark.parametrize(
    ("user", "allowed"),
    [
        (UID, True),
        (f"{UID}:{UID}", True),
        ("root", True),
        (0, True),
        (f"{UID}:0", False),
        (f"{UID}:42", False),
        ("root:42", False),
        ("daemon", False),
        ("60001", False),
        (None, False),
    ],
)
def test_a_range_of_users(plain: Plain, user: str | int | None, allowed: bool) -> None:
    if allowed:
        number = 0 if user in ("root", 0) else int(UID)
        receipt = plain.succeed("busybox", ["sh", "-c", IDS], user=user)
        assert receipt["output"].split()[:2] == [str(number)] * 2, receipt
    else:
        line, _ = plain.fail("busybox", "true", user=user)
        assert "rule users = ['root', '54000-54999']" in line


def made(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*"))


@pytest.fixture
def output(folder: Path) -> Path:
    """An output folder with a folder, and links to it, to nowhere, and to what only the container has."""
    (folder / "real").mkdir()
    for name, target in {"link": "real", "nowhere": "missing", "out": "/tmp", "up": "../output/real/new"}.items():
        (folder / name).symlink_to(target)
    return folder


BEFORE = ["link", "nowhere", "out", "real", "up"]


@pytest.mark.parametrize("workdir", ["/output/a/b", "/output/real/../x", "/output/nowhere", "/output/up", "/foo/a/b"])
def test_a_workdir_is_not_made_on_the_host(
    dockerd: servers.Dockerd, engine: DockerEngine, output: Path, workdir: str
) -> None:
    """Docker would make it as root, also where a link of the image's leads into the output."""
    image = make_image(dockerd, "linked-output", {"foo": "output"})
    with pytest.raises(errors.RequestError) as caught:
        engine.create(planned(image, "true", rules=NAMED, outputpath=str(output), workdir=workdir))
    assert str(caught.value) == (
        f"workdir: {workdir!r} is not there in the container, and Docker would make it in the outputpath, as root; "
        "make it there first"
    )
    assert made(output) == BEFORE
    assert dockerd.containers() == []


@pytest.mark.parametrize(
    ("workdir", "place"),
    [
        ("/output", "/output"),
        ("/output/real", "/output/real"),
        ("/output/link", "/output/real"),
        ("/output/out", "/tmp"),
        ("/new/in/the/image", "/new/in/the/image"),
    ],
)
def test_a_workdir_that_is_there_or_is_the_containers_own(
    engine: DockerEngine, output: Path, workdir: str, place: str
) -> None:
    job = planned("busybox", "pwd", "-P", rules=NAMED, outputpath=str(output), workdir=workdir)
    assert output_of(engine, engine.create(job)) == f"{place}\n"
    assert made(output) == BEFORE


@pytest.mark.parametrize(("workdir", "is_there"), [("/output/a/b", False), ("/output/real", True), ("/new", True)])
def test_podman_makes_no_workdir_either(
    podman_engine: DockerEngine, output: Path, workdir: str, is_there: bool
) -> None:
    job = planned("busybox", "pwd", "-P", rules=NAMED, outputpath=str(output), workdir=workdir)
    if is_there:
        assert output_of(podman_engine, podman_engine.create(job)) == f"{workdir}\n"
    else:
        with pytest.raises(errors.RequestError, match="is not there in the container"):
            podman_engine.create(job)
    assert made(output) == BEFORE


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ("WORKDIR /output/a", ", WORKDIR: '/output/a' is not there"),
        ("VOLUME /output/a", ": its VOLUME '/output/a' lies in the outputpath"),
        ("VOLUME /output/real/", ": its VOLUME '/output/real' lies in the outputpath"),
    ],
)
def test_an_image_makes_no_folder_on_the_host(
    dockerd: servers.Dockerd, engine: DockerEngine, output: Path, change: str, words: str
) -> None:
    image = make_image(dockerd, "making", {}, changes=change)
    with pytest.raises(errors.RequestError) as caught:
        engine.create(planned(image, "true", rules=NAMED, outputpath=str(output)))
    assert str(caught.value).startswith(f"image 'making:latest'{words}")
    assert made(output) == BEFORE
    assert dockerd.containers() == []


def test_a_volume_at_the_output_itself_makes_room(dockerd: servers.Dockerd, engine: DockerEngine, output: Path) -> None:
    image = make_image(dockerd, "covered", {}, changes="VOLUME /output")
    job = planned(image, "ls", "/output", rules=NAMED, outputpath=str(output))
    assert "real\n" in output_of(engine, engine.create(job))


def test_a_job_hears_that_its_workdir_is_not_there(plain: Plain, output: Path) -> None:
    line, _ = plain.fail("busybox", "true", user=UID, outputpath=str(output), workdir="/output/a/b")
    assert line.startswith("rejected: workdir: '/output/a/b' is not there in the container")
    assert made(output) == BEFORE


@pytest.mark.parametrize("service", ["dockerd", "podman"])
@pytest.mark.parametrize(
    ("changes", "command", "words"),
    [
        ("USER 99999999999", "true", ""),
        ("USER -1", "true", ""),
        ("USER nobody:99999999999", "true", ""),
        ("", None, "command: image 'impossible:latest' names none; name the command to run"),
    ],
)
def test_what_an_image_makes_impossible_is_the_jobs_fault(
    service: str, changes: str, command: str | None, words: str, request: pytest.FixtureRequest
) -> None:
    """No other try would go better."""
    engine = request.getfixturevalue("engine" if service == "dockerd" else "podman_engine")
    image = make_image(request.getfixturevalue(service), "impossible", {}, changes=changes)
    spec = JobSpec(image, (command,) if command else None, network="none", pull="never")
    job = plan.plan(spec, job_id="impossible", attempt=1, host="here", resolved=plan.Resolved(), policy=policy.Policy())
    with pytest.raises(errors.RequestError) as caught:
        engine.start(engine.create(job))
    assert words in str(caught.value)


TRY = """
cd /input; for p in . sub sub/deep 'a b' hidden; do touch "$p/w" 2>/dev/null && echo "wrote $p"; done
sh -c 'echo x > file' 2>/dev/null && echo wrote file
cat file sub/deep/x 'a b/x' hidden/x; ls hidden
"""


@pytest.fixture
def mounted(folder: Path) -> Iterator[Path]:
    """An input folder with file systems below: in each other, over a file, hidden, and with a blank in the name."""
    source = folder / "source"
    source.write_text("file\n")
    root = folder / "in"
    places = [root / name for name in ("sub", "sub/deep", "a b", "hidden/below", "hidden")]
    done: list[Path] = []
    try:
        for place in places:
            place.mkdir(parents=True, exist_ok=True)
            servers.run("mount", "-t", "tmpfs", "-o", "mode=777", "tmpfs", str(place))
            done.append(place)
        for place in (root / "sub/deep", root / "a b", root / "hidden"):
            (place / "x").write_text(f"{place.name}\n")
        (root / "file").touch()
        servers.run("mount", "--bind", str(source), str(root / "file"))
        done.append(root / "file")
        yield root
    finally:
        for place in reversed(done):
            servers.run("umount", "-l", str(place))


def test_what_is_mounted_below_the_input_is_read_only(plain: Plain, mounted: Path) -> None:
    """Root in the container cannot write there, and sees all that is there."""
    receipt = plain.succeed("busybox", ["sh", "-c", TRY], user="root", inputpath=str(mounted))
    assert receipt["output"] == "file\ndeep\na b\nhidden\nx\n"


def test_podman_too(podman_engine: DockerEngine, mounted: Path, pin: Callable[[Path], str]) -> None:
    job = planned("busybox", "sh", "-c", TRY, rules=ANYBODY, user="0:0", inputpath=pin(mounted))
    assert output_of(podman_engine, podman_engine.create(job)) == "file\ndeep\na b\nhidden\nx\n"


def test_what_is_mounted_after_the_look_is_not_seen(
    dockerd: servers.Dockerd, engine: DockerEngine, mounted: Path, pin: Callable[[Path], str]
) -> None:
    """Docker's own read-only mount would show it, writable."""
    script = "ls -A /input/late; touch /input/late/w 2>/dev/null || echo closed"
    job = planned("busybox", "sh", "-c", script, rules=ANYBODY, user="0:0", inputpath=pin(mounted))
    container_id = engine.create(job)
    (mounted / "late").mkdir()
    servers.run("mount", "-t", "tmpfs", "tmpfs", str(mounted / "late"))
    try:
        (mounted / "late/x").touch()
        assert output_of(engine, container_id) == "closed\n"
        assert made(mounted / "late") == ["x"]
    finally:
        servers.run("umount", "-l", str(mounted / "late"))


@pytest.mark.parametrize("path", ["/root", "/root/no-such-file", "/root/.bashrc/below", "/no/such/path", "/etc/passwd"])
def test_a_path_outside_has_one_answer(plain: Plain, path: str) -> None:
    line, _ = plain.fail("busybox", "true", user="root", inputpath=path)
    expected = f"rejected: inputpath: {path!r} is outside what this host allows; rule mounts = ['/tmp'] (host "
    assert line.startswith(expected)
