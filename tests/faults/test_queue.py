"""Messages come twice, jobs are cancelled in any state and wait for their retries: each runs as often as it should."""

from __future__ import annotations

from contextlib import closing

import pytest

from celery_docker.client.client import Client
from celery_docker.store import keys
from tests import servers
from tests.faults.copies import KINDS, make_three_of_each
from tests.faults.ledger import FULL
from tests.faults.single_host import Conclude, ledger_and_worker
from tests.waiting import eventually


@pytest.mark.only_in_full
@pytest.mark.parametrize("kind", KINDS)
def test_a_message_delivered_three_times(
    dockerd: servers.Dockerd, own_redis: servers.RedisServer, conclude: Conclude, kind: str
) -> None:
    """To one worker, concurrently: two on one host would share the host's name."""
    with ledger_and_worker(own_redis, dockerd) as (ledger, worker):
        worker.kill()
        ledger.submit(30)
        make_three_of_each(own_redis, ledger.random, kind)
        worker.start()
        ledger.recover()
        conclude(ledger.settle(f"each message three times, {kind}"))


@pytest.mark.only_in_full
def test_cancel_in_random_states(dockerd: servers.Dockerd, own_redis: servers.RedisServer, conclude: Conclude) -> None:
    """Two of three jobs, by our client and by `revoke`: none goes on running, each ends as REVOKED or SUCCESS."""
    jobs = 30
    with ledger_and_worker(own_redis, dockerd) as (ledger, _), closing(Client(own_redis.url)) as client:
        ledger.submit(jobs, 0, 2)
        unwanted = ledger.random.sample(ledger.entries, jobs * 2 // 3)
        for number, entry in enumerate(unwanted):
            ledger.pause(0, 0.5)
            if number % 2:
                client.cancel(entry.job_id)
            else:
                ledger.plain.control.revoke(entry.job_id, terminate=bool(number % 4))
        for entry in unwanted:
            status = eventually(
                lambda entry=entry: ledger.status(entry) in ("SUCCESS", "REVOKED") and ledger.status(entry),  # type: ignore[misc]
                60,
                f"the end of the cancelled job {entry.job_id}",
            )
            if status == "REVOKED":
                assert f"run-{entry.job_id}" not in dockerd.running()
        ledger.recover()
        row = ledger.settle(f"cancel of {len(unwanted)} of {jobs} jobs, by client and revoke")
        revoked = [entry for entry in ledger.entries if ledger.status(entry) == "REVOKED"]
        assert revoked
        assert {entry.job_id for entry in revoked} <= {entry.job_id for entry in unwanted}
    conclude(row)


@pytest.mark.only_in_full
def test_loss_of_the_shares(dockerd: servers.Dockerd, own_redis: servers.RedisServer, conclude: Conclude) -> None:
    """The keys of shares go while most jobs are held back, and the worker is killed: all run, none is held for ever."""
    times, jobs = 3, 240
    with ledger_and_worker(own_redis, dockerd) as (ledger, worker), own_redis.client(decode_responses=True) as client:
        eventually(lambda: client.hlen(keys.WINDOWS), 30, "the windows")
        ledger.submit(jobs, 0, 1)
        for _ in range(times):
            ledger.pause(1.0, 3.0)
            worker.kill()
            assert client.zcard(keys.DELAYED) > jobs // 4, "too few are held back"
            client.delete(keys.SHARES, keys.WINDOWS, *client.scan_iter(f"{keys.SHARE}*"))
            unattended = ledger.unattended()
            worker.start()
            ledger.adopted(unattended, worker.started_s)
            ledger.recover()
        conclude(ledger.settle(f"kill -9 of the worker and loss of all shares, {times} times"))


def test_a_job_that_waits_for_its_retry_holds_no_slot(
    dockerd: servers.Dockerd, own_redis: servers.RedisServer, conclude: Conclude
) -> None:
    """Ten minutes, and there is one slot: it works on others. Cancelled while it waits, the job does not run again."""
    variables = {"CELERY_DOCKER_CONCURRENCY": "1", "CELERY_DOCKER_RETRY_DELAY": "600"}
    with ledger_and_worker(own_redis, dockerd, **variables) as (ledger, _), closing(Client(own_redis.url)) as client:
        waiting = ledger.add("exit 1")
        eventually(lambda: ledger.status(waiting) == "RETRY", 30, "the first attempt to fail")
        ledger.submit(20 if FULL else 3)
        other_jobs = ledger.entries[1:]
        eventually(lambda: {ledger.status(entry) for entry in other_jobs} == {"SUCCESS"}, 120, "the other jobs to end")
        assert (ledger.status(waiting), waiting.lines()) == ("RETRY", ["start"])
        assert client.cancel(waiting.job_id) == "queued"
        ledger.recover()
        row = ledger.settle("a retry waits 10 minutes on the only slot, then is cancelled")
        assert (ledger.status(waiting), waiting.lines()) == ("REVOKED", ["start"])
    conclude(row)
