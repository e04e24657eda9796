"""Further mounts of a job: docker run's two notations, tables, and what is refused, by name and with its reason."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from celery_docker import errors
from celery_docker.core import jobfields, jobflags, jobspec, mountkinds
from celery_docker.core.mountkinds import MemoryMount, Mount

REF = Mount("/data/ref", "/ref", is_read_only=True)
TABLE = {"type": "bind", "source": "/data/ref", "target": "/ref", "readonly": True}
OUTSIDE = (
    "must lie outside of /proc, /sys, /dev, /input, /output, /celery-docker, /etc, /run, /sbin, /home/celery-docker"
)


def refusal(value: Any) -> str:
    with pytest.raises(ValueError, match=r".") as caught:
        mountkinds.MOUNT.parse(value)
    return str(caught.value)


@pytest.mark.parametrize(
    ("entry", "expected"),
    [
        ("/data/ref:/ref:ro", REF),
        ("/data/ref:/ref", Mount("/data/ref", "/ref")),
        ("/data/ref/:/ref/:rw", Mount("/data/ref", "/ref")),
        ("/:/ref", Mount("/", "/ref")),
        ("/data/a b,c=d:/a b=c", Mount("/data/a b,c=d", "/a b=c")),
        ("/ü\n:/ü\n:ro", Mount("/ü\n", "/ü\n", is_read_only=True)),
        ("type=bind,source=/data/ref,target=/ref,readonly", REF),
        ("readonly,type=bind,src=/data/ref,dst=/ref", REF),
        ("ro,type=bind,src=/data/ref,destination=/ref", REF),
        ("type=bind,src=/data/ref,target=/ref,readonly=1", REF),
        ("type=bind,src=/data/ref,target=/ref,ro=true", REF),
        ("type=bind,src=/data/ref,target=/ref,readonly=false", Mount("/data/ref", "/ref")),
        ('type=bind,"source=/a:b,c",target=/ref', Mount("/a:b,c", "/ref")),
        ('"source=/a ""b""\nc",type=bind,target=/ref', Mount('/a "b"\nc', "/ref")),
        ("type=bind,source=/a=b,target=/ref", Mount("/a=b", "/ref")),
        (TABLE, REF),
        ({**TABLE, "readonly": False}, Mount("/data/ref", "/ref")),
        ({**TABLE, "readonly": None}, Mount("/data/ref", "/ref")),
        ({"type": "bind", "src": "/a:b", "dst": "/ref", "ro": "true"}, Mount("/a:b", "/ref", is_read_only=True)),
        (REF, REF),
        ("type=tmpfs,target=/s", MemoryMount("/s", "")),
        ("type=tmpfs,dst=/s/,tmpfs-size=1g,tmpfs-mode=0700,readonly", MemoryMount("/s", f"size={2**30},mode=0700,ro")),
        ({"type": "tmpfs", "target": "/s", "tmpfs-size": 4096}, MemoryMount("/s", "size=4096")),
    ],
    ids=ascii,
)
def test_what_docker_run_means(entry: Any, expected: Mount | MemoryMount) -> None:
    parsed = mountkinds.MOUNT.parse([entry])
    assert parsed == (expected,)
    assert mountkinds.MOUNT.parse(json.loads(json.dumps([expected.table()]))) == parsed


@pytest.mark.parametrize(
    ("entry", "expected"),
    [
        # What would be a volume of Docker's.
        ("name:/x", "'name:/x' names a volume: a job has no volumes of Docker, which each host has for itself; name a"),
        (":/x", "':/x' names a volume: a job has no volumes of Docker"),
        (
            "/x",
            "'/x' must be HOST:CONTAINER[:ro], or type=bind,source=HOST,target=CONTAINER; an empty folder is "
            "one in memory, tmpfs",
        ),
        ("", "'' must be HOST:CONTAINER[:ro]"),
        ("type=volume,source=n,target=/x", "type 'volume' is refused: a job has no volumes of Docker"),
        ("source=n,target=/x", "{'source': 'n', 'target': '/x'} has no type; write type=bind, or type=tmpfs"),
        ("type=npipe,source=/n,target=/x", "type 'npipe' is refused: a job has no volumes"),
        ("type=image,source=/n,target=/x", "type 'image' is refused: a job has no volumes"),
        ("type=,source=/n,target=/x", "type '' is none of bind, tmpfs"),
        ({"type": ["bind"], "source": "/a", "target": "/x"}, "type ['bind'] is none of bind, tmpfs"),
        # The options that it has.
        ("/a:/x:z", "'/a:/x:z' has 'z', which is refused: labels of SELinux are the host's own"),
        ("/a:/x:ro,Z", "'/a:/x:ro,Z' has 'Z', which is refused: labels of SELinux are the host's own"),
        (
            "/a:/x:rshared",
            "'/a:/x:rshared' has 'rshared', which is refused: what is mounted on the host later comes to",
        ),
        ("/a:/x:nocopy", "'/a:/x:nocopy' has 'nocopy', which is refused: a job has no volumes"),
        ("/a:/x:delegated", "'/a:/x:delegated' has 'delegated', which is refused: means nothing to Linux"),
        ("/a:/x:ro,ro", "'/a:/x:ro,ro' says twice what may be done there; write ro or rw"),
        ("/a:/x:ro,rw", "'/a:/x:ro,rw' says twice"),
        ("/a:/x:", "'/a:/x:' has '', which is neither ro nor rw; a path with ':' needs type=bind,source=PATH,targ"),
        ("/a:b:/x:ro", "'/a:b:/x:ro' has '/x', which is neither ro nor rw; a path with ':' needs type=bind"),
        ("type=bind,source=/a,target=/x,bind-propagation=shared", "option 'bind-propagation' is refused: what is moun"),
        ("type=bind,source=/a,target=/x,consistency=cached", "option 'consistency' is refused: means nothing to Linux"),
        (
            "type=bind,source=/a,target=/x,bind-nonrecursive=1",
            "option 'bind-nonrecursive' is refused: file systems that",
        ),
        ("type=bind,source=/a,target=/x,bind-create-src=1", "option 'bind-create-src' is refused: a folder that is"),
        ("type=bind,source=/a,target=/x,volume-opt=a", "option 'volume-opt' is refused: a job has no volumes"),
        (
            "type=bind,source=/a,target=/x,tmpfs-size=1",
            "option 'tmpfs-size' is not known with type=bind; there are type",
        ),
        ("type=tmpfs,source=/a,target=/x", "option 'source' is not known with type=tmpfs; there are type, target"),
        ("type=bind,source=/a,target=/x,size=1", "option 'size' is not known with type=bind"),
        # The notation.
        ("type=bind,source=/a,target=/x,target=/y", "'type=bind,source=/a,target=/x,target=/y' says 'target' twice"),
        ("type=bind,source=/a,src=/b,target=/y", "'type=bind,source=/a,src=/b,target=/y' says 'source' twice"),
        (
            {"type": "bind", "source": "/a", "src": "/b", "target": "/x"},
            "{'type': 'bind', 'source': '/a', 'src': '/b', 't",
        ),
        ("type=bind,source=/a,b,target=/x", "'type=bind,source=/a,b,target=/x' has 'b', which must be NAME=VALUE"),
        ('type=bind,"source=/a,target=/x', "'type=bind,\"source=/a,target=/x' must be one line of CSV"),
        ("type=bind,source=/a\n,target=/x", "'type=bind,source=/a\\n,target=/x' must be one line of CSV"),
        ("type=bind,source=/a,target=/x,readonly=maybe", "'/x' has readonly = 'maybe', which must be true or false"),
        ("type=bind,source=/a,target=/x,readonly=", "'/x' has readonly = '', which must be true or false"),
        ({**TABLE, "readonly": 1}, "'/ref' has readonly = 1, which must be true or false"),
        ("type=bind,source=/a", "{'type': 'bind', 'source': '/a'} has no target"),
        ("type=bind,target=/x", "'/x' has no source"),
        ({**TABLE, "target": 7}, "7 must be a string, not int"),
        ({**TABLE, "source": 7}, "'/ref' is of 7, which must be a string, not int"),
        ({7: "/x"}, "{7: '/x'} must be a text like '/data/ref:/ref:ro', or a table"),
        (7, "7 must be a text like '/data/ref:/ref:ro', or a table of these words"),
        (None, "None must be a text like"),
        (["/a:/b"], "['/a:/b'] must be a text like"),
        # The path on the host.
        ("./a:/x", "'/x' is of './a', which must be an absolute path on the worker's host"),
        ("a/b:/x", "'/x' is of 'a/b', which must be an absolute path on the worker's host"),
        ("~/a:/x", "'/x' is of '~/a', which must be an absolute path on the worker's host"),
        ("type=bind,source=,target=/x", "'/x' is of '', which must be an absolute path on the worker's host"),
        ("/a\0b:/x", "must not contain a NUL byte"),
        ("/\udcff:/x", "must be valid Unicode"),
        (f"/{'a' * 4096}:/x", "'/x' is of '/aaa"),
        # The place in the container.
        ("/a:x", "'x' must be an absolute path in the container"),
        ("/a:/", f"'/' {OUTSIDE}"),
        ("/a:/etc", f"'/etc' {OUTSIDE}"),
        ("/a:/etc/passwd", f"'/etc/passwd' {OUTSIDE}"),
        ("/a:/etc/group:ro", f"'/etc/group' {OUTSIDE}"),
        ("/a:/etc/hosts", f"'/etc/hosts' {OUTSIDE}"),
        ("/a:/dev/shm", f"'/dev/shm' {OUTSIDE}; shm_size is the size of /dev/shm"),
        ("/a:/proc/self", f"'/proc/self' {OUTSIDE}"),
        ("/a:/sys/fs/cgroup", f"'/sys/fs/cgroup' {OUTSIDE}"),
        ("/a:/sbin", f"'/sbin' {OUTSIDE}"),
        ("/a:/sbin/docker-init", f"'/sbin/docker-init' {OUTSIDE}"),
        ("/a:/run", f"'/run' {OUTSIDE}"),
        ("/a:/run/podman-init", f"'/run/podman-init' {OUTSIDE}"),
        ("/a:/input", f"'/input' {OUTSIDE}"),
        ("/a:/output/x", f"'/output/x' {OUTSIDE}"),
        ("/a:/home/celery-docker/x", f"'/home/celery-docker/x' {OUTSIDE}"),
        ("/a:/x/../etc", "'/x/../etc' must be written without '..', '.' and '//'"),
        ("/a:/x/./y", "'/x/./y' must be written without '..', '.' and '//'"),
        ("/a://etc", "'//etc' must be written without '..', '.' and '//'"),
        ("type=bind,source=/a,target=/x:y", "'/x:y' must have no ':' and at most 1,024 bytes"),
        (f"/a:/{'ä' * 128}", "'/äää"),
        (f"/a:/{'a/' * 513}", "'/a/a"),
        # A folder in memory.
        ("type=tmpfs,target=/proc", "'/proc' must lie outside of /proc, /sys, /dev, /input, /output, /celery-docker"),
        ("type=tmpfs,target=/s,tmpfs-size=0", "type=tmpfs has '/s' with 'size=0': size must be at least 4k"),
        (
            "type=tmpfs,target=/s,tmpfs-mode=888",
            "type=tmpfs has '/s' with 'mode=888': mode must be three or four digits",
        ),
        ({"type": "tmpfs", "target": "/s", "tmpfs-size": "1g,exec"}, "'/s' has a comma in its size or mode"),
        ({"type": "tmpfs", "target": "/s", "tmpfs-size": True}, "type=tmpfs has '/s' with 'size=True': size must be"),
    ],
    ids=lambda value: ascii(value)[:80],
)
def test_what_is_refused(entry: Any, expected: str) -> None:
    problem = refusal([entry])
    assert problem.startswith(expected)
    assert "\n" not in problem


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("/a:/b", "must be a list of what the container sees of the worker's host, like ['/data/ref:/ref:ro']"),
        (TABLE, "must be a list of"),
        (["/a:/x", "/b:/x/"], "'/x' has two mounts; give each a place of its own in the container"),
        (["/a:/x", "type=tmpfs,target=/x"], "'/x' has two mounts"),
        ([f"/a:/x{number}" for number in range(65)], "has 65 entries; 64 are the most"),
        ([REF.table()] * 100_000, "has 100,000 entries; 64 are the most"),
    ],
    ids=lambda value: ascii(value)[:60],
)
def test_lists_that_are_refused(value: Any, expected: str) -> None:
    assert refusal(value).startswith(expected)


def test_an_empty_list_asks_for_nothing() -> None:
    assert jobspec.parse((), {"image": "b", "mounts": []}).mounts is None
    assert len(mountkinds.MOUNT.parse([f"/a:/x{number}" for number in range(64)])) == 64


# Beside other mounts


@pytest.mark.parametrize(
    ("fields", "problem"),
    [
        ({"mounts": ["/a:/x", "/b:/x/y"]}, "mounts: '/x' and '/x/y' lie in one another; mount each at a folder of"),
        ({"mounts": ["/a:/x/y/z", "/b:/x"]}, "mounts: '/x/y/z' and '/x' lie in one another"),
        ({"mounts": ["/a:/x"], "tmpfs": ["/x/y"]}, "mounts: '/x' and '/x/y' lie in one another"),
        ({"mounts": ["/a:/x/y"], "tmpfs": ["/x"]}, "mounts: '/x/y' and '/x' lie in one another"),
        ({"mounts": ["/a:/x"], "tmpfs": ["/x"]}, "mounts: '/x' and '/x' lie in one another"),
        ({"mounts": ["/a:/x", "type=tmpfs,target=/x/y"]}, "mounts: '/x' and '/x/y' lie in one another"),
        ({"mounts": ["type=tmpfs,target=/x"], "tmpfs": ["/x:ro"]}, "mounts: '/x' is a tmpfs too; write one of them"),
    ],
    ids=str,
)
def test_no_mount_lies_in_another(fields: dict[str, Any], problem: str) -> None:
    """Docker would make the inner folder in the outer one, as root."""
    with pytest.raises(errors.SpecError) as caught:
        jobspec.parse((), {"image": "b", **fields})
    assert str(caught.value).startswith(problem)


def test_names_that_begin_alike_lie_beside_one_another() -> None:
    spec = jobspec.parse((), {"image": "b", "mounts": ["/a:/x", "/a:/xy", "/c:/x-"], "tmpfs": ["/x.y"]})
    assert [mount.target for mount in spec.mounts or ()] == ["/x", "/xy", "/x-"]


def test_a_folder_in_memory_is_a_tmpfs_whichever_flag_names_it() -> None:
    entries = ["/a:/x", "type=tmpfs,target=/s,tmpfs-size=1m"]
    spec = jobspec.parse((), {"image": "b", "mounts": entries, "tmpfs": ["/t"]})
    assert (spec.mounts, spec.tmpfs) == ((Mount("/a", "/x"),), {"/t": "", "/s": f"size={2**20}"})
    assert jobspec.parse((), spec.to_kwargs()) == spec
    assert jobspec.parse((), {"image": "b", "mounts": entries[1:]}).mounts is None


def test_all_that_the_container_sees_of_the_host() -> None:
    spec = jobspec.parse((), {"image": "b", "inputpath": "/i", "outputpath": "/o", "mounts": ["/a:/x", "/b:/y:ro"]})
    assert spec.host_mounts == {
        "inputpath": Mount("/i", "/input", is_read_only=True),
        "outputpath": Mount("/o", "/output"),
        "mounts.0": Mount("/a", "/x"),
        "mounts.1": Mount("/b", "/y", is_read_only=True),
    }
    assert jobspec.parse((), {"image": "b"}).host_mounts == {}


# The flags


def test_one_field_has_all_flags() -> None:
    flags = {"--volume": ["/data/ref:/ref:ro", "type=tmpfs,target=/s"]}
    fields = jobflags.document(flags)
    assert fields == {"mounts": [TABLE, {"type": "tmpfs", "target": "/s"}]}
    assert jobspec.parse((), {"image": "b", **fields}).mounts == (REF,)
    with pytest.raises(errors.SpecError) as caught:
        jobflags.document({"--volume": ["name:/x"]})
    assert str(caught.value).startswith("--volume: 'name:/x' names a volume: ")


def test_paths_are_completed_and_nothing_else() -> None:
    entries = ["./a:b:/x", "./a:/x", "type=bind,source=a:b,target=./t", "type=tmpfs,target=t", "n:/x", "", TABLE, 7]
    assert mountkinds.completed(entries, lambda path: f"<{path}>") == [
        "./a:b:/x",
        {"type": "bind", "source": "<./a>", "target": "/x"},
        {"type": "bind", "source": "<a:b>", "target": "./t"},
        "type=tmpfs,target=t",
        "n:/x",
        "",
        {**TABLE, "source": "</data/ref>"},
        7,
    ]
    assert jobfields.completed("mounts", "no list", str.upper) == "no list"
    assert jobfields.completed("inputpath", "a", str.upper) == "A"
    assert jobfields.completed("inputpath", None, str.upper) is None


# Anything else

json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.sampled_from(["type", "source", "target", "readonly"]), inner),
    max_leaves=8,
)
notations = st.lists(st.sampled_from(["type=bind", "/a", ":", ",", '"', "=", "ro", "source=", "target=/x", "\n"])).map(
    "".join
)


@given(st.lists(json_values | notations))
def test_no_value_is_accepted_or_refused_but_in_words(value: Any) -> None:
    try:
        mounts = mountkinds.MOUNT.parse(value)
    except ValueError:
        return
    tables = [mount.table() for mount in mounts or ()]
    assert mountkinds.MOUNT.parse(tables) == mounts
