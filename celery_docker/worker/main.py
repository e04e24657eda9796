"""The worker process: checks what it needs, puts the parts together, and hands over to Celery.

Its exit status tells systemd what to do: 78, a setting is wrong and a restart would not mend it; 69, Redis or Docker
is not there yet and a restart is right.
"""

from __future__ import annotations

import logging
import os
import shlex
import signal
import socket
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar

import click
from celery import Celery, signals

from celery_docker import errors
from celery_docker.background import drained, duties, health, heartbeat, intake, orphans, report
from celery_docker.core import jobspec, policy, settings
from celery_docker.engine import dockerd
from celery_docker.host import identity, logfiles, resolver, systemd
from celery_docker.run import attempt, broadcast, retrying, runner
from celery_docker.store import hosts, housekeeping, jobstore, livelog
from celery_docker.worker import celeryapp, inbox, shutdown

log = logging.getLogger(__name__)
T = TypeVar("T")

EX_UNAVAILABLE = 69
EX_CONFIG = 78
STATE_DIR = "/var/lib/celery-docker"
LOGS_DIR = "/var/log/celery"
# Redis and Docker may be starting at the same time as we are.
_START_TIMEOUT_S = 20.0
_START_PAUSE_S = 0.5
# These print each request, or a job's arguments, which may hold a secret.
_TALKATIVE = ("docker", "urllib3", "celery", "kombu", "amqp", "asyncio", "redis")
# What it warns of, `tasks.Results` says without a traceback.
_SILENT = "celery.backends.base"
_QUIET = ("celery.worker.strategy", "celery.app.trace")


def main(environ: Mapping[str, str]) -> int:
    """Run the worker until it is told to stop; return its exit status."""
    try:
        chosen = settings.parse(environ)
        configure_logging(chosen.log_level, environ)
        return _serve(chosen, _read_policy(chosen.policy), environ)
    except (errors.SettingsError, errors.StoreRefused, errors.EngineDenied) as exc:
        return _complain(exc, EX_CONFIG)
    except errors.CeleryDockerError as exc:
        return _complain(exc, EX_UNAVAILABLE)


def configure_logging(level: str, environ: Mapping[str, str]) -> None:
    """Send our log to the journal or stderr; other libraries never say more than INFO."""
    root = logging.getLogger()
    root.handlers[:] = [systemd.log_handler(environ)]
    root.setLevel(level)
    for name in _TALKATIVE:
        logging.getLogger(name).setLevel(max(logging.INFO, root.level))
    logging.getLogger(_SILENT).setLevel(logging.ERROR)
    for name in _QUIET:
        logging.getLogger(name).setLevel(max(logging.WARNING, root.level))


def _serve(chosen: settings.Settings, rules: policy.Policy, environ: Mapping[str, str]) -> int:
    records = jobstore.connect(chosen.broker_url)
    slots = chosen.slots(os.cpu_count() or 1)
    docker = dockerd.DockerEngine(chosen.docker_host, connections=slots + 8)
    _await(records.check, environ)
    docker_version = _await(docker.check, environ)
    log.info("Docker %s at %s", docker_version, chosen.docker_host)
    state_dir, logs_dir = Path(environ.get("STATE_DIRECTORY", STATE_DIR)), environ.get("LOGS_DIRECTORY", LOGS_DIR)
    name = settings.identity(chosen.opts, socket.gethostname())
    # Held by being open until the process ends.
    _lock = _await(lambda: identity.hold(state_dir, name), environ)
    door = intake.Intake()
    folders = (logs_dir, str(state_dir), _await(docker.folder, environ))
    doctor = health.Health(door, docker, folders, lambda: len(jobs.jobs()))
    live = broadcast.Broadcast(livelog.LiveLog(records.link), name)
    attempts = attempt.Attempts(
        engine=docker,
        records=records,
        logs=logfiles.LogKeeper(state_dir),
        rules=rules,
        docker_host=chosen.docker_host,
        host=name,
        boot_id=resolver.boot_id(),
        retrying=retrying.Retrying(on_host_fault=doctor.suspect),
        broadcast=live,
    )
    jobs = runner.Runner(attempts, records, chosen, name, attempts.retrying)
    application = celeryapp.make(chosen, jobs, door)
    background = duties.Duties(
        jobs,
        housekeeping.Housekeeping(records.link),
        docker,
        door,
        slots=slots,
        retention_s=chosen.retention_s,
        environ=environ,
        conclude=application.tasks[jobspec.TASK_NAME].conclude,
    )
    mail = inbox.Inbox()
    machine = identity.machine(state_dir)
    member = heartbeat.Heartbeat(
        hosts.HostStore(records.link),
        jobs,
        host=name,
        machine=machine,
        lost_after_s=chosen.lost_after,
        about=report.HostReport(
            machine,
            slots,
            docker_version,
            running=lambda: len(jobs.jobs()),
            queues=lambda: list(application.amqp.queues.consume_from),
            status=lambda: background.status,
        ),
        deliver=mail.deliver,
        quit_=lambda: os._exit(EX_UNAVAILABLE),
    )
    member.arrive()
    for duty in (member, background, doctor):
        duty.start()
    live.start(jobs.jobs)
    watch = drained.DrainWatch(records, name, door)
    watch.start()
    try:
        return _consume(application, chosen, jobs, background, door, mail)
    finally:
        watch.stop()
        live.stop()
        doctor.stop()
        background.stop()
        member.leave()


def _stop_timeout_s(chosen: settings.Settings) -> float:
    """A host that goes down does not wait for its jobs; they run again, here or elsewhere."""
    return 0 if systemd.host_is_going_down() else chosen.systemd_timeout


def _consume(
    application: Celery,
    chosen: settings.Settings,
    jobs: runner.Runner,
    background: duties.Duties,
    door: intake.Intake,
    mail: inbox.Inbox,
) -> int:
    slots = str(chosen.slots(os.cpu_count() or 1))

    def ready(sender: Any, **_: object) -> None:
        log.info("ready: %s slots, queue on %s", slots, settings.masked(chosen.broker_url))
        leaving = shutdown.Shutdown(jobs, background, sender, door, lambda: _stop_timeout_s(chosen))
        signal.signal(signal.SIGTERM, lambda *_: leaving.give(shutdown.Departure.STOP))
        signal.signal(signal.SIGHUP, lambda *_: leaving.give(shutdown.Departure.HAND_OVER))
        mail.open(sender)
        background.serving()
        orphans.Orphans(
            jobs.attempts.engine,
            jobs.records,
            jobs.host,
            find=jobs.find,
            deliver=mail.deliver,
            is_serving=lambda: background.is_serving,
        ).start()

    def keep_logging(**_: object) -> None:
        """Being connected is what keeps Celery from configuring the logging again."""

    signals.worker_ready.connect(ready, weak=False)
    signals.setup_logging.connect(keep_logging, weak=False)
    fixed = ["--concurrency", slots, "--loglevel", chosen.log_level, "--without-gossip", "--without-mingle"]
    try:
        application.worker_main(["--quiet", "worker", *fixed, *chosen.opts])
    except click.ClickException as exc:
        words = shlex.join(chosen.opts)
        raise errors.SettingsError(f"{settings.PREFIX}OPTS={words!r}: {exc.format_message()}") from exc
    except SystemExit as exc:
        return exc.code if isinstance(exc.code, int) else 1
    return 0


def _await(action: Callable[[], T], environ: Mapping[str, str]) -> T:
    """Repeat an action until it succeeds or the time for a start is over; systemd is told what is waited for."""
    deadline = time.monotonic() + _START_TIMEOUT_S
    while True:
        try:
            return action()
        except (errors.StoreAway, errors.EngineAway, errors.IdentityTaken) as exc:
            if time.monotonic() > deadline:
                raise
            systemd.notify(environ, STATUS=f"Waiting: {exc}")
            time.sleep(_START_PAUSE_S)


def _read_policy(path: str) -> policy.Policy:
    try:
        return policy.parse(Path(path).read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as exc:
        raise errors.SettingsError(f"{settings.PREFIX}POLICY={path!r}: cannot be read: {exc}") from exc
    except errors.PolicyError as exc:
        raise errors.SettingsError(f"{path}: {exc}") from exc


def _complain(exc: errors.CeleryDockerError, status: int) -> int:
    print(f"celery-worker: {exc}", file=sys.stderr)
    return status
