"""Where somebody who submits jobs has the settings: the files and the environment, read in the order that counts."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from pathlib import Path

from celery_docker import clientconf, errors, settings

WORKER_FILE = "/etc/default/celery-worker"
ENVIRONMENT = "environment"


def read(environ: Mapping[str, str]) -> list[clientconf.Value]:
    """Return each setting and where it came from: the worker's file if it may be read, the client's, the environment.

    Raises `SettingsError` that names the file, or the variable and its value.
    """
    return clientconf.resolve([*_files(environ), (ENVIRONMENT, environ)])


def broker_url(environ: Mapping[str, str]) -> str:
    """Return the address of Redis; raises `SettingsError` likewise."""
    return next(one.value for one in read(environ) if one.name == "broker_url")


def _files(environ: Mapping[str, str]) -> list[tuple[str, Mapping[str, str]]]:
    layers: list[tuple[str, Mapping[str, str]]] = []
    # It may hold a password and is for the group celery alone; who is not in it has a file of its own.
    with contextlib.suppress(OSError):
        layers.append((WORKER_FILE, settings.read_assignments(Path(WORKER_FILE).read_text("utf-8", "replace"))))
    for path in (clientconf.SYSTEM_FILE, _user_file(environ)):
        text = _text(path) if path else None
        if text is not None:
            layers.append((path, clientconf.parse_file(path, text)))
    return layers


def _user_file(environ: Mapping[str, str]) -> str:
    folder = environ.get("XDG_CONFIG_HOME") or (f"{environ['HOME']}/.config" if environ.get("HOME") else "")
    return f"{folder}/{clientconf.USER_FILE}" if folder else ""


def _text(path: str) -> str | None:
    try:
        return Path(path).read_text("utf-8")
    except (FileNotFoundError, NotADirectoryError):
        return None
    except (OSError, UnicodeDecodeError) as exc:
        raise errors.SettingsError(f"{path}: cannot be read: {exc}; mend it, or its permissions") from exc
