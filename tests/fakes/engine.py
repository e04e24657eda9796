"""An engine in memory, for tests of what stands on the engine.

It may be trusted because `tests/contract` holds it to the same promises as the real one. A container does what the
`Script` of its image says.
"""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from types import TracebackType
from typing import Self

from celery_docker import errors
from celery_docker.core import container, imagepin
from celery_docker.core.container import ALIVE, Container, End, Event, Frame, Listed, Status, Stream, Usage
from celery_docker.core.plan import ContainerPlan

_STOPPED_BY_SIGNAL = 143
_KILLED = 137


@dataclass(frozen=True)
class Script:
    """The behaviour of an image's containers: say this, then exit; `until_released`: only after `FakeEngine.release`.

    `cannot_start`: the exit code (126 or 127) with which Docker refuses the start. `oom_killed`: the kernel ended it;
    `oom_missed`: and Docker has not noticed. `labels` are those of the image.
    """

    output: tuple[Frame, ...] = ()
    exit_code: int = 0
    until_released: bool = False
    cannot_start: int | None = None
    oom_killed: bool = False
    oom_missed: bool = False
    labels: Mapping[str, str] = field(default_factory=dict)


def says(out: bytes = b"", err: bytes = b"", exit_code: int = 0) -> Script:
    """Return the script of a container that writes to its streams and ends."""
    pairs = ((Stream.STDOUT, out), (Stream.STDERR, err))
    return Script(tuple(Frame(stream, text) for stream, text in pairs if text), exit_code)


class FakeStream:
    """The output of one container, as `celery_docker.logstream.LogStream` hands it out."""

    def __init__(self) -> None:
        self.frames: queue.SimpleQueue[Frame | None] = queue.SimpleQueue()

    def __iter__(self) -> Iterator[Frame]:
        while (frame := self.frames.get()) is not None:
            yield frame

    def close(self) -> None:
        self.frames.put(None)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


@dataclass
class _Entry:
    state: Container
    script: Script
    # When and what.
    log: list[tuple[float, Frame]] = field(default_factory=list)
    streams: list[FakeStream] = field(default_factory=list)
    created_at: datetime = field(default_factory=lambda: datetime.now(UTC))
    # What each process of Docker saw of it.
    events: list[tuple[int, Event]] = field(default_factory=list)
    # That of its last end, which is also told to those who waited for it while it runs again.
    exit_code: int | None = None
    # It runs, and Docker does not know.
    is_haunted: bool = False
    # Told to stop: its restart policy counts no more.
    is_stopped: bool = False


class FakeEngine:
    """Docker in memory.

    `images` are on the host, `registry` can be pulled. `failures` are raised by the next calls of a method, in order.
    `calls` lists the names of the methods called. `name` is Docker's for people: Podman speaks its language.
    """

    def __init__(self, images: dict[str, Script] | None = None) -> None:
        self.name = "Docker"
        self.images = dict(images or {})
        self.registry: dict[str, Script] = {}
        self.layer_bytes = 2**20
        # The digests of names in the registry; an image without one is its host's own.
        self.digests: dict[str, str] = {}
        self.failures: dict[str, list[Exception]] = {}
        self.calls: list[str] = []
        # What was to be made, in order.
        self.planned: list[ContainerPlan] = []
        self._containers: dict[str, _Entry] = {}
        self._gone: dict[str, _Entry] = {}
        # Whose figures are looked at.
        self._measured: set[str] = set()
        self._changed = threading.Condition(threading.RLock())
        self._count = 0
        self._broken = False
        self.going_down = False
        self.live_restore = False
        # Raised by each process of Docker that follows another.
        self.lives = 1
        # How long a Docker that goes has served what was open before it went.
        self.going_s = 0.0

    def check(self) -> str:
        self._called("check")
        return "Docker 0 (API 1.41)"

    def ping(self, *, within_s: float = 10) -> None:
        self._called("ping")
        if self.going_down:
            # It takes no new caller; the next one to come finds the next Docker.
            self.going_down = False
            self.lives += 1
            raise errors.EngineAway("cannot reach Docker: connection refused; start docker.service")

    def life(self) -> int:
        self._called("life")
        return self.lives

    def went_at(self, life: int) -> float | None:
        self._called("went_at")
        return None if life == self.lives else time.time() - self.going_s

    def has_live_restore(self) -> bool:
        self._called("has_live_restore")
        return self.live_restore

    def remembered(self, container_id: str) -> list[Event]:
        self._called("remembered")
        with self._changed:
            entry = self._find(container_id) or self._gone.get(container_id)
            return [event for life, event in entry.events if life == self.lives] if entry else []

    def inspect(self, name: str) -> Container | None:
        self._called("inspect")
        with self._changed:
            entry = self._find(name)
            return None if entry is None else entry.state

    def containers(self, labels: Mapping[str, str]) -> list[Listed]:
        self._called("containers")
        with self._changed:
            return [
                Listed(
                    *(entry.state.container_id, entry.state.name, entry.state.status, entry.state.labels),
                    entry.created_at,
                )
                for entry in self._containers.values()
                if labels.items() <= entry.state.labels.items() and not _is_copy(entry)
            ]

    def create(self, plan: ContainerPlan) -> str:
        self._called("create")
        self.planned.append(plan)
        with self._changed:
            if plan.image not in self.images:
                raise errors.ImageMissing(f"image {plan.image!r} is not on this host; pull it")
            if self._find(plan.name) is not None:
                raise errors.NameTaken(f"a container named {plan.name} exists already; look at it first")
            self._count += 1
            container_id = f"{self._count:064x}"
            labels = {**self.images[plan.image].labels, **plan.body["Labels"]}
            state = Container(container_id, plan.name, Status.CREATED, labels, f"sha256:{plan.image}")
            self._containers[container_id] = _Entry(state, self.images[plan.image])
            return container_id

    def pull(
        self,
        image: str,
        platform: str | None = None,
        *,
        since_s: float | None = None,
        fresh: bool = False,
        check: Callable[[], object] = lambda: None,
        progress: Callable[[int, int], object] = lambda _pulled_bytes, _size_bytes: None,
    ) -> str:
        self._called("pull")
        with self._changed:
            if image not in self.registry:
                raise errors.RequestError(f"image {image!r} cannot be pulled: not found; check its name and tag")
            progress(self.layer_bytes, self.layer_bytes)
            check()
            self.images[image] = self.registry[image]
            return self.digests.get(image, "")

    def digest(self, image_id: str, image: str = "") -> str:
        self._called("digest")
        known = self.digests.get(image_id.removeprefix("sha256:"))
        return image_id if known is None else imagepin.pinned(image, known)

    def attach(self, container_id: str) -> FakeStream:
        self._called("attach")
        with self._changed:
            if self._find(container_id) is None:
                raise errors.ContainerGone
            return self._listen(container_id)

    def replay(self, container_id: str) -> FakeStream:
        self._called("replay")
        with self._changed:
            stream = self._listen(container_id)
            entry = self._known(container_id)
            for _, frame in entry.log:
                stream.frames.put(frame)
            if entry.state.status is not Status.RUNNING:
                stream.close()
            return stream

    def logged(self, container_id: str, *, until: float) -> dict[Stream, int] | None:
        self._called("logged")
        with self._changed:
            frames = [frame for at, frame in self._known(container_id).log if at <= until]
            return {stream: sum(len(f.payload) for f in frames if f.stream is stream) for stream in Stream}

    def start(self, container_id: str) -> None:
        self._called("start")
        with self._changed:
            entry = self._known(container_id)
            if entry.state.status is not Status.CREATED:
                return
            if entry.script.cannot_start is not None:
                entry.state = replace(entry.state, exit_code=entry.script.cannot_start, error="cannot start")
                raise errors.CannotStart("command 'nope' cannot be started: not found", entry.script.cannot_start)
            entry.state = replace(entry.state, status=Status.RUNNING, pid=1, started_at=datetime.now(UTC))
            entry.events.append((self.lives, Event.START))
            for frame in entry.script.output:
                self._say(entry, frame)
            if not entry.script.until_released:
                self._end(entry, entry.script.exit_code)

    def ended(self, container_id: str, *, within_s: float) -> End | None:
        self._called("ended")
        with self._changed:
            before = self._ends(container_id)
            self._changed.wait_for(
                lambda: self._broken or not self._runs(container_id) or self._ends(container_id) > before, within_s
            )
            broken, self._broken = self._broken, False
            if broken or (self._runs(container_id) and self._ends(container_id) == before):
                return None
            entry = self._find(container_id) or self._gone.get(container_id)
            return End(entry.exit_code if entry else None)

    def _ends(self, name: str) -> int:
        entry = self._find(name)
        return 0 if entry is None else [event for _, event in entry.events].count(Event.DIE)

    def stop(self, container_id: str, *, signal: str | None = None, grace_s: int) -> None:
        self._called("stop")
        with self._changed:
            if self._runs(container_id):
                self._known(container_id).is_stopped = True
                self.tell(container_id)
                self._end(self._known(container_id), _KILLED if signal == "SIGKILL" else _STOPPED_BY_SIGNAL)

    def remove(self, container_id: str) -> None:
        self._called("remove")
        with self._changed:
            entry = self._find(container_id)
            if entry is not None:
                if entry.state.status is Status.RUNNING:
                    entry.is_stopped = True
                    self.tell(container_id)
                    self._end(entry, _KILLED)
                self._gone[entry.state.container_id] = self._containers.pop(entry.state.container_id)
                self._changed.notify_all()

    def age_s(self, c: Container) -> float | None:
        self._called("age_s")
        return (datetime.now(UTC) - c.started_at).total_seconds() if c.started_at and c.status in ALIVE else None

    def processes(self, container_id: str) -> list[int]:
        self._called("processes")
        with self._changed:
            entry = self._find(container_id)
            return [1] if entry is not None and (entry.is_haunted or entry.state.status in ALIVE) else []

    def prune_volumes(self, labels: Mapping[str, str], *, before: datetime) -> None:
        self._called("prune_volumes")

    def watch_usage(self, container_id: str) -> None:
        self._called("watch_usage")
        with self._changed:
            if container_id in self._containers:
                self._measured.add(container_id)

    def usage(self, container_id: str) -> Usage:
        self._called("usage")
        with self._changed:
            if container_id not in self._measured & self._containers.keys():
                return Usage()
            script = self._containers[container_id].script
            return Usage(cpu_s=0.5, memory_peak_bytes=2**20, oom_killed=script.oom_killed or script.oom_missed)

    def close(self) -> None:
        self._called("close")

    # What a test does to the world behind the engine's back.

    def release(self, name: str, exit_code: int | None = None) -> None:
        """Let a container that runs until released end."""
        with self._changed:
            entry = self._known(name)
            self._end(entry, entry.script.exit_code if exit_code is None else exit_code)

    def tell(self, name: str) -> None:
        """Send a container a signal, to end, of which it takes no notice yet."""
        with self._changed:
            self._known(name).events.append((self.lives, Event.KILL))

    def mark(self, name: str, status: Status) -> None:
        """Have Docker say another word for the state of a container."""
        entry = self._known(name)
        entry.state = replace(entry.state, status=status)

    def start_unseen(self, name: str) -> None:
        """Let a container run of which Docker, killed as it started it, says that it never did."""
        with self._changed:
            self._known(name).is_haunted = True

    def end_unseen(self, name: str) -> None:
        """Let the processes of such a container end."""
        with self._changed:
            self._known(name).is_haunted = False

    def close_output(self, name: str) -> None:
        """Let a container close its output; it goes on."""
        with self._changed:
            for stream in self._known(name).streams:
                stream.close()

    def rename(self, name: str, new_name: str) -> None:
        """Give a container another name, as `docker rename` does."""
        with self._changed:
            entry = self._known(name)
            entry.state = replace(entry.state, name=new_name)

    def restart(self, name: str, exit_code: int = _STOPPED_BY_SIGNAL) -> None:
        """Stop a container, and start it again at once, as `docker restart` does."""
        with self._changed:
            self.tell(name)
            self.release(name, exit_code)
            self._run_again(self._known(name))

    def start_again(self, name: str) -> None:
        """Start a container that has ended."""
        with self._changed:
            self._run_again(self._known(name))

    def set_restart_policy(self, name: str) -> None:
        """Have a container started again after each end, as `docker update --restart=always` does."""
        with self._changed:
            entry = self._known(name)
            entry.state = replace(entry.state, restarts=True)

    def say(self, name: str, frame: Frame) -> None:
        """Let a running container write."""
        with self._changed:
            self._say(self._known(name), frame)

    def break_streams(self, name: str, *, answers_on: bool = False) -> None:
        """Cut every stream of a container, as a restart of Docker does; the container goes on.

        With `answers_on` behind a socket of systemd's: who asks for the end is answered by the next Docker.
        """
        with self._changed:
            self._broken = not answers_on
            self.lives += answers_on
            for stream in self._known(name).streams:
                stream.close()
            self._changed.notify_all()

    def names(self) -> list[str]:
        """Return the names of all containers."""
        with self._changed:
            return sorted(entry.state.name for entry in self._containers.values())

    def _called(self, method: str) -> None:
        with self._changed:
            self.calls.append(method)
            waiting = self.failures.get(method)
            if waiting:
                raise waiting.pop(0)

    def _find(self, name: str) -> _Entry | None:
        by_name = (entry for entry in self._containers.values() if entry.state.name == name)
        return self._containers.get(name) or next(by_name, None)

    def _known(self, name: str) -> _Entry:
        entry = self._find(name)
        if entry is None:
            raise errors.HostError(f"no such container: {name}")
        return entry

    def _runs(self, name: str) -> bool:
        entry = self._find(name)
        return entry is not None and entry.state.status is Status.RUNNING

    def _listen(self, container_id: str) -> FakeStream:
        stream = FakeStream()
        self._known(container_id).streams.append(stream)
        return stream

    def _say(self, entry: _Entry, frame: Frame) -> None:
        entry.log.append((time.time(), frame))
        for stream in entry.streams:
            stream.frames.put(frame)

    def _run_again(self, entry: _Entry) -> None:
        for stream in entry.streams:
            stream.close()
        entry.state = replace(
            *(entry.state,),
            **{"status": Status.RUNNING, "pid": 1, "exit_code": None, "oom_killed": None, "finished_at": None},
            started_at=datetime.now(UTC),
        )
        entry.events.append((self.lives, Event.START))
        self._changed.notify_all()

    def _end(self, entry: _Entry, exit_code: int) -> None:
        entry.state = replace(
            entry.state,
            status=container.Status.EXITED,
            exit_code=exit_code,
            oom_killed=entry.script.oom_killed,
            pid=None,
            finished_at=datetime.now(UTC),
        )
        entry.exit_code = exit_code
        entry.events.append((self.lives, Event.DIE))
        if entry.state.restarts and not entry.is_stopped:
            self._run_again(entry)
            return
        for stream in entry.streams:
            stream.close()
        self._changed.notify_all()


def _is_copy(entry: _Entry) -> bool:
    job_id = entry.state.labels.get(container.LABEL_JOB)
    return job_id is not None and entry.script.labels.get(container.LABEL_JOB) == job_id
