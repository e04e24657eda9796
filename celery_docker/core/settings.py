"""The worker's settings, parsed once from a mapping (the environment) into a frozen value.

Owns the names, defaults and limits of `/etc/default/celery-worker`. Imports no library and reads no environment: the
mapping comes in as an argument. An empty value counts as unset.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import SplitResult, parse_qs, urlsplit

from celery_docker import errors
from celery_docker.core import kinds, textinput, wording

PREFIX = "CELERY_DOCKER_"
LOG_LEVELS = ("DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL")
TLS_VERIFICATIONS = ("required", "optional", "none")
BROKER_SCHEMES = ("redis", "rediss")
SOCKET_SCHEME = "unix"
MAX_CONCURRENCY = 500

# The first worker of a machine has no name of its own; celery-worker@NAME.service hands each other one its name here.
WORKER = f"{PREFIX}WORKER"
FILE = "/etc/default/celery-worker"

# What is safe as the name of a unit, a file and a queue.
_WORKER = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,62}")
# What is safe in a key of Redis, in a label of Docker and as the name of a file.
_IDENTITY = re.compile(r"[A-Za-z0-9][A-Za-z0-9@._+-]{0,127}")
_DIGITS = re.compile(r"[0-9]{1,18}")
_MOST_CHARACTERS = 4096
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
    """The settings of one worker. `worker` is empty for the first one; `concurrency` 0 means the number of CPUs."""

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
    docker_host: str
    policy_file: str

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


def identity(settings: Settings, hostname: str) -> str:
    """Return the name under which a worker owns jobs: the machine's, or the Celery node name that its options give it.

    Celery's own rules hold for the name: %h is the machine's, %n and %d its parts, and `w2` means `celery@w2`.
    Raises `SettingsError` for a name that is not fit for keys and labels.
    """
    option = _node_name(settings.words)
    name = hostname if option is None else _expanded(option if "@" in option else f"celery@{option}", hostname)
    if not _IDENTITY.fullmatch(name):
        raise errors.SettingsError(
            f"{PREFIX}OPTS: the worker's name {kinds.shown(name)} must be up to 128 letters, digits and the characters "
            "@ . _ + -; give it another with -n NAME"
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


def check_reload(before: Settings, after: Settings, hostname: str) -> None:
    """Check that a reload can lead from one worker's settings to others: the running jobs stay with their owner.

    Redis knows them by the worker's name, and their containers are this Docker's. Raises `SettingsError` for a change
    of one of the three; a new login to the same Redis is none.
    """
    changes = [
        (f"{PREFIX}BROKER_URL", _place(before.broker_url), _place(after.broker_url)),
        (f"{PREFIX}DOCKER_HOST", before.docker_host, after.docker_host),
        ("the worker's name", identity(before, hostname), identity(after, hostname)),
    ]
    for subject, old, new in changes:
        if old != new:
            raise errors.SettingsError(
                f"{subject} cannot change from {old} to {new} in a reload, which would leave the running jobs behind; "
                f"systemctl restart {after.unit} waits for them"
            )


def _place(url: str) -> str:
    """Return host, port and database of a Redis URL."""
    parts = urlsplit(url)
    if parts.scheme == SOCKET_SCHEME:
        return f"{parts.path}?db={database(url)}"
    return f"{parts.hostname}:{parts.port or 6379}/{database(url)}"


def database(url: str) -> str:
    """Return the number of the database in a Redis URL."""
    parts = urlsplit(url)
    if parts.scheme == SOCKET_SCHEME:
        return parse_qs(parts.query).get("db", ["0"])[-1]
    return parts.path.strip("/") or "0"


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
    return kinds.shown(masked(text[:_MOST_CHARACTERS]))


def masked(text: str) -> str:
    """Return the text with the passwords of a URL replaced by `***`, also where the URL has a mistake in it.

    Any other text comes back as it is.
    """
    masked_text = re.sub(r"//(?:([^\s:@/]*):)?[^\s]*@", lambda match: f"//{match[1] or ''}:***@", text)
    if masked_text == text or _SCHEME.match(text):
        masked_text = _LOGIN.sub(r"\1:***@", _MISSPELT.sub(r"\1\2***@", masked_text))
    return re.sub(r"(\w*(?:pass?w|secret|token)\w*=)[^\s&]*", r"\1***", masked_text, flags=re.IGNORECASE)


_SCHEME = re.compile(r"(?:rediss?|valkeys?|unix)\b(?!://)", re.IGNORECASE)
# A URL with a mistake before its password, or with none of its beginning.
_MISSPELT = re.compile(r"\b(rediss?|valkeys?|unix)([^\w\s@]{1,4})(?!\*\*\*@).*@", re.IGNORECASE)
_LOGIN = re.compile(r"(?<!\S)([^\s:@/=]+):(?!\*\*\*@)[^\s/@][^\s@]*@")


def _shown(value: object) -> str:
    if isinstance(value, tuple):
        return wording.harmless(masked(shlex.join(value)))
    return wording.harmless(masked(str(value)))


def _whole_number(low: int, high: int) -> Callable[[str], int]:
    def parse_number(text: str) -> int:
        if not _DIGITS.fullmatch(text) or not low <= int(text) <= high:
            raise ValueError(f"must be a whole number from {low} to {high}")
        return int(text)

    return parse_number


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


def _broker_url(text: str) -> str:
    example = "must look like redis://:PASSWORD@HOST:6379/0, rediss:// for TLS, or unix:///PATH for a socket"
    parts = _split_url(text, example)
    if "sentinel" in parts.scheme or "cluster" in parts.scheme:
        raise ValueError(f"Sentinel and Redis Cluster are not supported; the URL {example}")
    if parts.scheme == SOCKET_SCHEME:
        return _socket_url(text, parts)
    if parts.scheme not in BROKER_SCHEMES or not parts.hostname:
        raise ValueError(example)
    if parts.path.strip("/") and not _DIGITS.fullmatch(parts.path.strip("/")):
        raise ValueError(f"the database after the host must be a number; the URL {example}")
    verification = parse_qs(parts.query).get("ssl_cert_reqs", ["required"])[-1]
    if verification not in TLS_VERIFICATIONS:
        raise ValueError(f"ssl_cert_reqs must be one of {', '.join(TLS_VERIFICATIONS)}")
    return text


def _socket_url(text: str, parts: SplitResult) -> str:
    """Return the URL of a Unix socket; the database is among its options: there is a path in its place."""
    options = parse_qs(parts.query, keep_blank_values=True)
    if parts.hostname or not parts.path.strip("/") or set(options) - {"db"}:
        raise ValueError("a socket must look like unix:///PATH or unix://:PASSWORD@/PATH, with ?db=1 for a database")
    if not _DIGITS.fullmatch(options.get("db", ["0"])[-1]):
        raise ValueError("the database of a socket must be a number, as in unix:///PATH?db=1")
    return text


def _split_url(text: str, example: str) -> SplitResult:
    try:
        text.encode()
        parts = urlsplit(text)
        _ = parts.port
    except ValueError as exc:
        raise ValueError(example) from exc
    return parts


def _docker_host(text: str) -> str:
    if not text.startswith("unix:///"):
        raise ValueError("must be a local socket, unix:///PATH: containers read and write this host's folders")
    return text


def _absolute_path(text: str) -> str:
    if not text.startswith("/"):
        raise ValueError("must be an absolute path")
    return text


SETTINGS = (
    Setting("broker_url", "redis://127.0.0.1:6379/0", _broker_url),
    Setting("log_level", "DEBUG", _log_level),
    Setting("concurrency", "0", _whole_number(0, MAX_CONCURRENCY)),
    Setting("opts", "", _options),
    Setting("max_retries", "3", _whole_number(0, 1000)),
    Setting("retry_delay_s", "10", _whole_number(0, 86400), "RETRY_DELAY"),
    Setting("store_tasks_hours", "384", _whole_number(1, 87600)),
    Setting("systemd_timeout_s", "7200", _whole_number(1, 31_536_000), "SYSTEMD_TIMEOUT"),
    Setting("lost_after_s", "600", _whole_number(10, 86400), "LOST_AFTER"),
    Setting("docker_host", "unix:///var/run/docker.sock", _docker_host),
    Setting("policy_file", "/etc/celery-docker/policy.toml", _absolute_path, "POLICY"),
)
