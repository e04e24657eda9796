"""The worker process: reads its settings, starts its parts, and lets Celery take messages.

Its exit status tells systemd what to do: 78, a setting is wrong and a restart would not mend it; 69, Redis or Docker
is not there yet and a restart is right.
"""

from __future__ import annotations

import logging
import os
import shlex
import signal
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import click
from celery import signals

from celery_docker import errors
from celery_docker.core import settings, textinput
from celery_docker.core.policy import Policy
from celery_docker.core.policy import parse as parse_policy
from celery_docker.host import systemd
from celery_docker.worker import parts, shutdown
from celery_docker.worker.parts import EX_UNAVAILABLE

log = logging.getLogger(__name__)

EX_CONFIG = 78
# These print each request, or a job's arguments, which may hold a secret.
_TALKATIVE = ("docker", "urllib3", "celery", "kombu", "amqp", "asyncio", "redis")
# What it warns of, `tasks.Results` says without a traceback.
_SILENT = "celery.backends.base"
_QUIET = ("celery.worker.strategy", "celery.app.trace")


def main(environ: Mapping[str, str]) -> int:
    """Run the worker until it is told to stop; return its exit status."""
    try:
        worker_settings = settings.parse(environ)
        configure_logging(worker_settings.log_level, environ)
        return _serve(worker_settings, _read_policy(worker_settings.policy_file), environ)
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


def _serve(worker_settings: settings.Settings, policy: Policy, environ: Mapping[str, str]) -> int:
    slots = worker_settings.slots(os.cpu_count() or 1)
    around = parts.surroundings(worker_settings, slots, environ)
    log.info("%s at %s", around.docker_version, worker_settings.docker_host)
    built = parts.build_parts(worker_settings, policy, slots, around, environ)
    built.start()
    try:
        return _consume(built, worker_settings, slots)
    finally:
        built.stop()


def _stop_timeout_s(worker_settings: settings.Settings) -> float:
    """A host that goes down does not wait for its jobs; they run again, here or elsewhere."""
    return 0 if systemd.host_is_going_down() else worker_settings.systemd_timeout_s


def _consume(built: parts.Parts, worker_settings: settings.Settings, slots: int) -> int:
    """Let Celery take messages until it ends; return the exit status."""

    def ready(sender: Any, **_: object) -> None:
        log.info("ready: %d slots, queue on %s", slots, settings.masked(worker_settings.broker_url))
        leaving = shutdown.Shutdown(
            built.runner, built.duties, sender, built.intake, lambda: _stop_timeout_s(worker_settings)
        )
        signal.signal(signal.SIGTERM, lambda *_: leaving.begin(shutdown.Departure.STOP))
        signal.signal(signal.SIGHUP, lambda *_: leaving.begin(shutdown.Departure.HAND_OVER))
        built.inbox.open(sender)
        built.duties.serving()
        built.orphans.start()

    def keep_logging(**_: object) -> None:
        """Being connected is what keeps Celery from configuring the logging again."""

    signals.worker_ready.connect(ready, weak=False)
    signals.setup_logging.connect(keep_logging, weak=False)
    fixed = [
        "--concurrency",
        str(slots),
        "--loglevel",
        worker_settings.log_level,
        "--without-gossip",
        "--without-mingle",
    ]
    try:
        built.application.worker_main(["--quiet", "worker", *fixed, *worker_settings.opts])
    except click.ClickException as exc:
        words = shlex.join(worker_settings.opts)
        raise errors.SettingsError(f"{settings.PREFIX}OPTS={words!r}: {exc.format_message()}") from exc
    except SystemExit as exc:
        return exc.code if isinstance(exc.code, int) else 1
    return 0


def _read_policy(path: str) -> Policy:
    try:
        return parse_policy(textinput.text(Path(path).read_bytes()))
    except (OSError, ValueError) as exc:
        raise errors.SettingsError(f"{settings.PREFIX}POLICY={path!r}: cannot be read: {exc}") from exc
    except errors.PolicyError as exc:
        raise errors.SettingsError(f"{path}: {exc}") from exc


def _complain(exc: errors.CeleryDockerError, status: int) -> int:
    print(f"celery-worker: {exc}", file=sys.stderr)
    return status
