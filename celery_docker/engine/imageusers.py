"""Files of a container that has not been started: the users and groups of its image, and which folders are there.

A part of the engine. Remembers what it has seen of each image, by its id. Must not import docker.
"""

from __future__ import annotations

import base64
import binascii
import contextlib
import io
import json
import posixpath
import tarfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any
from urllib.parse import quote, urlencode

from celery_docker import errors
from celery_docker.core import imageuser
from celery_docker.engine import api

_MOST_IMAGES, _MOST_PLACES = 512, 8192
_MOST_BYTES = 2**20
# Go's own bits for a kind of file.
_IS_FOLDER, _IS_SYMLINK = 1 << 31, 1 << 27


@dataclass(frozen=True)
class Image:
    """An image as Docker describes it: its id, and what it says of its containers."""

    image_id: str
    variables: frozenset[str]
    workdir: str
    volumes: tuple[str, ...]
    entrypoint: tuple[str, ...]
    command: tuple[str, ...]


class ImageUsersCache:
    """Reads and remembers the users, and the places of folders, of the images of one Docker."""

    def __init__(self, calls: api.Calls) -> None:
        self._calls = calls
        self._known: dict[str, imageuser.ImageUsers] = {}
        self._places: dict[tuple[str, str, bool], str | None] = {}

    def look_up(self, image: str) -> Image | None:
        """Return what Docker says of an image; None where it does not say."""
        answer = self._calls.ask("GET", f"/images/{quote(image)}/json")
        details = self._calls.parsed(answer) if answer.ok else {}
        if not details.get("Id"):
            return None
        config = details.get("Config") or {}
        return Image(
            image_id=str(details["Id"]),
            variables=frozenset(str(text).partition("=")[0] for text in config.get("Env") or ()),
            workdir=str(config.get("WorkingDir") or "/"),
            volumes=tuple(posixpath.normpath(str(volume)) for volume in config.get("Volumes") or ()),
            entrypoint=tuple(map(str, config.get("Entrypoint") or ())),
            command=tuple(map(str, config.get("Cmd") or ())),
        )

    def known(self, image_id: str) -> imageuser.ImageUsers | None:
        """Return what has been learned of an image, None before that."""
        return self._known.get(image_id)

    def learn(self, image_id: str, container_id: str) -> imageuser.ImageUsers | None:
        """Return the users of an image from a container of it; None where Docker does not show its files.

        Raises `HostError` where Docker does not answer.
        """
        try:
            users = imageuser.ImageUsers(
                imageuser.uids_of(self._text(container_id, "/etc/passwd")),
                self._has_open_tmp(container_id),
                imageuser.false_gids_of(self._text(container_id, "/etc/group")),
            )
        except (tarfile.TarError, ValueError, KeyError, TypeError):
            return None
        if len(self._known) >= _MOST_IMAGES:
            self._known.clear()
        self._known[image_id] = users
        return users

    def place(self, image_id: str, path: str, looked_at: Callable[[], str], *, must_exist: bool) -> str | None:
        """Return where a path of an image leads, without links; None where a file, or a circle of links, is before it.

        None too for one that is not there and `must_exist`. `looked_at` returns the id of a container of the image in
        which nothing is mounted. Raises `HostError` where Docker does not answer.
        """
        known, key = self._places, (image_id, path, must_exist)
        if key in known:
            return known[key]
        place, is_there = self._followed_all(looked_at(), path)
        if len(known) >= _MOST_PLACES:
            known = self._places = {}
        known[key] = place if is_there or not must_exist else None
        return known[key]

    def _followed_all(self, container_id: str, path: str) -> tuple[str | None, bool]:
        """Return where a path leads, or None, and whether it is there."""
        place, is_there, is_file = "/", True, False
        for name in PurePosixPath(posixpath.normpath(path)).parts[1:]:
            if is_file:
                return None, False
            place = posixpath.join(place, name)
            try:
                about = self._about(container_id, place) if is_there else None
                if about is not None and about["mode"] & _IS_SYMLINK:
                    place = posixpath.normpath(posixpath.join("/", about.get("linkTarget") or place))
                    about = self._about(container_id, place)
            except ValueError:  # Docker cannot tell
                return None, False
            if about is not None and about["mode"] & _IS_SYMLINK:
                return None, False
            is_there, is_file = about is not None, about is not None and not about["mode"] & _IS_FOLDER
        return place, is_there

    def is_missing(self, container_id: str, path: str) -> bool:
        """Return True where a path of a container, with all that is mounted in it, leads to nothing.

        What is a file, or a link in a circle, is not missing. Raises `HostError` where Docker does not answer.
        """
        with contextlib.closing(self._calls.open("HEAD", _archive(container_id, f"{path.rstrip('/')}/."))) as opened:
            is_missing = opened.response.status == 404
        if is_missing:
            self._check_there(container_id)
        return is_missing

    def obstacle(self, container_id: str, path: str, *, must_exist: bool) -> str | None:
        """Return the first of the folders of a path, itself included, that is a link or a file; None: none is.

        One that is not there is an obstacle where it `must_exist`. No link is followed. Raises `HostError` where Docker
        does not answer.
        """
        folders = [str(folder) for folder in (*reversed(PurePosixPath(path).parents[:-1]), path)]
        for folder in folders:
            try:
                about = self._about(container_id, folder)
            except ValueError:  # Docker cannot tell
                return folder
            if about is None:
                return folder if must_exist else None
            if not about["mode"] & _IS_FOLDER or about.get("linkTarget") not in (None, "", folder):
                return folder
        return None

    def has(self, container_id: str, path: str) -> bool:
        """Return True if there is something at a path, a link that leads nowhere too, but none in a circle.

        Raises `HostError` where Docker does not answer.
        """
        try:
            return self._about(container_id, path) is not None
        except ValueError:  # Docker cannot tell
            return False

    def is_of(self, image: str, platform: str) -> bool:
        """Return True if an image is here, and of that platform; Podman takes one of any."""
        answer = self._calls.ask("GET", f"/images/{quote(image)}/json")
        details = self._calls.parsed(answer) if answer.ok else {}
        parts = [details.get(name) or "" for name in ("Os", "Architecture", "Variant")]
        return [*platform.split("/"), parts[2]][:3] == parts

    def _text(self, container_id: str, path: str) -> str:
        """Return the text of a file, empty where there is none."""
        path, about = self._followed(container_id, path)
        if about is None or about["mode"] & _IS_FOLDER:
            return ""
        if about["mode"] & _IS_SYMLINK or about["size"] > _MOST_BYTES:
            raise ValueError(f"{path} leads nowhere, or is too long")
        answer = self._calls.ask("GET", _archive(container_id, path))
        if not answer.ok:
            self._check_there(container_id)
        with tarfile.open(fileobj=io.BytesIO(answer.body)) as tar:
            file = tar.extractfile(tar.next() or "")
            return file.read().decode(errors="replace") if file else ""

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
            status = opened.response.status
            header = opened.response.getheader("X-Docker-Container-Path-Stat", "")
        if status >= 400:
            self._check_there(container_id)
        if status == 404:
            return None
        try:
            about: dict[str, Any] = json.loads(base64.b64decode(header))
        except binascii.Error as exc:
            raise ValueError(str(exc)) from exc
        return about

    def _check_there(self, container_id: str) -> None:
        """Raise `HostError` for a container that somebody else has removed: Docker has 404 for all of its files then.

        A prune does, and the files would count as missing in the image, for all of its later jobs too.
        """
        if self._calls.ask("GET", f"/containers/{container_id}/json").status == 404:
            raise errors.HostError("somebody else removed its container before it was started")


def _archive(container_id: str, path: str) -> str:
    return f"/containers/{container_id}/archive?{urlencode({'path': path})}"
