"""Name and home of a job's user whom the image does not know, as a program inside of the container sees them."""

from __future__ import annotations

import io
import tarfile
from typing import Any
from urllib.parse import urlencode

import pytest

from celery_docker import errors
from celery_docker.core import plan, policy
from celery_docker.core.jobspec import JobSpec
from celery_docker.engine import unixhttp
from celery_docker.engine.dockerd import DockerEngine
from tests import servers

UNKNOWN = "54321:54321"
# The Python of this computer, in a container that has it at /input.
LOADER = "/input/lib/*/ld-linux-*.so.? --library-path $(echo /input/lib/*-linux-gnu)"
PYTHON = f"PYTHONHOME=/input exec {LOADER} /input/bin/python3"
Members = dict[str, bytes | str | int | None]
LOOK = """
import getpass, os, pathlib
cache = pathlib.Path("~/.cache/torch").expanduser()
cache.mkdir(parents=True)
program = cache / "program"
program.write_text("#!/bin/sh\\nexit 7\\n")
program.chmod(0o700)
print(getpass.getuser(), pathlib.Path.home(), os.spawnl(os.P_WAIT, program, "program"), os.getuid(), os.getgid())
"""


def make_image(dockerd: servers.DockerSocket, name: str, members: Members, changes: str = "") -> str:
    """Make an image of busybox with other contents: text, a link's target, a folder's mode, or None for nothing."""
    with tarfile.open(fileobj=io.BytesIO(servers.busybox_tar())) as busybox:
        buffer = io.BytesIO()
        with tarfile.open(fileobj=buffer, mode="w") as tar:
            for member in busybox:
                if member.name not in members:
                    tar.addfile(member, busybox.extractfile(member) if member.isfile() else None)
            for path, content in members.items():
                _add(tar, path, content)
    query = [("fromSrc", "-"), ("repo", name), ("tag", "latest"), *([("changes", changes)] if changes else [])]
    status, answer = dockerd.request("POST", f"/images/create?{urlencode(query)}", buffer.getvalue())
    assert status == 200, answer
    return name


def _add(tar: tarfile.TarFile, path: str, content: bytes | str | int | None) -> None:
    member = tarfile.TarInfo(path)
    if isinstance(content, bytes):
        member.size = len(content)
    elif isinstance(content, str):
        member.type, member.linkname = tarfile.SYMTYPE, content
    elif isinstance(content, int):
        member.type, member.mode = tarfile.DIRTYPE, content
    if content is not None:
        tar.addfile(member, io.BytesIO(content) if isinstance(content, bytes) else None)


def output(
    engine: DockerEngine,
    script: str,
    *,
    user: str = UNKNOWN,
    image: str = "busybox",
    env: dict[str, str] | None = None,
    user_name: str | None = "alice",
) -> str:
    """Return what a shell prints in a container of a job."""
    spec = JobSpec(image, ("sh", "-c", script), env=env)
    resolved = plan.Resolved(user, "/usr", user_name=user_name)
    container_plan = plan.plan(spec, job_id="home", attempt=1, host="here", resolved=resolved, policy=policy.Policy())
    container_id = engine.create(container_plan)
    with engine.attach(container_id) as stream:
        engine.start(container_id)
        text = b"".join(frame.payload for frame in stream).decode()
    assert engine.ended(container_id, within_s=60)
    engine.remove(container_id)
    return text


def python(engine: DockerEngine, code: str, *, image: str = "busybox", user: str = UNKNOWN) -> str:
    return output(engine, f"{PYTHON} -c '{code}'", image=image, user=user)


def test_python_finds_a_name_and_writes_to_its_cache(engine: DockerEngine) -> None:
    """Without them `getpass.getuser()` raises KeyError, and the cache would be below `/`."""
    for _ in ("the first of an image", "the next"):
        assert python(engine, LOOK) == "alice /tmp 7 54321 54321\n"


@pytest.mark.parametrize("members", [{"tmp": None}, {"tmp": 0o755}, {"tmp": "nowhere"}, {"tmp": b"a file"}])
def test_without_a_tmp_for_everybody_the_home_is_a_folder_of_its_own(
    dockerd: servers.Dockerd, engine: DockerEngine, members: Members
) -> None:
    image = make_image(dockerd, "no-tmp", members)
    assert python(engine, LOOK, image=image) == "alice /home/celery-docker 7 54321 54321\n"
    look = "stat -c '%u:%g %a' $HOME; grep -c ' /home/celery-docker tmpfs ' /proc/mounts"
    assert output(engine, look, image=image) == "54321:54321 700\n1\n"


def test_a_tmp_behind_a_link_is_one(dockerd: servers.Dockerd, engine: DockerEngine) -> None:
    image = make_image(dockerd, "linked-tmp", {"tmp": "var", "var": 0o1777})
    assert python(engine, LOOK, image=image) == "alice /tmp 7 54321 54321\n"


SHOW = "echo ${USER-none}:${LOGNAME-none}:${HOME-none}"


@pytest.mark.parametrize(
    "members",
    [
        {"etc/passwd": b"known:x:54321:1:a:/home/known:/bin/sh\n"},
        {"etc/passwd": "../var/users", "var": 0o755, "var/users": b"# no\n\nknown:x:54321:1::/home/known:\n"},
    ],
)
def test_a_user_whom_the_image_knows_stays_what_he_is(
    dockerd: servers.Dockerd, engine: DockerEngine, members: Members
) -> None:
    image = make_image(dockerd, "known-user", members)
    for _ in ("the first of an image", "the next"):
        assert output(engine, SHOW, image=image) == "none:none:/home/known\n"
    assert output(engine, SHOW, image=image, user="54322:1") == "alice:alice:/tmp\n"


@pytest.mark.parametrize("content", [None, b"", b"# no\nx:y:54321\n\xff\xfe:x:9999999999999:1::/:\n", "nowhere"])
def test_an_image_without_users_knows_none(
    dockerd: servers.Dockerd, engine: DockerEngine, content: bytes | str | int | None
) -> None:
    image = make_image(dockerd, "no-users", {"etc/passwd": content})
    assert output(engine, SHOW, image=image) == "alice:alice:/tmp\n"


def test_root_without_an_entry_keeps_his_home(dockerd: servers.Dockerd, engine: DockerEngine) -> None:
    image = make_image(dockerd, "no-root", {"etc/passwd": None})
    assert output(engine, SHOW, image=image, user="0:0", user_name="root") == "root:root:/\n"


def test_what_the_job_or_the_image_says_is_kept(dockerd: servers.Dockerd, engine: DockerEngine) -> None:
    image = make_image(dockerd, "with-names", {}, changes="ENV HOME=/of/image USER=image")
    for _ in ("the first of an image", "the next"):
        assert output(engine, SHOW, image=image) == "image:alice:/of/image\n"
        assert output(engine, SHOW, image=image, env={"HOME": "/of/job"}) == "image:alice:/of/job\n"
        assert output(engine, SHOW, env={"USER": "job", "LOGNAME": ""}) == "job::/tmp\n"


def test_the_users_of_the_image_itself_are_its_own_business(engine: DockerEngine) -> None:
    assert output(engine, SHOW, user="65534:65534") == "none:none:/\n"
    assert output(engine, SHOW, user="0", user_name=None) == "none:none:/\n"


class _Pruned(unixhttp.Http):
    """Removes the container that is looked at before Docker is asked about a path in it, as a prune does; once."""

    def __init__(self, path: str, method: str, place: str) -> None:
        super().__init__(path, keep=4)
        self._question: tuple[str, str] | None = (method, f"/archive?{urlencode({'path': place})}")

    def _send(self, method: str, path: str, *rest: Any) -> Any:
        if self._question is not None and method == self._question[0] and path.endswith(self._question[1]):
            self._question = None
            self.call("DELETE", f"{path.partition('/archive')[0]}?force=1", timeout_s=60)
        return super()._send(method, path, *rest)


@pytest.mark.parametrize(
    ("method", "place"),
    [("HEAD", "/etc/passwd"), ("GET", "/etc/passwd"), ("HEAD", "/tmp"), ("HEAD", "/etc/group"), ("HEAD", "/bin/sh")],
)
def test_a_container_that_is_pruned_while_it_is_looked_at_says_nothing_of_its_image(
    dockerd: servers.Dockerd, engine: DockerEngine, method: str, place: str
) -> None:
    """Neither is this job refused for what the image seems to lack, nor a later one made by that."""
    users: Members = {"etc/passwd": b"known:x:54321:1:a:/home/known:/bin/sh\n", "etc/group": b"54322:x:42:\n"}
    image = make_image(dockerd, "pruned", users)
    spec = JobSpec(image, ("true",), stdin="text")
    resolved = plan.Resolved(UNKNOWN, user_name="alice")
    container_plan = plan.plan(spec, job_id="home", attempt=1, host="here", resolved=resolved, policy=policy.Policy())
    engine._calls.http = _Pruned(str(dockerd.socket), method, place)
    with pytest.raises(errors.HostError, match="somebody else removed its container before it was started"):
        engine.create(container_plan)
    assert output(engine, SHOW, image=image) == "none:none:/home/known\n"
    with pytest.raises(errors.RequestError, match="its /etc/group has 54322 as the name of another group"):
        output(engine, SHOW, image=image, user="54322:54322")
