"""Docker, as the worker uses it: one class, plain values in and out.

Owns every call to Docker and what its answers mean. Must not import docker, nor the shell.
Invariants: a call ends within its timeout; one whose answer was lost is never repeated blindly but looked up, a start
by its caller; what is gone already counts as done.

The calls of a job go through `api`: docker-py needs 1.3 ms CPU for each, keeps one pool of connections per URL,
so that none is used twice, and closes the pool of a request in another thread once 25 more URLs were asked for.
docker-py serves where it knows more: the registry's credentials for a pull (`credentials`).
"""

from __future__ import annotations

import contextlib
import json
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from datetime import datetime
from typing import Any
from urllib.parse import quote, urlencode

from celery_docker import errors
from celery_docker.core import container, pauses
from celery_docker.core.hostimages import HostImage
from celery_docker.core.plan import ContainerPlan
from celery_docker.engine import (
    answers,
    api,
    cgroup,
    creation,
    faults,
    images,
    logstream,
    outputs,
    podman,
    usagewatch,
    volumes,
)

_FIRST_PAUSE_S, _MAX_PAUSE_S = 0.1, 5.0
_PING_S = 10.0
_PULL_SILENCE_S = 600.0


class DockerEngine:
    """Docker at `base_url` (unix:///PATH), for any number of threads; `connections`: how many to keep open.

    The containers are made in the control group `slice_path`, if there is one and Docker's driver permits it. A pull
    of which nothing comes for `pull_silence_s` has failed; `on_pulled` hears the id and the name of each image that was
    not here before. Nothing is asked of Docker before the first call, so that an
    engine can be made while Docker is away.
    """

    def __init__(
        self,
        base_url: str,
        *,
        call_timeout_s: float = 60,
        connections: int,
        slice_path: str = "",
        pull_silence_s: float = _PULL_SILENCE_S,
        on_pulled: Callable[[str, str], object] = lambda _image_id, _name: None,
    ) -> None:
        self._calls = api.Calls(base_url, timeout_s=call_timeout_s, connections=connections)
        self._images = images.Images(self._calls, pull_silence_s, on_pulled)
        self._creation = creation.Creation(self._calls, slice_path, self.inspect, self.remove)
        self._outputs = outputs.Outputs(self._calls, self._details)
        self._usage = usagewatch.UsageWatch(slice_path, on_end=self._outputs.read_ahead)

    def check(self) -> str:
        """Return Docker's version in words; raises `EngineAway`, `EngineDenied` or `HostError` with the remedy."""
        about = self._calls.about("/version")
        return f"{podman.name(about)} (API {about['ApiVersion']})"

    def ping(self, *, within_s: float = _PING_S) -> None:
        """Ask Docker for an answer over a new connection: one that goes down answers the old ones only.

        Raises `EngineAway`, `EngineDenied` or `HostError` with the remedy.
        """
        self._calls.ask_anew("/_ping", within_s)

    @property
    def name(self) -> str:
        """The engine's name for people: Docker, or Podman."""
        return self._calls.name

    def life(self) -> int:
        """Return the number of the Docker process that answers now; the next one has another. Raises `HostError`."""
        return self._calls.life(_PING_S)

    def went_at(self, life: int) -> float | None:
        """Return when the Docker process of that number went, by the wall clock; None while it is there."""
        return self._calls.end_of_life(life)

    def remembered(self, container_id: str) -> list[container.Event]:
        """Return the events of a container that the Docker process which takes new connections remembers, in order.

        It keeps its last 256 events in memory: what is not among them may have been all the same. Raises `HostError`.
        """
        events = [answers.event_of(entry) for entry in self._entries(container_id)]
        return [event for event in events if event is not None]

    def _entries(self, container_id: str) -> list[dict[str, Any]]:
        filters = json.dumps({"type": ["container"], "container": [container_id], "event": list(container.Event)})
        # Docker would wait for a time to come, and answers nothing that is younger than the one it is given.
        now = self._calls.clock(self._calls.timeout_s)
        query = {"since": 0, "until": f"{now:.9f}", "filters": filters}
        if self._calls.is_podman():
            query = podman.events_query(container_id, now)
        answer = self._calls.ask_anew(f"/events?{urlencode(query)}", self._calls.timeout_s)
        return [json.loads(line) for line in answer.body.splitlines()]

    def folder(self) -> str:
        """Return the folder of the host that Docker keeps images and containers in. Raises `HostError`."""
        return str(self._calls.about("/info")["DockerRootDir"])

    def has_live_restore(self) -> bool:
        """Return whether containers outlive a restart of Docker here (live-restore). Raises `HostError`."""
        return self._calls.is_podman() or bool(self._calls.about("/info")["LiveRestoreEnabled"])

    def cdi_folders(self) -> tuple[str, ...]:
        """Return the folders in which Docker looks for devices of CDI; none: it has no CDI. Raises `HostError`."""
        return () if self._calls.is_podman() else answers.cdi_folders_of(self._calls.about("/info"))

    def containers(self, labels: Mapping[str, str]) -> list[container.Listed]:
        """Return the containers that have all these labels, running or not. Raises `HostError`.

        An image that somebody made of a job's container hands its labels on: its containers are left out.
        """
        filters = json.dumps({"label": [f"{name}={value}" for name, value in labels.items()]})
        answer = self._calls.ask("GET", f"/containers/json?{urlencode({'all': 1, 'filters': filters})}")
        if not answer.ok:
            raise self._calls.refused("the containers cannot be listed", answer)
        rows = [answers.listed(row) for row in self._calls.parsed(answer) if not self._images.is_copy(row)]
        # Podman takes a label without a value for any.
        return [row for row in rows if labels.items() <= row.labels.items()]

    def inspect(self, name: str) -> container.Container | None:
        """Return the container of that name or id, None if there is none."""
        details = self._details(name)
        return None if details is None else answers.container_of(details)

    def create(self, plan: ContainerPlan) -> str:
        """Make the planned container, with a name and a home for a user whom its image does not know; return its id.

        Raises `NameTaken`, `ImageMissing`, `RequestError` where the plan cannot be met, `HostError` otherwise. An
        answer that was lost is looked up by name: `EngineAway` means that Docker does not have this container now.
        """
        return self._creation.create(plan)

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
        """Pull an image by its tag or digest, and return its digest `sha256:…`, empty where the engine does not say.

        Raises `RequestError` if that can never work, `HostError` if it may later.

        `platform` is the image's, None: Docker's own. Who wants an image that another one pulls waits for that pull;
        `since_s` says on the monotonic clock when it was found missing, None: now. `fresh`: the pull has to begin
        after that moment, so that it brings the tag as it is now.
        `check` is called twice a second; what it raises ends the wait, and also the pull if nobody else waits for it.
        `progress` is called with the bytes that have come and all that are known of, as often.
        """
        since_s = time.monotonic() if since_s is None else since_s
        return self._images.pull(image, platform, since_s=since_s, fresh=fresh, check=check, progress=progress)

    @property
    def pull_counts(self) -> tuple[int, int]:
        """The number of pulls of this process that have brought an image, and of those that failed."""
        return self._images.pull_counts

    def digest(self, image_id: str, image: str = "") -> str:
        """Return the registry's digest of a local image, `name@sha256:…`; its own id where it came from no registry.

        Of several, the one in the repository of the name `image`, under which a job asked for it.
        """
        return self._images.digest(image_id, image)

    def images(self) -> list[HostImage]:
        """Return the images that are here, without their layers. Raises `HostError`."""
        return self._images.listed()

    def with_layers(self, image: HostImage) -> HostImage:
        """Return an image with its layers and their sizes. Raises `HostError`."""
        return replace(image, layers=self._images.layers(image))

    def used_images(self) -> set[str]:
        """Return the ids of the images of all containers, running or not. Raises `HostError`."""
        answer = self._calls.ask("GET", "/containers/json?all=1")
        if not answer.ok:
            raise self._calls.refused("the containers cannot be listed", answer)
        return {str(row["ImageID"]) for row in self._calls.parsed(answer)}

    def remove_image(self, image: HostImage) -> bool:
        """Remove an image with all of its names; False where the engine keeps it. Raises `HostError`."""
        return self._images.remove(image)

    def attach(self, container_id: str) -> logstream.LogStream:
        """Return the output from now on; attached before the start, nothing is lost.

        Raises what `start` raises, besides `ContainerGone`: Podman prepares a container's start here.
        """
        return self._outputs.attach(container_id)

    def replay(self, container_id: str) -> logstream.LogStream:
        """Return the whole log from its beginning, followed while the container runs."""
        return self._outputs.replay(container_id)

    def logged(self, container_id: str, *, until: float) -> dict[container.Stream, int] | None:
        """Return how much of each stream was logged before a moment of the wall clock.

        None where that is not bytes, and with Podman, whose containers log by themselves: nothing is missing.
        Raises `ContainerGone` or `HostError`.
        """
        return self._outputs.logged(container_id, until=until)

    def start(self, container_id: str) -> None:
        """Start a container that was made; one that was started already is fine.

        Raises `CannotStart` where its command is missing or may not be executed, `RequestError` where Docker refuses
        it for another reason of the job's own, `HostError` otherwise: after an `EngineAway` it may have been started.
        """
        answer = self._calls.ask("POST", f"/containers/{container_id}/start")
        if not answer.ok:
            details = self._details(container_id) or {}
            exit_code = details.get("State", {}).get("ExitCode")
            if details.get("State", {}).get("OOMKilled") or (
                details.get("HostConfig", {}).get("Memory") and faults.ended_before_its_start(answer.text)
            ):
                raise faults.memory_too_small()
            command = details.get("Path", "")
            raise faults.start_refused(command, exit_code, answer.status, answer.text, self._calls.service)

    def ended(self, container_id: str, *, within_s: float) -> container.End | None:
        """Wait for the end of a container and return it; one that is gone has ended too.

        None if it still runs after `within_s`, or if Docker was away in the meantime: then nothing is known, and its
        streams may have been cut.
        """
        try:
            end = self._waited(container_id, within_s)
            if end is not None or self.inspect(container_id) is not None:
                return end
            # A prune removed it between the end of its streams and the wait; Docker remembers its end for a while.
            exit_codes = [answers.exit_code_of(entry) for entry in self._entries(container_id)]
            return container.End(next((code for code in reversed(exit_codes) if code is not None), None))
        except errors.HostError:
            return None

    def stop(self, container_id: str, *, signal: str | None = None, grace_s: int) -> None:
        """Stop a container: its signal, the grace, then KILL; again until Docker says that it does not run.

        `signal` None: the one that the image names, SIGTERM by default.
        """
        for pause_s in pauses.delays(_FIRST_PAUSE_S, 2, _MAX_PAUSE_S):
            with contextlib.suppress(errors.HostError):
                self._stop_once(container_id, signal, grace_s)
            with contextlib.suppress(errors.HostError):
                if self._has_ended(container_id):
                    return
            time.sleep(pause_s)

    def remove(self, container_id: str) -> None:
        """Remove a container and its anonymous volumes, running or not; one that is gone already is fine."""
        answer = self._calls.ask("DELETE", f"/containers/{container_id}?v=1&force=1")
        if answer.ok or answer.status == 404:
            self._usage.forget(container_id)
            return
        if answer.status == 409:  # somebody else is at it, or it cannot be killed
            state = self.inspect(container_id)
            if state is None or state.status is container.Status.REMOVING:
                return
        raise self._calls.refused(f"container {container_id[:12]} cannot be removed", answer)

    def prune_volumes(self, labels: Mapping[str, str], *, before: datetime) -> None:
        """Remove the volumes with all these labels that no container has, made before that moment.

        Raises `HostError` with the rest undone.
        """
        volumes.prune(self._calls, labels, before=before)

    def watch_usage(self, container_id: str) -> None:
        """See to it that the figures of a container that was started are read at its end, for `usage`."""
        self._usage.begin(container_id)

    def usage(self, container_id: str) -> container.Usage:
        """Return what a watched container has used, from the kernel's files, until it is removed.

        Of one that runs, what it had used when that was last looked at. Asks nothing of Docker.
        """
        return self._usage.usage(container_id)

    def age_s(self, c: container.Container) -> float | None:
        """Return for how long a running container has run, whatever was done to the clock; None if it is not known."""
        return cgroup.age_s(c)

    def processes(self, container_id: str) -> list[int]:
        """Return the processes that run a container's command, from the kernel's files; asks nothing of Docker."""
        return cgroup.processes(container_id)

    def close(self) -> None:
        """Close the idle connections; the engine makes new ones when it is used again."""
        self._calls.close()

    def _stop_once(self, container_id: str, signal: str | None, grace_s: int) -> None:
        path = f"/containers/{container_id}"
        if signal is not None:  # a stop takes a signal only since API 1.42
            killed = self._calls.ask("POST", f"{path}/kill?{urlencode({'signal': signal})}")
            if killed.ok and grace_s and self._waited(container_id, grace_s) is not None:
                return
            grace_s = 0 if killed.ok else grace_s
        self._calls.ask("POST", f"{path}/stop?t={grace_s}", timeout_s=self._calls.timeout_s + grace_s)

    def _waited(self, container_id: str, timeout_s: float) -> container.End | None:
        """Wait until Docker says that the container does not run; None for any other answer, or none in time."""
        path = f"/containers/{container_id}/wait?condition=not-running"
        try:
            answer = self._calls.ask("POST", path, timeout_s=timeout_s)
            # A wait that Docker gave up has -1 and an error; a container that ended with an error has its own code.
            exit_code = self._calls.parsed(answer).get("StatusCode") if answer.ok else None
        except errors.EngineAway:
            return None
        return container.End(exit_code) if isinstance(exit_code, int) and exit_code >= 0 else None

    def _has_ended(self, container_id: str) -> bool:
        state = self.inspect(container_id)
        return state is None or state.status not in container.ALIVE

    def _details(self, name: str) -> dict[str, Any] | None:
        answer = self._calls.ask("GET", f"/containers/{quote(name, safe='')}/json")
        if answer.status == 404:
            return None
        if not answer.ok:
            raise self._calls.refused(f"container {name} cannot be inspected", answer)
        details: dict[str, Any] = self._calls.parsed(answer)
        return details
