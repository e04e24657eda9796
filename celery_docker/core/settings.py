"""The worker's settings, parsed once from a mapping (the environment) into a frozen value.

Owns the names, defaults and limits of `/etc/default/celery-worker`. Imports no library and reads no environment: the
mapping comes in as an argument. An empty value counts as unset.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from celery_docker import errors
from celery_docker.core import browsers, gpus, kinds, redisurl, signingkeys, sizes, textinput, wording

PREFIX = "CELERY_DOCKER_"
LOG_LEVELS = ("DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL")
MAX_CONCURRENCY = 500

# The value of a setting that the worker finds out by itself.
DETECTED = "detected"

# The first worker of a machine has no name of its own; celery-worker@NAME.service hands each other one its name here.
WORKER = f"{PREFIX}WORKER"
FILE = "/etc/default/celery-worker"

# What is safe as the name of a unit, a file and a queue.
_WORKER = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,62}")
_DIGITS = re.compile(r"[0-9]{1,18}")
_MOST_CHARACTERS = 4096
_MOST_SPACE = 2**50
_POOL = "jobs run in the worker's own pool of threads"
_SLOTS = f"set {PREFIX}CONCURRENCY"
_LEVEL = f"set {PREFIX}LOG_LEVEL"
_SERVICE = "systemd runs the worker and keeps its log"
# Options of the celery worker that something else decides here.
_TAKEN_OPTIONS = {
    "-P": _POOL,
    "--pool": _POOL,
    "-c": _SLOTS,
    "--concurrency": _SLOTS,
    "--autoscale": _SLOTS,
    "-l": _LEVEL,
    "--loglevel": _LEVEL,
    "-f": _SERVICE,
    "--logfile": _SERVICE,
    "-D": _SERVICE,
    "--detach": _SERVICE,
}


@dataclass(frozen=True)
class Settings:
    """The settings of one worker. `worker` is empty for the first one; `concurrency` 0 means the number of CPUs.

    `cpus` and `memory_bytes` are for jobs, None: what the machine has.
    """

    worker: str
    broker_url: str
    log_level: str
    concurrency: int
    opts: tuple[str, ...]
    max_retries: int
    retry_delay_s: int
    store_tasks_hours: int
    systemd_timeout_s: int
    lost_after_s: int
    cpus: float | None
    memory_bytes: int | None
    reserve_after_s: int
    docker_host: str
    pull_silence_s: int
    image_budget_bytes: int
    image_free_bytes: int
    policy_file: str
    key_file: str
    gpus: str
    api_hosts: tuple[str, ...]

    @property
    def unit(self) -> str:
        """The worker's service, as systemctl is told it."""
        return unit(self.worker)

    @property
    def file(self) -> str:
        """The file of settings that is this worker's alone."""
        return files(self.worker)[-1]

    @property
    def words(self) -> tuple[str, ...]:
        """The options for Celery's worker: a further one has its name and its queue, unless `opts` say otherwise."""
        own = ("-n", f"{self.worker}@%h", "-Q", self.worker) if self.worker else ()
        return (*own, *self.opts)

    @property
    def retention_s(self) -> int:
        """The time for which a result and a finished job's record are kept, in seconds."""
        return self.store_tasks_hours * 3600

    def slots(self, cpus: int) -> int:
        """Return how many jobs run at once on a host with that many CPUs."""
        return self.concurrency or min(max(cpus, 1), MAX_CONCURRENCY)


@dataclass(frozen=True)
class Setting:
    """One line of a file of settings: the field it fills, its default, its parser, and its name without the prefix.

    The name is the field's, unless it was given when fields had no units; names are what administrators have written.
    """

    field: str
    default: str
    parse: Callable[[str], Any]
    name: str = ""

    @property
    def variable(self) -> str:
        return PREFIX + (self.name or self.field.upper())

    def value_of(self, text: str) -> Any:
        """Return the value that a text means; raises `ValueError` that says what is allowed."""
        if len(text) > _MOST_CHARACTERS:
            raise ValueError(f"must have at most {_MOST_CHARACTERS} characters")
        value = self.parse(text)
        if not text.replace("\t", " ").isprintable():
            raise ValueError("must be printable characters in one line")
        return value


def unit(worker: str) -> str:
    """Return the service of the worker of that name; empty: the first one."""
    return f"celery-worker@{worker}" if worker else "celery-worker"


def files(worker: str) -> tuple[str, ...]:
    """Return the files of settings that a worker reads; what a later one says counts."""
    return (FILE, f"{FILE}-{worker}") if worker else (FILE,)


def parse(environ: Mapping[str, str]) -> Settings:
    """Return the settings that a mapping of environment variables describes.

    Raises `SettingsError` that names every bad variable, its value (a password masked) and what is allowed.
    """
    worker = environ.get(WORKER, "")
    values: dict[str, Any] = {"worker": worker}
    problems: list[str] = []
    if worker and not _WORKER.fullmatch(worker):
        rule = "must be up to 63 letters, digits and the characters . _ -, and begin with a letter or digit"
        problems.append(f"the name {shown(worker)} of celery-worker@NAME: {rule}")
    for setting in SETTINGS:
        text = environ.get(setting.variable, "").strip() or setting.default
        try:
            values[setting.field] = setting.value_of(text)
        except ValueError as exc:
            problems.append(f"{setting.variable}={shown(text)}: {exc}")
    if problems:
        raise errors.SettingsError("; ".join(problems))
    return Settings(**values)


def describe(settings: Settings) -> list[tuple[str, str]]:
    """Return (variable, value) pairs fit to be printed: secrets are masked."""
    return [(s.variable, _shown(getattr(settings, s.field))) for s in SETTINGS]


def unknown(names: Iterable[str]) -> list[str]:
    """Return those of the names that look like settings of ours and are none; a worker passes over them."""
    ours = {setting.variable for setting in SETTINGS} | {f"{PREFIX}QUEUE"}
    return sorted(name for name in names if name.startswith(PREFIX) and name not in ours)


def read_assignments(text: str) -> dict[str, str]:
    """Return the KEY=value lines of an environment file as systemd reads it: comments and outer quotes are left out."""
    lines = (line.strip() for line in textinput.lines(text))
    pairs = (line.partition("=") for line in lines if not line.startswith(("#", ";")))
    return {key.strip(): _unquoted(value.strip()) for key, equals, value in pairs if equals}


def _unquoted(value: str) -> str:
    quoted = len(value) > 1 and value[0] == value[-1] and value[0] in "\"'"
    return value[1:-1] if quoted else value


def shown(text: str) -> str:
    """Return the text of a setting as a complaint repeats it: shortened, and without a password."""
    return kinds.shown(redisurl.masked(text[:_MOST_CHARACTERS]))


def _shown(value: object) -> str:
    if value is None:
        return DETECTED
    if isinstance(value, tuple):
        return wording.harmless(redisurl.masked(shlex.join(value)))
    return wording.harmless(redisurl.masked(str(value)))


def _whole_number(low: int, high: int) -> Callable[[str], int]:
    def parse_number(text: str) -> int:
        if not _DIGITS.fullmatch(text) or not low <= int(text) <= high:
            raise ValueError(f"must be a whole number from {low} to {high}")
        return int(text)

    return parse_number


def _or_detected(parse_value: Callable[[str], Any]) -> Callable[[str], Any]:
    """Return the parser of a value that may be left to the worker, which is None."""

    def parse_or_detect(text: str) -> Any:
        try:
            return None if text == DETECTED else parse_value(text)
        except ValueError as exc:
            raise ValueError(f"{exc}, or {DETECTED!r}") from exc

    return parse_or_detect


def _log_level(text: str) -> str:
    if text.upper() not in LOG_LEVELS:
        raise ValueError(f"must be one of {', '.join(LOG_LEVELS)}")
    return text.upper()


def _options(text: str) -> tuple[str, ...]:
    try:
        words = tuple(shlex.split(text))
    except ValueError as exc:
        raise ValueError(f"must be words as a shell splits them ({exc})") from exc
    for word in words:
        option = word.partition("=")[0] if word.startswith("--") else word[:2]
        if option in _TAKEN_OPTIONS:
            raise ValueError(f"must not have {option}: {_TAKEN_OPTIONS[option]}")
    return words


def _docker_host(text: str) -> str:
    if not text.startswith("unix:///"):
        raise ValueError("must be a local socket, unix:///PATH: containers read and write this host's folders")
    return text


def _gpus(text: str) -> str:
    gpus.parse_setting(text)
    return text


def _space(text: str) -> int:
    size = sizes.parse(text)
    if size > _MOST_SPACE:
        raise ValueError("must be at most 1024t")
    return size


def _absolute_path(text: str) -> str:
    if not text.startswith("/"):
        raise ValueError("must be an absolute path")
    return text


SETTINGS = (
    Setting("broker_url", "redis://127.0.0.1:6379/0", redisurl.parse),
    Setting("log_level", "DEBUG", _log_level),
    Setting("concurrency", "0", _whole_number(0, MAX_CONCURRENCY)),
    Setting("opts", "", _options),
    Setting("max_retries", "3", _whole_number(0, 1000)),
    Setting("retry_delay_s", "10", _whole_number(0, 86400), "RETRY_DELAY"),
    Setting("store_tasks_hours", "384", _whole_number(1, 87600)),
    Setting("systemd_timeout_s", "7200", _whole_number(1, 31_536_000), "SYSTEMD_TIMEOUT"),
    Setting("lost_after_s", "600", _whole_number(10, 86400), "LOST_AFTER"),
    Setting("cpus", DETECTED, _or_detected(kinds.CPUS.parse)),
    Setting("memory_bytes", DETECTED, _or_detected(sizes.parse_memory), "MEMORY"),
    Setting("reserve_after_s", "300", _whole_number(1, 86400), "RESERVE_AFTER"),
    Setting("docker_host", "unix:///var/run/docker.sock", _docker_host),
    Setting("pull_silence_s", "600", _whole_number(5, 86400), "PULL_SILENCE"),
    Setting("image_budget_bytes", "0", _space, "IMAGE_BUDGET"),
    Setting("image_free_bytes", "0", _space, "IMAGE_FREE"),
    Setting("policy_file", "/etc/celery-docker/policy.toml", _absolute_path, "POLICY"),
    Setting("key_file", signingkeys.FILE, _absolute_path, "KEY"),
    Setting("gpus", "", _gpus),
    Setting("api_hosts", "", browsers.parse_names),
)
