"""The parts of the man pages that come from tables: commands, flags, statuses, settings; as reStructuredText. Pure.

The pages themselves are in docs/man and include these parts; `debian/pages.py` joins them when the package is built.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

from celery_docker.cli import exitcodes
from celery_docker.cli.syntax import commandtable, flagtable, helptext
from celery_docker.cli.syntax.grammar import Command, Flag
from celery_docker.core.waiting import WaitKind

_OF_JOBS = (*flagtable.JOB_FLAGS, *flagtable.DOCUMENT_FLAGS)
_OF_ALL = (flagtable.HELP, flagtable.BROKER, flagtable.JSON, flagtable.QUIET)
_OF_PROGRAM = (flagtable.HELP, flagtable.VERSION)
# An asterisk and its kin begin markup; a dash at the beginning makes an option list; an address becomes a link.
_MARKUP = re.compile(r"^-|[\\*`|_@]|://")

_EXIT_STATUSES = (
    ("0", "The command did what was asked. Of run and wait: the job succeeded."),
    ("1 to 255", "Of run, and of wait for one job: the container's own exit code. Of wait for several: the highest."),
    (f"{exitcodes.REFUSED}", "Of doctor: something is wrong. Of policy check: the job would be refused."),
    (f"{exitcodes.USAGE}", "The command line or the job is not usable. A line on the standard error names the word."),
    (f"{exitcodes.NO_SUCH_JOB}", "There is no such job."),
    (
        f"{exitcodes.BAD_CONFIG}",
        "Of check-config and policy: the worker would not start with these settings or this policy.",
    ),
    (
        f"{exitcodes.TIMED_OUT}",
        "The job ran longer than its --timeout, or did not start within --expires; or the --timeout of wait was over.",
    ),
    (
        f"{exitcodes.NOT_RUN}",
        "Redis does not answer; or the job was rejected, was lost, or failed by its host's fault and not its own; or "
        "jobs of the batch are missing.",
    ),
    ("126, 127", "The container's command cannot be executed, or does not exist, as with docker run."),
    (f"{exitcodes.INTERRUPTED}", "Interrupted at the terminal."),
    (
        f"{exitcodes.KILLED}",
        "The container was killed. If that was for its memory, a line on the standard error says so.",
    ),
    (f"{exitcodes.CANCELLED}", "The job was cancelled; or SIGTERM ended the command, and the jobs go on."),
)

_WAITS: dict[WaitKind, str] = {
    WaitKind.SLOT: "A free slot on a host. jobs_before are served before it; it may be more than the first 1000.",
    WaitKind.ROOM: "Room: no host that could hold it has as much free of what it offers as the job needs. jobs_before "
    "need the same and are served before it.",
    WaitKind.OFFER: "A larger host: none that serves its queue offers what the job needs. It starts once one does.",
    WaitKind.PULL: "Its image, which the host pulls: so much has come, of those layers whose size is known.",
    WaitKind.RETRY: "The pause after an attempt that failed, and why it did; next_try_at is its end.",
    WaitKind.TIME: "The time for which it was sent, next_try_at.",
    WaitKind.SHARE: "Its submitter's other jobs: they have all his places in the queue; jobs_before are before it.",
    WaitKind.JOBS: "Other jobs, which have to succeed before it.",
    WaitKind.BATCH: "Its turn: the limit of its batch holds it back.",
    WaitKind.WORKER: "A worker: none is alive.",
    WaitKind.QUEUE: "A worker for its queue: no live one serves that.",
    WaitKind.HOST: "A host: each that serves its queue takes no jobs, and says why; or the host that has it is silent.",
    WaitKind.END: "Its end: somebody cancelled it, or it expired or was lost, and a host has to carry that out.",
}


def parts() -> dict[str, str]:
    """Return the parts of celery-docker(1), by file name."""
    return {
        "commands.rst": "\n".join(_command(command) for command in commandtable.COMMANDS),
        "job-flags.rst": _flags(_OF_JOBS),
        "common-flags.rst": _flags(_OF_ALL),
        "program-flags.rst": _flags(_OF_PROGRAM),
        "waits.rst": "\n".join(_entry(kind.value, text) for kind, text in _WAITS.items()),
        "exit-statuses.rst": "\n".join(_entry(*entry) for entry in _EXIT_STATUSES),
    }


def settings(text: str) -> str:
    """Return the entries of the page on a file of settings, from its comments; each setting is off in it."""
    blocks = [block.splitlines() for block in text.strip().split("\n\n")]
    return "\n".join(_setting(block) for block in blocks if _assignment(block))


def rules(text: str) -> str:
    """Return the entries of celery-docker-policy.toml(5) from the comments of the file.

    A rule, or the name of a table of rules, has one line, right behind its comment.
    """
    entries = []
    comments: list[str] = []
    for line in text.splitlines():
        if line.startswith("#"):
            comments.append(line.removeprefix("#").strip())
            continue
        if line:
            entries.append(_entry(line, " ".join(comments)))
        comments = []  # an empty line ends the comment of no rule, such as that on the file
    return "\n".join(entries)


def _command(command: Command) -> str:
    # The flags of a job stand once, for the commands that take one; others have a --queue and a --timeout of their own.
    elsewhere = (*_OF_JOBS, *_OF_ALL) if command.operands.literal else _OF_ALL
    usage = _escaped(command.usage)
    sentences = f"{_sentence(command.summary)} {command.about}".strip()
    examples = [f"    {line}" for title, typed in command.examples for line in (f"# {title}", typed)]
    return "\n".join(
        [
            *(usage, "-" * len(usage), "", _escaped(sentences), ""),
            _flags(flag for flag in command.flags if flag not in elsewhere),
            *("::", "", *examples, ""),
        ]
    )


def _flags(flags: Iterable[Flag]) -> str:
    return "\n".join(_entry(helptext.label(flag), _flag_text(flag)) for flag in flags)


def _flag_text(flag: Flag) -> str:
    return f"{_sentence(flag.help)} Repeatable." if flag.repeated else _sentence(flag.help)


def _sentence(text: str) -> str:
    return f"{text[0].upper()}{text[1:]}."


def _entry(term: str, text: str) -> str:
    return f"{_escaped(term)}\n    {_escaped(text)}\n"


def _escaped(text: str) -> str:
    """Return a text of which nothing is taken for markup."""
    return _MARKUP.sub(r"\\\g<0>", text)


def _setting(block: list[str]) -> str:
    return _entry(_assignment(block), " ".join(line.removeprefix("#").strip() for line in block[:-1]))


def _assignment(block: list[str]) -> str:
    """Return the assignment that a block of comments explains, as one would type it; empty if the block has none."""
    last = block[-1].removeprefix("#")
    return last if re.match(r"[A-Z_]+=", last) else ""
