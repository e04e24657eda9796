"""The file of the keys that sign jobs: read as soon as it changes, written whole or not at all, its rights checked."""

from __future__ import annotations

import contextlib
import grp
import os
import secrets
import stat
from dataclasses import dataclass, field
from pathlib import Path

from celery_docker import errors
from celery_docker.core import signingkeys
from celery_docker.core.signingkeys import Keys

_OWNER = 0
_GROUP = "celery"
_MODE = 0o640
# What chown leaves a group as it is for.
_NO_GROUP = -1
_MOST_BYTES = 65_536


@dataclass
class KeyFile:
    """The keys in one file, for any thread: a change counts from the next question on, without a restart."""

    path: str = signingkeys.FILE
    _state: object = None
    _keys: Keys | None = field(default=None, repr=False)

    def keys(self) -> Keys | None:
        """Return the keys; None where there is no file, or this user may not read it. Raises `KeysError`."""
        try:
            state = _state(os.stat(self.path))
            if state != self._state:
                # Both together, since another thread may look at the same time.
                self._keys, self._state = self._read(), state
        except (FileNotFoundError, NotADirectoryError, PermissionError):
            return None
        except OSError as exc:
            raise errors.KeysError(f"key: cannot read {self.path}: {exc.strerror}") from exc
        return self._keys

    def needed(self) -> Keys:
        """Return the keys. Raises `KeysError` with a remedy also where there are none that this user may read."""
        keys = self.keys()
        if keys is not None:
            return keys
        if os.path.lexists(self.path):
            raise errors.KeysError(
                f"key: this user may not read {self.path}; chown root:{_GROUP} {self.path}; chmod 0640 {self.path}"
            )
        raise errors.KeysError(
            f"key: there is no {self.path}; on the first host of a queue make it with: celery-docker key new; on "
            "another one bring it: celery-docker key export | ssh HOST celery-docker key import --yes"
        )

    def write(self, keys: Keys) -> None:
        """Put these keys in place of those that are there. Raises `KeysError`; the file is as before then."""
        part = f"{self.path}.part"
        try:
            try:
                _write(part, keys.text().encode())
                os.rename(part, self.path)
                _sync(os.path.dirname(self.path))
            except OSError:
                with contextlib.suppress(OSError):
                    os.unlink(part)
                raise
        except OSError as exc:
            raise errors.KeysError(f"key: cannot write {self.path}: {exc.strerror}; the keys are as before") from exc

    def problems(self) -> list[str]:
        """Return what is wrong with the owner and the mode of the file, with the remedy; it has to be there."""
        state = os.stat(self.path)
        mode, gid = stat.S_IMODE(state.st_mode), _group()
        found = []
        if state.st_uid != _OWNER or (gid != _NO_GROUP and state.st_gid not in (0, gid)):
            found.append(f"{self.path} belongs to {state.st_uid}:{state.st_gid}; chown root:{_GROUP} {self.path}")
        if mode & ~_MODE:
            found.append(
                f"{self.path} has mode {mode:04o}, and who can read it can submit jobs as anybody; "
                f"chmod 0640 {self.path}"
            )
        return found

    def _read(self) -> Keys:
        with Path(self.path).open("rb") as file:
            text = file.read(_MOST_BYTES)
        try:
            return signingkeys.parse(text)
        except ValueError as exc:
            raise errors.KeysError(f"key: {self.path} {exc}") from exc


def new() -> bytes:
    """Return a new key."""
    return secrets.token_bytes(signingkeys.KEY_BYTES)


def _state(about: os.stat_result) -> tuple[int, ...]:
    return about.st_dev, about.st_ino, about.st_size, about.st_mtime_ns, about.st_ctime_ns


def _write(path: str, text: bytes) -> None:
    with open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW, 0o600), "wb") as file:
        file.write(text)
        file.flush()
        # Others than root may give it to no group but their own.
        if os.geteuid() == 0:
            os.fchown(file.fileno(), -1, _group())
        os.fchmod(file.fileno(), _MODE)
        os.fsync(file.fileno())


def _sync(folder: str) -> None:
    number = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(number)
    finally:
        os.close(number)


def _group() -> int:
    """Return the number of the worker's group, or that of no group where there is none."""
    try:
        return grp.getgrnam(_GROUP).gr_gid
    except KeyError:
        return _NO_GROUP
