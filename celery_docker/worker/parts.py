"""The parts of a worker: the objects that it is made of, put together.

Owns the wiring and the order of start and stop. Nothing is decided here.
"""

from __future__ import annotations

import functools
import os
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from celery import Celery

from celery_docker.background.drained import DrainWatch
from celery_docker.background.duties import Duties
from celery_docker.background.health import Health
from celery_docker.background.heartbeat import Heartbeat
from celery_docker.background.intake import Intake
from celery_docker.background.notifying import Notifying
from celery_docker.background.orphans import Orphans
from celery_docker.background.recounting import Recount
from celery_docker.background.report import HostReport
from celery_docker.background.reservations import Reservations
from celery_docker.core import incoming, message, roomwords, settings
from celery_docker.core.outlook import Outlook
from celery_docker.core.policy import Policy
from celery_docker.host import identity, opener, resolver
from celery_docker.host.keyfile import KeyFile
from celery_docker.host.logfiles import LogKeeper
from celery_docker.host.opener import Opener
from celery_docker.run.attempt import Attempts
from celery_docker.run.broadcast import Broadcast
from celery_docker.run.queuedends import QueuedEnds
from celery_docker.run.retrying import Retrying
from celery_docker.run.room import Ledger
from celery_docker.run.runner import Runner
from celery_docker.store.hosts import HostStore
from celery_docker.store.housekeeping import Housekeeping
from celery_docker.store.livelog import LiveLog
from celery_docker.store.reservations import ReservationStore
from celery_docker.worker import celeryapp, imageparts, notices, queuedresults
from celery_docker.worker.events import Events
from celery_docker.worker.imageparts import ImageParts
from celery_docker.worker.inbox import Inbox
from celery_docker.worker.relay import Relay
from celery_docker.worker.surroundings import Surroundings

EX_UNAVAILABLE = 69


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
    orphans: Orphans
    notifying: Notifying
    reservations: Reservations
    recount: Recount
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
        self.notifying.start()
        self.reservations.start()
        self.recount.start()
        self.images.start()

    def stop(self) -> None:
        """Stop every loop, the heartbeat last."""
        self.images.stop()
        self.orphans.stop()
        self.notifying.stop()
        self.reservations.stop()
        self.recount.stop()
        self.broadcast.stop()
        self.health.stop()
        self.duties.stop()
        self.heartbeat.leave()


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
    drained = DrainWatch(intake)

    def heed(outlook: Outlook) -> None:
        drained.tell(outlook.drained_by)
        if outlook.has_parked:
            reservations.wake()
        if outlook.has_orders:
            images.orders.wake()

    duties = _duties(worker_settings, slots, around, environ, runner, intake, queued_ends, heed)
    reservations = _reservations(worker_settings, around, application, runner, duties)
    images = imageparts.build(worker_settings, link, around.engine, around.image_notes, host, runner)
    orphans = Orphans(
        around.engine,
        around.records,
        host,
        find=runner.find,
        deliver=inbox.deliver,
        is_serving=lambda: duties.is_serving,
        ledger=runner.ledger,
    )
    report = _report(worker_settings, slots, around, application, runner, duties, health, orphans)
    return Parts(
        application,
        runner,
        intake,
        inbox,
        events,
        Relay(link, environ),
        duties,
        _heartbeat(worker_settings, around, runner, inbox, report),
        health,
        broadcast,
        orphans,
        notices.notifying(worker_settings, policy, around.records.link, environ),
        reservations,
        _recount(around, reservations, runner),
        images,
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
    heed: Callable[[Outlook], object],
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
        heed=heed,
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


def _recount(around: Surroundings, reservations: Reservations, runner: Runner) -> Recount:
    return Recount(
        ReservationStore(around.records.link),
        runner.ledger.offer,
        reservations.lists,
        reservations.is_taking,
        needs_of=lambda job_id, envelope: runner.needs_of(incoming.of_envelope(job_id, envelope)),
    )


def _report(
    worker_settings: settings.Settings,
    slots: int,
    around: Surroundings,
    application: Celery,
    runner: Runner,
    duties: Duties,
    health: Health,
    orphans: Orphans,
) -> HostReport:
    return HostReport(
        identity.machine(around.state_dir),
        worker_settings.unit,
        slots,
        around.docker_version,
        around.offer,
        free=lambda: runner.ledger.free_room.reserved,
        running=lambda: [job.delivery.queue for job in runner.jobs()],
        queues=lambda: list(application.amqp.queues.consume_from),
        activity=duties,
        sick=lambda: health.sick,
        unknown_containers=lambda: orphans.unknown,
        pulls=lambda: around.engine.pull_counts,
        reserved_for=lambda: runner.ledger.free_room.reserved_id,
    )


def _heartbeat(
    worker_settings: settings.Settings, around: Surroundings, runner: Runner, inbox: Inbox, report: HostReport
) -> Heartbeat:
    return Heartbeat(
        HostStore(around.records.link),
        runner,
        host=around.host,
        machine=report.machine,
        lost_after_s=worker_settings.lost_after_s,
        about=report,
        deliver=inbox.deliver,
        quit_=lambda: os._exit(EX_UNAVAILABLE),
    )
