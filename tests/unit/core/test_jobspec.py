"""The wire contract of the task: what may be asked for, and what is said about everything else."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from celery_docker import errors
from celery_docker.core import jobfields, jobspec
from celery_docker.core.jobfields import Field
from celery_docker.core.jobspec import JobSpec, Submission
from celery_docker.core.mountkinds import Mount

POSITIONAL = ("image", "command", "user", "logoutfile", "logerrfile", "inputpath", "outputpath")
DIGEST = "sha256:" + "0f" * 32


def refusal(*args: Any, **kwargs: Any) -> str:
    with pytest.raises(errors.SpecError) as caught:
        jobspec.parse(args, kwargs)
    return str(caught.value)


# What is accepted


def test_all_seven_arguments_of_the_original_by_position() -> None:
    spec = jobspec.parse(["busybox", "echo hi", "alice", "/log/out", "/log/err", "/in", "/out"], {})
    assert spec == JobSpec(
        image="busybox",
        command=("echo", "hi"),
        user="alice",
        logoutfile="/log/out",
        logerrfile="/log/err",
        inputpath="/in",
        outputpath="/out",
    )


def test_the_same_by_keyword() -> None:
    values = ["busybox", "echo hi", "alice", "/log/out", "/log/err", "/in", "/out"]
    assert jobspec.parse([], dict(zip(POSITIONAL, values, strict=True))) == jobspec.parse(values, {})


def test_positions_first_then_keywords() -> None:
    assert jobspec.parse(["busybox"], {"command": ["true"], "retries": 0}) == JobSpec(
        image="busybox", command=("true",), retries=0
    )


def test_none_means_not_asked_for() -> None:
    """A client that fills every argument sends nulls."""
    assert jobspec.parse(["busybox", None, None], dict.fromkeys(POSITIONAL[3:])) == JobSpec(image="busybox")


@pytest.mark.parametrize(
    ("command", "expected"),
    [
        pytest.param("echo 'a  b' c", ("echo", "a  b", "c"), id="split as a shell splits"),
        pytest.param(r"printf a\ b", ("printf", "a b"), id="backslash"),
        pytest.param("echo $HOME | cat; #x", ("echo", "$HOME", "|", "cat;", "#x"), id="no shell behind it"),
        pytest.param(["sh", "-c", "echo 'a  b' | wc"], ("sh", "-c", "echo 'a  b' | wc"), id="a list is left alone"),
        pytest.param(["printf", ""], ("printf", ""), id="an empty word"),
        pytest.param("echo ''", ("echo", ""), id="an empty quoted word"),
        pytest.param("echo äöü 漢字", ("echo", "äöü", "漢字"), id="Unicode"),
        pytest.param("", None, id="empty: the image's own"),
        pytest.param("  \t\n", None, id="blank: the image's own"),
        pytest.param([], None, id="empty list: the image's own"),
        pytest.param(None, None, id="null: the image's own"),
    ],
)
def test_command(command: Any, expected: tuple[str, ...] | None) -> None:
    assert jobspec.parse(["busybox", command], {}).command == expected


@pytest.mark.parametrize(
    ("user", "expected"),
    [
        ("alice", "alice"),
        ("www-data", "www-data"),
        ("_apt", "_apt"),
        ("alice.b", "alice.b"),
        ("machine$", "machine$"),
        ("1000", "1000"),
        (1000, "1000"),
        (0, "0"),
        ("1000:100", "1000:100"),
        ("alice:100", "alice:100"),
        (2**31 - 1, "2147483647"),
    ],
)
def test_user(user: str | int, expected: str) -> None:
    assert jobspec.parse(["busybox"], {"user": user}).user == expected


@pytest.mark.parametrize(
    "user",
    ["", " ", "al ice", "alice;id", "-alice", ":100", "alice:", "alice:staff", "1:2:3", "alice\n", "ärger", "../x"],
    ids=repr,
)
def test_user_that_is_none(user: str) -> None:
    assert refusal("busybox", user=user) == f"user: {user!r} must be a user's name, a uid, or uid:gid"


@pytest.mark.parametrize("user", [-1, 2**31, "2147483648", "1:2147483648"], ids=repr)
def test_user_number_that_no_kernel_has(user: int | str) -> None:
    assert refusal("busybox", user=user) == f"user: {user!r} must be a user's name, a uid, or uid:gid"


@pytest.mark.parametrize(
    "image",
    [
        "busybox",
        "busybox:1.36",
        "busybox:latest-musl_x.Y",
        "lab/tool",
        "lab/sub/tool:1",
        "a__b.c-d---e",
        "localhost/tool",
        "localhost:5000/tool",
        "registry.example.org/lab/tool:2024-01",
        "registry.example.org:5000/tool",
        "Registry.Example.ORG/tool",
        "127.0.0.1:5000/busybox",
        f"busybox@{DIGEST}",
        f"busybox:1.36@{DIGEST}",
        f"r.example.org:5000/lab/tool@{DIGEST}",
        "busybox:" + "t" * 128,
        "a" * 255,
    ],
)
def test_image(image: str) -> None:
    assert jobspec.parse([image], {}).image == image


@pytest.mark.parametrize(
    "image",
    [
        "",
        " ",
        "BusyBox",
        "busybox ",
        "busy box",
        "busybox:",
        "busybox:a b",
        "busybox:.x",
        "busybox:-x",
        "busybox:" + "t" * 129,
        "busybox:1:2",
        "busybox@sha256:abc",
        f"busybox@{DIGEST}0",
        f"busybox@{DIGEST.upper()}",
        "busybox@latest",
        f"@{DIGEST}",
        ":latest",
        "/busybox",
        "busybox/",
        "a//b",
        "-busybox",
        "busybox-",
        ".busybox",
        "a..b",
        "a___b",
        "a_-b",
        "https://registry/busybox",
        "registry:port/busybox",
        "busybox\n",
        "busybox;id",
        "--privileged",
        "bücher",
        "..",
        "a" * 513,
        "a-" * 255 + "!",
        "a." * 200 + "a:a/",
    ],
    ids=lambda image: repr(image[:24]),
)
def test_image_that_is_none(image: str) -> None:
    assert refusal(image).endswith("is not an image name; one looks like 'busybox' or 'registry:5000/group/name:tag'")


@pytest.mark.parametrize(
    ("given_path", "expected"),
    [("/data", "/data"), ("/data/", "/data"), ("/data//", "/data"), ("/", "/"), ("//", "/"), ("/a b/ä", "/a b/ä")],
)
def test_path(given_path: str, expected: str) -> None:
    assert jobspec.parse(["busybox"], {"inputpath": given_path}).inputpath == expected


# What is refused, and in which words


@pytest.mark.parametrize(
    ("kwargs", "expected"),
    [
        # The image
        ({}, "image: is missing; name the image to run, like 'busybox'"),
        ({"image": None}, "image: is missing; name the image to run, like 'busybox'"),
        ({"image": 7}, "image: 7 must be a string, not int"),
        ({"image": ["busybox"]}, "image: ['busybox'] must be a string, not list"),
        ({"image": "b\0x"}, r"image: 'b\x00x' must not contain a NUL byte"),
        # The command
        ({"image": "b", "command": 7}, "command: 7 must be a string, not int"),
        ({"image": "b", "command": {"a": 1}}, "command: {'a': 1} must be a string, not dict"),
        ({"image": "b", "command": ["echo", 7]}, "command: ['echo', 7] must be a string or a list of strings"),
        ({"image": "b", "command": ["echo", None]}, "command: ['echo', None] must be a string or a list of strings"),
        ({"image": "b", "command": "a\0b"}, r"command: 'a\x00b' must not contain a NUL byte"),
        ({"image": "b", "command": ["a\0"]}, r"command: ['a\x00'] must not contain a NUL byte"),
        ({"image": "b", "command": ["a\ud800"]}, r"command: ['a\ud800'] must be valid Unicode"),
        (
            {"image": "b", "command": "echo 'x"},
            'command: "echo \'x" cannot be split into words (No closing quotation); close the quote or pass a list',
        ),
        (
            {"image": "b", "command": "echo \\"},
            r"command: 'echo \\' cannot be split into words (No escaped character); close the quote or pass a list",
        ),
        # The user; a bool is not a number
        ({"image": "b", "user": True}, "user: True must be a string, not bool"),
        ({"image": "b", "user": 1.5}, "user: 1.5 must be a string, not float"),
        ({"image": "b", "user": "a\0"}, r"user: 'a\x00' must not contain a NUL byte"),
        # The paths
        ({"image": "b", "inputpath": "data"}, "inputpath: 'data' must be an absolute path on the worker's host"),
        ({"image": "b", "inputpath": ""}, "inputpath: '' must be an absolute path on the worker's host"),
        ({"image": "b", "outputpath": "./x"}, "outputpath: './x' must be an absolute path on the worker's host"),
        ({"image": "b", "outputpath": "~/x"}, "outputpath: '~/x' must be an absolute path on the worker's host"),
        ({"image": "b", "logoutfile": "x.log"}, "logoutfile: 'x.log' must be an absolute path on the worker's host"),
        ({"image": "b", "logerrfile": 3}, "logerrfile: 3 must be a string, not int"),
        ({"image": "b", "inputpath": "/a\0b"}, r"inputpath: '/a\x00b' must not contain a NUL byte"),
        ({"image": "b", "inputpath": "/\udcff"}, r"inputpath: '/\udcff' must be valid Unicode"),
        (
            {"image": "b", "inputpath": "/d", "outputpath": "/d/"},
            "outputpath: '/d' is the inputpath too; they must differ: /input is read-only",
        ),
        # Numbers
        ({"image": "b", "retries": "3"}, "retries: '3' must be a whole number from 0 to 1000"),
        ({"image": "b", "retries": 3.0}, "retries: 3.0 must be a whole number from 0 to 1000"),
        ({"image": "b", "retries": True}, "retries: True must be a whole number from 0 to 1000"),
        ({"image": "b", "retries": -1}, "retries: -1 must be a whole number from 0 to 1000"),
        ({"image": "b", "retries": 1001}, "retries: 1001 must be a whole number from 0 to 1000"),
        ({"image": "b", "retry_on": 75}, "retry_on: 75 must be a list of exit codes from 1 to 255"),
        ({"image": "b", "retry_on": "75"}, "retry_on: '75' must be a list of exit codes from 1 to 255"),
        ({"image": "b", "retry_on": [0]}, "retry_on: [0] must be a list of exit codes from 1 to 255"),
        ({"image": "b", "retry_on": [256]}, "retry_on: [256] must be a list of exit codes from 1 to 255"),
        ({"image": "b", "retry_on": [True]}, "retry_on: [True] must be a list of exit codes from 1 to 255"),
        ({"image": "b", "timeout": 0}, "timeout: 0 must be a whole number from 1 to 31536000"),
        ({"image": "b", "timeout": True}, "timeout: True must be a whole number from 1 to 31536000"),
        ({"image": "b", "stop_grace": 301}, "stop_grace: 301 must be a whole number from 0 to 300"),
        ({"image": "b", "stop_signal": "NOPE"}, "stop_signal: 'NOPE' must be the name of a signal, like 'SIGINT'"),
        ({"image": "b", "stop_signal": 2}, "stop_signal: 2 must be a string, not int"),
        # What a container may have
        (
            {"image": "b", "env": ["HOME"]},
            "env: 'HOME' has no value; write NAME=value, for the worker's host is not asked for it",
        ),
        ({"image": "b", "memory": "5m"}, "memory: '5m' must be at least 6m, the least that Docker accepts"),
        ({"image": "b", "cpus": 0}, "cpus: 0 must be a number of CPUs from 0.01 to 8192, like 2 or 0.5"),
        ({"image": "b", "gpus": -1}, "gpus: -1 must be a number of GPUs from 0 to 64"),
        ({"image": "b", "pids_limit": 1}, "pids_limit: 1 must be a whole number from 2 to 4194304"),
        ({"image": "b", "shm_size": "1k"}, "shm_size: '1k' must be at least 4k"),
        (
            {"image": "b", "ulimits": ["nofile=9:8"]},
            "ulimits: ['nofile=9:8'] has nofile = '9:8', which must be from 64 to 9007199254740991, or -1: unlimited",
        ),
        (
            {"image": "b", "cap_drop": ["NOPE"]},
            "cap_drop: ['NOPE'] has 'NOPE', which is no capability; one is like 'NET_RAW', and all are 'ALL'",
        ),
        (
            {"image": "b", "cap_add": ["ALL"]},
            "cap_add: ['ALL'] has 'ALL', which no host gives to a job; it can have AUDIT_WRITE, IPC_LOCK, IPC_OWNER, "
            "LEASE, MKNOD, NET_ADMIN, NET_BROADCAST, NET_RAW, SYS_NICE, SYS_PTRACE, SYS_RESOURCE",
        ),
        ({"image": "b", "group_add": "video"}, "group_add: 'video' must be a list of groups, like ['video', 44]"),
        (
            {"image": "b", "device": ["/etc/passwd"]},
            "device: ['/etc/passwd'] has '/etc/passwd', which must be a device below /dev, as '/dev/ttyUSB0' or "
            "'/dev/ttyUSB0:/dev/meter:rw'",
        ),
        (
            {"image": "b", "notify": ["a b@c.d"]},
            "notify: ['a b@c.d'] must be mail addresses, or names of targets of the host, like 'alice@example.org' or "
            "'lab-chat', not 'a b@c.d'",
        ),
        ({"image": "b", "dns": ["ns"]}, "dns: ['ns'] has 'ns', which must be an IP address"),
        (
            {"image": "b", "add_host": ["db"]},
            "add_host: ['db'] has db at None, which must be an IP address, as in 'db.example.org:10.0.0.7'",
        ),
        ({"image": "b", "platform": "arm"}, "platform: 'arm' must be like 'linux/amd64' or 'linux/arm/v7'"),
        (
            {"image": "b", "tmpfs": ["/output/x"]},
            "tmpfs: ['/output/x'] has '/output/x', which must lie outside of /proc, /sys, /dev, /input, /output, "
            "/celery-docker",
        ),
        ({"image": "b", "read_only": 1}, "read_only: 1 must be true or false"),
        (
            {"image": "b", "hostname": "a_b"},
            "hostname: 'a_b' must be letters, digits, '-' and '.', at most 63 of them, like 'node-1' or "
            "'node.example.org'",
        ),
        ({"image": "b", "workdir": "work"}, "workdir: 'work' must be an absolute path in the container"),
        ({"image": "b", "entrypoint": 7}, "entrypoint: 7 must be a string, not int"),
        ({"image": "b", "entrypoint": ["sh", 7]}, "entrypoint: ['sh', 7] must be a string or a list of strings"),
        ({"image": "b", "stdin": 7}, "stdin: must be a string, the text itself, not int"),
        ({"image": "b", "scratch": "/x"}, "scratch: '/x' must be true or false"),
        ({"image": "b", "script": ["x"]}, "script: must be a string, the text itself, not list"),
        (
            {"image": "b", "script": "true", "entrypoint": ""},
            "entrypoint: a job with a script has none, for the script is what is run; leave one of them out",
        ),
        ({"image": "b", "network": "host"}, "network: 'host' must be 'bridge' or 'none'"),
        ({"image": "b", "pull": "newer"}, "pull: 'newer' must be 'missing' or 'always' or 'never'"),
        ({"image": "b", "name": ""}, "name: '' must be 1 to 128 printable characters in one line"),
        ({"image": "b", "labels": {"a": 1}}, "labels: 'a' must be a string, not int"),
        ({"image": "b", "requeue": "no"}, "requeue: 'no' must be true or false"),
        # What there is not
        (
            {"image": "b", "privileged": True},
            "'privileged' is not an argument: a job is never root of its host, and no policy can allow it; group_add "
            "gives it a single group",
        ),
        (
            {"image": "b", "Ports": [80]},
            "'Ports' is not an argument: nobody reaches a job by the network; it takes its data from inputpath and "
            "writes it to outputpath",
        ),
        (
            {"image": "b", "imagee": 1},
            "'imagee' is not an argument; known are image, command, user, logoutfile, logerrfile, inputpath, "
            "outputpath, retries, retry_on, timeout, stop_signal, stop_grace, env, memory, cpus, gpus, "
            "pids_limit, shm_size, ulimits, cap_drop, cap_add, group_add, device, workdir, entrypoint, script, stdin, "
            "scratch, read_only, mounts, tmpfs, hostname, add_host, dns, network, pull, platform, name, labels, "
            "requeue, notify",
        ),
    ],
    ids=str,
)
def test_refusal(kwargs: dict[str, Any], expected: str) -> None:
    assert refusal(**kwargs) == expected


def test_too_many_positions() -> None:
    assert refusal("busybox", *[None] * 7) == (f"8 positional arguments are too many; they are {', '.join(POSITIONAL)}")


def test_later_fields_are_keyword_only() -> None:
    assert jobspec.parse(["busybox"], {"retries": 3}).retries == 3
    assert "too many" in refusal("busybox", None, None, None, None, None, None, 3)


def test_an_argument_given_twice() -> None:
    assert refusal("busybox", image="alpine") == "image: was given twice, by position and by keyword"


def test_every_problem_is_named_at_once() -> None:
    """A user who submits by hand corrects a job once, not field by field."""
    problem = refusal("BusyBox", user="al ice", inputpath="data", extra=1)
    assert all(word in problem for word in ("image: 'BusyBox'", "user: 'al ice'", "inputpath: 'data'", "'extra'"))


def test_a_long_value_is_shortened() -> None:
    assert len(refusal("busybox", command="'" + "x" * 10_000)) < 300


def test_a_newline_in_a_value_does_not_break_the_line() -> None:
    assert refusal("a\nb").splitlines() == [refusal("a\nb")]


# Properties

json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.sampled_from(["busybox", "/data", "a\0b"]),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=5), inner, max_size=4),
    max_leaves=8,
)
arguments = st.dictionaries(
    st.sampled_from([field.name for field in jobfields.FIELDS]) | st.text(), json_values, max_size=6
)


@given(st.lists(json_values, max_size=9), arguments)
def test_rubbish_is_refused_in_one_line_or_understood(args: list[Any], kwargs: dict[str, Any]) -> None:
    """Whatever JSON says, the answer is a spec or one clear line."""
    answer = ""
    try:
        spec = jobspec.parse(args, kwargs)
    except errors.SpecError as exc:
        answer = str(exc)
    else:
        answer = json.dumps(spec.to_kwargs())
    assert answer
    assert answer.isprintable()


@pytest.mark.parametrize(
    ("args", "kwargs"),
    [(None, {}), ([], None), ("busybox", {}), ({"image": "busybox"}, {}), (7, {}), ([], ["busybox"])],
    ids=str,
)
def test_a_message_whose_arguments_are_not_even_a_list_and_a_table(args: Any, kwargs: Any) -> None:
    """Anybody who reaches the queue can write such a message; the worker answers it like any other bad job."""
    with pytest.raises(errors.SpecError):
        jobspec.parse(args, kwargs)


words = st.text(st.characters(blacklist_categories=["Cs"], blacklist_characters="\0"))
paths = words.map(lambda word: ("/" + word).rstrip("/") or "/")
names = words.filter(lambda word: word and "=" not in word and not word.startswith("celery-docker."))
sources = st.one_of(paths, st.just("/"), st.just('/\n"{}'))
tables = st.dictionaries(names, words, min_size=1, max_size=4)
specs = st.builds(
    lambda **fields: JobSpec(**{**fields, "script": None if fields["entrypoint"] is not None else fields["script"]}),
    image=st.sampled_from(["busybox", "r.example.org:5000/lab/tool:1", f"busybox@{DIGEST}"]),
    command=st.none() | st.lists(words, min_size=1).map(tuple),
    user=st.none() | st.sampled_from(["alice", "1000", "1000:100"]),
    logoutfile=st.none() | paths,
    logerrfile=st.none() | paths,
    inputpath=st.none() | paths.map(lambda path: "/in" + path.rstrip("/")),
    outputpath=st.none() | paths.map(lambda path: "/out" + path.rstrip("/")),
    retries=st.none() | st.integers(0, 1000),
    retry_on=st.none() | st.lists(st.integers(1, 255)).map(tuple),
    timeout=st.none() | st.integers(1, 31_536_000),
    stop_signal=st.none() | st.sampled_from(["SIGINT", "SIGTERM"]),
    stop_grace=st.none() | st.integers(0, 300),
    env=st.none() | tables,
    memory=st.none() | st.integers(6 * 2**20, 2**50),
    cpus=st.none() | st.floats(0.01, 8192),
    gpus=st.none() | st.sampled_from([1, 64, "all", ("0", "GPU-1"), ("vendor.com/gpu=0",)]),
    pids_limit=st.none() | st.integers(2, 2**22),
    shm_size=st.none() | st.integers(2**12, 2**50),
    ulimits=st.none() | st.dictionaries(st.sampled_from(["core", "nofile"]), st.sampled_from(["64:-1"]), min_size=1),
    workdir=st.none() | paths,
    entrypoint=st.none() | st.lists(words).map(tuple),
    scratch=st.none() | st.booleans(),
    stdin=st.none() | st.text(st.characters(blacklist_categories=["Cs"])),
    script=st.none() | words.map(lambda word: f"#!/bin/sh\n{word}"),
    cap_drop=st.none() | st.sampled_from([("ALL",), ("CHOWN", "NET_RAW")]),
    cap_add=st.none() | st.sampled_from([("CHOWN", "NET_ADMIN")]),
    group_add=st.none() | st.sampled_from([("video", "44")]),
    device=st.none() | st.sampled_from([("/dev/ttyUSB0:/dev/meter:rw", "/dev/snd/seq:/dev/snd/seq:rwm")]),
    mounts=st.none() | sources.map(lambda source: (Mount(source, "/m a"), Mount("/a:b,c", "/ü\n", is_read_only=True))),
    tmpfs=st.none() | st.sampled_from([{"/a": "", "/b": "size=4096,exec"}]),
    add_host=st.none() | st.sampled_from([("a:10.0.0.1", "a:::1")]),
    dns=st.none() | st.sampled_from([("10.0.0.1", "::1")]),
    platform=st.none() | st.sampled_from(["linux/arm/v7"]),
    read_only=st.none() | st.booleans(),
    hostname=st.none() | st.sampled_from(["a", "node-1.example.org"]),
    network=st.none() | st.sampled_from(["bridge", "none"]),
    pull=st.none() | st.sampled_from(["missing", "always", "never"]),
    name=st.none() | st.text(st.characters(blacklist_categories=["C", "Z"]), min_size=1, max_size=128),
    labels=st.none() | tables,
    requeue=st.none() | st.booleans(),
    notify=st.none() | st.sampled_from([("alice@example.org", "lab-chat")]),
)
submissions = st.builds(
    Submission,
    queue=st.sampled_from(["celery", "gpu"]),
    priority=st.integers(0, 9),
    expires=st.none() | st.integers(1, 31_536_000),
    after=st.lists(st.sampled_from(["a", "b", "c-1"])).map(tuple),
)


@given(specs)
def test_a_spec_survives_its_way_through_json(spec: JobSpec) -> None:
    """The worker reads the same job that the submitter wrote."""
    assert jobspec.parse([], json.loads(json.dumps(spec.to_kwargs()))) == spec


@given(specs, submissions)
def test_a_job_document_is_the_spec_and_the_submission(spec: JobSpec, submission: Submission) -> None:
    document = {**spec.to_kwargs(), **dataclasses.asdict(submission), "after": list(submission.after)}
    assert jobspec.parse_document(json.loads(json.dumps(document))) == (spec, submission)


@given(specs)
def test_every_field_is_in_the_table(spec: JobSpec) -> None:
    assert [f.name for f in dataclasses.fields(JobSpec)] == [line.name for line in jobfields.FIELDS]
    assert spec.to_kwargs().keys() <= {line.name for line in jobfields.FIELDS}


def test_what_was_not_asked_for_is_not_sent() -> None:
    """An older worker must not stumble over a field that nobody set."""
    assert JobSpec(image="busybox", command=("true",)).to_kwargs() == {"image": "busybox", "command": ["true"]}


def test_the_order_of_the_arguments_is_the_contract() -> None:
    assert tuple(field.name for field in jobfields.FIELDS if field.positional) == POSITIONAL
    assert jobspec.TASK_NAME == "tasks.run_docker"
    assert jobspec.DEFAULT_QUEUE == "celery"


def test_the_other_forms_of_the_new_fields() -> None:
    spec = jobspec.parse(
        ("busybox",),
        {"env": ["A=1"], "memory": "1.5g", "cpus": "0.5", "labels": ["a=b"], "entrypoint": "sh", "requeue": False},
    )
    assert spec == JobSpec(
        "busybox",
        env={"A": "1"},
        memory=3 * 2**29,
        cpus=0.5,
        labels={"a": "b"},
        entrypoint=("sh",),
        requeue=False,
    )


# Secrets

HIDDEN = "hunter2"


@pytest.mark.parametrize(
    "env",
    [
        {"TOKEN": HIDDEN + "\0"},
        [f"TOKEN={HIDDEN}\0"],
        {"TOKEN": [HIDDEN]},
        {f"TOKEN={HIDDEN}": ""},
        [f"={HIDDEN}"],
        f"TOKEN={HIDDEN}",
        [f"TOKEN={HIDDEN}", 7],
    ],
    ids=ascii,
)
def test_no_complaint_prints_a_value_of_the_environment(env: Any) -> None:
    assert HIDDEN not in refusal("busybox", env=env)
    with pytest.raises(errors.SpecError) as caught:
        jobspec.parse_document({"image": "busybox", "env": env})
    assert HIDDEN not in str(caught.value)


def test_a_printed_spec_does_not_show_its_environment() -> None:
    """Values end up in tracebacks and logs."""
    assert HIDDEN not in repr(JobSpec("busybox", env={"TOKEN": HIDDEN}))


def test_the_texts_of_a_job_are_as_secret_as_the_environment() -> None:
    for script in (f"{HIDDEN}\0", f"{HIDDEN}\r\n", f"{HIDDEN}\ud800", f"#! {HIDDEN * 99}", HIDDEN * 2**18, [HIDDEN]):
        assert HIDDEN not in refusal("busybox", script=script)
    for stdin in (f"{HIDDEN}\ud800", HIDDEN * 2**18, [HIDDEN]):
        assert HIDDEN not in refusal("busybox", stdin=stdin)
    assert HIDDEN not in repr(JobSpec("busybox", script=HIDDEN, stdin=HIDDEN))


# The document


def document_refusal(document: Any) -> str:
    with pytest.raises(errors.SpecError) as caught:
        jobspec.parse_document(document)
    return str(caught.value)


def test_a_document_says_everything_about_a_job() -> None:
    document = {"image": "busybox", "memory": "1g", "queue": "gpu", "priority": 3, "expires": 60, "after": ["a", "b"]}
    assert jobspec.parse_document(document) == (
        JobSpec("busybox", memory=2**30),
        Submission(queue="gpu", priority=3, expires=60, after=("a", "b")),
    )


def test_a_document_need_not_say_how_it_is_submitted() -> None:
    assert jobspec.parse_document({"image": "busybox", "queue": None}) == (JobSpec("busybox"), Submission())
    assert Submission() == Submission(queue="celery", priority=0, expires=None, after=())


@pytest.mark.parametrize(
    ("document", "expected"),
    [
        ({}, "image: is missing; name the image to run, like 'busybox'"),
        ({"image": "b", "priority": 10}, "priority: 10 must be a whole number from 0 to 9"),
        ({"image": "b", "expires": "5m"}, "expires: '5m' must be a whole number from 1 to 31536000"),
        ({"image": "b", "after": "a"}, "after: 'a' must be a list of job ids"),
        (
            {"image": "b", "queue": "a b"},
            "queue: 'a b' must be letters, digits, '_', '.', '@' or '-', at most 128 of them",
        ),
        ({"image": "B", "priority": -1, "expires": 0}, "priority: -1 must be a whole number from 0 to 9"),
        ([], "a job document must be a table of fields, like {'image': 'busybox'}"),
    ],
    ids=str,
)
def test_a_document_is_refused(document: Any, expected: str) -> None:
    assert expected in document_refusal(document)


def test_every_problem_of_a_document_is_named_at_once() -> None:
    problem = document_refusal({"image": "B", "memory": 1, "queue": "", "priority": 10, "extra": 1})
    assert all(
        word in problem for word in ("image: 'B'", "memory: 1", "queue: ''", "priority: 10", "'extra' is not an")
    )
    assert "requeue, notify, queue, priority, expires, after" in problem, "and what there is"


def test_options_are_not_arguments_of_the_task() -> None:
    """A worker would have no use for them."""
    assert "'queue' is not an argument" in refusal("busybox", queue="gpu")


# The flags


def test_the_flags_of_the_command_line() -> None:
    """As docker run calls them, where it has them."""
    assert {line.name: "/".join(line.flags) for line in jobfields.DOCUMENT if line.flags} == {
        "user": "-u/--user",
        "logoutfile": "--log-file",
        "logerrfile": "--err-file",
        "inputpath": "-i/--input",
        "outputpath": "-o/--output",
        "retries": "--retries",
        "retry_on": "--retry-on",
        "timeout": "--timeout",
        "stop_signal": "--stop-signal",
        "stop_grace": "--stop-timeout",
        "env": "-e/--env",
        "memory": "-m/--memory",
        "cpus": "--cpus",
        "gpus": "--gpus",
        "pids_limit": "--pids-limit",
        "shm_size": "--shm-size",
        "ulimits": "--ulimit",
        "cap_drop": "--cap-drop",
        "cap_add": "--cap-add",
        "group_add": "--group-add",
        "device": "--device",
        "workdir": "-w/--workdir",
        "entrypoint": "--entrypoint",
        "script": "--script",
        "stdin": "--stdin",
        "scratch": "--scratch",
        "read_only": "--read-only",
        "mounts": "-v/--mount/--volume",
        "tmpfs": "--tmpfs",
        "hostname": "--hostname",
        "add_host": "--add-host",
        "dns": "--dns",
        "network": "--network",
        "pull": "--pull",
        "platform": "--platform",
        "name": "--name",
        "labels": "--label",
        "requeue": "--no-requeue",
        "notify": "--notify",
        "queue": "--queue",
        "priority": "--priority",
        "expires": "--expires",
        "after": "--after",
    }
    assert [line.name for line in jobfields.DOCUMENT if line.repeated] == [
        *(
            "env",
            "ulimits",
            "cap_drop",
            "cap_add",
            "group_add",
            "device",
            "mounts",
            "tmpfs",
            "add_host",
            "dns",
            "labels",
            "notify",
            "after",
        ),
    ]
    flags = [flag for line in jobfields.DOCUMENT for flag in line.flags]
    assert len(flags) == len(set(flags))


@pytest.mark.parametrize("line", jobfields.DOCUMENT, ids=lambda line: line.name)
def test_every_field_can_be_explained_in_one_line(line: Field) -> None:
    assert 0 < len(line.help) <= 70
    assert line.help.isascii()
    assert line.help.isprintable()
    assert bool(line.metavar) is (line.const is None)


# The schema


def test_the_schema_has_every_field_and_nothing_else() -> None:
    schema = jobspec.json_schema()
    assert json.loads(json.dumps(schema)) == schema
    assert schema["$schema"] == "https://json-schema.org/draft/2020-12/schema"
    assert list(schema["properties"]) == [line.name for line in jobfields.DOCUMENT]
    assert schema["required"] == ["image"]
    assert schema["additionalProperties"] is False


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("retries", {"type": "integer", "minimum": 0, "maximum": 1000}),
        ("timeout", {"type": "integer", "minimum": 1, "maximum": 31_536_000}),
        ("network", {"enum": ["bridge", "none"]}),
        ("inputpath", {"type": "string", "pattern": "^/"}),
        ("requeue", {"type": "boolean", "description": "false: do not queue the job again when its host is lost"}),
        ("after", {"type": "array"}),
    ],
)
def test_the_schema_of_a_field(name: str, expected: dict[str, Any]) -> None:
    schema = jobspec.json_schema()["properties"][name]
    assert schema.items() >= expected.items()
    assert schema["description"]


# The manual


def test_the_readme_has_a_row_for_every_argument() -> None:
    readme = (Path(__file__).parents[3] / "README.md").read_text()
    table = readme.partition("| argument | meaning |\n|---|---|\n")[2].partition("\n\n")[0]
    cells = [row.split(" | ")[0].strip("| ") for row in table.splitlines()]
    assert [name.strip("` ") for cell in cells for name in cell.split(",")] == [line.name for line in jobfields.FIELDS]


# Job ids


@pytest.mark.parametrize("job_id", ["0b9ef4ae-0d0c-4c4c-9a2e-6cf3b4c5d2f1", "a", "night.run_7", "7", "a" * 128])
def test_a_job_id_that_can_be_a_container_name(job_id: str) -> None:
    assert jobspec.check_job_id(job_id) == job_id


@pytest.mark.parametrize(
    "job_id", ["", "a b", "a/b", "../../etc", ".a", "-a", "_a", "a\n", "a\0", "ä", "a" * 129, "\ud800"], ids=repr
)
def test_a_job_id_that_cannot(job_id: str) -> None:
    with pytest.raises(
        errors.SpecError, match=r"^id: .* must be letters, digits, '_', '\.' or '-', at most 128 of them$"
    ):
        jobspec.check_job_id(job_id)
