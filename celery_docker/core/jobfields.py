"""The fields of a job document: the one table that validation, flags, manual and JSON schema are made of.

A new field is one line here and one in `jobspec.JobSpec`. Pure.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from celery_docker.core import (
    containerkinds,
    devicekinds,
    gpus,
    jobtexts,
    kinds,
    limitkinds,
    mountkinds,
    namedvalues,
    noticetargets,
    privilegekinds,
    tmpfskinds,
)

LONGEST_S = 31_536_000
LONGEST_GRACE_S = 300


@dataclass(frozen=True)
class Field:
    """One line of the contract: a field's name, what it may be, and what the command line and the manual say of it.

    `flags` are empty for what has a place of its own on the command line; one that is `repeated` adds a value each
    time. `const`: the flag takes no value and means this one.
    """

    name: str
    kind: kinds.Kind
    flags: tuple[str, ...]
    help: str
    positional: bool = False
    repeated: bool = False
    const: Any = None

    @property
    def parse(self) -> Callable[[Any], Any]:
        """Check a value as JSON says it and return what is stored; raises `ValueError`."""
        return self.kind.parse

    @property
    def from_text(self) -> Callable[[str], Any]:
        """Turn the text of a flag, of one of them if they are `repeated`, into what JSON would say."""
        return self.kind.from_text

    @property
    def metavar(self) -> str:
        """Return what stands for the value in a help text, empty where a flag takes none."""
        return self.kind.metavar if self.const is None else ""

    @property
    def schema(self) -> dict[str, Any]:
        """Return the field's part of the JSON schema."""
        about = self.help if self.const is None else f"{str(self.const).lower()}: {self.help}"
        return {**self.kind.schema, "description": about}

    @property
    def flag(self) -> str:
        """Return the name of the field on the command line: its long flag, else its own name."""
        return self.flags[-1] if self.flags else self.name

    def complaint(self, name: str, value: Any, exc: ValueError) -> str:
        """Return the words of a refused value; it is not in them where it may be secret."""
        return f"{name}: {kinds.shown(value)} {exc}" if self.kind.shown else f"{name}: {exc}"


_ON_THE_HOST = kinds.path("on the worker's host")

FIELDS = (
    Field("image", kinds.IMAGE, (), "the image to run", positional=True),
    Field("command", kinds.COMMAND, (), "the command; default: the image's own", positional=True),
    Field(
        "user",
        kinds.USER,
        ("-u", "--user"),
        "run as this user of the worker's host; default: the image's",
        positional=True,
    ),
    Field(
        "logoutfile",
        _ON_THE_HOST,
        ("--log-file",),
        "write the output here; without --err-file both streams",
        positional=True,
    ),
    Field("logerrfile", _ON_THE_HOST, ("--err-file",), "write the standard error here", positional=True),
    Field(
        "inputpath", _ON_THE_HOST, ("-i", "--input"), "mount this file or folder read-only at /input", positional=True
    ),
    Field("outputpath", _ON_THE_HOST, ("-o", "--output"), "mount this folder writable at /output", positional=True),
    Field(
        "retries", kinds.number(0, 1000), ("--retries",), "how often to retry a failure; default: the worker's setting"
    ),
    Field("retry_on", kinds.EXIT_CODES, ("--retry-on",), "retry only after these exit codes"),
    Field(
        "timeout", kinds.duration(1, LONGEST_S), ("--timeout",), "seconds after which a run is ended, without a retry"
    ),
    Field(
        "stop_signal", kinds.SIGNAL, ("--stop-signal",), "the signal to end with; default: the image's, else SIGTERM"
    ),
    Field(
        "stop_grace",
        kinds.duration(0, LONGEST_GRACE_S),
        ("--stop-timeout",),
        "seconds from that signal to KILL; default: 10",
    ),
    Field("env", namedvalues.ENVIRONMENT, ("-e", "--env"), "set a variable of the environment", repeated=True),
    Field("memory", kinds.MEMORY, ("-m", "--memory"), "the most memory, without swap; default: the host's policy"),
    Field("cpus", kinds.CPUS, ("--cpus",), "the most CPUs, like 2 or 0.5; default: the host's policy"),
    Field("gpus", gpus.GPUS, ("--gpus",), "how many GPUs the job has to itself, or which of its host's"),
    Field(
        "pids_limit",
        limitkinds.PIDS,
        ("--pids-limit",),
        "the most processes and threads; default: the host's policy",
    ),
    Field("shm_size", limitkinds.SPACE, ("--shm-size",), "the size of /dev/shm; default: Docker's, 64m"),
    Field("ulimits", limitkinds.ULIMIT, ("--ulimit",), "set a limit of each process; -1: unlimited", repeated=True),
    Field("cap_drop", privilegekinds.CAPABILITY, ("--cap-drop",), "take a capability away, or ALL", repeated=True),
    Field(
        "cap_add",
        privilegekinds.ADDED_CAPABILITY,
        ("--cap-add",),
        "add a capability, if the host's policy has it",
        repeated=True,
    ),
    Field(
        "group_add",
        privilegekinds.GROUP,
        ("--group-add",),
        "add a group of the worker's host, if its policy has it",
        repeated=True,
    ),
    Field(
        "device",
        devicekinds.DEVICE,
        ("--device",),
        "give the job a device of the host, if its policy has it",
        repeated=True,
    ),
    Field(
        "workdir",
        kinds.path("in the container"),
        ("-w", "--workdir"),
        "start the command in this folder of the container",
    ),
    Field("entrypoint", kinds.ENTRYPOINT, ("--entrypoint",), "replaces the image's entrypoint and its command"),
    Field(
        "script",
        jobtexts.SCRIPT,
        ("--script",),
        "run this text as a script, with the command as its arguments",
    ),
    Field("stdin", jobtexts.STDIN, ("--stdin",), "the standard input of the command: this text"),
    Field(
        "scratch",
        kinds.BOOLEAN,
        ("--scratch",),
        "an empty folder on disk for the run; HOME and TMPDIR name it",
        const=True,
    ),
    Field(
        "read_only",
        kinds.BOOLEAN,
        ("--read-only",),
        "the files of the image cannot be changed, only mounts",
        const=True,
    ),
    Field(
        "mounts",
        mountkinds.MOUNT,
        ("-v", "--mount", "--volume"),
        "mount a path of the worker's host, such as /data/ref:/ref:ro",
        repeated=True,
    ),
    Field(
        "tmpfs",
        tmpfskinds.TMPFS,
        ("--tmpfs",),
        "an empty folder in memory, such as /scratch:size=1g",
        repeated=True,
    ),
    Field("hostname", containerkinds.HOSTNAME, ("--hostname",), "the container's name for itself; default: its id"),
    Field("add_host", containerkinds.HOST, ("--add-host",), "a line of the container's /etc/hosts", repeated=True),
    Field("dns", containerkinds.ADDRESS, ("--dns",), "ask this server for names", repeated=True),
    Field(
        "network",
        kinds.choice(*kinds.NETWORKS),
        ("--network",),
        "the network; default: the first of the host's policy",
    ),
    Field("pull", kinds.choice(*kinds.PULLS), ("--pull",), "when to pull the image; default: missing"),
    Field("platform", containerkinds.PLATFORM, ("--platform",), "the platform of the image; default: the host's"),
    Field("name", kinds.NAME, ("--name",), "a name for people; several jobs may have the same"),
    Field("labels", namedvalues.LABELS, ("--label",), "put a label on the container", repeated=True),
    Field("requeue", kinds.BOOLEAN, ("--no-requeue",), "do not queue the job again when its host is lost", const=False),
    Field(
        "notify",
        noticetargets.TARGETS,
        ("--notify",),
        "send word of the end, of a batch once, if the host's policy has this",
        repeated=True,
    ),
)
OPTIONS = (
    Field("queue", kinds.QUEUE, ("--queue",), "the queue; default: celery"),
    Field("priority", kinds.number(0, 9), ("--priority",), "0 to 9, 0 is first; default: 0"),
    Field(
        "expires",
        kinds.duration(1, LONGEST_S),
        ("--expires",),
        "seconds that the job may wait for its start; default: for ever",
    ),
    Field("after", kinds.JOB_IDS, ("--after",), "start only after this job", repeated=True),
)
DOCUMENT = FIELDS + OPTIONS
# The fields that name files or folders of the worker's host.
HOST_PATHS = tuple(line.name for line in FIELDS if line.kind in (_ON_THE_HOST, mountkinds.MOUNT))


def completed(name: str, value: Any, complete: Callable[[str], str]) -> Any:
    """Return a value of one of `HOST_PATHS`, as a document has it, with its paths completed, such as made absolute."""
    if name == "mounts":
        return mountkinds.completed(value, complete)
    return complete(value) if isinstance(value, str) else value
