"""The archive of what is put into a container before its start."""

from __future__ import annotations

import io
import tarfile
from typing import Any

import pytest

from celery_docker.core import plan, policy
from celery_docker.core.jobspec import JobSpec
from celery_docker.engine import placing


def members(user: str | None = None, **fields: Any) -> list[tuple[str, str, int, int, bytes]]:
    """Return mode, name, uid, gid and contents of what is put into the container of a job."""
    resolved = plan.Resolved(user=user)
    made = plan.plan(
        JobSpec("busybox", **fields), job_id="j", attempt=1, host="h", resolved=resolved, policy=policy.Policy()
    )
    archive = placing.archive_of(made)
    if archive is None:
        return []
    with tarfile.open(fileobj=io.BytesIO(archive)) as tar:
        return [(("d" if m.isdir() else "-") + f"{m.mode:04o}", m.name, m.uid, m.gid, _contents(tar, m)) for m in tar]


def _contents(tar: tarfile.TarFile, member: tarfile.TarInfo) -> bytes:
    file = tar.extractfile(member)
    return b"" if file is None else file.read()


FOLDER = ("d0755", "celery-docker", 0, 0, b"")


@pytest.mark.parametrize("user", [None, "0:0", "54321:54321"])
def test_a_script_is_roots_and_everybody_may_run_it(user: str | None) -> None:
    script = "#!/bin/sh\necho ä\n"
    data = script.encode()
    assert members(user, script=script) == [FOLDER, ("-0555", "celery-docker/script", 0, 0, data)]
    assert members(user, script=script, read_only=True) == [("-0555", "script", 0, 0, data)], "the volume is the folder"


@pytest.mark.parametrize(
    ("user", "mode", "uid", "gid"),
    [(None, "d1777", 0, 0), ("0:0", "d0700", 0, 0), ("54321:100", "d0700", 54321, 100), ("7", "d0700", 7, 0)],
)
def test_a_scratch_folder_is_the_users_alone(user: str | None, mode: str, uid: int, gid: int) -> None:
    """Without a user it is the image's that runs, whom nobody knows before."""
    assert members(user, scratch=True) == [FOLDER, (mode, "celery-docker/scratch", uid, gid, b"")]
    assert members(user, scratch=True, read_only=True) == [(mode, "scratch", uid, gid, b"")]
    assert [name for _, name, *_ in members(user, scratch=True, script="true", read_only=True)] == ["script", "scratch"]


def test_the_standard_input_is_kept_byte_for_byte() -> None:
    text = "\ufeffa\r\n\0\r\x1b ä 漢"
    assert members("54321:54321", stdin=text) == [FOLDER, ("-0444", "celery-docker/stdin", 0, 0, text.encode())]
    assert members(stdin="", read_only=True) == [("-0444", "stdin", 0, 0, b"")]


def test_most_jobs_have_nothing() -> None:
    assert members() == members(scratch=False) == []
    assert members("54321:54321", read_only=True, tmpfs={"/a": ""}) == []
