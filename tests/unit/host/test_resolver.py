"""Names of a job as they resolve on this host: paths looked up, symlinks followed, users resolved."""

from __future__ import annotations

import grp
import os
import pwd
from pathlib import Path
from typing import Any

import pytest

from celery_docker.core import policy
from celery_docker.core.access import Identity
from celery_docker.core.devices import Node
from celery_docker.core.jobspec import JobSpec
from celery_docker.core.mountkinds import Mount
from celery_docker.core.plan import Resolved
from celery_docker.core.policy import HostPath, Policy
from celery_docker.host import resolver

SOCKET = "unix:///run/docker.sock"
ANYWHERE = Policy(mounts=("/",))


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """A folder with a file, a folder, a link to each, and a link to nowhere."""
    folder = tmp_path.resolve()
    (folder / "dir").mkdir()
    (folder / "file").write_text("x")
    (folder / "dirlink").symlink_to("dir")
    (folder / "filelink").symlink_to("file")
    (folder / "broken").symlink_to("nowhere")
    (folder / "loop").symlink_to("loop")
    return folder


def refusal(spec: JobSpec) -> str:
    _, request = resolver.resolve(spec, SOCKET, ANYWHERE)
    (problem,) = request.problems
    assert len(problem.splitlines()) == 1
    return problem


def test_a_job_that_asks_for_nothing() -> None:
    resolved, request = resolver.resolve(JobSpec("busybox"), SOCKET, ANYWHERE)
    assert resolved == Resolved()
    assert (request.image, request.user, request.uid, request.mounts, request.logs) == ("busybox", None, None, (), ())


def test_devices_are_looked_at_where_the_rules_have_them() -> None:
    """Of another nothing is told, not even whether it is there."""
    rules = Policy(devices=("/dev/null", "/dev/stdin", "/dev/none"))
    asked = JobSpec(
        "busybox", device=tuple(f"/dev/{name}:/dev/x{name}:r" for name in ("null", "stdin", "none", "gone"))
    )
    _, request = resolver.resolve(asked, SOCKET, rules)
    null = Node(True, False, 1, 3, ("mem",))
    assert request.devices == {"/dev/null": null, "/dev/stdin": None, "/dev/none": None, "/dev/gone": None}
    node = os.uname().nodename
    assert request.problems == (
        f"device: '/dev/stdin' on host {node}: a link, or behind one; name the device that it leads to",
        f"device: '/dev/none' on host {node}: No such file or directory",
    )


def test_what_has_a_ceiling_is_put_to_the_policy() -> None:
    _, request = resolver.resolve(JobSpec("busybox", network="none", memory=2**30, cpus=1.5), SOCKET, ANYWHERE)
    assert (request.network, request.memory_bytes, request.cpus) == ("none", 2**30, 1.5)
    asked = JobSpec("busybox", pids_limit=7, shm_size=2**20, ulimits={"core": "0:0"})
    _, request = resolver.resolve(asked, SOCKET, ANYWHERE)
    assert (request.pids, request.shm_bytes, request.ulimits) == (7, 2**20, {"core": "0:0"})
    _, request = resolver.resolve(JobSpec("busybox", tmpfs={"/a": "exec"}, platform="linux/x"), SOCKET, ANYWHERE)
    assert (request.tmpfs, request.platform) == ({"/a": "exec"}, "linux/x")
    _, request = resolver.resolve(JobSpec("busybox", cap_add=("NET_ADMIN",)), SOCKET, ANYWHERE)
    assert request.capabilities == ("NET_ADMIN",)
    assert request.own_platform.startswith("linux/")


def test_paths_are_followed_to_where_they_lead(data: Path) -> None:
    spec = JobSpec(
        "busybox",
        inputpath=f"{data}/filelink",
        outputpath=f"{data}/dirlink",
        logoutfile=f"{data}/dirlink/new/o.log",
        logerrfile=f"{data}/e.log",
    )
    resolved, request = resolver.resolve(spec, SOCKET, ANYWHERE)
    assert resolved == Resolved(
        inputpath=f"{data}/file",
        outputpath=f"{data}/dir",
        logoutfile=f"{data}/dir/new/o.log",
        logerrfile=f"{data}/e.log",
    )
    assert request.mounts == (
        HostPath("inputpath", f"{data}/filelink", f"{data}/file"),
        HostPath("outputpath", f"{data}/dirlink", f"{data}/dir"),
    )
    assert [path.real for path in request.logs] == [f"{data}/dir/new/o.log", f"{data}/e.log"]


def test_further_mounts_are_judged_as_input_and_output_are(data: Path) -> None:
    sources = (f"{data}/filelink", f"{data}/missing", "/etc/passwd")
    mounts = tuple(Mount(source, f"/m{number}", is_read_only=True) for number, source in enumerate(sources))
    spec = JobSpec("busybox", inputpath=f"{data}/file", mounts=mounts)
    resolved, request = resolver.resolve(spec, SOCKET, Policy(mounts=(str(data),)))
    assert resolved.mounts == (f"{data}/file", f"{data}/missing", "/etc/passwd")
    assert request.mounts == (
        HostPath("inputpath", f"{data}/file", f"{data}/file"),
        HostPath("mounts", f"{data}/filelink", f"{data}/file"),
        HostPath("mounts", "/etc/passwd", "/etc/passwd", is_outside=True),
    )
    (problem,) = request.problems
    assert problem == f"mounts: '{data}/missing' on host {os.uname().nodename}: No such file or directory"
    assert [line.partition(";")[0] for line in policy.violations(Policy(mounts=(str(data),)), request)] == [
        "mounts: '/etc/passwd' is outside what this host allows",
        problem,
    ]


@pytest.mark.parametrize("field", ["inputpath", "outputpath"])
@pytest.mark.parametrize(
    ("name", "why"),
    [
        ("missing", "No such file or directory"),
        ("broken", "No such file or directory"),
        ("loop", "Too many levels of symbolic links"),
        ("file/below", "Not a directory"),
        ("x" * 300, "File name too long"),
    ],
    ids=lambda text: text[:20],
)
def test_a_path_that_is_not_there(data: Path, field: str, name: str, why: str) -> None:
    path = f"{data}/{name}"
    assert (
        refusal(JobSpec("busybox", **dict[str, Any]({field: path})))
        == f"{field}: {path!r} on host {os.uname().nodename}: {why}"
    )


@pytest.mark.parametrize(("user", "who"), [(None, "root"), ("nobody", "user nobody"), ("7:8", "user 7:8")])
def test_a_path_that_the_jobs_user_may_not_see(monkeypatch: pytest.MonkeyPatch, user: str | None, who: str) -> None:
    def denied(*_args: object, **_options: object) -> str:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(os, "lstat", denied)
    assert refusal(JobSpec("busybox", user=user, inputpath="/secret/x")) == (
        f"inputpath: {who} may not look at '/secret/x'; let that user enter the folders above"
    )


def test_the_one_who_follows_may_be_another(data: Path) -> None:
    def follow(name: str, path: str, roots: tuple[str, ...]) -> str:
        assert roots == (("/", "/log") if name == "logoutfile" else ("/",))
        return f"/real{path}"

    spec = JobSpec("busybox", inputpath="/in", logoutfile="/out.log")
    resolved, request = resolver.resolve(spec, SOCKET, Policy(mounts=("/",), logs=("/log",)), None, follow)
    assert (resolved.inputpath, resolved.logoutfile) == ("/real/in", "/real/out.log")
    assert request.mounts == (HostPath("inputpath", "/in", "/real/in"),)


def test_a_user_with_the_groups_of_this_host() -> None:
    assert resolver.identity(None, ANYWHERE) is None
    assert resolver.identity("no-such-user", ANYWHERE) == Identity("nobody", 65534, 65534, ())
    assert resolver.identity(str(UNUSED_UID), ANYWHERE) == Identity(
        str(UNUSED_UID), UNUSED_UID, UNUSED_UID, (UNUSED_UID,)
    )
    assert resolver.identity("nobody:7", ANYWHERE) == Identity("nobody", NOBODY.pw_uid, 7, (7,))
    members = [(name, entry.gr_gid) for entry in grp.getgrall() for name in entry.gr_mem]
    for name, gid in members:
        known = resolver.identity(name, ANYWHERE)
        assert known is not None
        assert gid in known.groups


@pytest.mark.parametrize(
    ("inputpath", "outputpath"),
    [("dir", "dir"), ("dir", "dirlink"), ("dirlink", "dir"), ("dir", "dir/../dir"), ("dir", "./dir/.")],
)
def test_input_and_output_may_not_be_the_same_place(data: Path, inputpath: str, outputpath: str) -> None:
    problem = refusal(JobSpec("busybox", inputpath=f"{data}/{inputpath}", outputpath=f"{data}/{outputpath}"))
    assert problem == f"outputpath: '{data}/{outputpath}' is the inputpath too; they must differ: /input is read-only"


def test_the_engine_sockets_are_followed_too(data: Path) -> None:
    """A link to the socket, or a link instead of it, is the socket all the same."""
    (data / "docker.sock").symlink_to(data / "file")
    spec = JobSpec("busybox", inputpath=f"{data}/dir")
    _, request = resolver.resolve(spec, f"unix://{data}/docker.sock", ANYWHERE)
    assert f"{data}/file" in request.sockets
    assert os.path.realpath("/run/docker.sock") in request.sockets
    assert os.path.realpath("/run/containerd/containerd.sock") in request.sockets


NOBODY = pwd.getpwnam("nobody")
UNUSED_UID = 2_000_000_017
# A group that is nobody's own on any Debian.
GROUP = grp.getgrnam("shadow").gr_gid


@pytest.mark.parametrize(
    ("user", "expected", "name", "has_own_group"),
    [
        pytest.param(None, None, "", False, id="none: the image's own"),
        pytest.param("root", "0:0", "root", True, id="a name, with its own group"),
        pytest.param("0", "0:0", "root", True, id="root's number"),
        pytest.param("nobody", f"{NOBODY.pw_uid}:{NOBODY.pw_gid}", "nobody", True, id="another name"),
        pytest.param(str(NOBODY.pw_uid), f"{NOBODY.pw_uid}:{NOBODY.pw_gid}", "nobody", True, id="a known uid"),
        pytest.param(f"000{NOBODY.pw_uid}", f"{NOBODY.pw_uid}:{NOBODY.pw_gid}", "nobody", True, id="with zeros"),
        pytest.param(f"{NOBODY.pw_uid}:{NOBODY.pw_gid}", f"{NOBODY.pw_uid}:{NOBODY.pw_gid}", "nobody", True),
        pytest.param("nobody:7", f"{NOBODY.pw_uid}:7", "nobody", False, id="a name with another group"),
        pytest.param("0:007", "0:7", "root", False, id="root with another group"),
        pytest.param(str(UNUSED_UID), f"{UNUSED_UID}:{UNUSED_UID}", "", True, id="a uid that nobody has here"),
        pytest.param(f"{UNUSED_UID}:{UNUSED_UID}", f"{UNUSED_UID}:{UNUSED_UID}", "", True, id="with its own number"),
        pytest.param(f"{UNUSED_UID}:7", f"{UNUSED_UID}:7", "", False, id="uid and gid as they are"),
    ],
)
def test_users_have_uid_and_gid(user: str | None, expected: str | None, name: str, has_own_group: bool) -> None:
    """Without a gid Docker would take it, and more groups, from the image's /etc/passwd and /etc/group."""
    resolved, request = resolver.resolve(JobSpec("busybox", user=user), SOCKET, ANYWHERE)
    assert resolved.user == expected
    assert (request.user, request.user_name, request.has_own_group) == (user, name, has_own_group)
    assert request.uid == (expected.partition(":")[0] if expected else None)


def test_groups_are_those_of_this_host() -> None:
    spec = JobSpec("busybox", user="nobody", group_add=("shadow", "2000000018", f"0{GROUP}"))
    resolved, request = resolver.resolve(spec, SOCKET, ANYWHERE)
    assert resolved.groups == (GROUP, 2_000_000_018)
    assert [(asked.user, asked.uid, asked.name, asked.is_self) for asked in request.groups] == [
        ("shadow", str(GROUP), "shadow", False),
        ("2000000018", "2000000018", "", False),
        (f"0{GROUP}", str(GROUP), "shadow", False),
    ]
    assert refusal(JobSpec("busybox", user="nobody", group_add=("no-such-group",))) == (
        f"group_add: 'no-such-group' is not known on host {os.uname().nodename}; create it there or give a gid"
    )
    assert refusal(JobSpec("busybox", group_add=("shadow",))) == (
        "group_add: an image's own user gets no groups of this host; name the user of the job"
    )


def test_a_group_may_be_one_of_the_submitters_own() -> None:
    submitter = Identity("alice", 2_000_000_017, 2_000_000_017, (GROUP,))
    spec = JobSpec("busybox", group_add=(str(GROUP), "0"))
    resolved, request = resolver.resolve(spec, SOCKET, ANYWHERE, submitter)
    assert resolved.groups == (0, GROUP)
    assert [asked.is_self for asked in request.groups] == [True, False]


def test_the_number_of_an_unknown_user_gives_him_no_group_of_this_host(monkeypatch: pytest.MonkeyPatch) -> None:
    def nobody(uid: int) -> pwd.struct_passwd:
        raise KeyError(uid)

    monkeypatch.setattr(pwd, "getpwuid", nobody)
    resolved, request = resolver.resolve(JobSpec("busybox", user=str(GROUP)), SOCKET, ANYWHERE)
    assert resolved.user == f"{GROUP}:65534"
    assert request.has_own_group
    resolved, request = resolver.resolve(JobSpec("busybox", user=f"{GROUP}:{GROUP}"), SOCKET, ANYWHERE)
    assert resolved.user == f"{GROUP}:{GROUP}"
    assert not request.has_own_group


@pytest.mark.parametrize(
    ("user", "expected"),
    [
        (None, None),
        ("nobody", "nobody"),
        (f"{NOBODY.pw_uid}:7", "nobody"),
        (str(UNUSED_UID), str(UNUSED_UID)),
        (f"{UNUSED_UID}:7", str(UNUSED_UID)),
    ],
)
def test_the_name_for_an_image_that_knows_none(user: str | None, expected: str | None) -> None:
    resolved, _ = resolver.resolve(JobSpec("busybox", user=user), SOCKET, ANYWHERE)
    assert resolved.user_name == expected


@pytest.mark.parametrize("user", ["no-such-user", "no-such-user:7"])
def test_an_unknown_user(user: str) -> None:
    assert refusal(JobSpec("busybox", user=user)) == (
        f"user: 'no-such-user' is not known on host {os.uname().nodename}; create it there or give a uid"
    )


def test_all_that_is_missing_is_told_at_once(data: Path) -> None:
    spec = JobSpec("busybox", user="no-such-user", inputpath=f"{data}/a", outputpath=f"{data}/b", logoutfile="/etc/x")
    _, request = resolver.resolve(spec, SOCKET, Policy(images=(), mounts=(str(data),)))
    here = f"on host {os.uname().nodename}: No such file or directory"
    assert policy.violations(Policy(images=(), mounts=(str(data),)), request) == [
        "image: 'busybox' is not allowed on this host; rule images = []",
        f"logoutfile: '/etc/x' is outside what this host allows; rule mounts or logs = ['{data}']",
        f"inputpath: '{data}/a' {here}",
        f"outputpath: '{data}/b' {here}",
        f"user: 'no-such-user' is not known on host {os.uname().nodename}; create it there or give a uid",
    ]
