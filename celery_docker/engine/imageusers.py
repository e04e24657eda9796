"""The users of an image, read from a container that was made of it and has not been started.

A part of the engine. Remembers each image that it has looked at, by its id. Must not import docker.
"""

from __future__ import annotations

import base64
import binascii
import contextlib
import io
import json
import tarfile
from typing import Any
from urllib.parse import quote, urlencode

from celery_docker import errors
from celery_docker.core import imageuser
from celery_docker.engine import api

_MOST_IMAGES = 512
_MOST_BYTES = 2**20
# Go's own bits for a kind of file.
_IS_FOLDER, _IS_SYMLINK = 1 << 31, 1 << 27


class ImageUsersCache:
    """Reads and remembers the users of the images of one Docker."""

    def __init__(self, calls: api.Calls) -> None:
        self._calls = calls
        self._known: dict[str, imageuser.ImageUsers] = {}

    def look_up(self, image: str) -> tuple[str, frozenset[str]] | None:
        """Return an image's id and the names of the variables that it sets; None where Docker does not say."""
        answer = self._calls.ask("GET", f"/images/{quote(image)}/json")
        details = self._calls.parsed(answer) if answer.ok else {}
        if not details.get("Id"):
            return None
        variables = (details.get("Config") or {}).get("Env") or ()
        return str(details["Id"]), frozenset(str(text).partition("=")[0] for text in variables)

    def known(self, image_id: str) -> imageuser.ImageUsers | None:
        """Return what has been learned of an image, None before that."""
        return self._known.get(image_id)

    def learn(self, image_id: str, container_id: str) -> imageuser.ImageUsers | None:
        """Return the users of an image from a container of it; None where Docker does not show its files."""
        try:
            users = imageuser.ImageUsers(self._uids(container_id), self._has_open_tmp(container_id))
        except (errors.HostError, tarfile.TarError, ValueError, KeyError, TypeError):
            return None
        if len(self._known) >= _MOST_IMAGES:
            self._known.clear()
        self._known[image_id] = users
        return users

    def _uids(self, container_id: str) -> frozenset[int]:
        path, about = self._followed(container_id, "/etc/passwd")
        if about is None or about["mode"] & (_IS_FOLDER | _IS_SYMLINK):
            return frozenset()
        if about["size"] > _MOST_BYTES:
            raise ValueError(f"{path} is too long")
        answer = self._calls.ask("GET", _archive(container_id, path))
        with tarfile.open(fileobj=io.BytesIO(answer.body)) as tar:
            file = tar.extractfile(tar.next() or "")
            return imageuser.uids_of(file.read().decode(errors="replace") if file else "")

    def _has_open_tmp(self, container_id: str) -> bool:
        _, about = self._followed(container_id, "/tmp")  # noqa: S108  # the container's own
        return about is not None and bool(about["mode"] & _IS_FOLDER) and imageuser.is_open(about["mode"])

    def _followed(self, container_id: str, path: str) -> tuple[str, dict[str, Any] | None]:
        """Return the path that a path of a container leads to, and what Docker says of it; None: it is not there."""
        about = self._about(container_id, path)
        if about is not None and about["mode"] & _IS_SYMLINK and about.get("linkTarget"):
            path = str(about["linkTarget"])
            about = self._about(container_id, path)
        return path, about

    def _about(self, container_id: str, path: str) -> dict[str, Any] | None:
        opened = self._calls.open("HEAD", _archive(container_id, path))
        with contextlib.closing(opened):
            if opened.response.status == 404:
                return None
            header = opened.response.getheader("X-Docker-Container-Path-Stat", "")
        try:
            about: dict[str, Any] = json.loads(base64.b64decode(header))
        except binascii.Error as exc:
            raise ValueError(str(exc)) from exc
        return about


def _archive(container_id: str, path: str) -> str:
    return f"/containers/{container_id}/archive?{urlencode({'path': path})}"
