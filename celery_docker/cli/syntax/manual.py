"""The man pages: celery-docker(1) from the table of commands, celery-worker(8), and celery-worker.default(5) from the
comments of the file that it describes.

Pure: version, date and the file's text are arguments; `debian/pages.py` writes the pages when the package is built.
"""

from __future__ import annotations

from celery_docker.cli.syntax import commandtable, helptext, roff
from celery_docker.cli.syntax.grammar import PROGRAM, Command, Flag

_SOURCE = "celery-docker"
_OF_JOBS = (*commandtable.JOB_FLAGS, *commandtable.DOCUMENT_FLAGS)
_OF_ALL = (commandtable.HELP, commandtable.BROKER, commandtable.JSON, commandtable.QUIET)

_TRUTHS = (
    "*Access to the queue is root on the workers.* Whoever can write to this Redis can start containers, and a "
    "container that mounts a host's folder can do there what root can. /etc/celery-docker/policy.toml bounds what a "
    "job may ask for, on each host; it is a fence, not a wall. Give access to the queue only to people whom you "
    "would give root. The group docker is root on its host as well.",
    "*Redis is plain text without TLS.* Passwords, commands, the variables that are set with --env, and results cross "
    "the network as they are, and lie in Redis for all to read who have access. Keep Redis on 127.0.0.1 or a private "
    "network with a password, or use rediss://.",
)
_EXIT_STATUS = (
    ("0", "The command did what was asked; of run and wait: the job succeeded."),
    ("1 to 255", "Of run, and of wait for one job: the container's own exit code. Of wait for several: the highest."),
    ("1", "Of doctor: something is wrong."),
    ("2", "The command line or the job is not usable; the line on the standard error names the word."),
    ("4", "There is no such job."),
    ("124", "The job ran longer than its --timeout, or was not started within --expires; or wait gave up."),
    (
        "125",
        "The infrastructure or the host's policy: Redis does not answer, the job was rejected, lost, or failed for a "
        "reason of the host's. A job without an exit code never comes to 0.",
    ),
    ("126, 127", "The container's command cannot be executed, or is not there, as with docker run."),
    ("130", "Interrupted at the terminal."),
    ("137", "The container was killed; where that was for its memory, the line on the standard error says so."),
    ("143", "The job was cancelled."),
)
_FILES = (
    ("/etc/celery-docker/client.conf", "Settings of everybody who submits from this machine: KEY=value lines."),
    ("~/.config/celery-docker/client.conf", "The same for one user; below $XDG_CONFIG_HOME if that is set."),
    (
        "/etc/default/celery-worker",
        "The worker's settings; asked last, by those who may read it, for the broker's URL.",
    ),
    ("~/.local/state/celery-docker/last", "What @last stands for; below $XDG_STATE_HOME if that is set."),
    ("/etc/celery-docker/policy.toml", "What jobs may ask for on this host; --dry-run says its verdict."),
    ("/usr/share/celery-docker/job.schema.json", "What submit -f takes, as a JSON Schema."),
)
_ENVIRONMENT = (
    ("CELERY_DOCKER_BROKER_URL", "The Redis to use: redis://[user:password@]host:port/db, or rediss:// for TLS."),
    ("CELERY_DOCKER_QUEUE", "The queue for jobs that name none; default: celery."),
    (
        "NO_COLOR",
        "If it is set and not empty, nothing is coloured. Neither is it where TERM is dumb, or without a terminal.",
    ),
    ("XDG_CONFIG_HOME, XDG_STATE_HOME, HOME", "Where the files of the user are."),
)
_CONTAINER_ENVIRONMENT = (
    ("CELERY_DOCKER_JOB_ID", "The job's id."),
    ("CELERY_DOCKER_BATCH_ID, CELERY_DOCKER_BATCH_INDEX, CELERY_DOCKER_BATCH_SIZE", "The job's place in its batch."),
)


def celery_docker(version: str, date: str) -> str:
    """Return celery-docker(1)."""
    parts = [
        roff.title(PROGRAM, 1, date=date, source=f"{_SOURCE} {version}", manual="User Commands"),
        roff.section("NAME"),
        f"{PROGRAM.replace('-', chr(92) + '-')} \\- {commandtable.SUMMARY}",
        roff.section("SYNOPSIS"),
        f".B {PROGRAM.replace('-', chr(92) + '-')}\n.I COMMAND\n.RI [ FLAGS ]\n.RI [ WORDS ...]",
        roff.section("DESCRIPTION"),
        roff.paragraph(
            "Jobs are Docker images with a command. They wait in Redis until a machine that runs the service "
            "celery-worker has a free slot. This program submits them, follows them, and cancels them; it needs Redis "
            "and no Docker. Data goes to the standard output, everything else to the standard error; --json prints the "
            "fields of a job's receipt."
        ),
        roff.paragraph(
            "A *JOB* is an id, the beginning of one that no other has, or *@last*: the job or batch that you submitted "
            "last. Paths are paths on the host that runs the job; a relative one is made absolute from your folder, so "
            "hosts that share a queue should see the same folders."
        ),
        roff.section("COMMANDS"),
        *(part for command in commandtable.COMMANDS for part in _command(command)),
        roff.section("FLAGS OF A JOB"),
        roff.paragraph("Those of *run*, *submit* and *batch*; the names are docker run's where it has them."),
        *(_flag(flag) for flag in _OF_JOBS),
        roff.section("FLAGS OF ALL COMMANDS"),
        *(_flag(flag) for flag in _OF_ALL),
        roff.section("EXIT STATUS"),
        *(roff.item(*one) for one in _EXIT_STATUS),
        roff.section("SIGNALS"),
        roff.paragraph(
            "Ctrl-C cancels the job of *run*, and a second one leaves at once; anywhere else it ends the display and "
            "says how to come back. A hangup never cancels a job."
        ),
        roff.section("ENVIRONMENT"),
        *(roff.item(*one) for one in _ENVIRONMENT),
        roff.paragraph("A container finds in its own environment:"),
        *(roff.item(*one) for one in _CONTAINER_ENVIRONMENT),
        roff.section("FILES"),
        *(roff.item(*one) for one in _FILES),
        roff.paragraph(
            "Of settings, flags win over the environment, that over the user's file, that over the system's."
        ),
        *_dangerous(),
        *_see_also("*celery-worker*(8), *celery-worker.default*(5), *docker-run*(1)"),
    ]
    return roff.page(parts)


def celery_worker(version: str, date: str) -> str:
    """Return celery-worker(8)."""
    parts = [
        roff.title("celery-worker", 8, date=date, source=f"{_SOURCE} {version}", manual="System Administration"),
        roff.section("NAME"),
        "celery\\-worker \\- run container jobs from Redis",
        roff.section("SYNOPSIS"),
        ".B systemctl\n.I start|stop|reload|status\n.B celery\\-worker",
        roff.section("DESCRIPTION"),
        roff.paragraph(
            "The service takes jobs from Redis, as many at once as it has slots, and runs each one as a Docker "
            "container. All machines whose workers name the same Redis share the work. It runs as the user celery, who "
            "is in group docker. It is set up in /etc/default/celery-worker, see *celery-worker.default*(5)."
        ),
        roff.paragraph(
            "A job is never lost and never runs twice, whatever is killed, restarted or unplugged, and a running "
            "container never ends because the worker did."
        ),
        roff.section("COMMANDS"),
        roff.item(
            "systemctl status celery-worker", "How many jobs run, how many slots are free, and why none are taken."
        ),
        roff.item(
            "systemctl stop celery-worker",
            "Takes no more jobs and waits for the running ones, up to CELERY_DOCKER_SYSTEMD_TIMEOUT. Then their "
            "containers are stopped and the jobs queued again, with their retries untouched; one that ends with exit "
            "code 0 is done.",
        ),
        roff.item(
            "systemctl reload celery-worker",
            "Hands the running containers to a new process, which reads the settings anew. No job notices.",
        ),
        roff.item(
            "systemctl kill -s KILL celery-worker", "systemd starts it again in 2 s; it takes its containers over."
        ),
        roff.item("journalctl -u celery-worker", "One line an event; journalctl CELERY_DOCKER_JOB=ID shows one job."),
        roff.item("celery-docker doctor", "Finds what is wrong with Redis, Docker, this host, and says what to do."),
        roff.section("EXIT STATUS"),
        roff.item("0", "Stopped as it should, or handed over to the next process."),
        roff.item("69", "Redis or Docker could not be reached for 20 s; systemd tries again."),
        roff.item("78", "A setting is not usable, or access is refused; systemd waits for the correction."),
        roff.section("FILES"),
        roff.item(
            "/etc/default/celery-worker", "Settings; may hold a password, so readable for root and group celery only."
        ),
        roff.item(
            "/etc/celery-docker/policy.toml", "What a job may ask for on this host. Read at each attempt's start."
        ),
        roff.item("/var/lib/celery-docker", "How far the log of each running job has been written."),
        roff.item("/var/log/celery", "A place for the logs of jobs."),
        *_dangerous(),
        *_see_also("*celery-docker*(1), *celery-worker.default*(5), *systemctl*(1), *journalctl*(1)"),
    ]
    return roff.page(parts)


def defaults(version: str, date: str, text: str) -> str:
    """Return celery-worker.default(5); `text` is the file as it is shipped, every setting commented out."""
    head, *blocks = _blocks(text)
    parts = [
        roff.title("celery-worker.default", 5, date=date, source=f"{_SOURCE} {version}", manual="File Formats"),
        roff.section("NAME"),
        "celery\\-worker.default \\- settings of celery\\-worker.service",
        roff.section("SYNOPSIS"),
        "/etc/default/celery\\-worker",
        roff.section("DESCRIPTION"),
        *(roff.paragraph(_joined(one)) for one in (head, *(block for block in blocks if not _setting(block)))),
        roff.section("SETTINGS"),
        *(roff.item(_setting(block), _joined(block)) for block in blocks if _setting(block)),
        *_see_also("*celery-worker*(8), *celery-docker*(1)"),
    ]
    return roff.page(parts)


def _command(command: Command) -> list[str]:
    elsewhere = {flag.key for flag in (*_OF_JOBS, *_OF_ALL)}
    sentence = command.summary[0].upper() + command.summary[1:] + "."
    parts = [roff.subsection(command.usage), roff.paragraph(f"{sentence} {_plain(command.about)}".strip())]
    parts += [_flag(flag) for flag in command.flags if flag.key not in elsewhere]
    return [*parts, roff.example([line for what, typed in command.examples for line in (f"# {what}", typed)])]


def _flag(flag: Flag) -> str:
    sentence = flag.help[0].upper() + flag.help[1:]
    return roff.item(helptext.label(flag), _plain(f"{sentence}. Repeatable." if flag.repeated else f"{sentence}."))


def _plain(text: str) -> str:
    """Return a text without what the page would take for bold."""
    return text.replace("*", "")


def _dangerous() -> list[str]:
    return [roff.section("DANGEROUS TRUTHS"), *(roff.paragraph(truth) for truth in _TRUTHS)]


def _see_also(pages: str) -> list[str]:
    return [roff.section("SEE ALSO"), roff.paragraph(pages + ", /usr/share/doc/celery-docker/README.md")]


def _blocks(text: str) -> list[list[str]]:
    """Return what stands between empty lines, a bare # among them."""
    blocks: list[list[str]] = [[]]
    for line in text.splitlines():
        if line.strip() in ("", "#"):
            blocks.append([])
        else:
            blocks[-1].append(line)
    return [block for block in blocks if block]


def _setting(block: list[str]) -> str:
    """Return the assignment that a block explains, as it would be typed; empty if it is only prose."""
    last = block[-1].removeprefix("#")
    return last if last[:1].isupper() and "=" in last and " " not in last.partition("=")[0] else ""


def _joined(block: list[str]) -> str:
    return _plain(" ".join(line.lstrip("# ").strip() for line in block if line.removeprefix("#") != _setting(block)))
