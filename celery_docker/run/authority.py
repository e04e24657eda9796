"""Whose a job is, and which rules hold for it: asked before anything of it is started, or followed.

Owns the trust in a message. Invariant: what is started comes from a message whose signature was verified, or that this
host's policy takes unsigned; what runs is followed by the message that it was made of. Records prove nothing.
"""

from __future__ import annotations

import time
from dataclasses import dataclass

from celery_docker import errors
from celery_docker.core import container, incoming, message, noticetargets
from celery_docker.core.access import Identity
from celery_docker.core.container import Container
from celery_docker.core.policy import ANYBODY, Defaults, Policy, applying
from celery_docker.core.pullorder import PullOrder
from celery_docker.core.signature import Signature
from celery_docker.host import resolver
from celery_docker.host.keyfile import KeyFile
from celery_docker.run.job import Delivery, Job


@dataclass(frozen=True)
class Authority:
    """Says which rules hold for the jobs of one host, from any thread."""

    policy: Policy
    key_file: KeyFile

    def rules_for(self, job: Job) -> Policy:
        """Return the rules for a job that is to be started, once its signature has told whose it is.

        Raises `SignatureError` for a job that this host does not run, and `HostError` where it cannot tell.
        """
        if job.rules is None:
            job.submitter, job.rules = self._judge(job.delivery, job.delivery.queue)
            job.signer = job.submitter.name if job.submitter else ""
        return job.rules

    def signer_of(self, delivery: Delivery) -> str:
        """Return the name of who has signed a job that is not to be started; empty where nobody has, or it is false."""
        try:
            submitter = self._submitter(delivery, delivery.queue)
        except errors.CeleryDockerError:
            return ""
        return submitter.name if submitter else ""

    def defaults_for(self, delivery: Delivery) -> Defaults:
        """Return what the job of a message gets that asks for nothing; nothing where it is not to run here."""
        policies = [self.policy, *self.policy.sections.values(), *filter(None, [self.policy.unsigned])]
        if all(policy.defaults == self.policy.defaults for policy in policies):
            return self.policy.defaults
        try:
            return self._judge(delivery, delivery.queue)[1].defaults
        except errors.CeleryDockerError:
            return Defaults()

    def rules_of(self, signed: incoming.Signed, queue: str) -> Policy:
        """Return the rules for a message of this list, also of a job that has ended; raises what `rules_for` does."""
        return self._judge(signed, queue)[1]

    def _judge(self, signed: incoming.Signed, queue: str) -> tuple[Identity | None, Policy]:
        submitter = self._submitter(signed, queue)
        groups = () if submitter is None else resolver.group_names(submitter)
        return submitter, applying(self.policy, submitter, groups)

    def _submitter(self, signed: incoming.Signed, queue: str) -> Identity | None:
        if signed.signature is None or self._is_strange(signed.signature):
            return None
        return incoming.submitter(signed, message.queue_name(queue), self.key_file.needed(), time.time())

    def rules_for_pull(self, order: PullOrder) -> Policy:
        """Return the rules for an order to pull an image; raises what `rules_for` raises."""
        submitter = None
        if order.signature is not None and not self._is_strange(order.signature):
            submitter = order.submitter(self.key_file.needed(), time.time())
        groups = () if submitter is None else resolver.group_names(submitter)
        return applying(self.policy, submitter, groups)

    def _is_strange(self, signature: Signature) -> bool:
        """Tell whether a job counts as unsigned: this host lacks its key, and runs unsigned jobs as well.

        Each installation makes a key of its own, and hosts that share a queue need not have copied it.
        """
        if self.policy.submitters != ANYBODY:
            return False
        keys = self.key_file.keys()
        return keys is None or keys.find(signature.key_id) is None


def notified(job: Job) -> tuple[str, ...]:
    """Return the targets that are sent word of a job's end; none where the job was refused because of one."""
    targets = job.spec.notify or () if job.spec else ()
    rules = job.rules
    if rules is None or all(noticetargets.allows(rules.notify, target) for target in targets):
        return targets
    return ()


def check_made_of(job: Job, existing: Container) -> None:
    """Raise `RequestError` for a container that was made of another message: somebody has changed the job's in Redis.

    Its log files, for instance, would be those that a forger names. A container from before the label is believed.
    """
    made_of = existing.labels.get(container.LABEL_ARGUMENTS)
    if made_of is not None and made_of != incoming.digest(job.delivery):
        raise errors.RequestError("its message in Redis was changed while its container was there; submit it again")
