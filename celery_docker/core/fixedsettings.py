"""Settings that stay while jobs run: the worker's name, its Redis and its Docker.

Redis knows the jobs of a worker by its name, and their containers are its Docker's. Pure.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace

from celery_docker import errors
from celery_docker.core import kinds, redisurl, settings

# What is safe in a key of Redis, in a label of Docker and as the name of a file.
_IDENTITY = re.compile(r"[A-Za-z0-9][A-Za-z0-9@._+-]{0,127}")


@dataclass(frozen=True)
class Fixed:
    """What the running jobs of a worker depend on: its name, the URL of its Redis, and its Docker's socket."""

    name: str
    broker_url: str
    docker_host: str

    def changes(self, after: Fixed) -> list[tuple[str, str, str]]:
        """Return subject, old and new value of what differs; a new login to the same Redis is no change."""
        rows = [
            (f"{settings.PREFIX}BROKER_URL", redisurl.place(self.broker_url), redisurl.place(after.broker_url)),
            (f"{settings.PREFIX}DOCKER_HOST", self.docker_host, after.docker_host),
            ("the worker's name", self.name, after.name),
        ]
        return [row for row in rows if row[1] != row[2]]

    def kept_from(self, last: Fixed) -> Fixed:
        """Return the last values, with the new login if it is for the same Redis."""
        same_redis = redisurl.place(self.broker_url) == redisurl.place(last.broker_url)
        return replace(last, broker_url=self.broker_url) if same_redis else last


def of(worker_settings: settings.Settings, hostname: str) -> Fixed:
    """Return what the settings of a worker say of it. Raises `SettingsError` like `identity`."""
    return Fixed(identity(worker_settings, hostname), worker_settings.broker_url, worker_settings.docker_host)


def identity(worker_settings: settings.Settings, hostname: str) -> str:
    """Return the name under which a worker owns jobs: the machine's, or the Celery node name that its options give it.

    Celery's own rules hold for the name: %h is the machine's, %n and %d its parts, and `w2` means `celery@w2`.
    Raises `SettingsError` for a name that is not fit for keys and labels.
    """
    option = _node_name(worker_settings.words)
    name = hostname if option is None else _expanded(option if "@" in option else f"celery@{option}", hostname)
    if not _IDENTITY.fullmatch(name):
        raise errors.SettingsError(
            f"{settings.PREFIX}OPTS: the worker's name {kinds.shown(name)} must be up to 128 letters, digits and the "
            "characters @ . _ + -; give it another with -n NAME"
        )
    return name


def _node_name(opts: Sequence[str]) -> str | None:
    """Return the value of the last -n or --hostname, as Celery's command line reads them."""
    name, words = None, iter(opts)
    for word in words:
        if word in ("-n", "--hostname"):
            name = next(words, None)
        elif word.startswith("--hostname="):
            name = word.removeprefix("--hostname=")
        elif word.startswith("-n"):
            name = word[2:]
    return name


def _expanded(name: str, hostname: str) -> str:
    short, _, domain = hostname.partition(".")
    parts = {"h": hostname, "n": short, "d": domain, "i": "0", "I": "", "%": "%"}
    return re.sub(r"%([%\w])", lambda match: parts.get(match[1], match[0]), name)


def check_reload(before: settings.Settings, after: settings.Settings, hostname: str) -> None:
    """Check that a reload can lead from one worker's settings to others: the running jobs stay with their owner.

    Raises `SettingsError` for a change of one of the three; a new login to the same Redis is none.
    """
    for subject, old, new in of(before, hostname).changes(of(after, hostname)):
        raise errors.SettingsError(
            f"{subject} cannot change from {old} to {new} in a reload, which would leave the running jobs behind; "
            f"systemctl restart {after.unit} waits for them"
        )
