"""The images of one Docker: pulled from a registry, and looked up where they are here already.

A part of the engine; remembers the digests that it has looked up. Must not import docker: `credentials` does.
"""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Callable, Mapping
from typing import Any
from urllib.parse import quote, urlencode

from celery_docker import errors
from celery_docker.core import container, imagepin
from celery_docker.engine import api, credentials, faults
from celery_docker.engine.pullreports import PullReports
from celery_docker.engine.sharedpulls import PullRequest, SharedPull, SharedPulls


class Images:
    """Pulls and inspects the images of one Docker; a pull of which nothing comes for `silence_s` has failed."""

    def __init__(self, calls: api.Calls, silence_s: float) -> None:
        self._calls = calls
        self._silence_s = silence_s
        self._pulls = SharedPulls(self._pull)
        self._digests = functools.lru_cache(maxsize=512)(self._look_up_digests)
        self._jobs = functools.lru_cache(maxsize=512)(self._look_up_job)

    def pull(
        self,
        image: str,
        platform: str | None,
        *,
        since_s: float,
        fresh: bool,
        check: Callable[[], object],
        progress: Callable[[int, int], object],
    ) -> str:
        """Pull a tagged image, as `DockerEngine.pull` says."""
        name, tag, headers = credentials.pull_arguments(image, self._calls.service)
        request = PullRequest(image, name, tag, platform, headers.get(credentials.HEADER, ""))
        reports = PullReports(image, self._calls.service)
        pull = self._pulls.wait(request, reports, since_s=since_s, fresh=fresh, check=check, progress=progress)
        return pull.reports.digest

    def _pull(self, request: PullRequest, pull: SharedPull) -> None:
        """Carry a pull out. One that is cut off fails, and nobody is told."""
        query = {"fromImage": request.name, "tag": request.tag}
        query |= {"platform": request.platform} if request.platform else {}
        headers = {credentials.HEADER: request.login} if request.login else {}
        self._calls.is_podman()  # a Docker that does not answer at all is no registry that says nothing
        try:
            self._read(request, pull, f"/images/create?{urlencode(query)}", headers)
        except errors.EngineAway as exc:
            if isinstance(exc.__cause__, TimeoutError):
                raise faults.pull_silent(request.image, self._silence_s) from exc
            raise
        # A stream that was cut between two lines looks like a good end.
        if self._calls.ask("GET", f"/images/{quote(request.image)}/json").status == 404:
            raise faults.pull_refused(request.image, None, "the pull ended without it", self._calls.service)
        # An image that was here may have one more name now.
        self._digests.cache_clear()

    def _read(self, request: PullRequest, pull: SharedPull, path: str, headers: Mapping[str, str]) -> None:
        opened = self._calls.open("POST", path, headers, timeout_s=self._silence_s, cut=pull.cut)
        if opened.response.status >= 400:
            answer = self._calls.read(opened)
            raise faults.pull_refused(request.image, answer.status, answer.text, self._calls.service)
        with contextlib.closing(opened), self._calls.reaching(self._silence_s):
            for line in opened.response:
                pull.reports.add(line)

    def digest(self, image_id: str, image: str) -> str:
        """Return the registry's digest of a local image, as `DockerEngine.digest` says."""
        repo_digests = self._digests(image_id)
        own = imagepin.own_digest(image, repo_digests)
        if own is not None:
            return f"{imagepin.repository(image)}@{own}"
        return repo_digests[0] if repo_digests else image_id

    def is_copy(self, row: Mapping[str, Any]) -> bool:
        """Return whether a listed container is of an image that somebody has made of a job's container."""
        job_id = (row["Labels"] or {}).get(container.LABEL_JOB)
        return job_id is not None and self._jobs(row["ImageID"]) == job_id

    def _look_up_job(self, image_id: str) -> str | None:
        """Return the job of whose container somebody has made an image."""
        config = self._details(image_id).get("Config") or {}
        job_id: str | None = (config.get("Labels") or {}).get(container.LABEL_JOB)
        return job_id

    def _look_up_digests(self, image_id: str) -> tuple[str, ...]:
        return tuple(map(str, self._details(image_id).get("RepoDigests") or ()))

    def _details(self, image_id: str) -> dict[str, Any]:
        """Return an inspection of an image, empty if it is gone."""
        answer = self._calls.ask("GET", f"/images/{quote(image_id)}/json")
        if not answer.ok and answer.status != 404:
            raise self._calls.refused(f"image {image_id} cannot be inspected", answer)
        details: dict[str, Any] = self._calls.parsed(answer) if answer.ok else {}
        return details
