"""The job as its submitter asked for it: parsed once, at the edge, into a frozen value.

Owns the wire contract of the task `tasks.run_docker`: which arguments it takes, in which order, and what each may be.
The fields are in `jobfields`; a new one is one line there and one in `JobSpec`. Pure: whether a path exists or an image
can be pulled is not known here.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from celery_docker import errors
from celery_docker.core import devicekinds, kinds, mountkinds, notoffered
from celery_docker.core.jobfields import DOCUMENT, FIELDS, OPTIONS, Field
from celery_docker.core.mountkinds import MemoryMount, Mount

TASK_NAME = "tasks.run_docker"
DEFAULT_QUEUE = "celery"
CONTAINER_INPUT = "/input"
CONTAINER_OUTPUT = "/output"
# So many problems of one job are told in one line.
_MOST_PROBLEMS = 10
_POSITIONAL = tuple(line.name for line in FIELDS if line.positional)
_OF_SPEC, _OF_OPTIONS, _OF_DOCUMENT = ({line.name: line for line in lines} for lines in (FIELDS, OPTIONS, DOCUMENT))


@dataclass(frozen=True)
class JobSpec:
    """The container to run, as submitted. `None` means: not asked for.

    `command` is the argument vector, `entrypoint` the words before it; an empty one takes the image's own away.
    `retries` overrides the worker's setting for container failures; `retry_on` limits those retries to the given exit
    codes. `timeout` bounds each run, in seconds. `stop_signal` is what the container gets when it is to end, and
    `stop_grace` how many seconds it then has before KILL. `memory` and `shm_size` are in bytes. `gpus` is a number of
    them, `all`, or their names. `requeue` False: a job whose host is lost is not queued again. `ulimits` are
    `SOFT:HARD` by name, `add_host` lines of /etc/hosts as `NAME:ADDRESS`, `mounts` those beside input and output,
    `tmpfs` options by folder, `device` PATH:PATH IN THE CONTAINER:PERMISSIONS. `script` is a text that is the
    entrypoint, `stdin` one that is its standard input. `scratch` True: the container has an empty folder of its own.
    `notify` are mail addresses and names of targets. `env`, `script` and `stdin` may hold secrets.
    """

    image: str
    command: tuple[str, ...] | None = None
    user: str | None = None
    logoutfile: str | None = None
    logerrfile: str | None = None
    inputpath: str | None = None
    outputpath: str | None = None
    retries: int | None = None
    retry_on: tuple[int, ...] | None = None
    timeout: int | None = None
    stop_signal: str | None = None
    stop_grace: int | None = None
    env: Mapping[str, str] | None = field(default=None, repr=False)
    memory: int | None = None
    cpus: float | None = None
    gpus: int | str | tuple[str, ...] | None = None
    pids_limit: int | None = None
    shm_size: int | None = None
    ulimits: Mapping[str, str] | None = None
    cap_drop: tuple[str, ...] | None = None
    cap_add: tuple[str, ...] | None = None
    group_add: tuple[str, ...] | None = None
    device: tuple[str, ...] | None = None
    workdir: str | None = None
    entrypoint: tuple[str, ...] | None = None
    script: str | None = field(default=None, repr=False)
    stdin: str | None = field(default=None, repr=False)
    scratch: bool | None = None
    read_only: bool | None = None
    mounts: tuple[Mount, ...] | None = None
    tmpfs: Mapping[str, str] | None = None
    hostname: str | None = None
    add_host: tuple[str, ...] | None = None
    dns: tuple[str, ...] | None = None
    network: str | None = None
    pull: str | None = None
    platform: str | None = None
    name: str | None = None
    labels: Mapping[str, str] | None = None
    requeue: bool | None = None
    notify: tuple[str, ...] | None = None

    @property
    def device_paths(self) -> tuple[str, ...]:
        """The devices of the host that the job asks for, each once."""
        return tuple(dict.fromkeys(devicekinds.device_of(text)[0] for text in self.device or ()))

    @property
    def host_mounts(self) -> dict[str, Mount]:
        """All that the container is to see of the host, by the names of the fields; `mounts` are numbered."""
        own = {
            "inputpath": (self.inputpath, CONTAINER_INPUT, True),
            "outputpath": (self.outputpath, CONTAINER_OUTPUT, False),
        }
        given = {name: Mount(path, target, ro) for name, (path, target, ro) in own.items() if path is not None}
        return given | {f"mounts.{number}": mount for number, mount in enumerate(self.mounts or ())}

    @property
    def host_sources(self) -> dict[str, str]:
        """The paths of the host that the container is to see, by the names of `host_mounts`."""
        return {name: mount.source for name, mount in self.host_mounts.items()}

    @property
    def log_files(self) -> dict[str, str]:
        """The log files on the host, by the names of their fields."""
        paths = {"logoutfile": self.logoutfile, "logerrfile": self.logerrfile}
        return {name: path for name, path in paths.items() if path is not None}

    def to_kwargs(self) -> dict[str, Any]:
        """Return the JSON-ready keyword arguments that parse back to this spec; what is not set is left out."""
        return {name: json_ready(value) for name, value in vars(self).items() if value is not None}


@dataclass(frozen=True)
class Submission:
    """The options of a job's submission, beside its container.

    `priority` 0 is first, 9 last. `expires` is how many seconds the job may wait for its start, None: for ever. `after`
    are the jobs that have to end first.
    """

    queue: str = DEFAULT_QUEUE
    priority: int = 0
    expires: float | None = None
    after: tuple[str, ...] = ()


def parse(args: Sequence[Any], kwargs: Mapping[str, Any]) -> JobSpec:
    """Return the spec that a task's arguments describe.

    Raises `SpecError` with one line that names each bad field, its value and what is allowed.
    """
    if not isinstance(args, list | tuple) or not isinstance(kwargs, Mapping):
        raise errors.SpecError("a job's arguments must be a list and a table of keywords")
    values, problems = _bind(args, kwargs, _OF_SPEC)
    spec = _spec_values(values, problems)
    refuse(problems)
    return JobSpec(**spec)


def parse_document(document: Mapping[str, Any]) -> tuple[JobSpec, Submission]:
    """Return the spec and the submission that a job document (the fields of both in one table) describes.

    Raises `SpecError` like `parse`.
    """
    if not isinstance(document, Mapping):
        raise errors.SpecError("a job document must be a table of fields, like {'image': 'busybox'}")
    values, problems = _bind((), document, _OF_DOCUMENT)
    spec = _spec_values(values, problems)
    options = _values(_OF_OPTIONS, values, problems)
    refuse(problems)
    return JobSpec(**spec), Submission(**options)


def json_schema() -> dict[str, Any]:
    """Return the JSON Schema (draft 2020-12) of a job document."""
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "A job for celery-docker",
        "type": "object",
        "properties": {line.name: line.schema for line in DOCUMENT},
        "required": ["image"],
        "additionalProperties": False,
    }


def check_job_id(job_id: str) -> str:
    """Return the id; raises `SpecError` where it could not become part of a container's name."""
    try:
        return kinds.parse_job_id(job_id)
    except ValueError as exc:
        raise errors.SpecError(f"id: {kinds.shown(job_id)} {exc}") from exc


def _bind(
    args: Sequence[Any], kwargs: Mapping[str, Any], known: Mapping[str, Field]
) -> tuple[dict[str, Any], list[str]]:
    problems = []
    if len(args) > len(_POSITIONAL):
        problems.append(f"{len(args)} positional arguments are too many; they are {', '.join(_POSITIONAL)}")
    values = dict(zip(_POSITIONAL, args, strict=False))
    for name, value in kwargs.items():
        if name not in known:
            problems.append(f"{kinds.shown(name)} is not an argument{_why(name, list(known))}")
        elif name in values:
            problems.append(f"{name}: was given twice, by position and by keyword")
        else:
            values[name] = value
    return values, problems


def _why(name: Any, names: Sequence[str]) -> str:
    """Return the reason for which there is no such field, or the fields that there are."""
    reason = notoffered.of_key(name, {known: known for known in names}) if isinstance(name, str) else None
    return f": {reason}" if reason else f"; known are {', '.join(names)}"


def _spec_values(values: Mapping[str, Any], problems: list[str]) -> dict[str, Any]:
    parsed = _values(_OF_SPEC, values, problems)
    if values.get("image") is None:
        problems.append("image: is missing; name the image to run, like 'busybox'")
    problems += _contradictions(parsed)
    return parsed | _mount_values(parsed, problems)


def _contradictions(parsed: Mapping[str, Any]) -> list[str]:
    """Return the problems of fields that do not go together."""
    problems = []
    path = parsed.get("inputpath")
    if path is not None and path == parsed.get("outputpath"):
        problems.append(
            f"outputpath: {kinds.shown(path)} is the inputpath too; they must differ: {CONTAINER_INPUT} is read-only"
        )
    if "script" in parsed and "entrypoint" in parsed:
        problems.append(
            "entrypoint: a job with a script has none, for the script is what is run; leave one of them out"
        )
    return problems


def _mount_values(parsed: Mapping[str, Any], problems: list[str]) -> dict[str, Any]:
    """Return the mounts of the host, and all folders in memory, whichever field names them."""
    if "mounts" not in parsed and "tmpfs" not in parsed:
        return {}
    mounts, in_memory = mountkinds.divided(parsed.get("mounts") or ())
    tmpfs = parsed.get("tmpfs") or {}
    problems += [
        f"mounts: {kinds.shown(path)} is a tmpfs too; write one of them" for path in in_memory if path in tmpfs
    ]
    problems += mountkinds.nested(mounts, [*tmpfs, *in_memory])
    return {"mounts": mounts or None, "tmpfs": {**tmpfs, **in_memory} or None}


def _values(known: Mapping[str, Field], values: Mapping[str, Any], problems: list[str]) -> dict[str, Any]:
    """Return the parsed values; a problem is added to `problems`."""
    parsed = {}
    for name, line in known.items():
        value = values.get(name)
        if value is None:
            continue
        try:
            parsed[name] = line.parse(value)
        except ValueError as exc:
            problems.append(line.complaint(name, value, exc))
    return parsed


def refuse(problems: Sequence[str]) -> None:
    """Raise `SpecError` with the problems of one job in one line; nothing where there is none."""
    if problems:
        rest = [f"and {len(problems) - _MOST_PROBLEMS:,} more like these"] if len(problems) > _MOST_PROBLEMS else []
        raise errors.SpecError("; ".join([*problems[:_MOST_PROBLEMS], *rest]))


def json_ready(value: Any) -> Any:
    """Return a field's value as JSON has it."""
    if isinstance(value, tuple):
        return [json_ready(item) for item in value]
    if isinstance(value, Mount | MemoryMount):
        return value.table()
    return dict(value) if isinstance(value, Mapping) else value
