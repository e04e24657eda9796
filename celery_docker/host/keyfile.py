"""The file of the keys that sign jobs: read as soon as it changes, written whole or not at all, its rights checked."""

from __future__ import annotations

import os
import secrets
from dataclasses import dataclass, field

from celery_docker import errors
from celery_docker.core import signingkeys
from celery_docker.core.signingkeys import Keys
from celery_docker.host import secretfile

_MOST_BYTES = 65_536


@dataclass
class KeyFile:
    """The keys in one file, for any thread: a change counts from the next question on, without a restart."""

    path: str = signingkeys.FILE
    # The state of the file and the keys in it then, in one: two threads may look at a change at the same time.
    _kept: tuple[object, Keys | None] = field(default=(None, None), repr=False)

    def keys(self) -> Keys | None:
        """Return the keys; None where there is no file, or this user may not read it. Raises `KeysError`."""
        try:
            state = secretfile.state(self.path)
            kept = self._kept
            if state != kept[0]:
                self._kept = kept = (state, self._read())
        except (FileNotFoundError, NotADirectoryError, PermissionError):
            return None
        except OSError as exc:
            raise errors.KeysError(f"key: cannot read {self.path}: {exc.strerror}") from exc
        return kept[1]

    def needed(self) -> Keys:
        """Return the keys. Raises `KeysError` with a remedy also where there are none that this user may read."""
        keys = self.keys()
        if keys is not None:
            return keys
        if os.path.islink(self.path) and not os.path.exists(self.path):
            raise errors.KeysError(f"key: {self.path} is a link to what is not there; remove it")
        if os.path.lexists(self.path):
            raise errors.KeysError(f"key: this user may not read {self.path}; {secretfile.to_read(self.path)}")
        raise errors.KeysError(
            f"key: there is no {self.path}; on the first host of a queue make it with: celery-docker key new; on "
            "another one bring it: celery-docker key export | ssh HOST celery-docker key import --yes"
        )

    def write(self, keys: Keys) -> None:
        """Put these keys in place of those that are there. Raises `KeysError`; the file is as before then."""
        try:
            secretfile.write(self.path, keys.text().encode())
        except OSError as exc:
            raise errors.KeysError(f"key: cannot write {self.path}: {exc.strerror}; the keys are as before") from exc

    def problems(self) -> list[str]:
        """Return what is wrong with the owner and the mode of the file, with the remedy; it has to be there."""
        return secretfile.problems(self.path, "who can read it can submit jobs as anybody")

    def _read(self) -> Keys:
        text = secretfile.read(self.path, _MOST_BYTES)
        try:
            return signingkeys.parse(text)
        except ValueError as exc:
            raise errors.KeysError(f"key: {self.path} {exc}") from exc


def new() -> bytes:
    """Return a new key."""
    return secrets.token_bytes(signingkeys.KEY_BYTES)
