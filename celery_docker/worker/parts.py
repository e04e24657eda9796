"""The parts of a worker: its needs on this machine, and the objects that it is made of, put together.

Owns the wiring and the order of start and stop. Nothing is decided here.
"""

from __future__ import annotations

import functools
import logging
import os
import socket
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TypeVar

from celery import Celery

from celery_docker import errors
from celery_docker.background.drained import DrainWatch
from celery_docker.background.duties import Duties
from celery_docker.background.health import Health
from celery_docker.background.heartbeat import Heartbeat
from celery_docker.background.intake import Intake
from celery_docker.background.notifying import Notifying
from celery_docker.background.orphans import Orphans
from celery_docker.background.report import HostReport
from celery_docker.background.reservations import Reservations
from celery_docker.core import container, fixedsettings, message, roomwords, settings
from celery_docker.core.admission import Offer
from celery_docker.core.policy import Policy
from celery_docker.engine import podman
from celery_docker.engine.dockerd import DockerEngine
from celery_docker.host import capacity, identity, opener, resolver, systemd
from celery_docker.host import gpus as host_gpus
from celery_docker.host.imagenotes import ImageNotes
from celery_docker.host.keyfile import KeyFile
from celery_docker.host.logfiles import LogKeeper
from celery_docker.host.opener import Opener
from celery_docker.run.attempt import Attempts
from celery_docker.run.broadcast import Broadcast
from celery_docker.run.queuedends import QueuedEnds
from celery_docker.run.retrying import Retrying
from celery_docker.run.room import Ledger
from celery_docker.run.runner import Runner
from celery_docker.store import jobstore
from celery_docker.store.hosts import HostStore
from celery_docker.store.housekeeping import Housekeeping
from celery_docker.store.livelog import LiveLog
from celery_docker.store.reservations import ReservationStore
from celery_docker.worker import celeryapp, imageparts, notices, queuedresults
from celery_docker.worker.events import Events
from celery_docker.worker.imageparts import ImageParts
from celery_docker.worker.inbox import Inbox
from celery_docker.worker.relay import Relay

T = TypeVar("T")
log = logging.getLogger(__name__)

EX_UNAVAILABLE = 69
STATE_DIR = "/var/lib/celery-docker"
LOGS_DIR = "/var/log/celery"
# Calls to Docker besides those of the slots.
_MORE_CONNECTIONS = 8
# Redis and Docker may be starting at the same time as we are.
_START_TIMEOUT_S = 20.0
_START_PAUSE_S = 0.5


@dataclass(frozen=True)
class Surroundings:
    """The needs of a worker before it may begin: Redis and Docker that answer, its name, and its folders.

    `lock` keeps other workers of this machine from the name; it is held by being open until the process ends.
    """

    records: jobstore.Store
    engine: DockerEngine
    docker_version: str
    settings: settings.Settings
    host: str
    state_dir: Path
    folders: tuple[str, ...]
    image_notes: ImageNotes
    lock: object
    offer: Offer


@dataclass(frozen=True)
class Parts:
    """The objects of one worker; `start` once, `stop` once."""

    application: Celery
    runner: Runner
    intake: Intake
    inbox: Inbox
    events: Events
    relay: Relay
    duties: Duties
    heartbeat: Heartbeat
    health: Health
    broadcast: Broadcast
    drained: DrainWatch
    orphans: Orphans
    notifying: Notifying
    reservations: Reservations
    images: ImageParts

    def start(self) -> None:
        """Take the worker's name among the hosts, then start every loop but that of the orphans.

        Raises `IdentityTaken`, `StoreAway` and `StoreRefused`.
        """
        self.heartbeat.arrive()
        self.runner.release_pins()
        self.runner.count_room()
        self.heartbeat.start()
        self.duties.start()
        self.health.start()
        self.broadcast.start(self.runner.jobs)
        self.drained.start()
        self.notifying.start()
        self.reservations.start()
        self.images.start()

    def stop(self) -> None:
        """Stop every loop, the heartbeat last."""
        self.images.stop()
        self.orphans.stop()
        self.notifying.stop()
        self.reservations.stop()
        self.drained.stop()
        self.broadcast.stop()
        self.health.stop()
        self.duties.stop()
        self.heartbeat.leave()


def surroundings(worker_settings: settings.Settings, slots: int, environ: Mapping[str, str]) -> Surroundings:
    """Return what the worker needs, as soon as it is there.

    Raises `StoreAway`, `StoreRefused`, `HostError` and `IdentityTaken` for what is not there in time.
    """
    state_dir = Path(environ.get("STATE_DIRECTORY", STATE_DIR))
    fixed = _fixed(worker_settings, state_dir, environ)
    worker_settings = replace(worker_settings, broker_url=fixed.broker_url, docker_host=fixed.docker_host)
    records = jobstore.connect(fixed.broker_url)
    image_notes = ImageNotes(state_dir)
    engine = DockerEngine(
        fixed.docker_host,
        connections=slots + _MORE_CONNECTIONS,
        slice_path=systemd.slice_path(),
        pull_silence_s=worker_settings.pull_silence_s,
        on_pulled=lambda image_id, name: image_notes.note_pull(image_id, name, time.time()),
    )
    _await(records.check, environ)
    docker_version = _await(engine.check, environ)
    lock = _await(lambda: identity.hold(state_dir, fixed.name), environ)
    identity.remember(state_dir, worker_settings.unit, fixed)
    folders = (environ.get("LOGS_DIRECTORY", LOGS_DIR), str(state_dir), _await(engine.folder, environ))
    is_podman = podman.service_of(fixed.docker_host, docker_version) == "podman"
    gpus = host_gpus.offered(worker_settings.gpus, _await(engine.cdi_folders, environ), is_podman=is_podman)
    offer = capacity.offer(worker_settings, gpus.names)
    if gpus.names:
        log.info("GPUs for jobs: %s (%s)", ", ".join(gpus.names), gpus.reason)
    for problem in gpus.problems:
        log.warning("GPUs: %s", problem)
    around = (records, engine, docker_version, worker_settings, fixed.name, state_dir, folders, image_notes)
    return Surroundings(*around, lock, offer)


def _fixed(worker_settings: settings.Settings, state_dir: Path, environ: Mapping[str, str]) -> fixedsettings.Fixed:
    """Return name, Redis and Docker to work with: those of the settings, or the last ones while containers need them.

    Somebody may have edited them before the last process was killed. With the new ones nobody would look after the
    containers: their jobs would be lost with the old host and run again, or nobody would hear of their end.
    """
    fixed = fixedsettings.of(worker_settings, socket.gethostname())
    last = identity.last(state_dir, worker_settings.unit)
    changes = [] if last is None else last.changes(fixed)
    if last is None or not changes:
        return fixed
    kept = fixed.kept_from(last)
    words = "; ".join(f"{subject} is now {new}, and was {old}" for subject, old, new in changes)
    try:
        count = _await(lambda: _containers(kept), environ)
    except errors.CeleryDockerError as exc:
        if kept == replace(fixed, name=kept.name):
            raise
        log.warning("%s: what the last worker has left there is left: %s", words, exc)
        return fixed
    if not count:
        return fixed
    log.warning(
        "%s: jobs here (%d) need the old value, and the worker goes on with it; systemctl restart %s waits for them, "
        "and takes the new one",
        *(words, count, worker_settings.unit),
    )
    return kept


def _containers(fixed: fixedsettings.Fixed) -> int:
    """Return how many containers a worker has, once its Redis has answered too."""
    count = len(DockerEngine(fixed.docker_host, connections=1).containers({container.LABEL_HOST: fixed.name}))
    if count:
        records = jobstore.connect(fixed.broker_url)
        try:
            records.check()
        finally:
            records.close()
    return count


def build_parts(
    worker_settings: settings.Settings, policy: Policy, slots: int, around: Surroundings, environ: Mapping[str, str]
) -> Parts:
    """Return the parts of a worker, put together; nothing has been started."""
    intake, inbox, events, link, host = Intake(), Inbox(), Events(), around.records.link, around.host
    health = Health(intake, around.engine, around.folders, lambda: len(runner.jobs()))
    broadcast = Broadcast(LiveLog(link), host)
    retrying = Retrying(on_host_fault=health.suspect)
    runner = _runner(worker_settings, policy, around, environ, retrying, broadcast)
    application = celeryapp.make(worker_settings, runner, intake)
    queued_ends = QueuedEnds(
        around.records,
        runner.slot_table,
        retrying,
        host,
        worker_settings.retention_s,
        tell=functools.partial(queuedresults.tell, application.backend, events),
    )
    duties = _duties(worker_settings, slots, around, environ, runner, intake, queued_ends)
    orphans = Orphans(
        around.engine,
        around.records,
        host,
        find=runner.find,
        deliver=inbox.deliver,
        is_serving=lambda: duties.is_serving,
        ledger=runner.ledger,
    )
    return Parts(
        application,
        runner,
        intake,
        inbox,
        events,
        Relay(link, environ),
        duties,
        _heartbeat(worker_settings, slots, around, application, runner, duties, inbox),
        health,
        broadcast,
        DrainWatch(around.records, host, intake),
        orphans,
        notices.notifying(worker_settings, policy, around.records.link, environ),
        _reservations(worker_settings, around, application, runner, duties),
        imageparts.build(worker_settings, link, around.engine, around.image_notes, host, runner),
    )


def _runner(
    worker_settings: settings.Settings,
    policy: Policy,
    around: Surroundings,
    environ: Mapping[str, str],
    retrying: Retrying,
    broadcast: Broadcast,
) -> Runner:
    attempts = Attempts(
        engine=around.engine,
        records=around.records,
        logs=LogKeeper(around.state_dir),
        policy=policy,
        key_file=KeyFile(worker_settings.key_file),
        docker_host=worker_settings.docker_host,
        host=around.host,
        boot_id=resolver.boot_id(),
        retrying=retrying,
        broadcast=broadcast,
        opener=Opener(environ.get("OPENER_SOCKET", opener.SOCKET), around.host),
    )
    return Runner(
        attempts,
        around.records,
        worker_settings,
        around.host,
        retrying,
        ledger=Ledger(around.offer),
        on_image_used=lambda image_id: around.image_notes.note_use(image_id, time.time()),
    )


def _duties(
    worker_settings: settings.Settings,
    slots: int,
    around: Surroundings,
    environ: Mapping[str, str],
    runner: Runner,
    intake: Intake,
    queued_ends: QueuedEnds,
) -> Duties:
    return Duties(
        runner,
        Housekeeping(around.records.link),
        intake,
        host=around.host,
        slots=slots,
        retention_s=worker_settings.retention_s,
        environ=environ,
        end_queued=lambda jobs, more: queued_ends.end(jobs, more=more),
        scarce=lambda: roomwords.scarce(runner.ledger.free_room.reserved, around.offer),
    )


def _reservations(
    worker_settings: settings.Settings, around: Surroundings, application: Celery, runner: Runner, duties: Duties
) -> Reservations:
    return Reservations(
        ReservationStore(around.records.link),
        runner.ledger,
        around.host,
        lists=lambda: {key for queue in application.amqp.queues.consume_from for key in message.queue_keys(queue)},
        is_taking=lambda: duties.is_serving and duties.is_accepting,
        after_s=worker_settings.reserve_after_s,
    )


def _heartbeat(
    worker_settings: settings.Settings,
    slots: int,
    around: Surroundings,
    application: Celery,
    runner: Runner,
    duties: Duties,
    inbox: Inbox,
) -> Heartbeat:
    machine = identity.machine(around.state_dir)
    report = HostReport(
        machine,
        worker_settings.unit,
        slots,
        around.docker_version,
        around.offer,
        free=lambda: runner.ledger.free_room.reserved,
        running=lambda: len(runner.jobs()),
        queues=lambda: list(application.amqp.queues.consume_from),
        activity=duties,
    )
    return Heartbeat(
        HostStore(around.records.link),
        runner,
        host=around.host,
        machine=machine,
        lost_after_s=worker_settings.lost_after_s,
        about=report,
        deliver=inbox.deliver,
        quit_=lambda: os._exit(EX_UNAVAILABLE),
    )


def _await(action: Callable[[], T], environ: Mapping[str, str]) -> T:
    """Repeat an action until it succeeds or the time for a start is over; tell systemd what is waited for."""
    deadline = time.monotonic() + _START_TIMEOUT_S
    while True:
        try:
            return action()
        except (errors.StoreAway, errors.EngineAway, errors.IdentityTaken) as exc:
            if time.monotonic() > deadline:
                raise
            systemd.notify(environ, STATUS=f"Waiting: {exc}")
            time.sleep(_START_PAUSE_S)
