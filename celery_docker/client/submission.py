"""A job as a submitter hands it over to the queue: its id, its message, and what a listing is to show of it.

Asks nothing of Redis. Invariant: what is made here has an id that no job has had before.
"""

from __future__ import annotations

import json
import os
import socket
import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from celery_docker import errors
from celery_docker.client import signing
from celery_docker.core import admission, gpus, incoming, jobrecord, jobspec, message, shares, timelimits
from celery_docker.core.jobrecord import New
from celery_docker.core.jobspec import Submission
from celery_docker.core.recordfields import Fields

# What `JobBuilder.again` has to know of a job, by the names of its record's fields.
RETRIED = ("state", "receipt", "spec", "message", "batch", "batch_index")


@dataclass(frozen=True)
class Place:
    """The place of a job in a batch."""

    batch_id: str
    index: int


@dataclass(frozen=True)
class JobBuilder:
    """Makes jobs ready for the queue; `name` is the submitter's, `origin` the same as Celery names a sender.

    Without a `signer`, or where it may not read the key, jobs are not signed.
    `uid` is the submitter's number where the gateway knows it, and `user_of` returns the user as whom a job runs for
    the one that its document names; it raises `NotAllowed`.
    """

    name: str
    origin: str
    signer: signing.Signer | None = None
    uid: int | None = None
    user_of: Callable[[str | None], str] | None = None

    def job(
        self, kwargs: Mapping[str, Any], options: Submission, place: Place | None = None, job_id: str | None = None
    ) -> New:
        """Return a job with these arguments, ready for the queue.

        Raises `NotAllowed`, and `KeysError` where the keys are damaged.
        """
        job_id = job_id or str(uuid.uuid4())
        if self.user_of is not None:
            kwargs = {**kwargs, "user": self.user_of(kwargs.get("user"))}
        envelope = message.task_message(
            job_id,
            kwargs,
            queue=options.queue,
            tag=str(uuid.uuid4()),
            origin=self.origin,
            priority=options.priority,
            more_headers=self._signed(job_id, kwargs, options),
        )
        queue_list = message.queue_key(options.queue, options.priority)
        share = shares.name(queue_list, shares.submitter(self.uid, self.name), kwargs)
        return New(
            job_id,
            queue_list,
            envelope,
            kwargs,
            expires_s=options.expires,
            after=options.after,
            batch_id=None if place is None else place.batch_id,
            batch_index=0 if place is None else place.index,
            about={**_listed(kwargs), **_needs(kwargs), **_after(options), **self.owner, jobrecord.SHARE: share},
        )

    @property
    def owner(self) -> dict[str, str]:
        """Return the fields of a record or batch that say who submitted it."""
        return {"submitted_by": self.name, **({} if self.uid is None else {jobrecord.UID: str(self.uid)})}

    def again(
        self,
        job_id: str,
        state: str | None,
        receipt: str | None,
        spec: str | None,
        text: str | None,
        batch_id: str | None,
        batch_index: str | None,
        *,
        new_id: str | None = None,
    ) -> New:
        """Return a job that has ended as a new one, from its record; in its batch it takes the place of the old one.

        It is the same submitter's: signed for that one, or not signed if it was not. Raises `NoSuchJob`, while the job
        has not ended `NotEnded`, and `SignatureError` where it was changed after it was signed.
        """
        if state is None:
            raise errors.NoSuchJob(f"no job has the id {job_id!r}; list the jobs with: celery-docker ps --all")
        if receipt is None:
            raise errors.NotEnded(f"job {job_id} is {state}: it can be tried again once it has ended, or is cancelled")
        parsed = incoming.of_envelope(job_id, incoming.of_record(job_id, text))
        options = message.submission(parsed.envelope)
        signer = self._signer_of(parsed, options.queue)
        cells = Fields({"spec": spec or "", "batch_index": batch_index or ""})
        # Of a signed job nothing counts but what was signed.
        document = cells.json("spec", dict) if parsed.signature is None else None
        if document is None and parsed.refusal:
            raise errors.SpecError(f"job {job_id} cannot be queued again: {parsed.refusal}")
        # Of a plain client's job there is only the message.
        spec_of = jobspec.parse(parsed.args, parsed.kwargs) if document is None else jobspec.parse((), document)
        spec_of = timelimits.limited(spec_of, parsed.limits)
        place = None if batch_id is None else Place(batch_id, cells.count("batch_index"))
        new = replace(self, signer=signer).job(spec_of.to_kwargs(), options, place, new_id)
        return replace(new, about={**new.about, "retry_of": job_id})

    def _signed(self, job_id: str, kwargs: Mapping[str, Any], options: Submission) -> Mapping[str, Any]:
        if self.signer is None:
            return {}
        return self.signer.headers(job_id, options.queue, kwargs, options.expires)

    def _signer_of(self, parsed: incoming.Incoming, queue: str) -> signing.Signer | None:
        """Return who is to sign a job anew: whoever has signed it before, whatever else its record says."""
        identity = self.signer and self.signer.verified(parsed, queue)
        return replace(self.signer, identity=identity) if self.signer and identity else None


def of_process(key_file: str) -> JobBuilder:
    """Return the builder for the user and host of this process, which signs with the keys in a file."""
    host, signer = socket.gethostname(), signing.of_process(key_file)
    return JobBuilder(f"{signer.identity.name}@{host}", f"{os.getpid()}@{host}", signer)


def _listed(kwargs: Mapping[str, Any]) -> dict[str, str]:
    """Return the fields of a record by which a listing shows a job."""
    about = {name: str(kwargs[name]) for name in ("name", "image") if kwargs.get(name)}
    if kwargs.get("labels"):
        about["labels"] = json.dumps(kwargs["labels"])
    return about


def _needs(kwargs: Mapping[str, Any]) -> dict[str, str]:
    """Return the field of a record that tells hosts without room for a job to leave its message where it is."""
    if not any(kwargs.get(name) for name in shares.NEEDS):
        return {}
    wanted = gpus.parse(kwargs.get("gpus", 0))
    devices = wanted if isinstance(wanted, tuple) else ()
    # All of a host are at least one.
    number = 1 if wanted == gpus.ALL else gpus.count(wanted, ())
    needs = admission.needs_of(kwargs.get("cpus"), kwargs.get("memory"), number, devices)
    return {} if needs == admission.NOTHING else {"needs": str(needs)}


def _after(options: Submission) -> dict[str, str]:
    return {"after": json.dumps(options.after)} if options.after else {}
