"""The needs of a worker on this machine before it may begin: Redis and Docker that answer, its name, its folders."""

from __future__ import annotations

import logging
import socket
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TypeVar

from celery_docker import errors
from celery_docker.core import container, fixedsettings, settings
from celery_docker.core.admission import Offer
from celery_docker.engine import podman
from celery_docker.engine.dockerd import DockerEngine
from celery_docker.host import capacity, identity, systemd
from celery_docker.host import gpus as host_gpus
from celery_docker.host.imagenotes import ImageNotes
from celery_docker.store import jobstore

T = TypeVar("T")
log = logging.getLogger(__name__)

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
