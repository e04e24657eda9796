"""The flags of a job, and those that are the same in several commands of `celery-docker`.

Owns their words; the flags of a job come from `jobspec`. Pure, and imports nothing that is slow: a shell asks for it
at every TAB.
"""

from __future__ import annotations

from collections.abc import Iterator

from celery_docker.cli.syntax.grammar import Flag
from celery_docker.core import jobfields, kinds

# Help for flags that differ from the same field in a job document.
_JOB_HELP = {
    "--user": "run as this user of the worker's host; default: your own uid and gid",
    "--queue": "the queue; default: the one in client.conf, else celery",
    "--retries": "how often to retry a failure; default: the worker's setting, with run 0",
    "--script": "run this file as a script; its text goes with the job, which may be elsewhere",
    "--stdin": "the standard input of the command; the text of this file goes with the job",
    "--env": "set an environment variable; NAME alone takes your own value",
}


def _job_flags() -> Iterator[Flag]:
    for line in jobfields.DOCUMENT:
        if line.flags:
            about = _JOB_HELP.get(line.flag, line.help)
            words = tuple(line.kind.schema.get("enum", ()))
            yield Flag(line.flags, about, line.metavar, line.repeated, words=words)


HELP = Flag(("-h", "--help"), "show this help")
VERSION = Flag(("--version",), "show the version")
BROKER = Flag(("--broker",), "the Redis to use; default: see celery-docker config", "URL")
JSON = Flag(("--json",), "print JSON")
# Those of nearly every command.
ALWAYS = (BROKER, JSON, HELP)
QUIET = Flag(("-q", "--quiet"), "print ids only")
YES = Flag(("-y", "--yes"), "do not ask")
REASON = Flag(("--reason",), "the reason, for those who ask later", "TEXT", kind=kinds.TEXT)
WORKER = Flag(("--worker",), "the worker celery-worker@NAME, not the first one", "NAME", kind=kinds.TEXT)
WAIT_TIMEOUT = Flag(
    ("--timeout",),
    "stop waiting after this time, with status 124; default: for ever",
    "N[s|m|h|d]",
    kind=kinds.duration(0, 31_536_000),
)
JOB_FLAGS = tuple(_job_flags())
DOCUMENT_FLAGS = (
    Flag(("--env-file",), "set the variables in this file, one NAME=value a line", "FILE", repeated=True),
    Flag(("-f", "--file"), "read the job from this JSON document; flags override it", "FILE|-"),
    Flag(("--dry-run",), "queue nothing; print the job and the equivalent docker run command"),
)
