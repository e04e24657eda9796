"""Flags, the job document that they become, and the line about each bad one."""

from __future__ import annotations

import json
from typing import Any

import pytest

from celery_docker import errors
from celery_docker.core import jobfields, jobflags, jobspec


def refusal(given_flags: dict[str, Any]) -> str:
    with pytest.raises(errors.SpecError) as caught:
        jobflags.document(given_flags)
    return str(caught.value)


# Flags, and the document that they become.
FLAGS: list[tuple[dict[str, Any], dict[str, Any]]] = [
    ({}, {}),
    ({"image": "busybox", "command": ["sh", "-c", "a b"]}, {"image": "busybox", "command": ["sh", "-c", "a b"]}),
    ({"image": "busybox", "command": []}, {"image": "busybox"}),
    ({"-u": "alice", "--input": "/in/", "-o": "/out"}, {"user": "alice", "inputpath": "/in", "outputpath": "/out"}),
    ({"--log-file": "/o", "--err-file": "/e"}, {"logoutfile": "/o", "logerrfile": "/e"}),
    ({"--retries": "2", "--retry-on": "3,5"}, {"retries": 2, "retry_on": [3, 5]}),
    ({"--timeout": "2h", "--stop-timeout": "1m"}, {"timeout": 7200, "stop_grace": 60}),
    ({"--stop-signal": "int"}, {"stop_signal": "SIGINT"}),
    ({"-e": ["A=1", "B=x=y"]}, {"env": {"A": "1", "B": "x=y"}}),
    ({"--env": "A=1"}, {"env": {"A": "1"}}),
    ({"-m": "512m", "--cpus": "1.5"}, {"memory": 2**29, "cpus": 1.5}),
    ({"-w": "/work", "--entrypoint": "sh"}, {"workdir": "/work", "entrypoint": ["sh"]}),
    ({"--entrypoint": ""}, {"entrypoint": []}),
    ({"--network": "none", "--pull": "never"}, {"network": "none", "pull": "never"}),
    ({"--name": "7", "--label": ["a=b", "c"]}, {"name": "7", "labels": {"a": "b", "c": ""}}),
    ({"--queue": "gpu", "--priority": "9"}, {"queue": "gpu", "priority": 9}),
    ({"--expires": "1d", "--after": ["a", "b"]}, {"expires": 86400, "after": ["a", "b"]}),
    ({"--gpus": "2"}, {"gpus": 2}),
    ({"--gpus": "all"}, {"gpus": "all"}),
    ({"--gpus": "device=0,GPU-8f6d"}, {"gpus": ["0", "GPU-8f6d"]}),
    ({"--pids-limit": "50", "--shm-size": "96m"}, {"pids_limit": 50, "shm_size": 96 * 2**20}),
    ({"--ulimit": ["nofile=64:128", "core=0"]}, {"ulimits": {"nofile": "64:128", "core": "0:0"}}),
    ({"--cap-drop": ["all"], "--cap-add": "net_raw"}, {"cap_drop": ["ALL"], "cap_add": ["NET_RAW"]}),
    ({"--group-add": ["video", "44"]}, {"group_add": ["video", "44"]}),
    ({"--device": "/dev/x:/dev/y:r"}, {"device": ["/dev/x:/dev/y:r"]}),
    ({"--script": "#!/bin/sh\n"}, {"script": "#!/bin/sh\n"}),
    ({"--stdin": "a\n\0", "--scratch": True}, {"stdin": "a\n\0", "scratch": True}),
    ({"--scratch": False, "--read-only": True}, {"read_only": True}),
    ({"-v": "/a:/b:ro"}, {"mounts": [{"type": "bind", "source": "/a", "target": "/b", "readonly": True}]}),
    ({"--mount": "type=bind,src=/a,dst=/b"}, {"mounts": [{"type": "bind", "source": "/a", "target": "/b"}]}),
    ({"--tmpfs": ["/s:size=1m", "/t"]}, {"tmpfs": {"/s": "size=1048576", "/t": ""}}),
    ({"--hostname": "n1", "--platform": "linux/arm64"}, {"hostname": "n1", "platform": "linux/arm64"}),
    ({"--add-host": "db:10.0.0.1", "--dns": "::1"}, {"add_host": ["db:10.0.0.1"], "dns": ["::1"]}),
    ({"--notify": ["a@b.org", "lab-chat"]}, {"notify": ["a@b.org", "lab-chat"]}),
    # A flag without a value
    ({"--no-requeue": True}, {"requeue": False}),
    ({"--no-requeue": False}, {}),
    # By the names of the fields, as a parser of command lines keeps them
    ({"memory": "512m", "stop_grace": "5", "requeue": False}, {"memory": 2**29, "stop_grace": 5, "requeue": False}),
    ({"memory": None, "env": None, "requeue": None}, {}),
    ({"env": [], "labels": []}, {}),
]


@pytest.mark.parametrize(("given_flags", "expected"), FLAGS, ids=str)
def test_flags_become_a_document(given_flags: dict[str, Any], expected: dict[str, Any]) -> None:
    assert jobflags.document(given_flags) == expected
    assert json.loads(json.dumps(expected)) == expected
    jobspec.parse_document({"image": "busybox", **expected})


def test_every_field_is_in_the_table() -> None:
    assert {name for _, expected in FLAGS for name in expected} == {line.name for line in jobfields.DOCUMENT}


@pytest.mark.parametrize(
    ("given_flags", "expected"),
    [
        ({"-m": "5x"}, "--memory: '5x' must be a number of bytes, or one with k, m, g or t, like '512m'"),
        ({"memory": "5m"}, "--memory: '5m' must be at least 6m, the least that Docker accepts"),
        ({"--timeout": "soon"}, "--timeout: 'soon' must be seconds, or a number with s, m, h or d, like '90' or '2h'"),
        ({"--timeout": "0"}, "--timeout: '0' must be a whole number from 1 to 31536000"),
        ({"--stop-timeout": "6m"}, "--stop-timeout: '6m' must be a whole number from 0 to 300"),
        ({"--retries": "many"}, "--retries: 'many' must be a whole number from 0 to 1000"),
        ({"--retry-on": "3,x"}, "--retry-on: '3,x' must be a list of exit codes from 1 to 255"),
        ({"--priority": "10"}, "--priority: '10' must be a whole number from 0 to 9"),
        ({"--network": "host"}, "--network: 'host' must be 'bridge' or 'none'"),
        ({"-e": ["HOME"]}, "--env: 'HOME' has no value; write NAME=value, for the worker's host is not asked for it"),
        ({"--after": ["a b"]}, "--after: ['a b'] must be letters, digits, '_', '.' or '-', at most 128 of them"),
        ({"image": "B"}, "image: 'B' is not an image name; one looks like 'busybox' or 'registry:5000/group/name:tag'"),
        ({"--memory": True}, "--memory: True must be a number of bytes, or one with k, m, g or t, like '512m'"),
        ({"--no-requeue": "x"}, "--no-requeue: 'x' must be true or false"),
        ({"-e": ["A=1"], "--env": ["B=2"]}, "--env: was given twice, under two names"),
        ({"--privileged": True}, "'--privileged' is not an option"),
        (
            {"--cpus": "x", "--pull": "x"},
            "--cpus: 'x' must be a number of CPUs from 0.01 to 8192, like 2 or 0.5; "
            "--pull: 'x' must be 'missing' or 'always' or 'never'",
        ),
    ],
    ids=str,
)
def test_a_bad_flag_is_refused(given_flags: dict[str, Any], expected: str) -> None:
    assert refusal(given_flags) == expected


def test_no_complaint_about_a_variable_has_its_value() -> None:
    assert refusal({"-e": "TOKEN=hunter2\0"}) == "--env: 'TOKEN' must not contain a NUL byte"
