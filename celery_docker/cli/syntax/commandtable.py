"""The commands of `celery-docker`: the one table that parser, help, completion and man page are made of.

Owns each command's words; the flags of a job, and those that are the same everywhere, come from `flagtable`. Pure, and
imports nothing that is slow: a shell asks for it at every TAB. A command is done by the function of its name, `-` being
`_`, in `celery_docker.cli.commands.<module>`.
"""

from __future__ import annotations

from celery_docker.cli.syntax import flagtable
from celery_docker.cli.syntax.grammar import Command, Flag, Operands
from celery_docker.core import kinds
from celery_docker.core.lifecycle import State

SUMMARY = "queue container jobs, and see what became of them"
LAST = "@last"


def find(name: str) -> Command | None:
    """Return the command of that name, None if there is none."""
    return next((command for command in COMMANDS if command.name == name), None)


_ALWAYS = (flagtable.BROKER, flagtable.JSON, flagtable.HELP)
_IMAGE = Operands("IMAGE [COMMAND] [ARG...]", 0, None, literal=True)
_JOBS = Operands("JOB...", 1, None, words=(LAST,))
_JOB_OR_BATCH = Operands("JOB|BATCH...", 1, None, words=(LAST,))
_BATCH = Operands("[BATCH]", 0, 1, words=(LAST,))
_HOSTS = Operands("[HOST...]", 0, None)
_EXIT = "The exit status is the container's; see EXIT STATUS in celery-docker(1)."

COMMANDS = (
    Command(
        "run",
        "submit",
        "queue a job, show its output, and exit with its code",
        _IMAGE,
        (*flagtable.JOB_FLAGS, *flagtable.DOCUMENT_FLAGS, *_ALWAYS),
        (
            ("a sum of a file", "celery-docker run -i data.txt busybox md5sum /input"),
            ("with limits", "celery-docker run -m 2g --cpus 1 -o out python:3 python -c 'print(1)'"),
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
        (*flagtable.JOB_FLAGS, *flagtable.DOCUMENT_FLAGS, flagtable.QUIET, *_ALWAYS),
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
        "Every job is checked before the first is queued. In the command and the flags that you type, {} is the path, "
        "{/} its name, {.} the path without extension, {/.} the name without extension, {//} its folder, {#} the job's "
        "number. Braces stay as they are in documents, env files, your environment and the names of folders. Without "
        "{} and -i the path is the job's input. A column of a manifest is data: {name} is its text. A column sets a "
        "field of the job only if it is named job. and the field, like job.memory, job.timeout or job.image. The "
        "command prints the id of the batch. --skip-done knows earlier successes by a hidden marker in the output "
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
            *_ALWAYS,
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
        _ALWAYS,
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
            *_ALWAYS,
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
            *_ALWAYS,
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
        (flagtable.WAIT_TIMEOUT, flagtable.QUIET, *_ALWAYS),
        (("in a script", "celery-docker wait $id && echo well done"),),
        "The exit status is the job's own exit code, for several jobs the highest. Ctrl-C ends the waiting and not "
        "the jobs.",
    ),
    Command(
        "watch",
        "batch",
        "show the progress of a batch until its end",
        _BATCH,
        _ALWAYS,
        (("the last batch", "celery-docker watch"),),
        "It shows a bar on a terminal and plain lines elsewhere. At the end come the first failures, and the command "
        "that runs them again. Ctrl-C ends the display and not the batch.",
    ),
    Command(
        "cancel",
        "jobs",
        "cancel jobs: queued, waiting or running",
        _JOB_OR_BATCH,
        (flagtable.REASON, flagtable.QUIET, *_ALWAYS),
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
            *_ALWAYS,
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
    Command(
        "workers",
        "hosts",
        "list the hosts that run jobs",
        Operands(),
        (flagtable.QUIET, *_ALWAYS),
        (("their names", "celery-docker workers -q"),),
    ),
    Command(
        "drain",
        "hosts",
        "keep hosts from taking new jobs",
        _HOSTS,
        (flagtable.REASON, *_ALWAYS),
        (("before a repair", "celery-docker drain --reason 'new disk' node3"),),
        "Without a name it drains this machine, with all of its workers. Running jobs go on. The drain holds until "
        "celery-docker resume.",
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
        "show how many jobs wait, cancel them, or list refused messages",
        Operands(
            "[length|purge|refused|put-back NUMBER...|throw-away NUMBER...]",
            0,
            None,
            words=("length", "purge", "refused", "put-back", "throw-away", "all"),
        ),
        (
            Flag(("--queue",), "the queue; default: the one in client.conf, else celery", "NAME", kind=kinds.QUEUE),
            flagtable.YES,
            *_ALWAYS,
        ),
        (
            ("the number of waiting jobs", "celery-docker queue"),
            ("cancel all jobs of a queue", "celery-docker queue purge --queue night"),
            ("list the refused messages", "celery-docker queue refused"),
            ("put two of them back", "celery-docker queue put-back 3 4"),
            ("throw all of them away", "celery-docker queue throw-away all"),
        ),
        "purge cancels every job of the queue that no host has taken, no matter who submitted it, also jobs that "
        "wait for "
        "a retry, for other jobs or for their batch. Running jobs go on. On a terminal purge asks first; elsewhere it "
        "needs --yes. A message that no worker can run is refused: it is put aside, with the reason. If it names its "
        "job, "
        "the job ends as rejected. put-back sends the message again, after an upgrade for example. NUMBER is that of "
        "the list, all stands for every one. The last 500 are kept, and the text of those up to 64 KiB; a longer one "
        "cannot be put back.",
    ),
    Command(
        "doctor",
        "doctor",
        "find problems, and show what to do about them",
        Operands(),
        _ALWAYS,
        (("check everything", "celery-docker doctor"),),
        "It checks Redis, the workers and, where a worker is installed, this host. The exit status is 1 if a check "
        "failed.",
    ),
    Command(
        "config",
        "config",
        "show the settings in use and their sources",
        Operands(),
        _ALWAYS,
        (("the Redis in use", "celery-docker config"),),
    ),
    Command(
        "check-config",
        "checkconfig",
        "check the worker's settings and policy before a reload",
        Operands("[FILE]", 0, 1),
        (flagtable.HELP, flagtable.WORKER),
        (
            ("before systemctl reload celery-worker", "sudo celery-docker check-config"),
            ("before systemctl reload celery-worker@gpu", "sudo celery-docker check-config --worker gpu"),
        ),
        "It reads FILE, by default /etc/default/celery-worker, and the policy that it names, as the worker would, and "
        "changes nothing. With --worker that file is read first, and FILE is /etc/default/celery-worker-NAME. The exit "
        "status is 78 if the worker would not start with them. Redis and Docker are for celery-docker doctor.",
    ),
    Command(
        "setup-redis",
        "setupredis",
        "make a Redis for this queue alone that survives a power cut",
        Operands(),
        (
            flagtable.HELP,
            Flag(("--dry-run",), "say what would be changed, and change nothing"),
            Flag(("--remove",), "undo it; jobs and results stay on disk, for the next setup"),
            Flag(("--delete-data",), "with --remove: remove jobs and results too"),
            Flag(("--leave-jobs",), "go on although jobs run or wait; they stay in the Redis that is left"),
            Flag(("--port",), "its port on this host; default: 6380", "N", kind=kinds.number(1, 65535)),
            flagtable.YES,
        ),
        (
            ("what it would change", "sudo celery-docker setup-redis --dry-run"),
            ("set it up", "sudo celery-docker setup-redis"),
            ("go back to the Redis before", "sudo celery-docker setup-redis --remove"),
        ),
        "It starts an instance of its own, redis-server@celery-docker (valkey-server@celery-docker where only "
        "Valkey is installed), beside any other Redis. It listens on this host only, asks for a password, has each "
        "change on disk before it answers, and throws nothing away. Its URL goes into /etc/default/celery-worker, "
        "which members of group celery may read, and without the password into /etc/celery-docker/client.conf, so "
        "that others are refused. The workers are restarted. A second run does what is missing, and nothing else.",
    ),
    Command(
        "completion",
        "config",
        "print a shell's completion script",
        Operands("bash|zsh|fish", 1, 1, words=("bash", "zsh", "fish")),
        (flagtable.HELP,),
        (("where the package is not installed", "source <(celery-docker completion bash)"),),
    ),
)
