"""The parts of a worker that look after the images of its host, put together."""

from __future__ import annotations

from dataclasses import dataclass

from celery_docker.background.imagekeeping import Budget, ImageKeeping
from celery_docker.background.pullorders import PullOrders
from celery_docker.core.settings import Settings
from celery_docker.engine.dockerd import DockerEngine
from celery_docker.host.imagenotes import ImageNotes
from celery_docker.run.authority import Authority
from celery_docker.run.runner import Runner
from celery_docker.store.imagestore import ImageStore
from celery_docker.store.redislink import Link


@dataclass(frozen=True)
class ImageParts:
    """Reports, pulls and removes images; `start` once, `stop` once."""

    keeping: ImageKeeping
    orders: PullOrders

    def start(self) -> None:
        """Start both loops."""
        self.keeping.start()
        self.orders.start()

    def stop(self) -> None:
        """Stop both loops."""
        self.orders.stop()
        self.keeping.stop()


def build(
    worker_settings: Settings, link: Link, engine: DockerEngine, notes: ImageNotes, host: str, runner: Runner
) -> ImageParts:
    """Return the parts; nothing has been started."""
    store = ImageStore(link)
    budget = Budget(worker_settings.image_budget_bytes, worker_settings.image_free_bytes)
    keeping = ImageKeeping(engine, store, notes, host, budget, runner.jobs)
    authority = Authority(runner.attempts.policy, runner.attempts.key_file)
    return ImageParts(keeping, PullOrders(store, engine, authority, host, keeping.turn))
