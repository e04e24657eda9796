"""The pins: what jobs have mounted, each under PINS/WORKER/JOB/NAME, where Docker finds it and nobody can swap it.

PINS is a small file system in memory, which only root may enter: beneath a pin lies what its user alone may reach.
Where it cannot be seen, such as by a Docker in a mount namespace of its own, a path in it does not exist, and the start
of the container fails; the folder of a pin alone would be an empty input. Invariant: nothing is removed but mounts that
lie in it, and names of folders and files that are empty.
"""

from __future__ import annotations

import contextlib
import errno
import os
from collections.abc import Collection, Mapping
from pathlib import Path

from celery_docker.opener import kernel

_FOLDER_FLAGS = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


class Pins:
    """The pins of one host; `folder` is PINS."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def prepare(self) -> None:
        """Make and mount the folder, unless an earlier process has. Raises `OSError`."""
        self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        if not self.folder.is_mount():
            kernel.mount_memory(str(self.folder))

    def pin(
        self,
        worker: str,
        job_id: str,
        opened: Mapping[str, int],
        *,
        folders: Collection[str],
        read_only: Collection[str],
    ) -> dict[str, str]:
        """Mount what was opened for a job, each under its name, and return the paths; earlier pins of it go.

        `folders` names those that are no files. Raises `OSError`; nothing is pinned then.
        """
        self.release(worker, job_id)
        place = self.folder / worker / job_id
        try:
            place.mkdir(parents=True, exist_ok=True)
            _mount_all(place, opened, folders, read_only)
        except OSError as exc:
            self.release(worker, job_id)
            raise OSError(exc.errno, f"cannot mount in {self.folder}: {exc.strerror}") from exc
        return {name: str(place / name) for name in opened}

    def release(self, worker: str, job_id: str) -> None:
        """Let go of what a job has pinned; its containers keep what they have. Raises `OSError`."""
        place = self.folder / worker / job_id
        try:
            names = os.listdir(place)
        except FileNotFoundError:
            return
        for name in names:
            _remove(place / name)
        with contextlib.suppress(FileNotFoundError):
            place.rmdir()

    def keep(self, worker: str, job_ids: Collection[str]) -> None:
        """Let go of what other jobs of a worker have pinned. Raises `OSError`."""
        with contextlib.suppress(FileNotFoundError):
            for job_id in set(os.listdir(self.folder / worker)) - set(job_ids):
                self.release(worker, job_id)


def _mount_all(place: Path, opened: Mapping[str, int], folders: Collection[str], read_only: Collection[str]) -> None:
    folder = os.open(place, _FOLDER_FLAGS)
    try:
        for name, descriptor in opened.items():
            _make_place(folder, name, is_folder=name in folders)
            _mount(descriptor, folder, name, read_only=name in read_only)
    finally:
        os.close(folder)


def _make_place(folder: int, name: str, *, is_folder: bool) -> None:
    """Make what is mounted on: a file for a file."""
    if is_folder:
        os.mkdir(name, dir_fd=folder)
    else:
        os.close(os.open(name, os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, dir_fd=folder))


def _mount(descriptor: int, folder: int, name: str, *, read_only: bool) -> None:
    tree = kernel.copy_of_tree(descriptor, read_only=read_only)
    try:
        kernel.mount_tree(tree, folder, name)
    finally:
        os.close(tree)


def _remove(pin: Path) -> None:
    with contextlib.suppress(FileNotFoundError):
        try:
            # What was mounted twice at one place lies there twice.
            while True:
                kernel.unmount(str(pin))
        except OSError as exc:
            if exc.errno != errno.EINVAL:
                raise
        # Never what is in a folder: it would be the user's.
        if pin.is_dir() and not pin.is_symlink():
            pin.rmdir()
        else:
            pin.unlink()
