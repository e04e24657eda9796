"""The log files of a job: every byte of each stream exactly once, whatever was killed at whatever instant."""

from __future__ import annotations

import errno
import fcntl
import os
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from celery_docker import errors
from celery_docker.core.container import Frame, Stream
from celery_docker.core.output import Break, Gap
from celery_docker.host.logfiles import LogFiles
from tests.fakes.opener import OwnKeeper

OUT, ERR = Stream.STDOUT, Stream.STDERR
JOB = "j1"


class Killed(BaseException):
    """The process is gone: nothing after this line is executed."""


@pytest.fixture
def keeper(tmp_path: Path) -> OwnKeeper:
    return OwnKeeper(tmp_path / "state")


@pytest.fixture
def out(tmp_path: Path) -> str:
    return str(tmp_path / "logs" / "out.log")


@pytest.fixture
def err(tmp_path: Path) -> str:
    return str(tmp_path / "logs" / "err.log")


def content(path: str) -> bytes:
    return Path(path).read_bytes()


def open_files() -> int:
    return len(os.listdir("/proc/self/fd"))


# An ordinary job


def test_each_stream_has_its_file(keeper: OwnKeeper, out: str, err: str) -> None:
    with keeper.open(JOB, 1, out, err) as files:
        for frame in (Frame(OUT, b"a\n"), Frame(ERR, b"b\n"), Frame(OUT, b"c\n")):
            files.write(frame)
        assert content(out) == b"a\nc\n", "written as it comes, not at the end"
    assert content(err) == b"b\n"


@pytest.mark.parametrize("named_twice", [False, True], ids=["only logoutfile", "the same file twice"])
def test_both_streams_share_one_file(keeper: OwnKeeper, out: str, named_twice: bool) -> None:
    with keeper.open(JOB, 1, out, out if named_twice else None) as files:
        for frame in (Frame(OUT, b"a\n"), Frame(ERR, b"b\n"), Frame(OUT, b"c\n")):
            files.write(frame)
    assert content(out) == b"a\nb\nc\n"


def test_only_the_error_stream_has_a_file(keeper: OwnKeeper, err: str) -> None:
    with keeper.open(JOB, 1, None, err) as files:
        files.write(Frame(OUT, b"a\n"))
        files.write(Frame(ERR, b"b\n"))
    assert content(err) == b"b\n"


def test_a_job_without_log_files(keeper: OwnKeeper) -> None:
    with keeper.open(JOB, 1, None, None) as files:
        files.write(Frame(OUT, b"a\n"))
    with keeper.resume(JOB, 1, None, None) as files:
        files.write(Frame(OUT, b"a\n"))


def test_the_folder_is_made(keeper: OwnKeeper, tmp_path: Path) -> None:
    path = tmp_path / "a" / "b" / "c.log"
    keeper.open(JOB, 1, str(path), None).close()
    assert path.read_bytes() == b""


def test_a_new_job_starts_its_files_anew(keeper: OwnKeeper, out: str, err: str) -> None:
    for text in (b"yesterday's, and longer\n", b"today's\n"):
        with keeper.open(JOB, 1, out, err) as files:
            files.write(Frame(OUT, text))
            files.write(Frame(ERR, text))
    assert content(out) == content(err) == b"today's\n"


def test_a_second_attempt_goes_on_behind_the_first(keeper: OwnKeeper, out: str, err: str) -> None:
    for attempt in (1, 2):
        with keeper.open(JOB, attempt, out, err) as files:
            files.write(Frame(OUT, b"attempt %d\n" % attempt))
    assert content(out) == b"attempt 1\nattempt 2\n"


def test_others_may_read_a_log_and_not_write_it(keeper: OwnKeeper, out: str) -> None:
    keeper.open(JOB, 1, out, None).close()
    assert stat.S_IMODE(os.stat(out).st_mode) & 0o133 == 0


def test_forget_leaves_nothing_behind(keeper: OwnKeeper, out: str) -> None:
    keeper.open(JOB, 1, out, None).close()
    keeper.forget(JOB)
    keeper.forget(JOB)
    assert list(keeper.state_dir.iterdir()) == []


# Where it can be killed: after each system call that writes, and in the middle of each.

FRAMES = [
    Frame(OUT, b"one "),
    Frame(OUT, b"two "),
    Frame(ERR, b"THREE "),
    Frame(OUT, b"four "),
    Frame(ERR, b"FIVE "),
    Frame(ERR, b"SIX "),
    Frame(OUT, b"seven "),
]
STDOUT = b"".join(frame.payload for frame in FRAMES if frame.stream is OUT)
STDERR = b"".join(frame.payload for frame in FRAMES if frame.stream is ERR)


def kill_at(monkeypatch: pytest.MonkeyPatch, call: str, number: int, written: float) -> None:
    """Let the process die in the given call of `os.write` or `os.pwrite`, after that share of its bytes."""
    real: Callable[..., int] = getattr(os, call)
    count = 0

    def dying(file: int, data: Any, *offset: int) -> int:
        nonlocal count
        count += 1
        if count == number:
            part = bytes(data)[: int(len(data) * written)]
            if part:
                real(file, part, *offset)
            raise Killed
        return real(file, data, *offset)

    monkeypatch.setattr(os, call, dying)


def run_until_killed(files: LogFiles, frames: list[Frame]) -> None:
    try:
        for frame in frames:
            files.write(frame)
    except Killed:
        pass
    finally:
        files.close()


@pytest.mark.parametrize("shared", [False, True], ids=["two files", "one file"])
@pytest.mark.parametrize("attempt", [1, 2])
# A note of 48 bytes is written whole or not at all; a piece of log may be cut anywhere.
@pytest.mark.parametrize(
    ("call", "written"), [("write", 0.0), ("write", 0.5), ("write", 1.0), ("pwrite", 0.0), ("pwrite", 1.0)]
)
@pytest.mark.parametrize("number", range(1, len(FRAMES) + 1))
def test_a_kill_at_any_write_loses_and_doubles_nothing(
    monkeypatch: pytest.MonkeyPatch,
    keeper: OwnKeeper,
    out: str,
    err: str,
    shared: bool,
    attempt: int,
    call: str,
    written: float,
    number: int,
) -> None:
    """The container's own log is replayed from its beginning; the files go on where they stopped."""
    paths = (out, None if shared else err)
    before = b"" if attempt == 1 else b"earlier "
    if before:
        with keeper.open(JOB, 1, *paths) as files:
            files.write(Frame(OUT, before))
    files = keeper.open(JOB, attempt, *paths)
    with monkeypatch.context() as patch:
        kill_at(patch, call, number, written)
        run_until_killed(files, FRAMES)
    with keeper.resume(JOB, attempt, *paths) as files:
        for frame in FRAMES:
            files.write(frame)
    if shared:
        assert each_once(content(out).removeprefix(before), STDOUT, STDERR)
    else:
        assert (content(out), content(err)) == (before + STDOUT, STDERR)


def each_once(mixed: bytes, stdout: bytes, stderr: bytes) -> bool:
    """Say whether a shared file holds both streams whole: small letters are stdout's, capitals stderr's.

    Blanks end words; a kill may have left the rest of a word behind the other stream's.
    """
    capitals = bytes(byte for byte in mixed if 65 <= byte <= 90)
    small = bytes(byte for byte in mixed if 97 <= byte <= 122)
    return (
        capitals == stderr.replace(b" ", b"")
        and small == stdout.replace(b" ", b"")
        and len(mixed) == len(stdout + stderr)
    )


frames = st.lists(st.tuples(st.booleans(), st.integers(1, 40)), max_size=12)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(frames=frames, kills=st.lists(st.integers(1, 12), max_size=3), shared=st.booleans(), chunk=st.integers(1, 50))
def test_any_number_of_kills_loses_and_doubles_nothing(
    tmp_path: Path, frames: list[tuple[bool, int]], kills: list[int], shared: bool, chunk: int
) -> None:
    """Whatever came, however often the worker died, and however differently the replay cuts the stream."""
    folder = tmp_path / str(len(list(tmp_path.iterdir())))
    keeper, out, err = OwnKeeper(folder / "state"), str(folder / "out"), str(folder / "err")
    paths = (out, None if shared else err)
    pieces = [Frame(ERR, b"E" * size) if is_err else Frame(OUT, b"o" * size) for is_err, size in frames]
    files = keeper.open(JOB, 1, *paths)
    for number in kills:
        with pytest.MonkeyPatch.context() as patch:
            kill_at(patch, "write", number, 0.5)
            run_until_killed(files, pieces)
        files = keeper.resume(JOB, 1, *paths)
        pieces = recut(pieces, chunk)
    with files:
        for piece in pieces:
            files.write(piece)
    written = content(out) if shared else content(out) + content(err)
    assert written.count(b"o") == sum(size for is_err, size in frames if not is_err)
    assert written.count(b"E") == sum(size for is_err, size in frames if is_err)


def recut(pieces: list[Frame], chunk: int) -> list[Frame]:
    """Return the same streams in other pieces, as a replay hands them out."""
    return [
        Frame(piece.stream, piece.payload[at : at + chunk])
        for piece in pieces
        for at in range(0, len(piece.payload), chunk)
    ]


def test_a_kill_before_the_first_byte(keeper: OwnKeeper, out: str, err: str) -> None:
    keeper.open(JOB, 1, out, err).close()
    with keeper.resume(JOB, 1, out, err) as files:
        files.write(Frame(OUT, b"x"))
    assert content(out) == b"x"


@pytest.mark.parametrize("shared", [False, True], ids=["two files", "one file"])
def test_without_its_note_an_attempt_is_written_again(keeper: OwnKeeper, out: str, err: str, shared: bool) -> None:
    """Somebody emptied the state folder: twice is better than not at all; a first attempt starts its file anew."""
    paths = (out, None if shared else err)
    with keeper.open(JOB, 1, *paths) as files:
        files.write(Frame(OUT, b"x"))
    keeper.forget(JOB)
    with keeper.resume(JOB, 1, *paths) as files:
        files.write(Frame(OUT, b"x"))
    assert content(out) == b"x"


def test_a_cut_note_counts_as_none(keeper: OwnKeeper, out: str) -> None:
    with keeper.open(JOB, 1, out, None) as files:
        files.write(Frame(OUT, b"x"))
    note = next(keeper.state_dir.iterdir())
    note.write_bytes(note.read_bytes()[:20])
    with keeper.resume(JOB, 1, out, None) as files:
        files.write(Frame(OUT, b"x"))
    assert content(out) == b"x"


def test_a_log_that_was_cleared_meanwhile_goes_on(keeper: OwnKeeper, out: str, err: str) -> None:
    """An administrator made room: what is gone is written again, which is more than nothing."""
    with keeper.open(JOB, 1, out, err) as files:
        files.write(Frame(OUT, b"xxx"))
    os.truncate(out, 0)
    with keeper.resume(JOB, 1, out, err) as files:
        files.write(Frame(OUT, b"xxxyy"))
    assert content(out) == b"xxxyy"


# What cannot be opened or written


def refusal(keeper: OwnKeeper, out: str | None, err: str | None = None) -> str:
    with pytest.raises(errors.RequestError) as caught:
        keeper.open(JOB, 1, out, err)
    assert len(str(caught.value).splitlines()) == 1
    return str(caught.value)


def test_a_folder_is_no_log_file(keeper: OwnKeeper, tmp_path: Path) -> None:
    assert refusal(keeper, str(tmp_path)).startswith(f"cannot write the log file {str(tmp_path)!r}: Is a directory")


def test_a_device_is_no_log_file(keeper: OwnKeeper) -> None:
    assert "'/dev/full': it is not a regular file" in refusal(keeper, "/dev/full")


def test_a_fifo_without_a_reader_does_not_hang(keeper: OwnKeeper, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo")
    assert "cannot write the log file" in refusal(keeper, str(tmp_path / "fifo"))


def test_a_file_where_a_folder_should_be(keeper: OwnKeeper, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    assert "cannot write the log file" in refusal(keeper, str(tmp_path / "file" / "x.log"))


def fail_with(number: int) -> Callable[..., Any]:
    def failing(*_args: object, **_options: object) -> Any:
        raise OSError(number, os.strerror(number))

    return failing


def test_a_folder_that_may_not_be_written(keeper: OwnKeeper, out: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """By monkeypatch, because the tests may run as root, who may write anywhere."""
    keeper.state_dir.mkdir(parents=True)
    monkeypatch.setattr(os, "mkdir", fail_with(errno.EACCES))
    assert refusal(keeper, out) == (
        f"cannot write the log file {out!r}: Permission denied; the job's user must be able to write in its folder"
    )


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EMFILE, errno.ENFILE, errno.EIO, errno.ESTALE], ids=os.strerror)
def test_trouble_of_the_host_is_not_the_jobs_fault(
    keeper: OwnKeeper, out: str, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    """No space, no handles, a server that is away: another try, here or elsewhere, may well succeed."""
    keeper.state_dir.mkdir(parents=True)
    monkeypatch.setattr(os, "mkdir", fail_with(number))
    with pytest.raises(errors.HostError):
        keeper.open(JOB, 1, out, None)


@pytest.mark.parametrize("call", ["write", "pwrite"])
def test_a_full_disk_is_a_log_error(keeper: OwnKeeper, out: str, monkeypatch: pytest.MonkeyPatch, call: str) -> None:
    """The job must not go on with a hole in its log."""
    with keeper.open(JOB, 1, out, None) as files:
        files.write(Frame(OUT, b"x"))
        monkeypatch.setattr(os, call, fail_with(errno.ENOSPC))
        with pytest.raises(errors.LogFull, match=r"^cannot write the log: No space left on device$"):
            files.write(Frame(OUT, b"y"))


def test_a_state_folder_that_cannot_be_made_is_the_hosts_fault(tmp_path: Path, out: str) -> None:
    (tmp_path / "state").write_text("in the way")
    with pytest.raises(errors.HostError, match="cannot write the worker's own state"):
        OwnKeeper(tmp_path / "state").open(JOB, 1, out, None)


@pytest.mark.parametrize("call", ["open", "pwrite"])
def test_a_full_disk_under_the_state_folder_is_told_apart(
    keeper: OwnKeeper, out: str, monkeypatch: pytest.MonkeyPatch, call: str
) -> None:
    """The host takes no new jobs then."""
    monkeypatch.setattr(os, call, fail_with(errno.ENOSPC))
    with pytest.raises(errors.NoSpace, match="cannot write the worker's own state"):
        keeper.open(JOB, 1, out, None)


def test_a_short_write_is_continued(keeper: OwnKeeper, out: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The kernel may take less than it was given."""
    real = os.write
    monkeypatch.setattr(os, "write", lambda file, data: real(file, bytes(data)[:3]))
    with keeper.open(JOB, 1, out, None) as files:
        files.write(Frame(OUT, b"0123456789"))
    assert content(out) == b"0123456789"


# File handles


def test_closing_gives_every_handle_back(keeper: OwnKeeper, out: str, err: str) -> None:
    before = open_files()
    for paths in ((out, err), (out, None), (out, out), (None, err), (None, None)):
        keeper.open(JOB, 1, *paths).close()
        keeper.resume(JOB, 1, *paths).close()
    assert open_files() == before


def test_a_refused_log_leaks_no_handle(keeper: OwnKeeper, out: str, tmp_path: Path) -> None:
    keeper.open(JOB, 1, out, None).close()
    before = open_files()
    refusal(keeper, out, str(tmp_path))
    with pytest.raises(errors.RequestError):
        keeper.resume(JOB, 1, out, str(tmp_path))
    assert open_files() == before


def test_a_sick_state_folder_leaks_no_handle(tmp_path: Path, out: str, err: str) -> None:
    (tmp_path / "state").write_text("in the way")
    before = open_files()
    with pytest.raises(errors.HostError):
        OwnKeeper(tmp_path / "state").open(JOB, 1, out, err)
    assert open_files() == before


# Jobs that share a file


def test_a_file_that_another_job_writes_is_refused_and_stays_whole(keeper: OwnKeeper, out: str, err: str) -> None:
    """By whatever name, and for whichever stream."""
    Path(err).parent.mkdir()
    os.symlink(out, f"{out}.link")
    with keeper.open(JOB, 1, out, None) as files:
        files.write(Frame(OUT, b"precious\n"))
        before = open_files()
        os.link(out, f"{out}.too")
        for paths in ((out, None), (err, out), (f"{out}.too", err)):
            with pytest.raises(errors.RequestError, match="is being written by another job; give each job its own"):
                keeper.open("j2", 1, *paths)
        assert open_files() == before
        files.write(Frame(OUT, b"more\n"))
    assert content(out) == b"precious\nmore\n"
    with keeper.open("j2", 1, out, None) as files:
        files.write(Frame(OUT, b"after it\n"))
    assert content(out) == b"after it\n"


def test_a_later_attempt_waits_for_a_file_that_is_taken(keeper: OwnKeeper, out: str) -> None:
    """On a shared file system a lost host may hold it still; the job is not to end for that."""
    with keeper.open(JOB, 1, out, None), pytest.raises(errors.HostError, match="is being written by another job"):
        keeper.open("j2", 2, out, None)


def test_an_adopted_job_goes_on_with_a_file_that_was_taken_meanwhile(
    keeper: OwnKeeper, out: str, caplog: pytest.LogCaptureFixture
) -> None:
    keeper.open(JOB, 1, out, None).close()
    with keeper.open("j2", 1, out, None), keeper.resume(JOB, 1, out, None) as files:
        files.write(Frame(OUT, b"on\n"))
    assert content(out) == b"on\n"
    assert "is being written by another job too" in caplog.text


def test_without_its_note_an_adopted_job_goes_on_too(keeper: OwnKeeper, out: str) -> None:
    with keeper.open("j2", 1, out, None), keeper.resume(JOB, 1, out, None) as files:
        files.write(Frame(OUT, b"on\n"))


def test_a_file_system_without_locks_has_none(keeper: OwnKeeper, out: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fcntl, "flock", fail_with(errno.ENOLCK))
    with keeper.open(JOB, 1, out, None), keeper.open("j2", 1, out, None):
        pass


def test_the_gaps_of_docker_s_log_are_known_to_the_next_process(keeper: OwnKeeper, out: str) -> None:
    """Output that the file has and Docker's log lacks counts as read; a further attempt has none of it."""
    gap, broken = Gap(Stream.STDOUT, 2, 3), Break(1e9 + 0.5, {Stream.STDOUT: 5, Stream.STDERR: 0})
    with keeper.open(JOB, 1, out, None) as files:
        files.write(Frame(Stream.STDOUT, b"abcde"))
        files.add_gap(gap)
        files.note_break(broken)
    with keeper.resume(JOB, 1, out, None) as files:
        assert (files.gaps, files.broken) == ([gap], broken)
        files.note_break(None)
        files.write(Frame(Stream.STDOUT, b"ab"))
        files.skip(gap)
        files.write(Frame(Stream.STDOUT, b"fg"))
    assert Path(out).read_bytes() == b"abcdefg"
    with keeper.open(JOB, 2, out, None) as files:
        assert (files.gaps, files.broken) == ([], None)
    keeper.forget(JOB)
    assert list(keeper.state_dir.iterdir()) == []
