"""The worker's side of celery-docker-open, which opens the paths of a job as its user and pins them for Docker.

One question is one connection; each may be asked again. A job without paths asks none.
"""

from __future__ import annotations

import errno
import json
import logging
import os
import socket
from collections.abc import Collection, Mapping
from dataclasses import asdict, dataclass, field
from threading import Lock
from typing import Any

from celery_docker import errors
from celery_docker.core import jobspec, policy
from celery_docker.core.access import Identity
from celery_docker.core.found import Found, Look
from celery_docker.host import devices, paths, resolver

log = logging.getLogger(__name__)

SOCKET = "/run/celery-docker/open.sock"
_REMEDY = "systemctl restart celery-docker-open.socket"
# More than the other side gives itself.
_TIMEOUT_S = 90
# It may be killed in the middle.
_TRIES = 3
_ROOT = Identity("root", 0, 0, ())


@dataclass
class Opener:
    """Asks for the paths of one worker's jobs, from any thread; `socket_path` is where the other side listens."""

    socket_path: str
    worker: str
    _kept: set[str] = field(default_factory=set)
    _lock: Lock = field(default_factory=Lock)

    def pin(self, job_id: str, spec: jobspec.JobSpec, rules: policy.Policy, user: Identity | None) -> Found:
        """Pin the folders of a job, as its user opens them, until they are released. Raises `HostError`.

        `user` None is root.
        """
        if not spec.host_mounts and not spec.log_files:
            return Found(resolver.follow, {})
        with self._lock:
            self._kept.discard(job_id)
        answer, _ = self._ask(
            question="pin",
            worker=self.worker,
            job=job_id,
            user=asdict(user or _ROOT),
            **_folders(spec),
            roots=rules.mounts,
            logs=spec.log_files,
            log_roots=rules.mounts + rules.logs,
        )
        return Found(lambda name, path, _: _place(answer["places"][name], path), answer["pins"])

    def look(self, device_paths: Collection[str]) -> Look:
        """Return what answers as `devices.look` does for devices of the host's own /dev. Raises `HostError`."""
        if not device_paths:
            return devices.look
        answer, _ = self._ask(question="devices", paths=sorted(device_paths))
        return lambda path: devices.node(_device(answer["devices"][path], path))

    def open_log(self, path: str, user: Identity | None) -> int:
        """Open a log file as the user of a job, to append to; it and its folders are made, and none may be a link.

        Where that user may not, the worker's opens it, such as in a folder that is made for logs. A file that it owns
        then becomes the job's user's. Raises `OSError` and `HostError`.
        """
        own = resolver.own_identity()
        answer, descriptors = self._ask(question="log", path=path, user=asdict(user or own), worker=asdict(own))
        _place(answer["place"], path)
        if not descriptors:  # the kernel drops what this process has no room for
            raise OSError(errno.EMFILE, os.strerror(errno.EMFILE), path)
        return descriptors[0]

    def release(self, job_id: str) -> None:
        """Let go of the pins of a job; where nobody answers, that is done with the next job's."""
        try:
            self._ask(question="release", worker=self.worker, job=job_id)
            # Within the lock, so that no job that is pinned again meanwhile loses its new pins.
            with self._lock:
                for each in tuple(self._kept):
                    self._ask(question="release", worker=self.worker, job=each)
                    self._kept.discard(each)
        except errors.HostError as exc:
            with self._lock:
                self._kept.add(job_id)
            log.warning("the pins of a job stay for now: %s", exc, extra={"job": job_id})

    def keep(self, job_ids: Collection[str]) -> None:
        """Let go of what earlier processes have pinned for other jobs than these."""
        try:
            self._ask(question="keep", worker=self.worker, jobs=sorted(job_ids))
        except errors.HostError as exc:
            log.warning("%s", exc)

    def _ask(self, **question: Any) -> tuple[dict[str, Any], list[int]]:
        text = json.dumps(question).encode()
        for _ in range(_TRIES):
            answer, descriptors = self._exchange(text)
            said = _whole(answer)
            if said is not None:
                break
            for descriptor in descriptors:
                os.close(descriptor)
        else:
            raise errors.HostError(f"celery-docker-open ends without an answer; look at: {_REMEDY}")
        if "failure" in said:
            raise errors.HostError(f"celery-docker-open: {said['failure']}")
        return said, descriptors

    def _exchange(self, text: bytes) -> tuple[bytes, list[int]]:
        try:
            with socket.socket(socket.AF_UNIX) as link:
                link.settimeout(_TIMEOUT_S)
                link.connect(self.socket_path)
                return _sent(link, text)
        except (BrokenPipeError, ConnectionResetError):
            return b"", []
        except OSError as exc:
            reason = exc.strerror or "it does not answer in time"
            raise errors.HostError(f"celery-docker-open ({self.socket_path}): {reason}; try: {_REMEDY}") from exc


def _sent(link: socket.socket, text: bytes) -> tuple[bytes, list[int]]:
    link.sendall(text)
    link.shutdown(socket.SHUT_WR)
    answer, descriptors, *_ = socket.recv_fds(link, 65536, 1)
    while answer and (piece := link.recv(65536)):
        answer += piece
    return answer, descriptors


def _whole(answer: bytes) -> dict[str, Any] | None:
    """Return what an answer says; None for one that was cut off, as where the other side was killed in the middle."""
    try:
        said: dict[str, Any] = json.loads(answer)
    except ValueError:
        return None
    return said


def _place(answer: Mapping[str, Any], path: str) -> str:
    if "exit" in answer:
        raise paths.Outside(answer["exit"])
    if "errno" in answer:
        raise OSError(answer["errno"], os.strerror(answer["errno"] or errno.EIO), path)
    return str(answer["real"])


def _device(answer: Mapping[str, Any], path: str) -> devices.Place:
    if "errno" in answer:
        raise OSError(answer["errno"], os.strerror(answer["errno"]), path)
    return devices.Place(answer["mode"], answer["number"], answer["is_swappable"])


def _folders(spec: jobspec.JobSpec) -> dict[str, Any]:
    """Return the part of a question that names what is to be pinned.

    An opener of the previous version pins all but the inputpath writable. It cannot read `folders`, so that a job with
    further mounts waits until its next process runs.
    """
    if spec.mounts is None:
        return {"mounts": spec.host_sources}
    mounts = spec.host_mounts.items()
    return {"folders": {name: {"path": mount.source, "read_only": mount.is_read_only} for name, mount in mounts}}
