"""The image of a job's container: that of its earlier attempts, else that of its tag; pulled where it is missing."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from dataclasses import dataclass, replace

from celery_docker import errors
from celery_docker.core import imagepin, kinds
from celery_docker.core.plan import ContainerPlan
from celery_docker.run.imagepins import ImagePins
from celery_docker.run.job import Job
from celery_docker.run.ports import Engine, Records
from celery_docker.run.pulling import Pull

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class ImageSupply:
    """Makes containers on one host, from any thread, with their images."""

    engine: Engine
    records: Records
    pins: ImagePins
    host: str

    def create(self, job: Job, container_plan: ContainerPlan, check: Callable[[], None]) -> str:
        """Make a job's container and return its id. `check` is called during a pull; what it raises ends the wait.

        Raises what the engine raises.
        """
        digest = self.pins.of_earlier_attempt(job)
        if digest is not None:
            container_plan = _with_digest(container_plan, digest)
        since_s = time.monotonic()
        # A container that is there already is looked at, whatever its registry says today.
        if container_plan.pull == "always" and self.engine.inspect(container_plan.name) is None:
            self._pull(job, container_plan, check, since_s, fresh=True)
        try:
            return self.engine.create(container_plan)
        except errors.ImageMissing as exc:
            if container_plan.pull == "never":
                raise errors.RequestError(
                    f"image {_image_of(container_plan)} is not on host {self.host} and pull is 'never'; "
                    "pull it there, or say pull='missing'"
                ) from exc
            self._pull(job, container_plan, check, since_s)
        try:
            return self.engine.create(container_plan)
        except errors.ImageMissing as exc:
            if container_plan.platform is None:
                # Somebody has pruned the images in that moment.
                raise errors.HostError(
                    f"image {_image_of(container_plan)} was removed as soon as it was pulled"
                ) from exc
            raise errors.RequestError(f"image {_image_of(container_plan)} is not in its registry") from exc

    def _pull(
        self,
        job: Job,
        container_plan: ContainerPlan,
        check: Callable[[], None],
        since_s: float,
        *,
        fresh: bool = False,
    ) -> None:
        log.info("pulling %s", container_plan.image, extra={"job": job.job_id})
        image, platform = container_plan.image, container_plan.platform
        try:
            Pull(self.engine, self.records, job, image, platform, since_s, fresh).run(check)
        except errors.RequestError as exc:
            if job.spec is None or "@" in job.spec.image or "@" not in image:
                raise
            raise errors.RequestError(
                f"{exc}; an earlier attempt ran this digest: submit the job again, to run {job.spec.image} as it is now"
            ) from exc


def _with_digest(container_plan: ContainerPlan, digest: str) -> ContainerPlan:
    """Return the plan with its image by its digest; what that stands for needs no second look at the registry."""
    pull = kinds.DEFAULT_PULL if container_plan.pull == "always" else container_plan.pull
    body = {**container_plan.body, "Image": imagepin.pinned(container_plan.image, digest)}
    return replace(container_plan, body=body, pull=pull)


def _image_of(container_plan: ContainerPlan) -> str:
    platform = "" if container_plan.platform is None else f" for {container_plan.platform}"
    return f"{container_plan.image!r}{platform}"
