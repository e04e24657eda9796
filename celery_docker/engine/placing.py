"""Script, standard input and scratch folder of a job: put into its container once that is made, before its start.

A part of the engine. Invariant: they go with the container. They lie in the container's own layer, or where that cannot
be changed, in a volume without a name. Must not import docker.
"""

from __future__ import annotations

import io
import tarfile
from collections.abc import Iterator
from urllib.parse import urlencode

from celery_docker.core import ownfolder
from celery_docker.core.plan import ContainerPlan
from celery_docker.engine import api

# Everybody in the container may run or read them, and nobody change them.
_SCRIPT_MODE, _STDIN_MODE = 0o555, 0o444
_FOLDER_MODE = 0o755
# Of a job's user, or of whoever runs in a container whose image says who that is.
_OWN_MODE, _OPEN_MODE = 0o700, 0o1777


def has_volume(plan: ContainerPlan) -> bool:
    """Return True if a container has a volume for what is put into it."""
    return any(mount["Target"] == ownfolder.FOLDER for mount in plan.body["HostConfig"]["Mounts"])


def place(calls: api.Calls, plan: ContainerPlan, container_id: str) -> None:
    """Put what a plan has for its container into it. Raises `HostError`."""
    archive = archive_of(plan)
    if archive is None:
        return
    # With a volume the folder is there, and nothing else can be changed.
    folder = ownfolder.FOLDER if has_volume(plan) else "/"
    answer = calls.ask("PUT", f"/containers/{container_id}/archive?{urlencode({'path': folder})}", body=archive)
    if not answer.ok:
        raise calls.refused("the job's files cannot be put into its container", answer)


def archive_of(plan: ContainerPlan) -> bytes | None:
    """Return a tar archive of what is put into a container, None where that is nothing."""
    entries = list(_entries(plan))
    if not entries:
        return None
    folder = ownfolder.FOLDER.lstrip("/")
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        if not has_volume(plan):
            tar.addfile(_folder(folder, _FOLDER_MODE))
        for entry, data in entries:
            entry.name = entry.name if has_volume(plan) else f"{folder}/{entry.name}"
            tar.addfile(entry, io.BytesIO(data))
    return buffer.getvalue()


def _entries(plan: ContainerPlan) -> Iterator[tuple[tarfile.TarInfo, bytes]]:
    texts = ((ownfolder.SCRIPT, _SCRIPT_MODE, plan.script), (ownfolder.STDIN, _STDIN_MODE, plan.stdin))
    for name, mode, text in texts:
        if text is not None:
            data = text.encode()
            yield _file(name, mode, len(data)), data
    if plan.has_scratch:
        yield _scratch(plan.body.get("User", "")), b""


def _scratch(user: str) -> tarfile.TarInfo:
    """Return the folder for a user, as `uid[:gid]`; empty: that of the image."""
    folder = _folder(ownfolder.SCRATCH, _OWN_MODE if user else _OPEN_MODE)
    uid, _, gid = user.partition(":")
    folder.uid, folder.gid = int(uid or 0), int(gid or 0)
    return folder


def _file(name: str, mode: int, size: int) -> tarfile.TarInfo:
    file = tarfile.TarInfo(name)
    file.mode, file.size = mode, size
    return file


def _folder(name: str, mode: int) -> tarfile.TarInfo:
    folder = tarfile.TarInfo(name)
    folder.type, folder.mode = tarfile.DIRTYPE, mode
    return folder
