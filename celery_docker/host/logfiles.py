"""The log files of a job on the worker's host, and how far each stream has been written.

The only module that writes outside our own folders. Invariant: after a crash at any instant, `resume` knows to the byte
how much of each stream is in the files. That is plain where each stream has its own file (its size tells). Where both
share one file, a small note in the state folder is written *before* each piece: the counts so far, and which stream the
piece belongs to; whatever the file holds beyond those counts is of that stream. A worker dies in mid-write:

    note    out 100 bytes, err 20 bytes, next: out     the file has 120 bytes
    write   50 bytes of out; killed after 30 of them   the file has 150 bytes
    resume  150 - 120 = 30 bytes are of out, the stream that the note names: skip 130 of out, 20 of err, and go on
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import json
import logging
import os
import stat
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

from celery_docker import errors
from celery_docker.core.container import Frame, Stream
from celery_docker.core.found import OpenLog
from celery_docker.core.output import Break, Gap

log = logging.getLogger(__name__)

_NOTE = struct.Struct("<6Q")


# No space, no handles, a file server that is away: another try may well succeed.
_NO_LOCKS = (errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOSYS)
_HOST_TROUBLE = (errno.ENOSPC, errno.EDQUOT, errno.EMFILE, errno.ENFILE, errno.EIO, errno.ESTALE, errno.ETIMEDOUT)


# Raised where another job has the file; None: nothing.
_Refusal = type[errors.RequestError] | type[errors.HostError] | None


@dataclass
class _Note:
    """A note in the state folder: the attempt, each file's size before it, and each stream's bytes so far."""

    attempt: int
    out_base: int = 0
    err_base: int = 0
    out_bytes: int = 0
    err_bytes: int = 0
    next_stream: int = 0

    def pack(self) -> bytes:
        return _NOTE.pack(self.attempt, self.out_base, self.err_base, self.out_bytes, self.err_bytes, self.next_stream)


class LogFiles:
    """The open log files of one attempt. Use as a context manager; `write` frames in the order they come."""

    def __init__(self, out: int | None, err: int | None, note: _Note, note_fd: int, gaps_path: Path) -> None:
        self._out = out
        self._err = err
        self._note = note
        self._note_fd = note_fd
        self._skip = {Stream.STDOUT: 0, Stream.STDERR: 0}
        self._gaps_path = gaps_path
        # What Docker's log of this attempt lacks, and the files have.
        self.gaps, self.broken = _gaps(gaps_path, note.attempt)

    def skip(self, gap: Gap) -> None:
        """Take note of output that is missing in the log that is read."""
        self._skip[gap.stream] = max(0, self._skip[gap.stream] - gap.size)

    def add_gap(self, gap: Gap) -> None:
        """Remember a gap for whoever resumes."""
        self.gaps.append(gap)
        self._remember([gap.stream, gap.at, gap.size])

    def note_break(self, broken: Break | None) -> None:
        """Remember that Docker has gone, until its log was searched for gaps."""
        self.broken = broken
        self._remember(None if broken is None else [broken.went_at, *(broken.byte_counts[s] for s in Stream)])

    def _remember(self, row: list[float] | None) -> None:
        line = json.dumps([self._note.attempt, row]) + "\n"
        # Without it, only a worker that is killed before the job's end leaves the next one to read a line wrongly.
        with contextlib.suppress(OSError), self._gaps_path.open("a", encoding="ascii") as file:
            file.write(line)

    def write(self, frame: Frame) -> None:
        """Append a piece to its file, or pass over it if the file has it already. Raises `LogError`."""
        payload = frame.payload[self._passed_over(frame) :]
        file = self._out if frame.stream is Stream.STDOUT or self._err is None else self._err
        if not payload or file is None:
            return
        try:
            self._announce(frame.stream)
            _write_all(file, payload)
        except OSError as exc:
            kind = errors.LogFull if exc.errno == errno.ENOSPC else errors.LogError
            raise kind(f"cannot write the log: {exc.strerror}") from exc
        self._count(frame.stream, len(payload))

    def close(self) -> None:
        """Close the files."""
        for file in {self._out, self._err, self._note_fd} - {None}:
            os.close(file)  # type: ignore[arg-type]  # None was taken out

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def _passed_over(self, frame: Frame) -> int:
        passed = min(self._skip[frame.stream], len(frame.payload))
        self._skip[frame.stream] -= passed
        return passed

    def _announce(self, stream: Stream) -> None:
        self._note.next_stream = stream
        os.pwrite(self._note_fd, self._note.pack(), 0)

    def _count(self, stream: Stream, size: int) -> None:
        if stream is Stream.STDOUT:
            self._note.out_bytes += size
        else:
            self._note.err_bytes += size

    def _catch_up(self) -> None:
        out_size = _grown(self._out, self._note.out_base)
        if self._err is not None:
            self._note.out_bytes, self._note.err_bytes = out_size, _grown(self._err, self._note.err_base)
        else:
            beyond = out_size - self._note.out_bytes - self._note.err_bytes
            if beyond > 0 and self._note.next_stream in tuple(Stream):
                self._count(Stream(self._note.next_stream), beyond)
        self._skip = {Stream.STDOUT: self._note.out_bytes, Stream.STDERR: self._note.err_bytes}


@dataclass(frozen=True)
class _Named:
    """The log files that a job names, and what opens one."""

    out: str | None
    err: str | None
    opened: OpenLog

    def files(self, note: int, refusal: _Refusal, *, fresh: bool) -> tuple[int | None, int | None]:
        """Open both for this job alone; if that fails, nothing stays open, not even the note."""
        with contextlib.ExitStack() as undo:
            undo.callback(os.close, note)
            out_file, err_file = self._open(self.out), None
            if out_file is not None:
                undo.callback(os.close, out_file)
                _take(out_file, str(self.out), refusal, fresh=fresh)
            if self.err != self.out:
                err_file = self._open(self.err)
            if out_file is not None and err_file is not None and os.path.sameopenfile(out_file, err_file):
                os.close(err_file)
                err_file = None
            if err_file is not None:
                undo.callback(os.close, err_file)
                _take(err_file, str(self.err), refusal, fresh=fresh)
            undo.pop_all()
        return out_file, err_file

    def _open(self, path: str | None) -> int | None:
        if path is None:
            return None
        with _explained(path), contextlib.ExitStack() as undo:
            file = self.opened(path)
            undo.callback(os.close, file)
            _check_regular(file)
            undo.pop_all()
        return file


@dataclass(frozen=True)
class LogKeeper:
    """Opens log files; `state_dir` is the worker's own folder for its notes."""

    state_dir: Path

    def open(self, job_id: str, attempt: int, out: str | None, err: str | None, opened: OpenLog) -> LogFiles:
        """Begin the logs of an attempt: the first one starts the files anew, later ones go on behind it.

        `err` None sends both streams to `out`; `opened` opens a file. Raises `RequestError` if one cannot be opened, or
        if another job writes it; a later attempt raises `HostError` then: a lost host may not have let go of it yet.
        """
        refusal = errors.RequestError if attempt == 1 else errors.HostError
        return self._begin(job_id, attempt, _Named(out, err, opened), refusal)

    def _begin(self, job_id: str, attempt: int, named: _Named, refusal: _Refusal) -> LogFiles:
        note_fd, gaps = self._note(job_id, os.O_CREAT | os.O_TRUNC), self._gaps_path(job_id)
        files = named.files(note_fd, refusal, fresh=attempt == 1)
        opened = LogFiles(
            *files, _Note(attempt, *(os.fstat(f).st_size if f is not None else 0 for f in files)), note_fd, gaps
        )
        try:
            os.pwrite(note_fd, opened._note.pack(), 0)
        except OSError as exc:
            opened.close()
            raise self._unwritable(exc) from exc
        return opened

    def resume(self, job_id: str, attempt: int, out: str | None, err: str | None, opened: OpenLog) -> LogFiles:
        """Go on with the logs of an attempt that an earlier process began; what the files have is passed over.

        Without a note of this attempt (somebody emptied the state folder) the logs are written again from the start:
        twice is better than not at all. Raises `RequestError` if a file cannot be opened; one that another job has
        begun to write meanwhile is no reason to stop a container.
        """
        named = _Named(out, err, opened)
        note_fd = self._note(job_id, os.O_CREAT)
        packed = os.pread(note_fd, _NOTE.size, 0)
        if len(packed) != _NOTE.size or _NOTE.unpack(packed)[0] != attempt:
            os.close(note_fd)
            return self._begin(job_id, attempt, named, None)
        note, gaps = _Note(*_NOTE.unpack(packed)), self._gaps_path(job_id)
        files = LogFiles(*named.files(note_fd, None, fresh=False), note, note_fd, gaps)
        files._catch_up()
        return files

    def forget(self, job_id: str) -> None:
        """Drop the note of a job that has ended."""
        self._path(job_id).unlink(missing_ok=True)
        self._gaps_path(job_id).unlink(missing_ok=True)

    def _note(self, job_id: str, flags: int) -> int:
        try:
            self.state_dir.mkdir(parents=True, exist_ok=True)
            return os.open(self._path(job_id), os.O_RDWR | os.O_CLOEXEC | flags, 0o600)
        except OSError as exc:
            raise self._unwritable(exc) from exc

    def _unwritable(self, exc: OSError) -> errors.HostError:
        kind = errors.NoSpace if exc.errno == errno.ENOSPC else errors.HostError
        return kind(f"cannot write the worker's own state in {self.state_dir}: {exc.strerror}")

    def _path(self, job_id: str) -> Path:
        return self.state_dir / f"{job_id}.logs"

    def _gaps_path(self, job_id: str) -> Path:
        return self.state_dir / f"{job_id}.gaps"


def _gaps(path: Path, attempt: int) -> tuple[list[Gap], Break | None]:
    """Return the gaps of an attempt that an earlier process has remembered, and the break that it left unsearched."""
    gaps: list[Gap] = []
    broken: Break | None = None
    with contextlib.suppress(OSError, ValueError, TypeError):  # the last line may be cut off
        for line in path.read_text(encoding="ascii").splitlines():
            number, row = json.loads(line)
            if number == attempt and row and isinstance(row[0], int):
                gaps.append(Gap(Stream(row[0]), row[1], row[2]))
            elif number == attempt:
                broken = Break(row[0], dict(zip(Stream, row[1:], strict=True))) if row else None
    return gaps, broken


@contextlib.contextmanager
def _explained(path: str) -> Iterator[None]:
    try:
        yield
    except OSError as exc:
        if exc.errno == errno.ELOOP:
            remedy = "submit the job again"
            raise errors.RequestError(f"a link is in the way to the log file {path!r} by now; {remedy}") from exc
        if exc.errno in _HOST_TROUBLE:
            raise errors.HostError(f"cannot open the log file {path!r} now: {exc.strerror}") from exc
        raise errors.RequestError(
            f"cannot write the log file {path!r}: {exc.strerror}; the job's user must be able to write in its folder"
        ) from exc


def _take(file: int, path: str, refusal: _Refusal, *, fresh: bool) -> None:
    """Keep a file for this job alone, and empty it for a first attempt."""
    with _explained(path):
        _lock(file, path, refusal)
        if fresh:
            os.ftruncate(file, 0)


def _check_regular(file: int) -> None:
    if not stat.S_ISREG(os.fstat(file).st_mode):
        raise OSError(0, "it is not a regular file")


def _lock(file: int, path: str, refusal: _Refusal) -> None:
    """Keep a file for this job until it is closed: every byte by which it grows counts as the job's.

    Raises `refusal` where another job has it. A file system without locks has none.
    """
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as exc:
        if refusal is not None:
            remedy = "give each job its own, or let this one wait with --after"
            raise refusal(f"the log file {path!r} is being written by another job; {remedy}") from exc
        log.warning("the log file %r is being written by another job too", path)
    except OSError as exc:
        if exc.errno not in _NO_LOCKS:
            raise


def _write_all(file: int, payload: bytes) -> None:
    view = memoryview(payload)
    while view:
        view = view[os.write(file, view) :]


def _grown(file: int | None, base: int) -> int:
    return max(0, os.fstat(file).st_size - base) if file is not None else 0
