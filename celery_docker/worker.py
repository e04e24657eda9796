"""The worker process: checks what it needs, puts the parts together, and hands over to Celery.

Its exit status tells systemd what to do: 78, a setting is wrong and a restart would not mend it; 69, Redis or Docker
is not there yet and a restart is right.
"""

from __future__ import annotations

import logging
import os
import platform
import shlex
import signal
import socket
import sys
import time
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import Any, TypeVar

import click
from celery import Celery, signals

from celery_docker import (
    app,
    attempt,
    drain,
    engine,
    errors,
    hosts,
    identity,
    jobspec,
    logfiles,
    membership,
    node,
    patience,
    policy,
    receipt,
    runner,
    settings,
    store,
    systemd,
)

log = logging.getLogger(__name__)
T = TypeVar("T")

EX_UNAVAILABLE = 69
EX_CONFIG = 78
STATE_DIR = "/var/lib/celery-docker"
# Redis and Docker may be starting at the same time as we are.
_START_PATIENCE_S = 20.0
_START_PAUSE_S = 0.5
# These print each request, or a job's arguments, which may hold a secret.
_TALKATIVE = ("docker", "urllib3", "celery", "kombu", "amqp", "asyncio", "redis")
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
    for name in _QUIET:
        logging.getLogger(name).setLevel(max(logging.WARNING, root.level))


def _serve(chosen: settings.Settings, rules: policy.Policy, environ: Mapping[str, str]) -> int:
    slots = chosen.slots(os.cpu_count() or 1)
    records = store.connect(chosen.broker_url)
    docker = engine.DockerEngine(chosen.docker_host, connections=slots + 8)
    _await(records.check, environ)
    docker_version = _await(docker.check, environ)
    log.info("Docker %s at %s", docker_version, chosen.docker_host)
    state_dir = Path(environ.get("STATE_DIRECTORY", STATE_DIR))
    host = settings.identity(chosen.opts, socket.gethostname())
    # Held by being open until the process ends.
    _lock = _await(lambda: identity.hold(state_dir, host), environ)
    attempts = attempt.Attempts(
        engine=docker,
        records=records,
        logs=logfiles.LogKeeper(state_dir),
        rules=rules,
        docker_host=chosen.docker_host,
        host=host,
        patience=patience.Patience(),
    )
    jobs = runner.Runner(attempts, records, chosen, host, attempts.patience)
    application = app.make(chosen, jobs)
    background = node.Node(
        jobs,
        records,
        docker,
        slots=slots,
        retention_s=chosen.retention_s,
        environ=environ,
        cancel_queued=application.tasks[jobspec.TASK_NAME].cancel_queued,
    )
    machine = identity.machine(state_dir)
    member = membership.Membership(
        hosts.Hosts(records.link),
        jobs,
        host=host,
        machine=machine,
        lost_after_s=chosen.lost_after,
        about=_about(application, jobs, machine=machine, slots=slots, docker_version=docker_version),
        deliver=_delivery(),
        quit_=lambda: os._exit(EX_UNAVAILABLE),
    )
    member.arrive()
    member.start()
    background.start()
    try:
        return _consume(application, chosen, slots, jobs, background)
    finally:
        background.stop()
        member.leave()


def _about(
    application: Celery, jobs: runner.Runner, *, machine: str, slots: int, docker_version: str
) -> Callable[[], dict[str, Any]]:
    """Return what asks the worker for what other hosts may know of it."""
    fixed = {
        "version": _version(),
        "machine": machine,
        "pid": os.getpid(),
        "slots": slots,
        "started_at": receipt.timestamp(datetime.now(UTC)),
        "docker": docker_version,
        "python": platform.python_version(),
    }
    return lambda: {
        **fixed,
        "running": len(jobs.jobs()),
        "queues": sorted(application.amqp.queues.consume_from),
        # By this host's own clock: whoever reads it sees how wrong that is.
        "clock": receipt.timestamp(datetime.now(UTC)),
    }


def _version() -> str | None:
    try:
        return metadata.version("celery-docker")
    except metadata.PackageNotFoundError:
        return None


def _delivery() -> Callable[[Mapping[str, Any]], None]:
    """Return what brings a message to a slot of this worker, past the broker; while it cannot, it does nothing."""
    consumers: list[Any] = []

    def remember(sender: object, **_: object) -> None:
        consumers.append(sender)

    def deliver(envelope: Mapping[str, Any]) -> None:
        for consumer in consumers:
            consumer.hub.call_soon(_take, consumer, envelope)

    signals.worker_ready.connect(remember, weak=False)
    return deliver


def _take(consumer: Any, envelope: Mapping[str, Any]) -> None:
    """Give a consumer a message as if it had come from its queue; runs in its event loop."""
    if consumer.task_consumer is not None:
        channel = consumer.task_consumer.channel
        consumer.create_task_handler()(channel.Message(envelope, channel=channel))


def _stop_patience_s(chosen: settings.Settings) -> float:
    """A host that goes down does not wait for its jobs; they run again, here or elsewhere."""
    return 0 if systemd.host_is_going_down() else chosen.systemd_timeout


def _consume(
    application: Celery, chosen: settings.Settings, slots: int, jobs: runner.Runner, background: node.Node
) -> int:
    def ready(sender: object, **_: object) -> None:
        log.info("ready: %d slots, queue on %s", slots, settings.masked(chosen.broker_url))
        leaving = drain.Drain(jobs, background, sender, lambda: _stop_patience_s(chosen))
        signal.signal(signal.SIGTERM, lambda *_: leaving.give(drain.Order.STOP))
        signal.signal(signal.SIGHUP, lambda *_: leaving.give(drain.Order.HAND_OVER))
        background.serving()

    def keep_logging(**_: object) -> None:
        """Being connected is what keeps Celery from configuring the logging again."""

    signals.worker_ready.connect(ready, weak=False)
    signals.setup_logging.connect(keep_logging, weak=False)
    fixed = ["--concurrency", str(slots), "--loglevel", chosen.log_level, "--without-gossip", "--without-mingle"]
    try:
        application.worker_main(["--quiet", "worker", *fixed, *chosen.opts])
    except click.ClickException as exc:
        words = shlex.join(chosen.opts)
        raise errors.SettingsError(f"{settings.PREFIX}OPTS={words!r}: {exc.format_message()}") from exc
    except SystemExit as exc:
        return exc.code if isinstance(exc.code, int) else 1
    return 0


def _await(action: Callable[[], T], environ: Mapping[str, str]) -> T:
    """Repeat an action until it succeeds or the patience of a start is over; systemd is told what is waited for."""
    deadline = time.monotonic() + _START_PATIENCE_S
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


if __name__ == "__main__":
    sys.exit(main(os.environ))
