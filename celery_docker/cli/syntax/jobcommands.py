"""The commands that submit jobs and batches, show them and end them; `commandtable` says what else is true of them."""

from __future__ import annotations

from celery_docker.cli.syntax import flagtable
from celery_docker.cli.syntax.grammar import Command, Flag, Operands
from celery_docker.core import kinds
from celery_docker.core.lifecycle import State

LAST = "@last"
_IMAGE = Operands("IMAGE [COMMAND] [ARG...]", 0, None, literal=True)
_JOBS = Operands("JOB...", 1, None, words=(LAST,))
_JOB_OR_BATCH = Operands("JOB|BATCH...", 1, None, words=(LAST,))
_BATCH = Operands("[BATCH]", 0, 1, words=(LAST,))
_EXIT = "The exit status is the container's; see EXIT STATUS in celery-docker(1)."

COMMANDS = (
    Command(
        "run",
        "submit",
        "queue a job, show its output, and exit with its code",
        _IMAGE,
        (*flagtable.JOB_FLAGS, *flagtable.DOCUMENT_FLAGS, *flagtable.ALWAYS),
        (
            ("a sum of a file", "celery-docker run -i data.txt busybox md5sum /input"),
            ("with limits", "celery-docker run -m 2g --cpus 1 -o out python:3 python -c 'print(1)'"),
            ("a script of yours", "celery-docker run --script fit.py -o out python:3 --rate 0.5"),
            ("what would be done", "celery-docker run --dry-run busybox true"),
        ),
        "Flags after IMAGE belong to the command. Every byte of the output is shown, at its reader's pace. Ctrl-C or "
        "SIGTERM cancels the job; a second Ctrl-C leaves at once. Without --retries a job that fails is not retried, "
        f"so that no output comes twice. {_EXIT}",
    ),
    Command(
        "submit",
        "submit",
        "queue a job and print its id",
        _IMAGE,
        (*flagtable.JOB_FLAGS, *flagtable.DOCUMENT_FLAGS, flagtable.QUIET, *flagtable.ALWAYS),
        (
            ("keep the id", "id=$(celery-docker submit -i data.txt -o out busybox md5sum /input)"),
            ("one after the other", "celery-docker submit --after $id busybox true"),
            ("from a document", """echo '{"image": "busybox", "command": ["true"]}' | celery-docker submit -f -"""),
        ),
        "Flags after IMAGE belong to the command. The standard output is the id only.",
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
            Flag(
                ("--manifest",),
                "a job for each line of this CSV or JSON Lines file; {name} is its column",
                "FILE|-",
            ),
            Flag(("--limit",), "run at most so many jobs of the batch at once", "N", kind=kinds.number(1, 1_000_000)),
            Flag(("--skip-done",), "leave out jobs that succeeded before with the same arguments and output folder"),
            Flag(("--wait",), "show the progress, wait for the end, and exit with the highest exit code"),
            *flagtable.JOB_FLAGS,
            *flagtable.DOCUMENT_FLAGS,
            flagtable.QUIET,
            *flagtable.ALWAYS,
        ),
        (
            (
                "a job for each file",
                "celery-docker batch --each 'scans/*.nii' -o out tool:2 process /input /output/{/.}",
            ),
            ("a hundred numbers, eight at once", "celery-docker batch --array 1-100%8 busybox echo {}"),
            ("a line of a table each", "celery-docker batch --manifest runs.csv tool:2 fit --rate {rate}"),
        ),
        "Every job is checked before the first is queued. In the command and the flags that you type, {} is the path, "
        "{/} its name, {.} the path without extension, {/.} the name without extension, {//} its folder, {#} the job's "
        "number. Braces stay as they are in documents, scripts, env files, your environment and the names of folders. "
        "Without {} and -i the path is the job's input. A column of a manifest is data: {name} is its text. A column "
        "sets a field of the job only if it is named job. and the field, like job.memory, job.timeout or job.image. "
        "The command prints the id of the batch. --skip-done knows earlier successes by a hidden marker in the output "
        "folder, or, while that folder is there, by the job's record in Redis. The markers are written at the end of "
        "a batch with --skip-done, by watch or --wait, and by the next --skip-done.",
    ),
    Command(
        "ps",
        "show",
        "list jobs",
        Operands(),
        (
            Flag(("-a", "--all"), "list ended jobs too, the newest first"),
            Flag(
                ("-n", "--last"),
                "at most so many jobs; default: 100, with -q all",
                "N",
                kind=kinds.number(1, 1_000_000),
            ),
            Flag(("--state",), "only jobs in this state", "STATE", repeated=True, words=tuple(State)),
            Flag(("--queue",), "only jobs in this queue", "NAME", kind=kinds.QUEUE),
            Flag(("--batch",), "only jobs of this batch", "BATCH", kind=kinds.TEXT, words=(LAST,)),
            Flag(("--no-trunc",), "show whole ids and cut no column"),
            flagtable.QUIET,
            *flagtable.ALWAYS,
        ),
        (
            ("running and waiting jobs", "celery-docker ps"),
            ("jobs that failed", "celery-docker ps --all --state failed"),
            ("cancel all waiting jobs", "celery-docker ps -q --state queued | xargs -r celery-docker cancel"),
        ),
    ),
    Command(
        "status",
        "show",
        "show the state of jobs, batches or the whole queue",
        Operands("[JOB|BATCH...]", 0, None, words=(LAST,)),
        flagtable.ALWAYS,
        (
            ("the last job or batch", "celery-docker status @last"),
            ("in a script", "celery-docker status --json $id | jq -r .state"),
            ("the load of the queue", "celery-docker status"),
        ),
        "Of a job that waits it says for what; of one that is tried again, why the last attempt failed. Without an id "
        "it shows how many jobs wait and run, and the workers.",
    ),
    Command(
        "results",
        "show",
        "list the results of jobs, or of the jobs of a batch",
        Operands("[JOB|BATCH...]", 0, None, words=(LAST,)),
        (
            Flag(("--failed",), "only jobs that did not succeed"),
            Flag(("--no-trunc",), "show whole ids and cut no column"),
            flagtable.QUIET,
            *flagtable.ALWAYS,
        ),
        (("the failures", "celery-docker results --failed"), ("all of it", "celery-docker results --json BATCH")),
        "Without an id it lists the job or batch that you submitted last. --json prints the receipts, one on each "
        "line.",
    ),
    Command(
        "logs",
        "logs",
        "show the output of a job",
        Operands("JOB", 1, 1, words=(LAST,)),
        (
            Flag(("-f", "--follow"), "follow the output until the job ends"),
            Flag(
                ("-n", "--lines"),
                "the last N lines; default: all lines that are kept",
                "N",
                kind=kinds.number(0, 10**9),
            ),
            Flag(("--stdout",), "the standard output only"),
            Flag(("--stderr",), "the standard error only"),
            *flagtable.ALWAYS,
        ),
        (
            ("follow it from any machine", "celery-docker logs -f @last"),
            ("the last lines", "celery-docker logs -n 5 JOB"),
        ),
        "Redis keeps the last 256 KiB while a job runs and for an hour afterwards, then 64 KiB. The job's --log-file "
        "has all of the output. While -f follows, nothing of it is dropped. Ctrl-C ends the display and not the job.",
    ),
    Command(
        "wait",
        "jobs",
        "wait until jobs have ended",
        _JOB_OR_BATCH,
        (flagtable.WAIT_TIMEOUT, flagtable.QUIET, *flagtable.ALWAYS),
        (("in a script", "celery-docker wait $id && echo well done"),),
        "The exit status is the job's own exit code, for several jobs the highest. Ctrl-C ends the waiting and not "
        "the jobs.",
    ),
    Command(
        "watch",
        "batch",
        "show the progress of a batch until its end",
        _BATCH,
        flagtable.ALWAYS,
        (("the last batch", "celery-docker watch"),),
        "It shows a bar on a terminal and plain lines elsewhere. At the end come the first failures, and the command "
        "that runs them again. Ctrl-C ends the display and not the batch.",
    ),
    Command(
        "cancel",
        "jobs",
        "cancel jobs: queued, waiting or running",
        _JOB_OR_BATCH,
        (flagtable.REASON, flagtable.QUIET, *flagtable.ALWAYS),
        (
            ("the last job or batch", "celery-docker cancel @last"),
            ("with a reason", "celery-docker cancel --reason 'wrong data' JOB"),
        ),
        "The cancel is stored in Redis: it holds for a job that is queued, waits for a retry, or whose worker is down.",
    ),
    Command(
        "retry",
        "batch",
        "queue ended jobs again",
        Operands("[JOB...]", 0, None, words=(LAST,)),
        (
            Flag(("--failed",), "the jobs of this batch that did not succeed", "BATCH", kind=kinds.TEXT, words=(LAST,)),
            flagtable.QUIET,
            *flagtable.ALWAYS,
        ),
        (("one job", "celery-docker retry JOB"), ("the failed jobs of a batch", "celery-docker retry --failed BATCH")),
        "Each job gets a new id, which is printed; its old record is kept. With --failed the new jobs take the "
        "places of the old ones in the batch, and the id of the batch is printed.",
    ),
    Command(
        "inspect",
        "show",
        "print all facts about jobs as JSON",
        _JOBS,
        (flagtable.BROKER, flagtable.HELP),
        (("the number of attempts", "celery-docker inspect @last | jq '.[0].attempts | length'"),),
    ),
)
