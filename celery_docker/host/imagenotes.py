"""The memory of a host's images: when each was used last, and which of them this package has pulled.

Owns the file `images.json` in the state folder, which the workers of a host share. Invariants: it is replaced whole or
not at all, and what cannot be read of it makes no image this package's: an image is forgotten rather than removed.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import logging
import os
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from threading import Lock
from typing import Any

from celery_docker.core import strictjson
from celery_docker.core.hostimages import ImageNote

log = logging.getLogger(__name__)

_MOST_BYTES = 4 * 2**20
_MOST_NAMES = 64
_EMPTY = ImageNote()


class ImageNotes:
    """The notes in one state folder, from any thread of any worker; a pull is on disk at once, a use after `save`."""

    def __init__(self, state_dir: Path) -> None:
        self._file = state_dir / "images.json"
        self._file_lock = state_dir / "images.lock"
        self._turn_lock = state_dir / "images-turn.lock"
        self._new: dict[str, ImageNote] = {}
        self._lock = Lock()

    def note_use(self, image_id: str, now_s: float) -> None:
        """Remember that a job uses an image."""
        with self._lock:
            note = self._new.get(image_id, _EMPTY)
            self._new[image_id] = replace(note, used_s=max(note.used_s, now_s))

    def note_pull(self, image_id: str, name: str, now_s: float) -> None:
        """Remember that this package has brought an image to the host, under that name."""
        with self._lock:
            note = self._new.get(image_id, _EMPTY)
            names = tuple(dict.fromkeys((*note.pulled, name)))
            self._new[image_id] = ImageNote(max(note.used_s, now_s), names)
        try:
            self.save()
        except OSError as exc:
            log.warning("cannot write %s: %s; it is tried again", self._file, exc.strerror)

    def save(self) -> None:
        """Write down what is new. Raises `OSError`; nothing is forgotten then."""
        self._merge(lambda _image_id, _note: True)

    @contextlib.contextmanager
    def turn(self, image_ids: Collection[str], listed_s: float) -> Iterator[Mapping[str, ImageNote]]:
        """Write down what is new, without the images that were gone at `listed_s`, and yield all notes.

        No other worker of this host is in here meanwhile. Raises `OSError`; nothing is forgotten then.
        """
        with _locked(self._turn_lock):
            # One that has come since is in no list yet.
            yield self._merge(lambda image_id, note: image_id in image_ids or note.used_s >= listed_s)

    def _merge(self, stays: Callable[[str, ImageNote], bool]) -> dict[str, ImageNote]:
        with _locked(self._file_lock):
            with self._lock:
                new = dict(self._new)
            before = self._read()
            merged = {key: _merged(before.get(key), new.get(key)) for key in {**before, **new}}
            notes = {image_id: note for image_id, note in merged.items() if stays(image_id, note)}
            if notes != before:
                self._write(notes)
            with self._lock:
                self._new = {key: note for key, note in self._new.items() if new.get(key) != note}
            return notes

    def _read(self) -> dict[str, ImageNote]:
        try:
            with self._file.open("rb") as file:
                text = file.read(_MOST_BYTES + 1)
        except FileNotFoundError:
            return {}
        try:
            if len(text) > _MOST_BYTES:
                raise strictjson.NotUsable("is too long")
            table = strictjson.table(text)
        except strictjson.NotUsable as exc:
            log.warning("%s %s: the images that were pulled so far are kept for good", self._file, exc)
            return {}
        return {image_id: note for image_id, value in table.items() if (note := _parsed(value)) is not None}

    def _write(self, notes: Mapping[str, ImageNote]) -> None:
        text = json.dumps({key: {"used_s": note.used_s, "pulled": list(note.pulled)} for key, note in notes.items()})
        part = self._file.with_name(f"{self._file.name}.part")
        with part.open("w") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        part.replace(self._file)


@contextlib.contextmanager
def _locked(path: Path) -> Iterator[None]:
    with path.open("a") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _merged(before: ImageNote | None, new: ImageNote | None) -> ImageNote:
    before, new = before or _EMPTY, new or _EMPTY
    names = tuple(dict.fromkeys((*before.pulled, *new.pulled)))
    return ImageNote(max(before.used_s, new.used_s), names[:_MOST_NAMES])


def _parsed(value: Any) -> ImageNote | None:
    if not isinstance(value, dict):
        return None
    used_s, pulled = value.get("used_s"), value.get("pulled")
    is_number = isinstance(used_s, int | float) and not isinstance(used_s, bool)
    names = [name for name in pulled if isinstance(name, str)] if isinstance(pulled, list) else []
    return ImageNote(float(used_s) if is_number and used_s is not None else 0.0, tuple(names))
