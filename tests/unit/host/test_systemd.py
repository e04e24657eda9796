"""Datagrams to systemd and the journal, read from real datagram sockets."""

from __future__ import annotations

import io
import logging
import os
import socket
import struct
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from celery_docker.core import journal
from celery_docker.core.journal import JobFacts, JournalEvent
from celery_docker.host import systemd


@pytest.fixture
def manager(tmp_path: Path) -> Iterator[socket.socket]:
    """A socket like the one that systemd names in NOTIFY_SOCKET."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as receiver:
        receiver.bind(str(tmp_path / "notify"))
        receiver.settimeout(5)
        yield receiver


def record(message: str, level: int = logging.INFO, job: str | None = None) -> logging.LogRecord:
    entry = logging.LogRecord("celery_docker.runner", level, __file__, 1, message, None, None)
    if job is not None:
        entry.job = job
    return entry


def fields(entry: bytes) -> dict[str, bytes]:
    """Read a journal entry as journald does (systemd.io/JOURNAL_NATIVE_PROTOCOL)."""
    values, stream = {}, io.BytesIO(entry)
    while line := stream.readline():
        assert line.endswith(b"\n")
        name, equals, value = line[:-1].partition(b"=")
        if not equals:
            (size,) = struct.unpack("<Q", stream.read(8))
            value = stream.read(size)
            assert stream.read(1) == b"\n"
        assert name.decode() not in values
        values[name.decode()] = value
    return values


# sd_notify


def test_notify_sends_assignments(manager: socket.socket) -> None:
    environ = {"NOTIFY_SOCKET": manager.getsockname()}
    assert systemd.notify(environ, READY=1, STATUS="0 jobs running, 4 of 4 slots free") is True
    assert manager.recv(4096) == b"READY=1\nSTATUS=0 jobs running, 4 of 4 slots free"


def test_a_socket_goes_to_the_manager_and_comes_back_to_the_next_process(
    manager: socket.socket, monkeypatch: pytest.MonkeyPatch
) -> None:
    environ = {"NOTIFY_SOCKET": manager.getsockname()}
    listener, other_end = socket.socketpair()
    assert systemd.store_socket(environ, "revokes", listener) is True
    listener.close()
    text, (number,), *_ = socket.recv_fds(manager, 4096, 4)
    assert text == b"FDSTORE=1\nFDNAME=revokes"
    monkeypatch.setattr(systemd, "_FIRST_FD", number - 1)
    passed = {**environ, "LISTEN_PID": str(os.getpid()), "LISTEN_FDS": "2", "LISTEN_FDNAMES": "another:revokes"}
    (back,) = systemd.stored_sockets(passed, "revokes")
    assert manager.recv(4096) == b"FDSTOREREMOVE=1\nFDNAME=revokes"
    other_end.sendall(b"m")
    assert back.recv(9) == b"m"
    back.close()
    other_end.close()


@pytest.mark.parametrize("pid", ["", "1"])
def test_the_sockets_of_another_process_are_left_alone(pid: str) -> None:
    """A child inherits the variables."""
    assert systemd.stored_sockets({"LISTEN_PID": pid, "LISTEN_FDS": "1", "LISTEN_FDNAMES": "revokes"}, "revokes") == []


def test_notify_knows_abstract_sockets() -> None:
    """systemd writes their leading NUL as @."""
    name = f"celery-docker-test-{os.getpid()}"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as receiver:
        receiver.bind(f"\0{name}")
        receiver.settimeout(5)
        systemd.notify({"NOTIFY_SOCKET": f"@{name}"}, WATCHDOG=1)
        assert receiver.recv(4096) == b"WATCHDOG=1"


@pytest.mark.parametrize("environ", [{}, {"NOTIFY_SOCKET": ""}], ids=["unset", "empty"])
def test_notify_does_nothing_outside_systemd(environ: dict[str, str]) -> None:
    assert systemd.notify(environ, READY=1) is False


def test_a_manager_that_does_not_listen_stops_nobody(tmp_path: Path) -> None:
    """A status line is not worth a worker's life."""
    assert systemd.notify({"NOTIFY_SOCKET": str(tmp_path / "gone")}, STATUS="x") is False


def test_a_manager_that_is_busy_holds_nobody_up(manager: socket.socket) -> None:
    """Its socket is full: the answer is no, at once."""
    environ = {"NOTIFY_SOCKET": manager.getsockname()}
    assert any(not systemd.notify(environ, STATUS="x" * 1000) for _ in range(10_000))


@pytest.mark.parametrize(
    ("environ", "expected"),
    [
        ({}, None),
        ({"WATCHDOG_USEC": ""}, None),
        ({"WATCHDOG_USEC": "soon"}, None),
        ({"WATCHDOG_USEC": "-1"}, None),
        ({"WATCHDOG_USEC": "30000000"}, 10.0),
        ({"WATCHDOG_USEC": "1500000"}, 0.5),
    ],
    ids=str,
)
def test_watchdog_interval_is_a_third_of_what_is_allowed(environ: dict[str, str], expected: float | None) -> None:
    assert systemd.watchdog_interval_s(environ) == expected


# The journal


def test_an_entry_has_the_fields_that_journalctl_filters_by() -> None:
    assert fields(systemd.entry(record("x", logging.WARNING, job="0f3a"), "container taken over")) == {
        "MESSAGE": b"job 0f3a: container taken over",
        "PRIORITY": b"4",
        "SYSLOG_IDENTIFIER": b"celery-worker",
        "LOGGER": b"celery_docker.runner",
        "CELERY_DOCKER_JOB": b"0f3a",
    }


def test_an_entry_without_a_job() -> None:
    entry = fields(systemd.entry(record("x"), "ready"))
    assert entry["MESSAGE"] == b"ready"
    assert "CELERY_DOCKER_JOB" not in entry
    assert "MESSAGE_ID" not in entry


def test_an_entry_of_an_event_that_the_catalogue_explains() -> None:
    ready = record("x")
    ready.event = JournalEvent.READY
    assert fields(systemd.entry(ready, "ready"))["MESSAGE_ID"] == JournalEvent.READY.value.encode()


@pytest.mark.parametrize(
    ("level", "priority"),
    [
        (logging.CRITICAL, b"2"),
        (logging.ERROR, b"3"),
        (logging.WARNING, b"4"),
        (logging.INFO, b"6"),
        (logging.DEBUG, b"7"),
        (logging.INFO + 5, b"6"),
        (1, b"7"),
    ],
)
def test_levels_are_syslog_priorities(level: int, priority: bytes) -> None:
    assert fields(systemd.entry(record("x", level), "x"))["PRIORITY"] == priority


@pytest.mark.parametrize(
    "text", ["one\ntwo", "\n", "PRIORITY=0\nMESSAGE=forged", "ends with one\n", "äöü=漢字"], ids=repr
)
def test_a_newline_stays_inside_its_field(text: str) -> None:
    """Nobody forges a field through a message."""
    entry = fields(systemd.entry(record("x"), text))
    assert entry["MESSAGE"] == text.encode()
    assert entry["PRIORITY"] == b"6"


def test_a_job_id_cannot_forge_a_field_either() -> None:
    entry = fields(systemd.entry(record("x", job="a\nPRIORITY=0"), "t"))
    assert entry["PRIORITY"] == b"6"
    assert entry["CELERY_DOCKER_JOB"] == b"a PRIORITY=0"
    assert entry["MESSAGE"] == b"job a PRIORITY=0: t"


def test_the_facts_about_a_job_are_fields_of_their_own() -> None:
    """What is not known is left out; exit code 0 is known."""
    about = record("x", job="0f3a")
    about.facts = JobFacts(batch="b1", attempt=2, exit_code=0, image="busybox", host="node1", user="alice")
    assert {name: value for name, value in fields(systemd.entry(about, "t")).items() if name.startswith("CEL")} == {
        "CELERY_DOCKER_JOB": b"0f3a",
        "CELERY_DOCKER_BATCH": b"b1",
        "CELERY_DOCKER_ATTEMPT": b"2",
        "CELERY_DOCKER_EXIT_CODE": b"0",
        "CELERY_DOCKER_IMAGE": b"busybox",
        "CELERY_DOCKER_HOST": b"node1",
        "CELERY_DOCKER_USER": b"alice",
    }


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        ("x\nPRIORITY=0\nMESSAGE=forged", b"x PRIORITY=0 MESSAGE=forged"),
        ("\x1b[2J\x9b\u202e", b"\\x1b[2J\\x9b\\u202e"),
        ("a\0b", b"a\\x00b"),
        ("a\ud800b", b"a\\ud800b"),
        ("\u6f22" * 10**6, ("\u6f22" * 253 + "...").encode()),
        ("\r\u2028 ", b""),
        ("=", b"="),
    ],
    ids=["newlines", "escapes", "NUL", "surrogate", "long", "nothing but space", "equals sign"],
)
def test_a_fact_that_a_submitter_wrote_is_one_short_line_of_its_own_field(value: str, shown: bytes) -> None:
    for name in ("batch", "image", "queue", "user", "host", "state"):
        about = record("x", job="0f3a")
        facts: dict[str, Any] = {name: value}
        about.facts = JobFacts(**facts)
        entry = fields(systemd.entry(about, "t"))
        assert entry.pop(f"CELERY_DOCKER_{name.upper()}", None) == shown
        assert entry == fields(systemd.entry(record("x", job="0f3a"), "t"))


def test_an_entry_about_many_jobs_has_a_field_for_each_and_fits_into_a_datagram(journal_socket: socket.socket) -> None:
    """As journald takes it: a field may be there more than once."""
    job_ids = [f"{number:0>128}" for number in range(journal.MOST_JOBS)]
    about = record("x" * 10**5)
    about.jobs = job_ids
    systemd.log_handler({"JOURNAL_STREAM": "8:12345"}).handle(about)
    lines = journal_socket.recv(10**6).decode().splitlines()
    assert [line for line in lines if line.startswith("CEL")] == [f"CELERY_DOCKER_JOB={job_id}" for job_id in job_ids]


def test_a_lone_surrogate_does_not_break_the_log() -> None:
    assert fields(systemd.entry(record("x"), "a\ud800b"))["MESSAGE"] == b"a?b"


def test_an_entry_fits_into_a_datagram() -> None:
    assert len(systemd.entry(record("x"), "漢" * 10**6)) < 64 * 1024


@pytest.fixture
def journal_socket(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[socket.socket]:
    path = str(tmp_path / "journal")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as receiver:
        receiver.bind(path)
        receiver.settimeout(5)
        monkeypatch.setattr(systemd, "_JOURNAL", path)
        yield receiver


def test_under_systemd_the_handler_writes_to_the_journal(journal_socket: socket.socket) -> None:
    handler = systemd.log_handler({"JOURNAL_STREAM": "8:12345"})
    handler.handle(record("pulling busybox", job="0f3a"))
    entry = fields(journal_socket.recv(65536))
    assert entry["MESSAGE"] == b"job 0f3a: pulling busybox"
    assert entry["SYSLOG_IDENTIFIER"] == b"celery-worker"


def test_lines_of_the_service_for_users_bear_its_name(journal_socket: socket.socket) -> None:
    systemd.log_handler({"JOURNAL_STREAM": "8:12345"}, "celery-docker-api").handle(record("alice: GET /: 200"))
    assert fields(journal_socket.recv(65536))["SYSLOG_IDENTIFIER"] == b"celery-docker-api"


def test_a_journal_that_is_gone_stops_no_job(
    journal_socket: socket.socket, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    handler = systemd.log_handler({"JOURNAL_STREAM": "8:12345"})
    monkeypatch.setattr(systemd, "_JOURNAL", "/nonexistent/socket")
    handler.handle(record("pulling busybox"))
    assert "FileNotFoundError" in capsys.readouterr().err


def test_outside_systemd_the_handler_writes_lines_to_stderr(monkeypatch: pytest.MonkeyPatch) -> None:
    stderr = io.StringIO()
    monkeypatch.setattr(sys, "stderr", stderr)
    systemd.log_handler({}).handle(record("pulling busybox", job="0f3a"))
    assert stderr.getvalue().endswith(" INFO job 0f3a: pulling busybox\n")


# The slice


@pytest.mark.parametrize(
    ("groups", "slice_path"),
    [
        ("0::/celery-docker.slice/celery-worker.service\n", "/celery-docker.slice"),
        ("0::/lab.slice/lab-gpu.slice/celery-worker@gpu.service\n", "/lab.slice/lab-gpu.slice"),
        ("4:memory:/x\n1:name=systemd:/celery-docker.slice/celery-worker.service\n0::/\n", "/celery-docker.slice"),
        ("0::/system.slice/celery-worker.service\n", ""),
        ("0::/user.slice/user-1.slice/session-1.scope\n", ""),
        ("0::/celery-docker.slice/another.service\n", ""),
        ("0::/\n", ""),
        ("nonsense\n", ""),
    ],
)
def test_the_slice_of_the_service(groups: str, slice_path: str, tmp_path: Path) -> None:
    (tmp_path / "cgroup").write_text(groups)
    assert systemd.slice_path(str(tmp_path / "cgroup")) == slice_path


def test_a_system_without_control_groups_has_no_slice(tmp_path: Path) -> None:
    assert systemd.slice_path(str(tmp_path / "none")) == ""
