"""Orphans between a real Docker and a real Redis: what is cleaned away, and above all what is not."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from celery_docker.background.orphans import Orphans
from celery_docker.core import container, message, plan, policy
from celery_docker.core.jobrecord import Holding
from celery_docker.core.jobspec import JobSpec
from celery_docker.core.lifecycle import State
from celery_docker.engine.dockerd import DockerEngine
from celery_docker.store import jobstore
from tests import servers

HOST = "node1"


@dataclass
class House:
    """A host with containers that no slot has."""

    engine: DockerEngine
    records: jobstore.Store
    dockerd: servers.Dockerd
    delivered: list[Mapping[str, Any]] = field(default_factory=list)

    def run(self, job_id: str, *, host: str = HOST, **fields: Any) -> str:
        """Start a container as a worker on that host does; return its name. `fields` are the job's."""
        host_policy = policy.Policy(networks=("none",))
        spec, resolved = JobSpec("busybox", ("sleep", "1000"), **fields), plan.Resolved()
        container_plan = plan.plan(spec, job_id=job_id, attempt=1, host=host, resolved=resolved, policy=host_policy)
        self.engine.start(self.engine.create(container_plan))
        return container_plan.name

    def volumes(self) -> set[str]:
        """Return the hosts whose volumes there are; empty for that of somebody else."""
        answer = json.loads(self.dockerd.request("GET", "/volumes")[1])
        return {(volume["Labels"] or {}).get(container.LABEL_HOST, "") for volume in answer["Volumes"] or ()}

    def claim(self, job_id: str, *, host: str = HOST) -> int:
        envelope = message.task_message(job_id, {"image": "busybox"}, queue="celery", tag="t", origin="")
        return self.records.claim(job_id, host=host, queue="celery", envelope=envelope).fence

    def end(self, job_id: str) -> None:
        fence = self.claim(job_id)
        self.records.finish(Holding(job_id, HOST, fence), State.FAILED, {"id": job_id})
        self.records.settle(job_id, host=HOST, retention_s=60)

    def sweep(self, after: timedelta = timedelta(hours=2)) -> None:
        watch = Orphans(
            self.engine,
            self.records,
            HOST,
            find=lambda job_id: None,
            deliver=self.delivered.append,
            is_serving=lambda: True,
        )
        watch.sweep(datetime.now(UTC) + after)

    def start_other(self, name: str, *, image: str = "busybox") -> str:
        """Start a container that is no job's; return its name."""
        body = {"Image": image, "Cmd": ["sleep", "1000"], "HostConfig": {"Mounts": []}}
        self.engine.start(self.engine.create(plan.ContainerPlan(name, body)))
        return name

    def image_of(self, name: str) -> str:
        """Make an image of a container, as `docker commit` does, with its labels."""
        status, answer = self.dockerd.request("POST", f"/commit?container={name}&repo=copy&tag=latest", b"{}")
        assert status == 201, answer
        return "copy:latest"


@pytest.fixture
def house(dockerd: servers.Dockerd, redis_server: servers.RedisServer) -> Iterator[House]:
    engine = DockerEngine(dockerd.url, connections=4)
    with contextlib.closing(engine), contextlib.closing(jobstore.connect(redis_server.url)) as records:
        yield House(engine, records, dockerd)
    dockerd.remove_containers()
    dockerd.request("DELETE", "/images/copy:latest?force=1")
    with redis_server.client() as client:
        client.flushall()


def test_only_what_is_known_to_be_superfluous_goes(house: House, caplog: pytest.LogCaptureFixture) -> None:
    """One look at a Docker that others use too."""
    for job_id in ("over", "elsewhere", "others"):
        house.end(job_id) if job_id != "elsewhere" else house.claim(job_id, host="node2")
    house.claim("mine")
    gone = {house.run("over"), house.run("elsewhere")}
    spared = {
        house.run("mine"),
        house.run("unknown"),
        house.run("others", host="node10"),
        house.start_other("web", image=house.image_of("run-over")),
        house.start_other("db"),
    }
    assert set(house.dockerd.running()) == gone | spared
    house.sweep()
    assert set(house.dockerd.containers()) == spared == set(house.dockerd.running())
    assert [envelope["headers"]["id"] for envelope in house.delivered] == ["mine"]
    assert "docker stop run-unknown" in caplog.text


def test_a_volume_that_has_outlived_its_container_goes(house: House) -> None:
    """Somebody has removed the container alone; a volume of others, and one that is in use, stay."""
    house.dockerd.request("POST", "/volumes/create", b'{"Name": "others"}')
    names = [house.run(host, host=host, script="sleep 1000", read_only=True) for host in (HOST, "node10")]
    house.sweep()
    assert house.volumes() == {"", HOST, "node10"}
    for name in names:
        house.dockerd.request("DELETE", f"/containers/{name}?force=1")
    house.sweep(after=timedelta())
    assert house.volumes() == {"", HOST, "node10"}, "one that is so young may be for a container that is being made"
    house.sweep()
    assert house.volumes() == {"", "node10"}
    house.engine.prune_volumes({container.LABEL_HOST: "node10"}, before=datetime.now(UTC) + timedelta(hours=1))
    house.dockerd.request("DELETE", "/volumes/others")


def test_an_unknown_one_that_has_ended_is_cleaned_away_later(house: House, caplog: pytest.LogCaptureFixture) -> None:
    name = house.run("unknown")
    house.engine.stop(name, signal="SIGKILL", grace_s=0)
    with caplog.at_level("INFO"):
        house.sweep()
    assert house.engine.inspect(name) is None
    assert "exit code 137" in caplog.text
