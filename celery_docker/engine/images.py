"""The images of one Docker: pulled from a registry, and looked up where they are here already.

A part of the engine; remembers the digests that it has looked up. Must not import docker: `credentials` does.
"""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Callable, Mapping
from typing import Any
from urllib.parse import quote, urlencode

from celery_docker.core import container
from celery_docker.engine import api, credentials, faults, pullreports

_PULL_SILENCE_S = 600


class Images:
    """Pulls and inspects the images of one Docker."""

    def __init__(self, calls: api.Calls) -> None:
        self._calls = calls
        self._digests = functools.lru_cache(maxsize=512)(self._look_up_digest)
        self._jobs = functools.lru_cache(maxsize=512)(self._look_up_job)

    def pull(
        self, image: str, platform: str | None, *, needed: Callable[[], bool], progress: Callable[[int, int], object]
    ) -> None:
        """Pull a tagged image, as `DockerEngine.pull` says."""
        service = self._calls.service
        name, tag, headers = credentials.pull_arguments(image, service)
        query = {"fromImage": name, "tag": tag} | ({"platform": platform} if platform else {})
        path = f"/images/create?{urlencode(query)}"
        opened = self._calls.open("POST", path, headers, timeout_s=_PULL_SILENCE_S)
        if opened.response.status >= 400:
            answer = self._calls.read(opened)
            raise faults.pull_refused(image, answer.status, answer.text, service)
        reports = pullreports.PullReports(image, service)
        with contextlib.closing(opened), self._calls.reaching(_PULL_SILENCE_S):
            for line in opened.response:
                reports.add(line)
                progress(reports.pulled_bytes, reports.size_bytes)
                if not needed():
                    return
        # A stream that was cut between two lines looks like a good end.
        if self._calls.ask("GET", f"/images/{quote(image)}/json").status == 404:
            raise faults.pull_refused(image, None, "the pull ended without it", service)

    def digest(self, image_id: str) -> str:
        """Return the registry's digest of a local image, `name@sha256:…`; its own id where it came from no registry."""
        return self._digests(image_id)

    def is_copy(self, row: Mapping[str, Any]) -> bool:
        """Return whether a listed container is of an image that somebody has made of a job's container."""
        job_id = (row["Labels"] or {}).get(container.LABEL_JOB)
        return job_id is not None and self._jobs(row["ImageID"]) == job_id

    def _look_up_job(self, image_id: str) -> str | None:
        """Return the job of whose container somebody has made an image."""
        config = self._details(image_id).get("Config") or {}
        job_id: str | None = (config.get("Labels") or {}).get(container.LABEL_JOB)
        return job_id

    def _look_up_digest(self, image_id: str) -> str:
        digests = self._details(image_id).get("RepoDigests")
        return str(digests[0]) if digests else image_id

    def _details(self, image_id: str) -> dict[str, Any]:
        """Return an inspection of an image, empty if it is gone."""
        answer = self._calls.ask("GET", f"/images/{quote(image_id)}/json")
        if not answer.ok and answer.status != 404:
            raise self._calls.refused(f"image {image_id} cannot be inspected", answer)
        details: dict[str, Any] = self._calls.parsed(answer) if answer.ok else {}
        return details
