"""Signing of jobs by whoever may read the key: root, group celery, and services that submit for others."""

from __future__ import annotations

import math
import os
import pwd
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from celery_docker.client import configfiles
from celery_docker.core import incoming, signature
from celery_docker.core.access import Identity
from celery_docker.host.keyfile import KeyFile


@dataclass(frozen=True)
class Signer:
    """Signs the jobs of one submitter, with the key that signs at that moment."""

    key_file: KeyFile
    identity: Identity

    def headers(self, job_id: str, queue: str, kwargs: Mapping[str, Any], expires_s: float | None) -> Mapping[str, Any]:
        """Return the headers that sign a new job; none where this process may not read the key.

        Raises `KeysError` for a file that is damaged.
        """
        keys = self.key_file.keys()
        if keys is None:
            return {}
        now_s = time.time()
        not_after_s = None if expires_s is None else math.ceil(now_s + expires_s)
        signed = signature.sign(keys.signing, self.identity, job_id, queue, kwargs, now_s, not_after_s)
        return {signature.HEADER: signed.header()}

    def verified(self, parsed: incoming.Incoming, queue: str) -> Identity | None:
        """Return who has signed a job that a record holds; None where nobody has, or this process lacks the key.

        Raises `SignatureError` for a job that was changed, and `KeysError`.
        """
        keys = self.key_file.keys()
        if keys is None or parsed.signature is None or keys.find(parsed.signature.key_id) is None:
            return None
        return incoming.submitter(parsed, queue, keys, time.time())


def submitter(environ: Mapping[str, str]) -> Identity | None:
    """Return as whom this process signs jobs; None where it may not read the key. Raises `KeysError`."""
    signer = of_process(configfiles.key_file(environ))
    return None if signer.key_file.keys() is None else signer.identity


def of_process(path: str) -> Signer:
    """Return the signer for the user of this process, with the keys in this file."""
    uid, gid = os.getuid(), os.getgid()
    try:
        name = pwd.getpwuid(uid).pw_name
    except KeyError:
        name = str(uid)
    return Signer(KeyFile(path), Identity(name, uid, gid, tuple(sorted({*os.getgroups()} - {gid}))))
