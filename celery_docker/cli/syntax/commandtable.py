"""The commands of `celery-docker`: the one table that parser, help, completion and man page are made of.

Owns each command's words; the flags of a job come from `jobspec`. Pure, and imports nothing that is slow: a shell asks
for it at every TAB. A command is done by the function of its name in `celery_docker.cli.commands.<module>`.
"""

from __future__ import annotations

from collections.abc import Iterator

from celery_docker.cli.syntax.grammar import Command, Flag, Operands
from celery_docker.core import jobspec, kinds
from celery_docker.core.lifecycle import State

SUMMARY = "queue container jobs, and see what became of them"
LAST = "@last"


def find(name: str) -> Command | None:
    """Return the command of that name, None if there is none."""
    return next((command for command in COMMANDS if command.name == name), None)


# Where the command line means something else than the same field in a job document.
_JOB_HELP = {
    "--user": "run as this user of the worker's host; default: your own uid and gid",
    "--queue": "the queue; default: the one in client.conf, else celery",
    "--env": "set a variable of the environment; NAME alone takes your own value of it",
}


def _job_flags() -> Iterator[Flag]:
    for line in jobspec.DOCUMENT:
        if line.flags:
            about = _JOB_HELP.get(line.flag, line.help)
            words = tuple(line.kind.schema.get("enum", ()))
            yield Flag(line.flags, about, line.metavar, line.repeated, words=words)


def _state_names() -> tuple[str, ...]:
    return tuple(state.value for state in State)


HELP = Flag(("-h", "--help"), "show this help")
VERSION = Flag(("--version",), "show the version")
BROKER = Flag(("--broker",), "the Redis to use; default: see celery-docker config", "URL")
JSON = Flag(("--json",), "print JSON")
QUIET = Flag(("-q", "--quiet"), "print ids only")
YES = Flag(("-y", "--yes"), "do not ask")
FOR_EVER = "; default: for ever"

_ALWAYS = (BROKER, JSON, HELP)
JOB_FLAGS = tuple(_job_flags())
DOCUMENT_FLAGS = (
    Flag(("--env-file",), "set the variables in this file, one NAME=value a line", "FILE", repeated=True),
    Flag(("-f", "--file"), "read the job from this JSON document; flags go over it", "FILE|-"),
    Flag(("--dry-run",), "queue nothing; print the job, and the docker run line that does the same"),
)
_REASON = Flag(("--reason",), "say why, for those who ask later", "TEXT", kind=kinds.TEXT)
_WAIT_TIMEOUT = Flag(
    ("--timeout",),
    f"give up waiting after this time, with status 124{FOR_EVER}",
    "N[s|m|h|d]",
    kind=kinds.duration(0, 31_536_000),
)
_IMAGE = Operands("IMAGE [COMMAND] [ARG...]", 0, None, literal=True)
_JOBS = Operands("JOB...", 1, None, words=(LAST,))
_JOB_OR_BATCH = Operands("JOB|BATCH...", 1, None, words=(LAST,))
_BATCH = Operands("[BATCH]", 0, 1, words=(LAST,))
_HOSTS = Operands("[HOST...]", 0, None)
_EXIT = "Exits with the container's own code; see EXIT STATUS in celery-docker(1)."

COMMANDS = (
    Command(
        "run",
        "submit",
        "queue a job, show its output, and exit with its code",
        _IMAGE,
        (*JOB_FLAGS, *DOCUMENT_FLAGS, *_ALWAYS),
        (
            ("a sum of a file", "celery-docker run -i data.txt busybox md5sum /input"),
            ("with limits", "celery-docker run -m 2g --cpus 1 -o out python:3 python -c 'print(1)'"),
            ("what would be done", "celery-docker run --dry-run busybox true"),
        ),
        f"Flags after IMAGE belong to the command. Ctrl-C cancels the job; a second one leaves at once. {_EXIT}",
    ),
    Command(
        "submit",
        "submit",
        "queue a job and print its id",
        _IMAGE,
        (*JOB_FLAGS, *DOCUMENT_FLAGS, QUIET, *_ALWAYS),
        (
            ("keep the id", "id=$(celery-docker submit -i data.txt -o out busybox md5sum /input)"),
            ("one after the other", "celery-docker submit --after $id busybox true"),
            ("from a document", """echo '{"image": "busybox", "command": ["true"]}' | celery-docker submit -f -"""),
        ),
        "Flags after IMAGE belong to the command. Nothing but the id goes to the standard output.",
    ),
    Command(
        "batch",
        "batch",
        "queue a job for each file, number or line of a table",
        _IMAGE,
        (
            Flag(("--each",), "a job for each file that matches; {} is its path", "GLOB", repeated=True),
            Flag(("--each-from",), "a job for each line of this file", "FILE|-"),
            Flag(("--array",), "a job for each number, like 1-100, 0-99:2, or 1-100%8 for eight at once", "SPEC"),
            Flag(("--manifest",), "a job for each line of this CSV or JSON Lines file; {name} is a column", "FILE|-"),
            Flag(("--limit",), "run at most so many of the batch at once", "N", kind=kinds.number(1, 1_000_000)),
            Flag(("--skip-done",), "leave out what has succeeded before with the same job and output folder"),
            Flag(("--wait",), "show the progress, wait for the end and exit with the highest code"),
            *JOB_FLAGS,
            *DOCUMENT_FLAGS,
            QUIET,
            *_ALWAYS,
        ),
        (
            (
                "a job for each file",
                "celery-docker batch --each 'scans/*.nii' -o out tool:2 process /input /output/{/.}",
            ),
            ("a hundred numbers, eight at once", "celery-docker batch --array 1-100%8 busybox echo {}"),
            ("a line of a table each", "celery-docker batch --manifest runs.csv tool:2 fit --rate {rate}"),
        ),
        "Every job is checked before the first is queued. In the command and in flags {} is the path, {/} its name, "
        "{.} without extension, {/.} name without extension, {//} its folder, {#} the job's number. Without {} and -i "
        "the path becomes the job's input. Prints the id of the batch. --skip-done knows what succeeded before by a "
        "marker in the output folder, and by Redis as long as that keeps the job and the folder is there; it leaves "
        "such markers.",
    ),
    Command(
        "ps",
        "show",
        "list jobs: those that have not ended, or the latest",
        Operands(),
        (
            Flag(("-a", "--all"), "the jobs that have ended too, the latest first"),
            Flag(("-n", "--last"), "at most so many; default: 100, with -q all", "N", kind=kinds.number(1, 1_000_000)),
            Flag(("--state",), "only jobs in this state", "STATE", repeated=True, words=_state_names()),
            Flag(("--queue",), "only jobs of this queue", "NAME", kind=kinds.QUEUE),
            Flag(("--batch",), "only jobs of this batch", "BATCH", kind=kinds.TEXT, words=(LAST,)),
            Flag(("--no-trunc",), "cut nothing, and show whole ids"),
            QUIET,
            *_ALWAYS,
        ),
        (
            ("what runs and waits", "celery-docker ps"),
            ("what failed lately", "celery-docker ps --all --state failed"),
            ("cancel all that wait", "celery-docker ps -q --state queued | xargs -r celery-docker cancel"),
        ),
    ),
    Command(
        "status",
        "show",
        "say where jobs, batches or the whole queue are",
        Operands("[JOB|BATCH...]", 0, None, words=(LAST,)),
        _ALWAYS,
        (
            ("the last one", "celery-docker status @last"),
            ("in a script", "celery-docker status --json $id | jq -r .state"),
            ("is there much to do", "celery-docker status"),
        ),
        "Without a name: how many jobs wait and run, and how many workers there are.",
    ),
    Command(
        "results",
        "show",
        "list how jobs, or those of a batch, ended",
        Operands("[JOB|BATCH...]", 0, None, words=(LAST,)),
        (
            Flag(("--failed",), "only those that did not succeed"),
            Flag(("--no-trunc",), "cut nothing, and show whole ids"),
            QUIET,
            *_ALWAYS,
        ),
        (("the failures", "celery-docker results --failed"), ("all of it", "celery-docker results --json BATCH")),
        "Without a name: what was submitted last. With --json the receipts, one a line.",
    ),
    Command(
        "logs",
        "logs",
        "show what a job has printed",
        Operands("JOB", 1, 1, words=(LAST,)),
        (
            Flag(("-f", "--follow"), "go on until the job ends"),
            Flag(
                ("-n", "--lines"),
                "the last so many lines; default: all that is kept",
                "N",
                kind=kinds.number(0, 10**9),
            ),
            Flag(("--stdout",), "the standard output only"),
            Flag(("--stderr",), "the standard error only"),
            *_ALWAYS,
        ),
        (
            ("follow it from any machine", "celery-docker logs -f @last"),
            ("its last words", "celery-docker logs -n 5 JOB"),
        ),
        "Redis keeps the last 256 KiB while a job runs and for an hour afterwards, then 64 KiB. All of it is in the "
        "job's --log-file. Ctrl-C ends the display and not the job.",
    ),
    Command(
        "wait",
        "jobs",
        "wait until jobs have ended",
        _JOB_OR_BATCH,
        (_WAIT_TIMEOUT, QUIET, *_ALWAYS),
        (("in a script", "celery-docker wait $id && echo well done"),),
        "Exits with the job's own code, of several with the highest. Ctrl-C ends the waiting and not the jobs.",
    ),
    Command(
        "watch",
        "batch",
        "show the progress of a batch until its end",
        _BATCH,
        _ALWAYS,
        (("the last batch", "celery-docker watch"),),
        "A bar on a terminal, plain lines elsewhere, then the first failures and how to run them again.",
    ),
    Command(
        "cancel",
        "jobs",
        "end jobs, wherever they are",
        _JOB_OR_BATCH,
        (_REASON, QUIET, *_ALWAYS),
        (
            ("the last one", "celery-docker cancel @last"),
            ("with a reason", "celery-docker cancel --reason 'wrong data' JOB"),
        ),
        "The mark is kept in Redis: it holds for a job that is queued, waits for a retry, or whose worker is down.",
    ),
    Command(
        "retry",
        "batch",
        "queue jobs that have ended once more",
        Operands("[JOB...]", 0, None, words=(LAST,)),
        (
            Flag(("--failed",), "those of this batch that did not succeed", "BATCH", kind=kinds.TEXT, words=(LAST,)),
            QUIET,
            *_ALWAYS,
        ),
        (("one job", "celery-docker retry JOB"), ("what failed of a batch", "celery-docker retry --failed BATCH")),
        "Each gets a new id, which is printed; what it was before is kept. With --failed the id of the batch is "
        "printed, in which the new jobs take the places of the old.",
    ),
    Command(
        "inspect",
        "show",
        "print all that is known of jobs, as JSON",
        _JOBS,
        (BROKER, HELP),
        (("how often it was tried", "celery-docker inspect @last | jq '.[0].attempts | length'"),),
    ),
    Command(
        "workers",
        "hosts",
        "list the hosts that run jobs",
        Operands(),
        (QUIET, *_ALWAYS),
        (("their names", "celery-docker workers -q"),),
    ),
    Command(
        "drain",
        "hosts",
        "let hosts take no more jobs",
        _HOSTS,
        (_REASON, *_ALWAYS),
        (("before a repair", "celery-docker drain --reason 'new disk' node3"),),
        "Without a name: this host. What runs there goes on. It holds until `celery-docker resume`.",
    ),
    Command(
        "resume",
        "hosts",
        "let hosts take jobs again",
        _HOSTS,
        _ALWAYS,
        (("after the repair", "celery-docker resume node3"),),
    ),
    Command(
        "queue",
        "queue",
        "say how many jobs wait, or cancel them",
        Operands("[length|purge]", 0, 1, words=("length", "purge")),
        (
            Flag(("--queue",), "the queue; default: the one in client.conf, else celery", "NAME", kind=kinds.QUEUE),
            YES,
            *_ALWAYS,
        ),
        (
            ("how many wait", "celery-docker queue"),
            ("cancel all of them", "celery-docker queue purge --queue night"),
        ),
        "purge cancels every job of the queue that no host has taken, whoever submitted it: those that wait for their "
        "time, for other jobs or for their batch too. Those that run go on. On a terminal it asks first, elsewhere it "
        "wants --yes.",
    ),
    Command(
        "doctor",
        "doctor",
        "find what is wrong, and say what to do",
        Operands(),
        _ALWAYS,
        (("at three in the morning", "celery-docker doctor"),),
        "Looks at Redis, at the workers and, where one is installed, at this host. Exits with 1 if something failed.",
    ),
    Command(
        "config",
        "config",
        "show the settings in use, and where each came from",
        Operands(),
        _ALWAYS,
        (("which Redis is it", "celery-docker config"),),
    ),
    Command(
        "completion",
        "config",
        "print a shell's completion script",
        Operands("bash|zsh|fish", 1, 1, words=("bash", "zsh", "fish")),
        (HELP,),
        (("where the package is not installed", "source <(celery-docker completion bash)"),),
    ),
)
