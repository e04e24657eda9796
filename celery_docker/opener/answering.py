"""The answers to the questions of `host.opener`: pin a job's folders, look at devices, open a log, let go of pins.

Each is made in steps, which say what has to be readable for the next.
"""

from __future__ import annotations

import errno
import functools
import os
import socket
import stat
from collections.abc import Generator, Iterable, Mapping
from dataclasses import asdict
from typing import Any

from celery_docker.core import kinds
from celery_docker.core.access import Identity
from celery_docker.host import devices, paths
from celery_docker.opener import opening
from celery_docker.opener.asuser import Asked, Question
from celery_docker.opener.pins import Pins

_DENIED = (errno.EACCES, errno.EPERM)

Said = dict[str, Any]
# What is said, with the descriptors that go with it.
Answer = Generator[socket.socket, None, tuple[Said, list[int]]]


def answered(question: Mapping[str, Any], pins: Pins) -> Answer:
    """Answer a question. Raises `OSError`, and whatever one that is none leads to."""
    if question["question"] == "log":
        return (yield from _log(question))
    if question["question"] == "devices":
        return {"devices": {path: _device(path) for path in question["paths"]}}, []
    worker = str(question["worker"])
    if worker in ("", ".", "..") or "/" in worker:
        raise OSError(0, f"{worker!r} is no name of a worker")
    if question["question"] == "keep":
        pins.keep(worker, question["jobs"])
        return {}, []
    job_id = kinds.parse_job_id(question["job"])
    if question["question"] == "release":
        pins.release(worker, job_id)
        return {}, []
    return (yield from _pin(question, worker, job_id, pins)), []


def _pin(question: Mapping[str, Any], worker: str, job_id: str, pins: Pins) -> Generator[socket.socket, None, Said]:
    mounts, logs = _mounts(question), question["logs"].items()
    roots, log_roots = question["roots"], question["log_roots"]
    questions: dict[str, Question] = {
        name: functools.partial(opening.open_mount, mount["path"], roots) for name, mount in mounts.items()
    }
    # No log is made before the policy has judged.
    questions |= {name: functools.partial(paths.follow, path, log_roots, must_exist=False) for name, path in logs}
    with Asked(_identity(question["user"]), questions) as asked:
        places, opened = yield from asked.answers()
    folders = [name for name, place in places.items() if place.get("is_folder")]
    read_only = [name for name, mount in mounts.items() if mount["read_only"]]
    try:
        pinned = pins.pin(worker, job_id, opened, folders=folders, read_only=read_only) if opened else {}
    finally:
        close(opened.values())
    return {"places": places, "pins": pinned}


def _device(path: str) -> Said:
    """Look at a device with root's rights: what others may learn of the host's /dev, its policy says."""
    try:
        return asdict(devices.place(path))
    except OSError as exc:
        return {"errno": exc.errno}


def _mounts(question: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """Return the path of each mount, and whether it is read-only; a worker of the previous version has no `folders`."""
    if "folders" in question:
        return dict(question["folders"])
    return {name: {"path": path, "read_only": name == "inputpath"} for name, path in question["mounts"].items()}


def _log(question: Mapping[str, Any]) -> Answer:
    user, worker = _identity(question["user"]), _identity(question["worker"])
    place, opened = yield from _opened_log(user, question)
    if place.get("errno") in _DENIED:
        place, opened = yield from _opened_log(worker, question)
        for descriptor in opened:
            _hand_over(descriptor, worker, user)
    return {"place": place}, opened


def _opened_log(user: Identity, question: Mapping[str, Any]) -> Answer:
    with Asked(user, {"log": functools.partial(opening.open_log, question["path"])}) as asked:
        places, opened = yield from asked.answers()
    return places["log"], list(opened.values())


def _hand_over(descriptor: int, worker: Identity, user: Identity) -> None:
    """Give a log of the worker's to the job's user; root needs none, and one that is somebody else's stays so."""
    about = os.fstat(descriptor)
    if user.uid and about.st_uid == worker.uid and stat.S_ISREG(about.st_mode) and about.st_nlink == 1:
        os.fchown(descriptor, user.uid, user.gid)


def _identity(said: Mapping[str, Any]) -> Identity:
    return Identity(said["name"], said["uid"], said["gid"], tuple(said["groups"]))


def close(descriptors: Iterable[int]) -> None:
    """Close descriptors."""
    for descriptor in descriptors:
        os.close(descriptor)
