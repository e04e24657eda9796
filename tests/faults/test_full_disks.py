"""No room for what the gateway and celery-docker-open write: each says so, jobs wait or end as errors, none is lost."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tests import servers
from tests.faults.ledger import FULL, Entry, Ledger, in_words
from tests.faults.single_host import Conclude, ledger_and_worker
from tests.faults.submitters import Submitters, is_clear
from tests.gateways import Gateway
from tests.waiting import eventually

_CLIENTS = 4
_NO_ROOM = "No space left on device"
# Makes a request larger than what is held in memory.
_PADDING = " " * 2**20
_JOBS = "/api/v1/jobs"


def test_full_disks_of_gateway_and_opener(
    dockerd: servers.Dockerd, own_redis: servers.RedisServer, conclude: Conclude, tmp_path: Path
) -> None:
    """The temporary files of large requests, the pins, and the disk of logs that are to be made, one after another."""
    times, apart = (3, 12) if FULL else (1, 4)
    temporary, logs = tmp_path / "temporary", tmp_path / "logs"
    temporary.mkdir()
    logs.mkdir()
    with (
        servers.disk_in_memory(temporary, "size=4m"),
        servers.disk_in_memory(logs, "size=1m"),
        ledger_and_worker(own_redis, dockerd, CELERY_DOCKER_RETRY_DELAY="1") as (ledger, worker),
        Gateway(own_redis.url, environ={"TMPDIR": str(temporary)}) as gateway,
        Submitters(ledger, gateway, _CLIENTS) as submitters,
    ):
        for number in range(times):
            before = len(submitters.accepted)
            _large_requests_are_refused(ledger, gateway, temporary, lambda: submitters.go_to(before + apart))  # noqa: B023
            eventually(lambda: ledger.ended() == len(ledger.entries) and not worker.pins, 120, "all to end")
            # One job's folder has room, and nothing in it.
            with _most_files(ledger, worker.opener.pins, 1, f"cannot mount in {worker.opener.pins}: {_NO_ROOM}"):
                submitters.go_to(before + 2 * apart)
            with _most_files(ledger, logs, 0, "cannot open the log file"):
                for place in range(4):
                    assert _submit(ledger, gateway, logoutfile=f"{logs}/{number}/{place}")[0] == 201
        row = ledger.settle(f"no room for large requests, then for pins, then for logs, {in_words(times)}")
        assert {ledger.status(entry) for entry in ledger.entries} == {"SUCCESS"}
        assert submitters.untruths() == submitters.complaints == []
        assert "Traceback" not in gateway.log + worker.opener.log
    conclude(row)


def _large_requests_are_refused(
    ledger: Ledger, gateway: Gateway, temporary: Path, submit_others: Callable[[], object]
) -> None:
    """Refused while there is no room for them, whatever becomes of others; accepted before, and afterwards."""
    # It also has the gateway choose this disk.
    assert _submit(ledger, gateway, _PADDING)[0] == 201
    ballast = servers.fill(temporary, len(_PADDING) // 4)
    submit_others()
    status, body = _submit(ledger, gateway, _PADDING)
    assert (status, f"there is no room for the body: {_NO_ROOM}; make room" in body["error"]) == (503, True), body
    assert is_clear(body["error"])
    refused = ledger.entries.pop()
    ballast.unlink()
    assert _submit(ledger, gateway, _PADDING)[0] == 201
    assert gateway.ask("GET", f"{_JOBS}/{refused.job_id}")[0] == 404


@contextmanager
def _most_files(ledger: Ledger, disk: Path, more: int, words: str) -> Iterator[None]:
    """Let a disk in memory have so many files and folders more, until all jobs of the block wait for that."""
    before = len(ledger.entries)
    about = os.statvfs(disk)
    servers.run("mount", "-o", f"remount,nr_inodes={about.f_files - about.f_ffree + more}", str(disk))
    try:
        yield
        waiting = ledger.entries[before:]
        eventually(lambda: all(words in _attempts(ledger, entry) for entry in waiting), 120, "all to be put off")
        assert not any(entry.lines() for entry in waiting)
    finally:
        servers.run("mount", "-o", f"remount,nr_inodes={about.f_files}", str(disk))
    ledger.recover()


def _attempts(ledger: Ledger, entry: Entry) -> str:
    return ledger.record(entry).get("attempts", "")


def _submit(ledger: Ledger, gateway: Gateway, padding: str = "", **options: str) -> tuple[int, Any]:
    """Submit a job, in a request that ends with `padding`; return status and body of the answer."""
    entry, document = ledger.planned("sleep 0.1")
    body = json.dumps({"jobs": [{**document, **options}], "ids": [entry.job_id]})
    return gateway.ask("POST", _JOBS, body + padding)
