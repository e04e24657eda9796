"""What a job brings along, on the newest Docker that is supported: that of Debian 13, in a booted machine."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from contextlib import closing
from typing import Any

import pytest

from celery_docker import errors
from celery_docker.core.plan import ContainerPlan
from celery_docker.engine.dockerd import DockerEngine
from tests import servers
from tests.integration.test_home import make_image
from tests.integration.test_policy import ANYBODY, output_of, planned
from tests.machines import machine
from tests.machines.machine import Machine

OUTPUT = "/srv/out"
TEXT = "\ufeffa\r\n\0\r ä 漢\n" * 9000


@pytest.fixture(scope="module")
def debian() -> Iterator[Machine]:
    with machine.Machine.boot("newest", machine.ready_image("trixie")) as booted:
        yield booted
    assert machine.leftovers() == []


@pytest.fixture
def docker(debian: Machine) -> servers.DockerSocket:
    debian.shell(f"rm -rf {OUTPUT}; mkdir {OUTPUT}; chmod 777 {OUTPUT}; echo kept > {OUTPUT}/kept")
    debian.run("systemctl", "start", "docker.service")
    server = servers.DockerSocket(debian.path("/run/docker.sock"))
    server.import_busybox()
    return server


@pytest.fixture
def engine(docker: servers.DockerSocket) -> Iterator[DockerEngine]:
    with closing(DockerEngine(f"unix://{docker.socket}", connections=4)) as adapter:
        assert adapter.check() >= "Docker 26"
        yield adapter
    docker.remove_containers()


def with_output(image: str, script: str, **fields: Any) -> ContainerPlan:
    made = planned(image, rules=ANYBODY, script=script, scratch=True, **fields)
    made.body["HostConfig"]["Mounts"].append({"Type": "bind", "Source": OUTPUT, "Target": "/output", "ReadOnly": False})
    return made


@pytest.mark.parametrize("read_only", [False, True])
@pytest.mark.parametrize("uid", ["0", "54321"])
def test_script_standard_input_and_scratch_folder(
    engine: DockerEngine, docker: servers.DockerSocket, uid: str, read_only: bool
) -> None:
    script = "#!/bin/sh\nmd5sum; id -u; stat -c '%a %u %g' $HOME /celery-docker/*; echo > $TMPDIR/x; ls /output\n"
    made = with_output("busybox", script, stdin=TEXT, user=f"{uid}:{uid}", read_only=read_only)
    own = f"700 {uid} {uid}\n"
    digest = hashlib.md5(TEXT.encode()).hexdigest()  # noqa: S324  # busybox has it
    assert output_of(engine, engine.create(made)) == f"{digest}  -\n{uid}\n{own}{own}555 0 0\n444 0 0\nkept\n"
    assert json.loads(docker.request("GET", "/volumes")[1])["Volumes"] in (None, [])


@pytest.mark.parametrize("target", ["output", "output/x", "etc/passwd", "proc/1", "/celery-docker"])
def test_an_image_does_not_lead_it_elsewhere(
    debian: Machine, engine: DockerEngine, docker: servers.DockerSocket, target: str
) -> None:
    image = make_image(docker, "leading", {"celery-docker": target})
    script = "ls -l / | grep -c 'celery-docker$'; ls /output"
    assert output_of(engine, engine.create(with_output(image, script))) == "1\nkept\n"
    with pytest.raises(errors.RequestError, match="its '/celery-docker' is a link or a file"):
        engine.create(with_output(image, script, read_only=True))
    assert debian.run("ls", OUTPUT).stdout == "kept\n"


@pytest.mark.parametrize("read_only", [False, True])
def test_a_scratch_folder_is_gone_whatever_is_in_it(
    debian: Machine, engine: DockerEngine, docker: servers.DockerSocket, read_only: bool
) -> None:
    script = """cd; mkdir -p needle-$(seq -s / 300); ln -s /output needle-2; ln -s /output/kept needle-3
        mkdir needle-4; touch needle-4/x; chown -R 54321 needle-4; chmod 0 needle-4; mkfifo needle-5; echo made"""
    made = with_output("busybox", script, user="0:0", read_only=read_only)
    assert output_of(engine, engine.create(made)) == "made\n"
    assert debian.shell(f"find /var/lib/docker -name 'needle-*'; cat {OUTPUT}/*").stdout == "kept\n"
    assert json.loads(docker.request("GET", "/volumes")[1])["Volumes"] in (None, [])
