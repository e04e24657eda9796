"""The images of this host: reported to Redis each minute, and removed when there are too many.

Owns the removal. Invariants: without a budget nothing is removed; what goes is what `core.hostimages.surplus` says, and
Docker refuses to remove what a container needs. While Redis does not answer, nobody knows what jobs want: nothing goes.
"""

from __future__ import annotations

import logging
import shutil
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any, Protocol

from celery_docker.core import hostimages, plan, wording
from celery_docker.core.hostimages import HostImage, ImageNote, Surplus
from celery_docker.run.job import Job
from celery_docker.run.periodic import Periodic

log = logging.getLogger(__name__)

_EVERY_S = 60.0


class Docker(Protocol):
    """The questions to Docker."""

    def folder(self) -> str: ...
    def images(self) -> list[HostImage]: ...
    def with_layers(self, image: HostImage) -> HostImage: ...
    def used_images(self) -> set[str]: ...
    def remove_image(self, image: HostImage) -> bool: ...


class Reports(Protocol):
    """The questions to Redis."""

    def report(self, host: str, report: Mapping[str, Any]) -> None: ...
    def wanted(self) -> set[str]: ...


class Notes(Protocol):
    """The memory of this host's images."""

    def note_use(self, image_id: str, now_s: float) -> None: ...
    def save(self) -> None: ...
    def turn(self, image_ids: Collection[str], listed_s: float) -> AbstractContextManager[Mapping[str, ImageNote]]: ...


@dataclass(frozen=True)
class Budget:
    """The bytes that pulled images may have together, 0: any number, and those that the disk shall have free."""

    most_bytes: int
    free_bytes: int


class ImageKeeping:
    """Reports and removes the images of one host; `start` once, `stop` once."""

    def __init__(
        self, docker: Docker, reports: Reports, notes: Notes, host: str, budget: Budget, jobs: Callable[[], list[Job]]
    ) -> None:
        self._docker = docker
        self._reports = reports
        self._notes = notes
        self._host = host
        self._budget = budget
        self._jobs = jobs
        self._loop = Periodic("images", _EVERY_S, self.turn)

    def start(self) -> None:
        """Begin to report."""
        self._loop.start()

    def stop(self) -> None:
        """End after the turn that is under way; what is known of the images is for the next process."""
        self._loop.stop()
        try:
            self._notes.save()
        except OSError as exc:
            log.warning("cannot write which images were used: %s", exc.strerror)

    def wake(self) -> None:
        """Take the next turn now: an image has come."""
        self._loop.wake()

    def turn(self) -> None:
        """Remove what is too much, and report what is there. Raises what Docker, Redis and the disk raise."""
        now_s = time.time()
        for job in self._jobs():
            if job.image_id:
                self._notes.note_use(job.image_id, now_s)
        images = self._docker.images()
        with self._notes.turn([image.image_id for image in images], now_s) as notes:
            gone = self._collect(images, notes) if self._budget.most_bytes else set()
            report = hostimages.report([image for image in images if image.image_id not in gone], notes, now_s)
        self._reports.report(self._host, report)

    def _collect(self, images: Sequence[HostImage], notes: Mapping[str, ImageNote]) -> set[str]:
        """Remove the images that are too much; return their ids."""
        images = [self._docker.with_layers(image) for image in images]
        free_bytes = shutil.disk_usage(self._docker.folder()).free
        short_bytes = max(0, self._budget.free_bytes - free_bytes)
        # What jobs want is a long question, which most turns need not ask.
        if not self._surplus(images, notes, short_bytes, frozenset()):
            return set()
        wanted = self._reports.wanted() | {plan.tagged(job.spec.image) for job in self._jobs() if job.spec}
        going = self._surplus(images, notes, short_bytes, wanted)
        return {surplus.image.image_id for surplus in going if self._remove(surplus)}

    def _surplus(
        self, images: Sequence[HostImage], notes: Mapping[str, ImageNote], short_bytes: int, wanted: Collection[str]
    ) -> list[Surplus]:
        return hostimages.surplus(
            images,
            notes,
            used_ids=self._docker.used_images(),
            wanted=wanted,
            budget_bytes=self._budget.most_bytes,
            short_bytes=short_bytes,
        )

    def _remove(self, surplus: Surplus) -> bool:
        image = surplus.image
        name = ", ".join(image.tags or image.digests or (image.image_id,))
        if not self._docker.remove_image(image):
            log.info("image %s stays: something needs it", name)
            return False
        log.info("image %s was removed, %s: the budget for images is used up", name, wording.size(surplus.freed_bytes))
        return True
