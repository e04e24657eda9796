"""The images of the jobs in slots as their records keep them, so that another attempt runs the same, on any host."""

from __future__ import annotations

import logging
from dataclasses import dataclass

from celery_docker import errors
from celery_docker.core import imagepin, incoming
from celery_docker.core.signingkeys import Keys
from celery_docker.host.keyfile import KeyFile
from celery_docker.run.job import Job
from celery_docker.run.ports import Records
from celery_docker.run.retrying import Retrying

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class ImagePins:
    """Reads and writes the pins of jobs; those of signed jobs are signed with the key of the queue."""

    records: Records
    key_file: KeyFile
    retrying: Retrying

    def of_earlier_attempt(self, job: Job) -> str | None:
        """Return the digest that an earlier attempt of a job ran; None where there was none, or it is not known."""
        if job.attempt.number <= 1 or job.spec is None or not imagepin.can_be_pinned(job.spec.image):
            return None
        value = self.retrying.until_stored(lambda: self.records.image_pin(job.job_id))
        if not value:
            return None
        digest = imagepin.read(
            *(value, job.job_id, incoming.digest(job.delivery), self._keys()), is_signed=job.submitter is not None
        )
        if digest is None:
            log.warning(
                "the digest of its image in Redis is not by a key of this host: it runs what the tag is now",
                extra={"job": job.job_id},
            )
        return digest

    def text(self, job: Job) -> str:
        """Return the pin of a job's image as its record keeps it; empty while it is not known."""
        return self._text(job, job.attempt.image_digest)

    def _text(self, job: Job, digest: str | None) -> str:
        image = job.spec.image if job.spec else ""
        if not digest or not imagepin.can_be_pinned(image):
            return ""
        own = imagepin.own_digest(image, [digest])
        return "" if own is None else imagepin.text(own, job.job_id, incoming.digest(job.delivery), self._keys())

    def note(self, job: Job, digest: str | None) -> None:
        """Write into a job's record which image its container was made of, unless it is there already."""
        if digest == job.attempt.image_digest:
            return
        text = self._text(job, digest)
        if text:
            self.records.update(job.holding, {"image_pin": text})
        # Only now: what Redis did not take is written again.
        job.attempt.image_digest = digest

    def _keys(self) -> Keys | None:
        try:
            return self.key_file.keys()
        except errors.KeysError:
            return None
