"""Messages of the worker to systemd: readiness, status, watchdog, and log lines with fields.

The only module that knows the protocols sd_notify(3) and the journal's native one (systemd.io/JOURNAL_NATIVE_PROTOCOL).
Both are a datagram to a socket, so no library is needed. Outside systemd every call does nothing.
"""

from __future__ import annotations

import logging
import os
import re
import socket
import struct
import subprocess
from collections.abc import Mapping
from typing import Any

from celery_docker.core import journal, wording

_WORKER = "celery-worker"
_JOURNAL = "/run/systemd/journal/socket"
_PRIORITIES = ((logging.CRITICAL, 2), (logging.ERROR, 3), (logging.WARNING, 4), (logging.INFO, 6))
_DEBUG = 7
# The first descriptor that the service manager passes to a process, by sd_listen_fds(3).
_FIRST_FD = 3
# A datagram to the journal must fit into the socket's buffer; the longest line that is worth reading is far below.
_LONGEST_MESSAGE = 16 * 1024
# A status has values of others in it, such as the reason of a drain: a line end would begin another assignment.
_LONGEST_STATUS = 1000
_JOURNAL_PATIENCE_S = 1.0
_SERVICE_IN_SLICE = re.compile(r"((?:/[^/]+\.slice)+)/celery-worker[^/]*\.service")


def notify(environ: Mapping[str, str], **variables: str | int) -> bool:
    """Send assignments such as READY=1 or STATUS=... to the service manager; False if it could not be told now.

    Never waits: a service manager that is busy must not hold up a job, or the end of the worker.
    """
    address = environ.get("NOTIFY_SOCKET")
    if not address:
        return False
    pairs = ((name, wording.one_line(str(value), _LONGEST_STATUS)) for name, value in variables.items())
    return _send(address, "\n".join(f"{name}={value}" for name, value in pairs))


def store_socket(environ: Mapping[str, str], name: str, stored: socket.socket) -> bool:
    """Give the service manager a socket to keep for the next process; False if it could not be told now."""
    address = environ.get("NOTIFY_SOCKET")
    return bool(address) and _send(str(address), f"FDSTORE=1\nFDNAME={name}", stored)


def stored_sockets(environ: Mapping[str, str], name: str) -> list[socket.socket]:
    """Return the sockets that an earlier process of this service has stored under a name; they are stored no more."""
    if environ.get("LISTEN_PID") != str(os.getpid()):
        return []
    names = environ.get("LISTEN_FDNAMES", "").split(":")
    numbers = [_FIRST_FD + place for place, stored in enumerate(names) if stored == name]
    notify(environ, FDSTOREREMOVE=1, FDNAME=name)
    return [stored for number in numbers if (stored := _socket_of(number)) is not None]


def _socket_of(number: int) -> socket.socket | None:
    try:
        return socket.socket(fileno=number)
    except OSError:
        return None


def _send(address: str, text: str, *sockets: socket.socket) -> bool:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC | socket.SOCK_NONBLOCK) as sender:
        try:
            sender.connect("\0" + address[1:] if address.startswith("@") else address)
            socket.send_fds(sender, [text.encode()], [stored.fileno() for stored in sockets])
        except OSError:
            return False
    return True


def watchdog_interval_s(environ: Mapping[str, str]) -> float | None:
    """Return how often to send WATCHDOG=1, in seconds: a third of what systemd allows; None without a watchdog."""
    allowed_us = environ.get("WATCHDOG_USEC", "")
    return int(allowed_us) / 3e6 if allowed_us.isdigit() else None


def host_is_going_down() -> bool:
    """True while systemd stops everything for a shutdown or reboot."""
    try:
        process = subprocess.run(
            ["/usr/bin/systemctl", "is-system-running"], capture_output=True, text=True, timeout=5, check=False
        )
    except (OSError, subprocess.TimeoutExpired):
        return False
    return process.stdout.strip() == "stopping"


def slice_path(proc: str = "/proc/self/cgroup") -> str:
    """Return the control group of the slice in which this worker's service is; empty for a worker that is no service.

    Also for one in system.slice: that is for services, not for containers.
    """
    try:
        with open(proc, encoding="utf-8", errors="replace") as file:
            groups = dict(line.rstrip("\n").split(":", 2)[1:] for line in file)
    except (OSError, ValueError):
        return ""
    # Under cgroup v1 systemd's own tree has a name, and the other one may be there without a process of its own.
    match = _SERVICE_IN_SLICE.fullmatch(groups.get("name=systemd") or groups.get("", ""))
    return match[1] if match and match[1] != "/system.slice" else ""


def log_handler(environ: Mapping[str, str], program: str = _WORKER) -> logging.Handler:
    """Return a handler to the journal if stderr leads there, else one to stderr."""
    if environ.get("JOURNAL_STREAM") and os.path.exists(_JOURNAL):
        return JournalHandler(program)
    handler = logging.StreamHandler()
    handler.setFormatter(_PlainFormatter())
    return handler


class JournalHandler(logging.Handler):
    """Writes each record as one journal entry.

    What `journal.attributes` has added to a record becomes fields of ours; its `event`, a `JournalEvent`, MESSAGE_ID.
    """

    def __init__(self, program: str) -> None:
        super().__init__()
        self.setFormatter(_Formatter())
        self._program = program
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC)
        self._socket.settimeout(_JOURNAL_PATIENCE_S)

    def emit(self, record: logging.LogRecord) -> None:
        """Send a record; a journal that does not listen loses it, which must not stop a job."""
        try:
            self._socket.sendto(entry(record, self.format(record), self._program), _JOURNAL)
        except Exception:  # noqa: BLE001  # as every handler of the standard library does
            self.handleError(record)


def entry(record: logging.LogRecord, text: str, program: str = _WORKER) -> bytes:
    """Return a log record as a journal entry; each of its lines in the journal begins with the program's name."""
    job, event = getattr(record, "job", None), getattr(record, "event", None)
    own = [
        ("MESSAGE", _named(job, text)[:_LONGEST_MESSAGE]),
        ("PRIORITY", str(_priority(record.levelno))),
        ("SYSLOG_IDENTIFIER", program),
        ("LOGGER", record.name),
        *([("MESSAGE_ID", str(event))] if event else []),
    ]
    about = journal.fields(job, getattr(record, "jobs", ()), getattr(record, "facts", None))
    return b"".join(_field(name, value) for name, value in (*own, *about))


def _named(job: str | None, text: str) -> str:
    return f"job {journal.shown(job)}: {text}" if job else text


def _field(name: str, value: str) -> bytes:
    data = value.encode("utf-8", errors="replace")
    if b"\n" not in data:
        return name.encode() + b"=" + data + b"\n"
    return name.encode() + b"\n" + struct.pack("<Q", len(data)) + data + b"\n"


def _priority(level: int) -> int:
    return next((priority for floor, priority in _PRIORITIES if level >= floor), _DEBUG)


class _Formatter(logging.Formatter):
    """Makes harmless what is logged: names, reasons and errors have been written by others."""

    def formatMessage(self, record: logging.LogRecord) -> str:  # the name is logging's
        return wording.harmless(super().formatMessage(record))

    def formatException(self, ei: Any) -> str:
        return wording.harmless_lines(super().formatException(ei))


class _PlainFormatter(_Formatter):
    def format(self, record: logging.LogRecord) -> str:
        text = _named(getattr(record, "job", None), super().format(record))
        return f"{self.formatTime(record)} {record.levelname} {text}"
