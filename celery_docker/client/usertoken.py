"""The token with which a user of another host asks: from the environment, or from a file that is his alone.

Invariant: it stands in no argument of a command, and nothing shows it.
"""

from __future__ import annotations

import codecs
import os
import stat
from collections.abc import Mapping
from dataclasses import dataclass, field

from celery_docker import errors
from celery_docker.client import configfiles
from celery_docker.core import settings, tokens

VARIABLE = f"{settings.PREFIX}TOKEN"
_MOST_BYTES = 1000


@dataclass(frozen=True)
class UserToken:
    """A token, and where it comes from."""

    secret: str = field(repr=False)
    source: str


def read(environ: Mapping[str, str]) -> UserToken:
    """Return the token of whoever asks. Raises `SettingsError` with the remedy, and never with a token."""
    given = environ.get(VARIABLE, "").strip()
    if given:
        return _checked(given, configfiles.ENVIRONMENT, VARIABLE)
    path = configfiles.token_file(environ)
    if not path:
        raise errors.SettingsError(
            f"there is no token: set {VARIABLE}, or {VARIABLE}_FILE to a file that has it, as the administrator made it"
        )
    return _checked(_text(path).strip(), path, path)


def _checked(text: str, source: str, name: str) -> UserToken:
    if not tokens.is_token(text):
        raise errors.SettingsError(f"{name}: this is no token as celery-docker token add prints it; copy all of it")
    return UserToken(text, source)


def _text(path: str) -> str:
    try:
        with open(path, "rb") as file:
            about = os.fstat(file.fileno())
            text = file.read(_MOST_BYTES)
    except FileNotFoundError:
        raise errors.SettingsError(
            f"there is no token: put the one that the administrator made into {path}, with mode 0600, or set {VARIABLE}"
        ) from None
    except OSError as exc:
        raise errors.SettingsError(f"cannot read the token in {path}: {exc.strerror}; make it a file of yours") from exc
    mode = stat.S_IMODE(about.st_mode)
    # A group may read what a service manager hands over, as root's.
    if mode & 0o007 or (about.st_uid == os.geteuid() and mode & 0o070):
        raise errors.SettingsError(
            f"{path} has mode {mode:04o}, so others can use the token in it; chmod 0600 {path}, and have it replaced "
            "if somebody has read it"
        )
    if text.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        raise errors.SettingsError(f"{path}: it is UTF-16 text, as Windows writes 'Unicode'; save it as UTF-8")
    return text.removeprefix(codecs.BOM_UTF8).decode("latin-1")
