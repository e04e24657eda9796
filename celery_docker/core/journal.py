"""The events that the journal explains: each has an id, by which systemd/celery-docker.catalog has a text for it.

A log record with the attribute `event` goes to the journal with that id as MESSAGE_ID; `journalctl -x` then adds the
text. The ids belong to running installations: a new event gets a new one, from `journalctl --new-id128`.
"""

from __future__ import annotations

from enum import StrEnum


class JournalEvent(StrEnum):
    """One kind of event, as MESSAGE_ID names it."""

    READY = "deb3280cf6c042a3840811515b71ae63"
    INTAKE_CLOSED = "182be30c3634453298d634d6526e6270"
    INTAKE_OPEN = "b93558ab2f2f41d4b11df0e9f32d0e71"
    TAKEOVER = "fcec43a97a4b4065a125d4069c7989f8"
    REFUSAL = "05fdc1c4f35d4c9a88ad77b64fd28cf0"
    UNKNOWN_CONTAINER = "7d9489118ce94cb4b685438fff0a93b6"
