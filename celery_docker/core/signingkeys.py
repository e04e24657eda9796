"""The keys that sign jobs: the text of their file, and the steps of a change. Pure.

Invariant: at most two keys are valid, one of them signs, and no text that was cut off is read as a key.
"""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass

from celery_docker import errors

FILE = "/etc/celery-docker/key"
KEY_BYTES = 32
_SIGNS, _OLD, _COMING = "signs", "old", "next"
_LINE = re.compile(rf"(signs|old|next) ([0-9a-f]{{{2 * KEY_BYTES}}})", re.ASCII)
_HEAD = (
    "# The keys that sign the jobs of this queue, the same on all of its hosts. Whoever can read this\n"
    "# file can submit jobs as anybody. To change it: celery-docker key --help\n"
)
_MOST_BYTES = 4096


def key_id(key: bytes) -> str:
    """Return the fingerprint of a key, by which a signature names it."""
    return hashlib.sha256(b"celery-docker key\n" + key).hexdigest()[:16]


@dataclass(frozen=True)
class Keys:
    """The valid keys: the one that signs, and during a change the one before it (`old`) or after it (`coming`)."""

    signing: bytes
    old: bytes | None = None
    coming: bytes | None = None

    def find(self, wanted: str) -> bytes | None:
        """Return the key with this fingerprint; None where none has it."""
        return next((key for key in self.valid if key_id(key) == wanted), None)

    @property
    def valid(self) -> tuple[bytes, ...]:
        """The keys with which a job may be signed, the one that signs here first."""
        return tuple(key for _, key in self.roles)

    @property
    def roles(self) -> tuple[tuple[str, bytes], ...]:
        """The valid keys, each with its word in the file."""
        pairs = ((_SIGNS, self.signing), (_OLD, self.old), (_COMING, self.coming))
        return tuple((role, key) for role, key in pairs if key is not None)

    def text(self) -> str:
        """Return the text of a file of these keys."""
        return _HEAD + "".join(f"{role} {key.hex()}\n" for role, key in self.roles)

    def renewed(self, key: bytes) -> Keys:
        """Return the keys once this one signs; the one that has signed so far is valid still."""
        self._check_no_change()
        return Keys(key, old=self.signing)

    def prepared(self, key: bytes) -> Keys:
        """Return the keys with a new one that is valid and does not sign yet."""
        self._check_no_change()
        return Keys(self.signing, coming=key)

    def switched(self) -> Keys:
        """Return the keys once the one that was prepared signs."""
        if self.coming is None:
            raise errors.UsageError("key use: no key is prepared; make one with: celery-docker key prepare")
        return Keys(self.coming, old=self.signing)

    def without_old(self) -> Keys:
        """Return the keys without the one that does not sign any more."""
        if self.old is None:
            raise errors.UsageError("key drop-old: there is no old key")
        return Keys(self.signing)

    def _check_no_change(self) -> None:
        if self.old is not None:
            raise errors.UsageError(
                "key: a change is under way; end it first, once no job waits that the old key has signed: "
                "celery-docker key drop-old"
            )
        if self.coming is not None:
            raise errors.UsageError("key: a key is prepared already; let it sign: celery-docker key use")


def parse(text: bytes) -> Keys:
    """Return the keys in the text of a file. Raises `ValueError` with the line and the remedy, never with a key."""
    if len(text) > _MOST_BYTES:
        raise ValueError("is too long for a file of keys")
    found: dict[str, bytes] = {}
    lines = text.split(b"\n")
    if lines.pop():
        raise ValueError(f"is cut off in line {len(lines) + 1}; {_REMEDY}")
    for number, line in enumerate(lines, 1):
        words = line.decode("ascii", "replace").strip()
        if not words or words.startswith("#"):
            continue
        match = _LINE.fullmatch(words)
        if match is None or match[1] in found:
            raise ValueError(f"line {number} is not one of 'signs', 'old' and 'next' with a key, once each; {_REMEDY}")
        found[match[1]] = bytes.fromhex(match[2])
    if _SIGNS not in found:
        raise ValueError(f"has no key that signs; {_REMEDY}")
    if len(found) > 2 or len(set(found.values())) != len(found):
        raise ValueError(f"has more than two keys, or one twice; {_REMEDY}")
    return Keys(found[_SIGNS], found.get(_OLD), found.get(_COMING))


_REMEDY = "bring it from another host: celery-docker key export | ssh HOST celery-docker key import --yes"
