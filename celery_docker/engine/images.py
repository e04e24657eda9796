"""The images of one Docker: pulled from a registry, and looked up where they are here already.

A part of the engine; remembers the digests that it has looked up. Must not import docker: `credentials` does.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import itertools
from collections.abc import Callable, Mapping
from typing import Any
from urllib.parse import quote, urlencode

from celery_docker import errors
from celery_docker.core import container, imagepin
from celery_docker.core.hostimages import HostImage
from celery_docker.engine import api, credentials, faults
from celery_docker.engine.pullreports import PullReports
from celery_docker.engine.sharedpulls import PullRequest, SharedPull, SharedPulls


class Images:
    """Pulls and inspects the images of one Docker; a pull of which nothing comes for `silence_s` has failed.

    `on_pulled` hears the id and the name of each image that a pull has brought, and that was not here before.
    """

    def __init__(self, calls: api.Calls, silence_s: float, on_pulled: Callable[[str, str], object]) -> None:
        self._calls = calls
        self._on_pulled = on_pulled
        self._silence_s = silence_s
        self._pulls = SharedPulls(self._pull)
        self._digests = functools.lru_cache(maxsize=512)(self._look_up_digests)
        self._layers = functools.lru_cache(maxsize=2048)(self._look_up_layers)
        self._jobs = functools.lru_cache(maxsize=512)(self._look_up_job)

    @property
    def pull_counts(self) -> tuple[int, int]:
        """The number of pulls that have brought an image, and of those that failed."""
        return self._pulls.counts

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
        before = {str(row["Id"]) for row in self._rows()}
        try:
            self._read(request, pull, f"/images/create?{urlencode(query)}", headers)
        except errors.EngineAway as exc:
            if isinstance(exc.__cause__, TimeoutError):
                raise faults.pull_silent(request.image, self._silence_s) from exc
            raise
        # A stream that was cut between two lines looks like a good end.
        image_id = self._details(request.image).get("Id")
        if image_id is None:
            raise faults.pull_refused(request.image, None, "the pull ended without it", self._calls.service)
        if image_id not in before:
            self._on_pulled(str(image_id), request.image)
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

    def listed(self) -> list[HostImage]:
        """Return the images that are here; what only a build has left between two of them is not."""
        return [
            HostImage(
                image_id=str(row["Id"]),
                tags=_names(row.get("RepoTags")),
                digests=_names(row.get("RepoDigests")),
                size_bytes=int(row.get("Size") or 0),
                parent_id=str(row.get("ParentId") or ""),
            )
            for row in self._rows()
        ]

    def layers(self, image: HostImage) -> Mapping[str, int]:
        """Return the layers of an image with their sizes, each named by all that lie below it.

        Where Docker does not say which layer is how large, the image counts as one.
        """
        return self._layers(image.image_id) or {image.image_id: image.size_bytes}

    def remove(self, image: HostImage) -> bool:
        """Remove an image with all of its names; False where Docker keeps it, since something needs it."""
        for name in (*image.tags, *image.digests, image.image_id):
            answer = self._calls.ask("DELETE", f"/images/{quote(name)}")
            if answer.status == 409:
                return False
            if not answer.ok and answer.status != 404:
                raise self._calls.refused(f"image {name} cannot be removed", answer)
        return True

    def _rows(self) -> list[dict[str, Any]]:
        answer = self._calls.ask("GET", "/images/json")
        if not answer.ok:
            raise self._calls.refused("the images cannot be listed", answer)
        rows: list[dict[str, Any]] = self._calls.parsed(answer) or []
        return rows

    def _look_up_layers(self, image_id: str) -> Mapping[str, int]:
        layers = (self._details(image_id).get("RootFS") or {}).get("Layers") or []
        answer = self._calls.ask("GET", f"/images/{quote(image_id)}/history")
        steps = self._calls.parsed(answer) if answer.ok else []
        # The newest first; a step that changed no file has no layer.
        sizes = [int(step["Size"]) for step in reversed(steps) if step.get("Size")]
        if len(sizes) != len(layers):
            return {}
        return dict(zip(itertools.accumulate(layers, _chain), sizes, strict=True))

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


def _names(names: Any) -> tuple[str, ...]:
    """Return the names that an image really has: Docker writes <none> for what it lacks."""
    return tuple(str(name) for name in names or () if "<none>" not in str(name))


def _chain(below: str, layer: str) -> str:
    return hashlib.sha256(f"{below} {layer}".encode()).hexdigest()
