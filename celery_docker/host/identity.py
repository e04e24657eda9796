"""Identity of this worker: nobody else may work under its name on this machine, and other machines can tell it apart.

Owns the lock file, the machine's id, and the note of what the last process worked with. The kernel lets go of the lock
when the process ends, however it ends.
"""

from __future__ import annotations

import fcntl
import json
import os
import uuid
from dataclasses import asdict, fields
from pathlib import Path
from typing import IO

from celery_docker import errors
from celery_docker.core.fixedsettings import Fixed

_MACHINE_ID = Path("/etc/machine-id")


def hold(state_dir: Path, name: str) -> IO[str]:
    """Lock a worker's name for as long as the returned file is open.

    Raises `IdentityTaken` while another process on this machine has it, `HostError` where the lock cannot be written.
    """
    path = state_dir / f"{name}.lock"
    try:
        state_dir.mkdir(parents=True, exist_ok=True)
        file = path.open("a")
    except OSError as exc:
        raise errors.HostError(f"cannot write {path}: {exc.strerror}; make its folder writable") from exc
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as exc:
        file.close()
        raise errors.IdentityTaken(
            f"another worker on this machine works under the name {name} (lock {path}); "
            "give one of them another name: CELERY_DOCKER_OPTS=-n NAME"
        ) from exc
    return file


def last(state_dir: Path, unit: str) -> Fixed | None:
    """Return what the last worker of a service worked with; None if nobody knows."""
    try:
        values = json.loads(_last_file(state_dir, unit).read_text())
        return Fixed(*(str(values[field.name]) for field in fields(Fixed)))
    except (OSError, ValueError, TypeError, KeyError):
        return None


def remember(state_dir: Path, unit: str, fixed: Fixed) -> None:
    """Keep what this service's worker works with for the next one. Raises `HostError` where that cannot be written.

    There may be a password in it: nobody else may read the file.
    """
    path = _last_file(state_dir, unit)
    part = path.with_suffix(".part")
    try:
        part.unlink(missing_ok=True)
        with open(part, "x", opener=_private) as file:  # Path.open takes no opener
            json.dump(asdict(fixed), file)
        part.rename(path)
    except OSError as exc:
        raise errors.HostError(f"cannot write {path}: {exc.strerror}; make its folder writable") from exc


def _private(path: str, flags: int) -> int:
    return os.open(path, flags, 0o600)


def _last_file(state_dir: Path, unit: str) -> Path:
    """Return the file of a service's own: two workers of one machine may share the folder."""
    return state_dir / f"{unit}.last"


def machine(state_dir: Path, source: Path = _MACHINE_ID) -> str:
    """Return the machine's id; where it has none, one that is made once and kept in the worker's own folder.

    Raises `HostError` where it can be neither read nor kept.
    """
    id_file = state_dir / "machine-id"
    for path in (source, id_file):
        try:
            if text := path.read_text().strip():
                return text
        except OSError:
            continue
    machine_id = uuid.uuid4().hex
    try:
        state_dir.mkdir(parents=True, exist_ok=True)
        id_file.write_text(f"{machine_id}\n")
    except OSError as exc:
        raise errors.HostError(f"cannot write {id_file}: {exc.strerror}; make its folder writable") from exc
    return machine_id
