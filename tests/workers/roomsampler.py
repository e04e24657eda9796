"""What containers take, as Docker says it: sampled all the time, so that no host exceeds its offer unseen.

The samples go on while that Docker is away, as in a restart or a reboot of its machine.
"""

from __future__ import annotations

import http.client
import json
import time
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from contextlib import suppress
from threading import Event, Thread
from types import TracebackType
from typing import Any, Self
from urllib.parse import quote

from celery_docker.core import admission, container
from celery_docker.core.admission import Needs
from tests import servers

_PAUSE_S = 0.01


class _Sampler:
    """Samples the running containers with a label, one Docker's, until the end of its `with`."""

    def __init__(self, dockerd: servers.DockerSocket, label: str) -> None:
        self._dockerd = dockerd
        self._label = label
        self._filters = quote(json.dumps({"status": ["running"], "label": [label]}))
        self._stopped = Event()
        self._thread = Thread(target=self._run, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stopped.set()
        self._thread.join(60)

    def labels(self) -> list[Mapping[str, str]]:
        """Return the labels of each container now of which the label says something."""
        status, body = self._dockerd.request("GET", f"/containers/json?filters={self._filters}")
        rows: list[Any] = json.loads(body) if status == 200 else []
        return [row["Labels"] for row in rows if row["Labels"][self._label]]

    def _run(self) -> None:
        while not self._stopped.wait(_PAUSE_S):
            with suppress(OSError, http.client.HTTPException):
                self._sample()

    def _sample(self) -> None:
        raise NotImplementedError


class RoomSampler(_Sampler):
    """`peaks` has the most CPUs and memory that each host had in use at a time."""

    def __init__(self, dockerd: servers.DockerSocket) -> None:
        super().__init__(dockerd, container.LABEL_NEEDS)
        self.peaks: dict[str, Needs] = {}
        # Of each sample, the seconds since the first and the memory in use on each host.
        self.memory: list[tuple[float, Mapping[str, int]]] = []
        self._began = time.monotonic()

    def since(self, monotonic_s: float) -> float:
        """Return a time of the monotonic clock as the samples have it."""
        return monotonic_s - self._began

    def in_use(self) -> dict[str, Needs]:
        """Return what the containers of each host take now."""
        taken: dict[str, list[Needs]] = defaultdict(list)
        for labels in self.labels():
            needs = admission.parse(labels[container.LABEL_NEEDS])
            assert needs is not None
            taken[labels[container.LABEL_HOST]].append(needs)
        return {host: _sum(needs) for host, needs in taken.items()}

    def _sample(self) -> None:
        in_use = self.in_use()
        self.memory.append(
            (time.monotonic() - self._began, {host: needs.memory_bytes for host, needs in in_use.items()})
        )
        for host, needs in in_use.items():
            self.peaks[host] = _most(self.peaks.get(host, admission.NOTHING), needs)


class Leases(_Sampler):
    """The GPUs that containers have: `most` at a time, and the names of those that two of them `shared`."""

    def __init__(self, dockerd: servers.DockerSocket) -> None:
        super().__init__(dockerd, container.LABEL_GPUS)
        self.most = 0
        self.shared: list[str] = []

    def now(self) -> list[str]:
        """Return the names, each as often as it is leased."""
        return sorted(name for labels in self.labels() for name in labels[container.LABEL_GPUS].split(","))

    def _sample(self) -> None:
        names = self.now()
        self.most = max(self.most, len(names))
        self.shared += [name for name, count in Counter(names).items() if count > 1]


def _sum(rows: Iterable[Needs]) -> Needs:
    total = admission.NOTHING
    for needs in rows:
        total = Needs(
            total.millicpus + needs.millicpus, total.memory_bytes + needs.memory_bytes, total.gpus + needs.gpus
        )
    return total


def _most(first: Needs, second: Needs) -> Needs:
    return Needs(
        max(first.millicpus, second.millicpus),
        max(first.memory_bytes, second.memory_bytes),
        max(first.gpus, second.gpus),
    )
