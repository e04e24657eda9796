"""One worker process on one Redis and one dockerd, and the ledger of its jobs."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from tests import servers
from tests.faults.ledger import SEED, Ledger, Row
from tests.workers.worker import Worker

DOCKER_WENT_DOWN = (
    *("went down under it", "went down as it was started"),
    *("cannot reach Docker", "broke the connection", "did not answer"),
)
STOPPED = ("was stopped",)
Conclude = Callable[[Row], None]


@contextmanager
def ledger_and_worker(
    redis: servers.RedisServer, dockerd: servers.Dockerd, **variables: str
) -> Iterator[tuple[Ledger, Worker]]:
    """Start the worker with four slots and quick retries; at the end it is killed, since nothing may be left to do."""
    all_variables = {"CELERY_DOCKER_RETRY_DELAY": "0", "CELERY_DOCKER_CONCURRENCY": "4", **variables}
    with (
        tempfile.TemporaryDirectory(prefix="cdt-faults-", dir="/tmp") as output,
        Worker(redis.url, dockerd, **all_variables) as worker,
        Ledger(redis.url, [dockerd], [worker], output=output, folder=Path(output), seed=SEED) as ledger,
    ):
        Path(output).chmod(0o777)
        try:
            yield ledger, worker
        finally:
            worker.kill()
            dockerd.remove_containers()  # there are none, unless the test has failed
