"""The worker process: reads its settings, starts its parts, and lets Celery take messages.

Its exit status tells systemd what to do: 78, a setting is wrong and a restart would not mend it; 69, Redis or Docker
is not there yet and a restart is right.
"""

from __future__ import annotations

import logging
import os
import signal
from collections.abc import Mapping
from threading import Thread
from typing import Any

from celery import signals
from celery.worker import state

from celery_docker import errors
from celery_docker.core import redisurl, roomwords, settings, wording
from celery_docker.core.journal import JournalEvent
from celery_docker.host import capacity, systemd
from celery_docker.worker import configuration, control, options, parts, shutdown, surroundings, transport
from celery_docker.worker.configuration import EX_CONFIG, Configuration
from celery_docker.worker.fewlines import FewLines
from celery_docker.worker.parts import EX_UNAVAILABLE

log = logging.getLogger(__name__)

# These print each request, or a job's arguments, which may hold a secret.
_TALKATIVE = ("docker", "urllib3", "celery", "kombu", "amqp", "asyncio", "redis")
# What it warns of, `tasks.Results` says without a traceback.
_SILENT = "celery.backends.base"
# A chord whose part has not succeeded is an error to it, with a traceback through Celery.
_OF_CHORDS = "celery.backends.redis"
_READY = {"event": JournalEvent.READY}
# What they say, strangers can have them say.
_DRIVEN = (control.__name__, transport.__name__)
_QUIET = ("celery.worker.strategy", "celery.app.trace", "celery.worker.consumer.connection")


def main(environ: Mapping[str, str]) -> int:
    """Run the worker until it is told to stop; return its exit status."""
    try:
        usable = configuration.read(environ)
        configure_logging(usable.settings.log_level, environ)
        return _serve(usable, environ)
    except errors.CeleryDockerError as exc:
        configuration.complain(exc, environ)
        is_final = isinstance(exc, errors.SettingsError | errors.StoreRefused | errors.EngineDenied)
        return EX_CONFIG if is_final else EX_UNAVAILABLE


def configure_logging(level: str, environ: Mapping[str, str]) -> None:
    """Send our log to the journal or stderr; other libraries never say more than INFO."""
    root = logging.getLogger()
    root.handlers[:] = [systemd.log_handler(environ)]
    root.setLevel(level)
    for name in _TALKATIVE:
        logging.getLogger(name).setLevel(max(logging.INFO, root.level))
    logging.getLogger(_SILENT).setLevel(logging.ERROR)
    logging.getLogger(_OF_CHORDS).addFilter(_without_traceback)
    for name in _DRIVEN:
        logging.getLogger(name).addFilter(FewLines())
    for name in _QUIET:
        logging.getLogger(name).setLevel(max(logging.WARNING, root.level))


def _without_traceback(record: logging.LogRecord) -> bool:
    record.exc_info = None
    return True


def _serve(usable: Configuration, environ: Mapping[str, str]) -> int:
    worker_settings = usable.settings
    slots = worker_settings.slots(os.cpu_count() or 1)
    around = surroundings.surroundings(worker_settings, slots, environ)
    worker_settings = around.settings
    log.info("%s at %s", around.docker_version, worker_settings.docker_host)
    log.info("offers %s to jobs", roomwords.offer(around.offer))
    for line in capacity.excess(around.offer):
        log.warning("%s", line)
    built = parts.build_parts(worker_settings, usable.policy, slots, around, environ)
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
        log.info(
            "ready: %s, queue on %s",
            wording.counted(slots, "slot"),
            redisurl.masked(worker_settings.broker_url),
            extra=_READY,
        )
        leaving = shutdown.Shutdown(
            built.runner,
            built.duties,
            sender,
            built.intake,
            lambda: _stop_timeout_s(worker_settings),
            built.relay,
        )
        signal.signal(signal.SIGTERM, lambda *_: leaving.begin(shutdown.Departure.STOP))
        signal.signal(signal.SIGHUP, lambda *_: leaving.begin(shutdown.Departure.HAND_OVER))
        if state.should_stop is not None:
            # Celery has heard a stop before, and would wait for the jobs just taken over, without limit and deaf.
            state.should_stop = None
            leaving.begin(shutdown.Departure.STOP)
        built.inbox.open(sender)
        built.events.open(sender)
        channels = sender.connection.transport.channels
        Thread(
            target=built.relay.take_over,
            args=(sender.hostname, lambda: all(channel.is_listening for channel in channels)),
            daemon=True,
        ).start()
        built.duties.serving()
        # The first one came before Celery had read its options: it named no queue of -Q.
        built.heartbeat.wake()
        built.orphans.start()

    def keep_logging(**_: object) -> None:
        """Being connected is what keeps Celery from configuring the logging again."""

    signals.worker_ready.connect(ready, weak=False)
    signals.setup_logging.connect(keep_logging, weak=False)
    return options.run(built.application, worker_settings, slots)
