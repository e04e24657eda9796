"""The names of everything that we keep in Redis. Pure; one function or constant for each key."""

from __future__ import annotations

PREFIX = "celery-docker:"
# Every job that has a record, by the time it was submitted or first seen.
INDEX = PREFIX + "jobs"
# Jobs that wait for a time of theirs, by that time.
DELAYED = PREFIX + "delayed"
# Jobs whose message should lie in a queue's list, by the time it was put there.
WAITING = PREFIX + "waiting"
# Jobs that are to end and have not.
CANCELLING = PREFIX + "cancelling"
# Jobs that must have started by a certain time, by that time.
EXPIRING = PREFIX + "expiring"
# The hosts that take jobs, by their last sign of life.
HOSTS = PREFIX + "hosts"
# The hosts that were silent for too long, by their last sign of life.
LOST_HOSTS = PREFIX + "lost-hosts"
# The host that judges others now; the key expires.
JUDGE = PREFIX + "judge"


def job(job_id: str) -> str:
    """Return the key of a job's record, a hash."""
    return f"{PREFIX}job:{job_id}"


def host_jobs(host: str) -> str:
    """Return the key of the set of jobs that a host owns."""
    return f"{PREFIX}host:{host}:jobs"


def host_about(host: str) -> str:
    """Return the key of what a host says of itself, a hash."""
    return f"{PREFIX}host:{host}:about"


def host_sources(host: str) -> str:
    """Return the key of the set of queue lists that a host has taken messages from."""
    return f"{PREFIX}host:{host}:sources"


def taken(host: str, source: str = "") -> str:
    """Return the key of the messages that a host has taken from a queue's list and not yet claimed, a list.

    Without a source: what all of them begin with.
    """
    return f"{PREFIX}host:{host}:taken:{source}"
