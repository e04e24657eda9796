"""Gathers the facts about files that a worker reads only when a job needs them. Changes nothing, starts nothing."""

from __future__ import annotations

import os
from collections.abc import Callable

from celery_docker.core import noticefile
from celery_docker.doctor import facts
from celery_docker.engine import credentials, faults
from celery_docker.host import secretfile

LOGIN_FILE = f"{faults.LOGIN_FOLDER}/config.json"
_MOST_BYTES = 65_536


def gather(notice_file: str = noticefile.FILE, login_file: str = LOGIN_FILE) -> tuple[facts.SecretFile, ...]:
    """Return the facts about the targets of notices and the logins to registries, as far as their files are there."""
    files = (
        _looked_at(facts.NOTICES, notice_file, _targets),
        _looked_at(facts.LOGINS, login_file, credentials.registries),
    )
    return tuple(file for file in files if file is not None)


def _looked_at(subject: str, path: str, names_in: Callable[[str], tuple[str, ...]]) -> facts.SecretFile | None:
    names: tuple[str, ...] = ()
    failure = ""
    try:
        readers = {"is_closed": secretfile.is_closed(path), "is_public": secretfile.is_public(path)}
        names = names_in(path)
    except FileNotFoundError:
        return None
    except PermissionError:
        return facts.SecretFile(subject, path, is_denied=True)
    except OSError as exc:
        return facts.SecretFile(subject, path, failure=f"cannot be read: {exc.strerror}")
    except ValueError as exc:
        failure = str(exc)
    return facts.SecretFile(subject, path, names, failure, **readers)


def _targets(path: str) -> tuple[str, ...]:
    """Return the names of the targets in a file. Raises `OSError`, and `ValueError` for what cannot be used."""
    text = secretfile.read(path, _MOST_BYTES)
    try:
        targets = noticefile.parse(text.decode())
    except UnicodeError as exc:
        raise ValueError("is not UTF-8") from exc
    for name, target in targets.items():
        if target.command and not os.access(target.command[0], os.X_OK):
            raise ValueError(f"has a command for {name} that cannot be started: {target.command[0]}")
    return tuple(targets)
