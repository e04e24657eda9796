"""The room that containers take, as Docker says it: sampled all the time, so that no host exceeds its offer unseen."""

from __future__ import annotations

import json
import time
from collections import defaultdict
from collections.abc import Mapping
from threading import Event, Thread
from types import TracebackType
from typing import Self
from urllib.parse import quote

from celery_docker.core import admission, container
from celery_docker.core.admission import Needs
from tests import servers

_PAUSE_S = 0.01
_RUNNING = quote(json.dumps({"status": ["running"], "label": [container.LABEL_NEEDS]}))


class RoomSampler:
    """Samples one Docker until the end of its `with`. `peaks` has the most that each host had in use at a time."""

    def __init__(self, dockerd: servers.Dockerd) -> None:
        self.peaks: dict[str, Needs] = {}
        # Of each sample, the seconds since the first and the memory in use on each host.
        self.memory: list[tuple[float, Mapping[str, int]]] = []
        self._dockerd = dockerd
        self._stopped = Event()
        self._thread = Thread(target=self._run, daemon=True)
        self._began = time.monotonic()

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stopped.set()
        self._thread.join(60)

    def since(self, monotonic_s: float) -> float:
        """Return a time of the monotonic clock as the samples have it."""
        return monotonic_s - self._began

    def in_use(self) -> dict[str, Needs]:
        """Return what the containers of each host take now."""
        _, body = self._dockerd.request("GET", f"/containers/json?filters={_RUNNING}")
        taken: dict[str, list[Needs]] = defaultdict(list)
        for row in json.loads(body):
            needs = admission.parse(row["Labels"][container.LABEL_NEEDS])
            assert needs is not None
            taken[row["Labels"][container.LABEL_HOST]].append(needs)
        return {host: _sum(needs) for host, needs in taken.items()}

    def _run(self) -> None:
        while not self._stopped.wait(_PAUSE_S):
            in_use = self.in_use()
            self.memory.append(
                (time.monotonic() - self._began, {host: needs.memory_bytes for host, needs in in_use.items()})
            )
            for host, needs in in_use.items():
                self.peaks[host] = _most(self.peaks.get(host, admission.NOTHING), needs)


def _sum(rows: list[Needs]) -> Needs:
    return Needs(
        sum(needs.millicpus for needs in rows),
        sum(needs.memory_bytes for needs in rows),
        sum(needs.gpus for needs in rows),
    )


def _most(first: Needs, second: Needs) -> Needs:
    return Needs(
        max(first.millicpus, second.millicpus),
        max(first.memory_bytes, second.memory_bytes),
        max(first.gpus, second.gpus),
    )
