"""Reports of Docker about a pull: how many bytes of the image have come, and what went wrong. Pure."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import Any

from celery_docker.engine import faults

_DIGEST = "Digest: "
_HAS_COME = ("Verifying Checksum", "Download complete", "Extracting", "Pull complete")


@dataclass
class PullReports:
    """The reports about the pull of one image. Docker tells the size of a layer when its download begins."""

    image: str
    service: str = "docker"
    # The digest in the registry; empty until it is known.
    digest: str = ""
    _sizes: dict[str, int] = field(default_factory=dict)
    _pulled: dict[str, int] = field(default_factory=dict)

    @property
    def pulled_bytes(self) -> int:
        return sum(self._pulled.values())

    @property
    def size_bytes(self) -> int:
        """The bytes of the layers whose sizes are known so far."""
        return sum(self._sizes.values())

    def add(self, line: bytes) -> None:
        """Take in a line of Docker's answer. Raises `RequestError`, `NoSpace` or `HostError` for a pull that failed."""
        try:
            report = json.loads(line)
        except ValueError:
            return
        if not isinstance(report, dict):
            return
        detail = report.get("errorDetail") or {}
        if "error" in report or detail:
            text = detail.get("message") or report["error"]
            raise faults.pull_refused(self.image, detail.get("code"), text, self.service)
        self._count(report)

    def _count(self, report: dict[str, Any]) -> None:
        layer, state, progress = report.get("id"), report.get("status"), report.get("progressDetail") or {}
        if layer is None:
            if isinstance(state, str) and state.startswith(_DIGEST):
                self.digest = state.removeprefix(_DIGEST)
            return
        if state == "Downloading" and progress.get("total", 0) > 0:
            self._sizes[layer], self._pulled[layer] = int(progress["total"]), int(progress.get("current", 0))
        elif state in _HAS_COME and layer in self._sizes:
            self._pulled[layer] = self._sizes[layer]
