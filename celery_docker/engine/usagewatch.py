"""The last figures of containers: their control groups are read in the moment between their end and their removal.

Owns when the kernel's files are read; `cgroup` owns what they say. No group is made, no privilege and no call to Docker
is needed, with any version of control groups and either driver of Docker's, so nothing can be left behind.
Invariant: figures are the last ones, or were sampled from a container that ran on; those of a short one that were
missed are unknown.
"""

# The race that a watch wins:
#   container  its first process ends: all of its processes have, and the kernel's figures are final
#   kernel     wakes whoever holds a pidfd of that process; the watch reads two files, within a millisecond
#   Docker     hears of the end, and has `runc delete` started, a program: it takes 10 ms and more
#   runc       removes the folders of the control group
# A container that is over before Docker has answered to its start has not lost it: Docker looks at its end only after
# that answer, since both hold the container's lock.

from __future__ import annotations

import contextlib
import os
import select
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from threading import Lock, Thread

from celery_docker.core.container import Usage
from celery_docker.engine import cgroup

_SAMPLE_EVERY_S = 2.0
# A job may have thousands of processes; its first one has the lowest number but where numbers began anew.
_MOST_MEMBERS = 64


@dataclass
class _Watched:
    container_id: str
    places: cgroup.Folders
    begun_s: float
    usage: Usage = field(default_factory=Usage)
    is_over: bool = False

    def read(self, *, is_over: bool) -> None:
        """Read the figures; what cannot be read any more stays as it was."""
        self.is_over = is_over
        self.usage = self.usage.updated(cgroup.usage(self.places))


class UsageWatch:
    """Watches containers from any thread; one thread of its own reads, while there is a container to watch.

    `slice_path` is the control group that the containers are made in, empty for Docker's own. `on_end` is called with
    the id of a container that has ended, its figures being read; it must not wait.
    """

    def __init__(
        self,
        slice_path: str = "",
        *,
        on_end: Callable[[str], object] = lambda _container_id: None,
        root: str = cgroup.ROOT,
        proc: str = cgroup.PROC,
    ) -> None:
        self._slice_path = slice_path
        self._on_end = on_end
        self._root, self._proc = root, proc
        self._lock = Lock()
        self._watched: dict[str, _Watched] = {}
        # Held by the thread alone once they are here, so that no number can be closed and given away under it.
        self._ends: dict[int, _Watched] = {}
        self._epoll = select.epoll()
        self._thread: Thread | None = None
        # A container and its folders: those of others differ by the id only.
        self._example: tuple[str, cgroup.Folders] | None = None

    def begin(self, container_id: str) -> None:
        """Watch a container that has been started, or started again; one that cannot be watched has no figures."""
        found = self._find(container_id)
        # Without an example it may be that nothing is seen of any container here.
        has_ended = self._example is not None if found is None else self._watch(container_id, *found)
        if has_ended:
            self._on_end(container_id)

    def _watch(self, container_id: str, places: cgroup.Folders, pids: list[int]) -> bool:
        """Watch a container of which this was found; return whether it has ended already."""
        watched = _Watched(container_id, places, time.monotonic())
        with self._lock:
            self._watched[container_id] = watched
            if not pids or (not self._is_awaited(container_id, watched, pids) and not cgroup.members(places)):
                watched.read(is_over=True)
                return True
            if self._thread is None:
                self._thread = Thread(target=self._run, daemon=True, name="usage")
                self._thread.start()
        return False

    def usage(self, container_id: str) -> Usage:
        """Return what a container has used: all of it once it has ended, up to the last sample while it runs."""
        with self._lock:
            watched = self._watched.get(container_id)
        return Usage() if watched is None else watched.usage

    def forget(self, container_id: str) -> None:
        """Forget the figures of a container that has been removed."""
        with self._lock:
            self._watched.pop(container_id, None)

    def _find(self, container_id: str) -> tuple[cgroup.Folders, list[int]] | None:
        """Return a container's folders and processes, None for one that has ended and has none any more."""
        for places in self._guesses(container_id):
            pids = cgroup.members(places)
            if pids is not None:
                self._example = container_id, places
                return places, pids
        # Docker is not asked: of one that has ended it may answer only once its output is read, which its reader, who
        # is here, has to do now.
        pids = cgroup.processes(container_id, proc=self._proc, is_waiting_too=True)
        for pid in pids:
            places = cgroup.folders(pid, container_id, root=self._root, proc=self._proc)
            if places:
                self._example = container_id, places
                return places, cgroup.members(places) or pids
        return None

    def _guesses(self, container_id: str) -> Iterator[cgroup.Folders]:
        if self._example is not None:
            other_id, places = self._example
            yield {name: path.replace(other_id, container_id) for name, path in places.items()}
        yield from cgroup.usual_folders(container_id, self._slice_path, root=self._root)

    def _is_awaited(self, container_id: str, watched: _Watched, pids: list[int]) -> bool:
        """Have the thread woken by the end of a container; False if its first process has ended or is not seen."""
        for pid in pids[:_MOST_MEMBERS]:
            with contextlib.suppress(OSError):
                end = os.pidfd_open(pid)
                if cgroup.is_first(pid, container_id, proc=self._proc):
                    self._ends[end] = watched
                    self._epoll.register(end, select.EPOLLIN)
                    return True
                os.close(end)
        return False

    def _run(self) -> None:
        sample_at_s = time.monotonic() + _SAMPLE_EVERY_S
        while True:
            self._read_ended(max(0.0, sample_at_s - time.monotonic()))
            if time.monotonic() < sample_at_s:
                continue
            sample_at_s = time.monotonic() + _SAMPLE_EVERY_S
            with self._lock:
                if not self._watched and not self._ends:
                    self._thread = None
                    return
                all_watched = list(self._watched.values())
            for watched in all_watched:
                # An end cannot wait, and hundreds of samples take a while.
                self._read_ended(0)
                if not watched.is_over and time.monotonic() - watched.begun_s >= _SAMPLE_EVERY_S:
                    watched.read(is_over=False)

    def _read_ended(self, within_s: float) -> None:
        for end, _ in self._epoll.poll(within_s):
            with self._lock:
                watched = self._ends.pop(end)
            watched.read(is_over=True)
            self._on_end(watched.container_id)
            self._epoll.unregister(end)
            os.close(end)
