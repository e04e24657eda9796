"""The pin of a job's image: the digest that its first attempt ran, which every later one runs too. Pure.

A tag may be moved between two attempts. Invariant: a record cannot change what a signed job runs: its pin counts only
with a sum by a key of the queue, which binds it to that job and to its arguments.
"""

from __future__ import annotations

import hashlib
import hmac
import re
from collections.abc import Iterable

from celery_docker.core import imagerules
from celery_docker.core.signature import canonical
from celery_docker.core.signingkeys import Keys, key_id

_DIGEST = re.compile(r"sha256:[0-9a-f]{64}", re.ASCII)
_TEXT = re.compile(r"(sha256:[0-9a-f]{64})(?: ([0-9a-f]{16}) ([0-9a-f]{64}))?", re.ASCII)
# Docker leaves out what it adds by itself.
_DEFAULT_REGISTRIES = ("docker.io/", "index.docker.io/")
_DEFAULT_FOLDER = "library/"


def can_be_pinned(image: str) -> bool:
    """Return True for the name of an image with a tag; a digest or an id stands for one image already."""
    return "@" not in image and not imagerules.is_id(image)


def repository(image: str) -> str:
    """Return a name without tag and digest, in the form in which Docker shows it."""
    name = imagerules.untagged(image.partition("@")[0])
    for registry in _DEFAULT_REGISTRIES:
        if name.startswith(registry):
            return name.removeprefix(registry).removeprefix(_DEFAULT_FOLDER)
    return name


def own_digest(image: str, repo_digests: Iterable[str]) -> str | None:
    """Return the digest under which an image's own repository has it; None where it came from another, or from none."""
    own = repository(image)
    digests = (text.rpartition("@")[2] for text in repo_digests if "@" in text and repository(text) == own)
    return next((digest for digest in digests if _DIGEST.fullmatch(digest)), None)


def pinned(image: str, digest: str) -> str:
    """Return the name of an image by its digest."""
    return f"{imagerules.untagged(image.partition('@')[0])}@{digest}"


def text(digest: str, job_id: str, arguments: str, keys: Keys | None) -> str:
    """Return the pin as a record keeps it; `arguments` is their digest, `keys` None where this host has none."""
    if keys is None:
        return digest
    return f"{digest} {key_id(keys.signing)} {_sum(keys.signing, digest, job_id, arguments)}"


def read(value: str, job_id: str, arguments: str, keys: Keys | None, *, is_signed: bool) -> str | None:
    """Return the digest of a pin in a record; None for one that does not count. `is_signed`: its job is."""
    match = _TEXT.fullmatch(value)
    if match is None:
        return None
    digest, signed_by, sum_ = match.groups()
    key = keys.find(signed_by) if keys is not None and signed_by is not None else None
    if key is None:
        # Whoever may write the record of an unsigned job may write its message.
        return None if is_signed else digest
    return digest if hmac.compare_digest(_sum(key, digest, job_id, arguments), sum_) else None


def _sum(key: bytes, digest: str, job_id: str, arguments: str) -> str:
    return hmac.new(
        key, b"celery-docker image\n" + canonical([1, job_id, arguments, digest]), hashlib.sha256
    ).hexdigest()
