"""The promises of every engine; the same tests on the fake and on real Docker, so that the fake may be trusted."""

from __future__ import annotations

import itertools
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import replace
from datetime import UTC, datetime
from typing import Protocol

import pytest

from celery_docker import errors
from celery_docker.core import container, plan, policy
from celery_docker.core.container import Event, Frame, Status, Stream
from celery_docker.core.jobspec import JobSpec
from celery_docker.engine.dockerd import DockerEngine
from tests import servers
from tests.fakes import engine as fakes
from tests.waiting import eventually

_TIMEOUT_S = 30
# About what the pipes and buffers on the way of output hold. Where they are just full it matters what a reader does.
_FULL_BYTES = range(1_200_000, 1_500_000, 50_000)
_UNKNOWN_IMAGE = "127.0.0.1:1/nothing:here"


class World(Protocol):
    """An engine, and containers of both kinds that do the same. The containers of Podman do not need its service."""

    @property
    def is_podman(self) -> bool: ...

    @property
    def engine(self) -> fakes.FakeEngine | DockerEngine: ...

    def plan(self, script: fakes.Script) -> plan.ContainerPlan: ...

    def image_of(self, container_id: str) -> str:
        """Make an image of a container, as `docker commit` does."""


class FakeWorld:
    is_podman = False

    def __init__(self) -> None:
        self.engine = fakes.FakeEngine()
        self._numbers = itertools.count()

    def plan(self, script: fakes.Script) -> plan.ContainerPlan:
        number = next(self._numbers)
        self.engine.images[f"fake:{number}"] = script
        return planned(JobSpec(f"fake:{number}"), f"contract-{number}")

    def image_of(self, container_id: str) -> str:
        self.engine.images["copy:latest"] = fakes.Script(labels=found(self, container_id).labels)
        return "copy:latest"


class RealWorld:
    """Docker does what the script says by a shell's command line."""

    def __init__(self, engine: DockerEngine, dockerd: servers.DockerSocket) -> None:
        self.engine, self._dockerd = engine, dockerd
        self.is_podman = isinstance(dockerd, servers.Podman)
        self._numbers = itertools.count()

    def plan(self, script: fakes.Script) -> plan.ContainerPlan:
        container_plan = planned(JobSpec("busybox", ("sh", "-c", shell(script))), f"contract-{next(self._numbers)}")
        if script.cannot_start is not None:
            # With Docker's init the start succeeds and the init fails; without it Docker itself refuses.
            container_plan.body["HostConfig"] |= {"Init": False}
            container_plan.body["Cmd"] = ["nope"] if script.cannot_start == 127 else ["/etc/passwd"]
        return container_plan

    def image_of(self, container_id: str) -> str:
        self._dockerd.import_busybox("copy:latest", found(self, container_id).labels)
        return "copy:latest"


def planned(spec: JobSpec, job_id: str) -> plan.ContainerPlan:
    host_policy = policy.Policy(networks=("none",))
    return plan.plan(spec, job_id=job_id, attempt=1, host="here", resolved=plan.Resolved(), policy=host_policy)


def shell(script: fakes.Script) -> str:
    target = {Stream.STDOUT: "", Stream.STDERR: " >&2"}
    lines = [f"{_printing(frame.payload)}{target[frame.stream]}" for frame in script.output]
    lines += ["while :; do sleep 60; done"] if script.until_released else [f"exit {script.exit_code}"]
    return "\n".join(lines)


def _printing(payload: bytes) -> str:
    """Return a command that prints this; what is longer than a command line can be has one letter only."""
    if len(payload) < 2**16:
        return f"printf %s '{payload.decode()}'"
    assert payload == payload[:1] * len(payload)
    return f"head -c {len(payload)} /dev/zero | tr '\\0' {payload[:1].decode()}"


@pytest.fixture(params=["fake", "docker", "podman"])
def world(request: pytest.FixtureRequest) -> Iterator[World]:
    if request.param == "fake":
        yield FakeWorld()
        return
    dockerd: servers.DockerSocket = request.getfixturevalue("dockerd" if request.param == "docker" else "podman")
    engine = DockerEngine(f"unix://{dockerd.socket}", connections=8)
    yield RealWorld(engine, dockerd)
    engine.close()
    dockerd.remove_containers()


def joined(frames: list[Frame]) -> dict[Stream, bytes]:
    """Return the whole of each stream: where Docker cuts it into frames is its own affair."""
    return {stream: b"".join(f.payload for f in frames if f.stream is stream) for stream in Stream}


def run(world: World, script: fakes.Script) -> tuple[str, list[Frame]]:
    """Run a container to its end and return its id and what was attached to it."""
    container_id = world.engine.create(world.plan(script))
    with world.engine.attach(container_id) as stream:
        world.engine.start(container_id)
        frames = list(stream)
    assert world.engine.ended(container_id, within_s=_TIMEOUT_S)
    return container_id, frames


def found(world: World, name: str) -> container.Container:
    state = world.engine.inspect(name)
    assert state is not None
    return state


def test_check_says_which_docker_it_is(world: World) -> None:
    """The administrator sees the version in the worker's log."""
    assert world.engine.check().startswith("Podman " if world.is_podman else "Docker ")
    assert world.engine.name == ("Podman" if world.is_podman else "Docker")


def test_a_ping_of_a_docker_that_is_there(world: World) -> None:
    """It says nothing."""
    world.engine.ping(within_s=_TIMEOUT_S)
    assert world.engine.life() == world.engine.life()


def test_docker_remembers_what_became_of_a_container(world: World) -> None:
    """An order to end one that has ended is none."""

    def remembered(container_id: str) -> set[Event]:
        found(world, container_id)  # its end is remembered as soon as it is told here, and a little after a wait for it
        return set(world.engine.remembered(container_id))

    ran, _ = run(world, fakes.says(exit_code=143))
    world.engine.stop(ran, grace_s=1)
    assert remembered(ran) == {Event.START, Event.DIE}
    assert list(world.engine.remembered(ran)) == [Event.START, Event.DIE], "in the order in which they came"
    running = world.engine.create(world.plan(fakes.Script(until_released=True)))
    assert remembered(running) == set()
    world.engine.start(running)
    assert remembered(running) == {Event.START}
    world.engine.stop(running, grace_s=1)
    # Podman 4.3 says nothing of a stop.
    assert remembered(running) | ({Event.KILL} if world.is_podman else set()) == {Event.START, Event.KILL, Event.DIE}


def test_containers_do_not_outlive_docker_unless_it_is_told_so(world: World) -> None:
    assert world.engine.has_live_restore() is world.is_podman


def test_containers_are_listed_by_their_labels(world: World) -> None:
    """Running or not; every label has to be there, with exactly that value."""
    here, there = world.plan(fakes.says()), world.plan(fakes.Script(until_released=True))
    there.body["Labels"][container.LABEL_HOST] = "heretic"
    created, running = world.engine.create(here), world.engine.create(there)
    world.engine.start(running)
    host, job = container.LABEL_HOST, container.LABEL_JOB
    assert [listed.container_id for listed in world.engine.containers({host: "here"})] == [created]
    assert {listed.container_id for listed in world.engine.containers({})} == {created, running}
    assert world.engine.containers({host: "here", job: there.body["Labels"][job]}) == []
    assert world.engine.containers({host: ""}) == []
    (listed,) = world.engine.containers({host: "heretic", job: there.body["Labels"][job]})
    assert (listed.container_id, listed.name, listed.status) == (running, there.name, Status.RUNNING)
    assert listed.labels == there.body["Labels"]
    assert abs((datetime.now(UTC) - listed.created_at).total_seconds()) < _TIMEOUT_S


def test_what_is_made_of_an_image_of_a_container_is_not_listed(world: World) -> None:
    """It has the labels from the image; nobody gave them to it."""
    planned_first = world.plan(fakes.says())
    first = world.engine.create(planned_first)
    second = world.plan(fakes.says())
    copy = replace(second, body={**second.body, "Image": world.image_of(first), "Labels": {}})
    copied = world.engine.create(copy)
    labels = planned_first.body["Labels"]
    assert labels.items() <= found(world, copied).labels.items()
    assert [row.container_id for row in world.engine.containers(labels)] == [first]


def test_nothing_is_found_under_an_unknown_name(world: World) -> None:
    """None, not an error: it is the ordinary case of a new job."""
    assert world.engine.inspect("run-nobody") is None


def test_a_new_container_is_found_by_name_and_by_id(world: World) -> None:
    """All that was asked for is there, and all that Docker cannot know yet is None."""
    container_plan = world.plan(fakes.says())
    container_id = world.engine.create(container_plan)
    state = found(world, container_plan.name)
    assert state == world.engine.inspect(container_id)
    assert (state.container_id, state.name, state.status) == (container_id, container_plan.name, Status.CREATED)
    assert container_plan.body["Labels"].items() <= state.labels.items()
    assert (state.exit_code, state.oom_killed, state.error, state.pid) == (None, None, None, None)
    assert (state.started_at, state.finished_at) == (None, None)


def test_a_name_is_given_only_once(world: World) -> None:
    """That is what makes a second container for one job impossible."""
    container_plan = world.plan(fakes.says())
    container_id = world.engine.create(container_plan)
    with pytest.raises(errors.NameTaken, match=container_plan.name):
        world.engine.create(container_plan)
    assert found(world, container_plan.name).container_id == container_id


def test_a_missing_image_is_told_apart(world: World) -> None:
    """The runner pulls then, and only then."""
    container_plan = world.plan(fakes.says())
    with pytest.raises(errors.ImageMissing, match=_UNKNOWN_IMAGE):
        world.engine.create(replace(container_plan, body=container_plan.body | {"Image": _UNKNOWN_IMAGE}))
    assert world.engine.inspect(container_plan.name) is None


def test_attached_before_the_start_nothing_is_lost(world: World) -> None:
    """Both streams, apart, from the first byte to the last."""
    _, frames = run(world, fakes.says(b"out\n", b"err\n"))
    assert joined(frames) == {Stream.STDOUT: b"out\n", Stream.STDERR: b"err\n"}


@pytest.mark.parametrize("is_over_at_once", [False, True])
def test_a_reader_that_takes_its_time_at_the_end_loses_nothing(world: World, is_over_at_once: bool) -> None:
    """It reads until the container has ended, and the rest when Docker has done with it, which waits two seconds."""
    # Where the groups of containers are is known from the first that runs.
    other_id = world.engine.create(world.plan(fakes.Script(until_released=True)))
    world.engine.start(other_id)
    world.engine.watch_usage(other_id)
    read = {size: _read_late(world, size, is_over_at_once=is_over_at_once) for size in _FULL_BYTES}
    assert read == {size: size for size in _FULL_BYTES}


def _read_late(world: World, size: int, *, is_over_at_once: bool) -> int:
    """Return how much comes of so much output where most is read after the end.

    `is_over_at_once`: before it is watched, as a program that only prints may be.
    """
    container_id = world.engine.create(world.plan(fakes.says(b"x" * size)))
    with world.engine.attach(container_id) as stream:
        world.engine.start(container_id)
        if not is_over_at_once:
            world.engine.watch_usage(container_id)
        frames = iter(stream)
        read = [next(frames)]
        while not _ends_in_a_moment(world, container_id):
            read.append(next(frames))
        if is_over_at_once:
            world.engine.watch_usage(container_id)
        eventually(lambda: found(world, container_id).status is Status.EXITED, _TIMEOUT_S)
        read += frames
    return sum(len(frame.payload) for frame in read)


@pytest.mark.parametrize("exit_code", [0, 1, 3, 255])
def test_the_exit_code_is_known_after_wait(world: World, exit_code: int) -> None:
    """And with it that nobody ran out of memory, and when it began and ended."""
    container_id, _ = run(world, fakes.says(exit_code=exit_code))
    assert world.engine.ended(container_id, within_s=_TIMEOUT_S) == container.End(exit_code)
    state = found(world, container_id)
    assert (state.status, state.exit_code, state.oom_killed, state.pid) == (Status.EXITED, exit_code, False, None)
    assert state.started_at is not None
    assert state.finished_at is not None
    assert state.started_at.tzinfo is not None


def test_a_replay_equals_what_was_attached(world: World) -> None:
    """A worker that comes later reads the same bytes of each stream."""
    container_id, frames = run(world, fakes.says(b"one\ntwo", b"three"))
    with world.engine.replay(container_id) as stream:
        assert joined(list(stream)) == joined(frames) == {Stream.STDOUT: b"one\ntwo", Stream.STDERR: b"three"}


def test_a_replay_follows_a_running_container(world: World) -> None:
    """From the beginning, and on until the container ends. Docker logs whole lines, so that is what a replay gets."""
    script = replace(fakes.says(b"begun\n"), until_released=True)
    container_id = world.engine.create(world.plan(script))
    world.engine.start(container_id)
    with world.engine.replay(container_id) as stream:
        frames = iter(stream)
        assert next(frames) == Frame(Stream.STDOUT, b"begun\n")
        world.engine.stop(container_id, grace_s=5)
        assert list(frames) == []


def test_the_log_up_to_a_moment(world: World) -> None:
    """By how much of it is there one knows what a Docker that has gone has logged; Podman's going loses nothing."""
    before = time.time()
    container_id, _ = run(world, fakes.says(b"one\ntwo", b"three"))
    at_first, in_the_end = {Stream.STDOUT: 0, Stream.STDERR: 0}, {Stream.STDOUT: 7, Stream.STDERR: 5}
    assert world.engine.logged(container_id, until=before) == (None if world.is_podman else at_first)
    assert world.engine.logged(container_id, until=time.time()) == (None if world.is_podman else in_the_end)
    assert world.engine.went_at(world.engine.life()) is None


def test_a_second_start_is_fine(world: World) -> None:
    """A start whose answer was lost can be repeated, while it runs."""
    container_id = world.engine.create(world.plan(fakes.Script(until_released=True)))
    world.engine.start(container_id)
    world.engine.start(container_id)
    assert found(world, container_id).status is Status.RUNNING


def _ends_in_a_moment(world: World, container_id: str) -> bool:
    """Return whether a container ends while it fills what is between it and its reader."""
    for _ in range(3):
        if not world.engine.processes(container_id):
            return True
        time.sleep(0.02)
    return False


def _start(world: World, container_id: str, streams: ExitStack | None) -> None:
    if streams is not None:
        streams.enter_context(world.engine.attach(container_id))
    world.engine.start(container_id)


@pytest.mark.parametrize("is_attached", [False, True])
@pytest.mark.parametrize("exit_code", [126, 127])
def test_a_command_that_cannot_be_started(world: World, exit_code: int, is_attached: bool) -> None:
    """It is the request's fault, with the exit code that `docker run` has for it. Podman says so at the attach."""
    container_id = world.engine.create(world.plan(fakes.Script(cannot_start=exit_code)))
    with ExitStack() as streams, pytest.raises(errors.CannotStart, match=r"command '.+' cannot be started") as raised:
        _start(world, container_id, streams if is_attached else None)
    assert raised.value.exit_code == exit_code
    # Podman writes nothing of it into the container.
    assert found(world, container_id).exit_code == (None if world.is_podman else exit_code)


def test_wait_returns_when_the_container_ends(world: World) -> None:
    """Not before, and for every thread that waits."""
    container_id = world.engine.create(world.plan(fakes.Script(until_released=True)))
    world.engine.start(container_id)
    waiters = [
        threading.Thread(target=world.engine.ended, args=[container_id], kwargs={"within_s": _TIMEOUT_S}, daemon=True)
        for _ in range(3)
    ]
    for waiter in waiters:
        waiter.start()
    waiters[0].join(0.3)
    assert all(waiter.is_alive() for waiter in waiters)
    world.engine.stop(container_id, grace_s=5)
    for waiter in waiters:
        waiter.join(_TIMEOUT_S)
    assert not any(waiter.is_alive() for waiter in waiters)


def test_wait_for_a_container_that_is_gone(world: World) -> None:
    """Somebody removed it: there is nothing to wait for."""
    assert world.engine.ended("run-nobody", within_s=_TIMEOUT_S) == container.End()


def test_the_end_of_a_container_that_was_removed_after_it_is_remembered(world: World) -> None:
    """Whoever asks too late, because somebody prunes, has its exit code all the same."""
    container_id = world.engine.create(world.plan(fakes.says(exit_code=3)))
    world.engine.start(container_id)
    eventually(lambda: found(world, container_id).status is container.Status.EXITED, _TIMEOUT_S)
    world.engine.remove(container_id)
    assert world.engine.ended(container_id, within_s=_TIMEOUT_S) == container.End(3)


def test_a_container_that_is_removed_while_somebody_waits(world: World) -> None:
    """Its end is remembered, with the signal that made it."""
    container_id = world.engine.create(world.plan(fakes.Script(until_released=True)))
    world.engine.start(container_id)
    world.engine.remove(container_id)
    assert world.engine.ended(container_id, within_s=_TIMEOUT_S)
    eventually(lambda: Event.DIE in world.engine.remembered(container_id), _TIMEOUT_S)
    assert container.was_signalled(world.engine.remembered(container_id)) or world.is_podman


def test_a_container_that_runs_on_has_not_ended(world: World) -> None:
    """The wait is bounded."""
    container_id = world.engine.create(world.plan(fakes.Script(until_released=True)))
    world.engine.start(container_id)
    assert not world.engine.ended(container_id, within_s=0.2)


@pytest.mark.parametrize(("signal", "exit_code"), [(None, 143), ("SIGTERM", 143), ("SIGKILL", 137)])
def test_stop_ends_a_running_container(world: World, signal: str | None, exit_code: int) -> None:
    """By the stop signal, to which even a shell in a loop listens under an init; once is enough, twice is fine."""
    container_id = world.engine.create(world.plan(replace(fakes.says(b"begun\n"), until_released=True)))
    with world.engine.attach(container_id) as stream:
        world.engine.start(container_id)
        next(iter(stream))  # before that its init may not listen yet
    world.engine.stop(container_id, signal=signal, grace_s=5)
    world.engine.stop(container_id, signal=signal, grace_s=5)
    state = found(world, container_id)
    assert (state.status, state.exit_code) == (Status.EXITED, exit_code)


def test_stop_of_a_container_that_is_gone(world: World) -> None:
    """It does not run: that is all a stop promises."""
    world.engine.stop("run-nobody", grace_s=0)


def test_remove_takes_a_container_away_whatever_its_state(world: World) -> None:
    """Created, running, ended; and again, since its first answer may have been lost."""
    created = world.engine.create(world.plan(fakes.says()))
    running = world.engine.create(world.plan(fakes.Script(until_released=True)))
    world.engine.start(running)
    ended, _ = run(world, fakes.says())
    for container_id in (created, running, ended):
        world.engine.remove(container_id)
        world.engine.remove(container_id)
        assert world.engine.inspect(container_id) is None


def test_a_closed_stream_ends_its_reader(world: World) -> None:
    """A worker that lets go of a container must not hang on its output, which goes on."""
    container_id = world.engine.create(world.plan(fakes.Script(until_released=True)))
    stream = world.engine.attach(container_id)
    world.engine.start(container_id)
    reader = threading.Thread(target=lambda: list(stream), daemon=True)
    reader.start()
    stream.close()
    stream.close()
    reader.join(_TIMEOUT_S)
    assert not reader.is_alive()
    assert found(world, container_id).status is Status.RUNNING


def test_an_image_that_came_from_no_registry_has_its_own_id(world: World) -> None:
    """Something exact is known of every image."""
    container_id = world.engine.create(world.plan(fakes.says()))
    image_id = found(world, container_id).image_id
    assert world.engine.digest(image_id) == image_id or world.is_podman
    assert image_id.startswith("sha256:")


def test_the_processes_of_a_container(world: World) -> None:
    """They are there while it runs: neither before nor after."""
    container_id = world.engine.create(world.plan(fakes.Script(until_released=True)))
    assert world.engine.processes(container_id) == []
    world.engine.start(container_id)
    eventually(lambda: world.engine.processes(container_id), _TIMEOUT_S)
    world.engine.stop(container_id, grace_s=5)
    assert world.engine.processes(container_id) == []


def test_usage_of_a_container_that_has_ended(world: World) -> None:
    """Some CPU, some memory; unknown, not zero, where nobody has watched it, and once it is removed."""

    def measured() -> list[container.Usage]:
        container_id = world.engine.create(world.plan(fakes.Script(until_released=True)))
        world.engine.start(container_id)
        assert world.engine.usage(container_id) == container.Usage()
        world.engine.watch_usage(container_id)
        world.engine.stop(container_id, grace_s=5)
        usage = world.engine.usage(container_id)
        world.engine.remove(container_id)
        assert world.engine.usage(container_id) == container.Usage()
        return [] if usage.cpu_s is None else [usage]

    # Docker of the tests has precedence over them, and may have cleared its groups before they are read.
    (usage,) = eventually(measured, _TIMEOUT_S)
    assert 0 < (usage.cpu_s or 0) < 60
    assert (usage.memory_peak_bytes or 0) > 0
    assert usage.oom_killed is False


def test_usage_of_a_container_that_is_gone(world: World) -> None:
    world.engine.watch_usage("0" * 64)
    assert world.engine.usage("0" * 64) == container.Usage()
