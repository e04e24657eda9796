"""Many submit through the gateway while it is killed, the keys change and Redis refuses: each is told the truth."""

from __future__ import annotations

import subprocess
import uuid
from collections.abc import Callable
from pathlib import Path

from celery_docker.core.signingkeys import Keys
from celery_docker.host.keyfile import KeyFile
from celery_docker.store import keys as names
from tests import commandline, servers
from tests.faults.ledger import FULL, Entry, in_words
from tests.faults.single_host import Conclude, ledger_and_worker
from tests.faults.submitters import Submitters, is_clear
from tests.faults.test_gateway import KEY, SIGNED
from tests.faults.test_two_hosts import NEVER_LOST, two_hosts
from tests.gateways import Gateway
from tests.waiting import eventually

_API = "/api/v1"
_CLIENTS = 6


def test_kill_of_the_gateway_amid_single_submits(
    dockerd: servers.Dockerd, own_redis: servers.RedisServer, conclude: Conclude
) -> None:
    """By turns: as an answer goes out amid other requests, and as Redis has the requests and nobody an answer.

    A client that has none asks again with the job's id.
    """
    kills, apart = (10, 20) if FULL else (2, 8)
    with (
        ledger_and_worker(own_redis, dockerd) as (ledger, _),
        Gateway(own_redis.url) as gateway,
        Submitters(ledger, gateway, _CLIENTS) as submitters,
    ):
        unanswered = 0
        for number in range(kills):
            least = number * apart
            if number % 2:
                own_redis.pause()
                submitters.go_on(least + apart)
                eventually(lambda: _unread_requests(own_redis.port) >= _CLIENTS, 60, "all to have asked")
                asking = [*submitters.asking]
                gateway.kill()
                own_redis.resume()
                unanswered += len(eventually(lambda: _queued(own_redis, asking), 60, "jobs"))  # noqa: B023
            else:
                killed = submitters.at(least + apart // 2, gateway.kill)
                submitters.go_on(least + apart)
                assert killed.wait(60)
            gateway.start()
            submitters.hold()
        ledger.recover()
        row = ledger.settle(f"celery-docker-api kill -9 amid single submits of {_CLIENTS} clients, {in_words(kills)}")
        assert unanswered
        assert submitters.untruths() == []
        assert all(map(is_clear, submitters.complaints)), submitters.complaints
    conclude(row)


def _unread_requests(port: int) -> int:
    """Return how many connections to a port of this machine hold something that its server has not read."""
    lines = [line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:]]
    return sum(words[1].endswith(f":{port:04X}") and not words[4].endswith(":00000000") for words in lines)


def _queued(server: servers.RedisServer, entries: list[Entry]) -> list[Entry]:
    with server.client() as redis:
        return [entry for entry in entries if redis.exists(names.job(entry.job_id))]


def _is_full(server: servers.RedisServer) -> None:
    with server.client() as redis:
        redis.config_set("maxmemory-policy", "noeviction")
        redis.config_set("maxmemory", "1")


def _has_room(server: servers.RedisServer) -> None:
    with server.client() as redis:
        redis.config_set("maxmemory", "0")


def _is_replica(server: servers.RedisServer) -> None:
    """Make it a read-only replica of a Redis that is not there."""
    with server.client() as redis:
        redis.execute_command("REPLICAOF", "127.0.0.1", servers.free_port())


def _is_primary(server: servers.RedisServer) -> None:
    with server.client() as redis:
        redis.execute_command("REPLICAOF", "NO", "ONE")


Change = Callable[[servers.RedisServer], None]
_REFUSALS: tuple[tuple[Change, Change, str], ...] = (
    (_is_full, _has_room, "maxmemory"),
    (_is_replica, _is_primary, "is a read-only replica"),
)


def test_redis_refuses_writes_while_clients_submit_and_read(
    dockerd: servers.Dockerd, own_redis: servers.RedisServer, conclude: Conclude
) -> None:
    """Out of memory, and as a replica. Questions are answered as before; what writes is told why, and does nothing."""
    times, apart = (3, 12) if FULL else (1, 6)
    with (
        ledger_and_worker(own_redis, dockerd) as (ledger, _),
        Gateway(own_redis.url) as gateway,
        Submitters(ledger, gateway, _CLIENTS, most_s=2) as submitters,
    ):
        refused = []
        jobs = 0
        for begin, end, words in _REFUSALS * times:
            jobs += apart
            submitters.go_to(jobs)
            ledger.under_load(1)
            told = len(submitters.complaints)
            begin(own_redis)
            jobs += apart
            submitters.go_on(jobs)
            eventually(lambda: len(submitters.complaints) >= told + _CLIENTS, 60, "all to be refused")  # noqa: B023
            refused.append(_asked(gateway, submitters.accepted[-1].job_id, words))
            ledger.pause(*((10, 10) if FULL else (0, 0)))
            assert len(submitters.accepted) == jobs - apart
            end(own_redis)
            assert all(words in line for line in submitters.complaints[told:]), submitters.complaints
            submitters.hold()
        ledger.recover()
        row = ledger.settle(f"Redis out of memory, then a read-only replica, while clients submit, {in_words(times)}")
        assert submitters.untruths() == []
        assert all(map(is_clear, submitters.complaints)), submitters.complaints
        assert [gateway.ask("GET", f"{_API}/jobs/{job_id}")[0] for job_id in refused] == [404] * len(refused)
        assert "Traceback" not in gateway.log
    conclude(row)


def _asked(gateway: Gateway, job_id: str, words: str) -> str:
    """Ask all that can be asked of a job; return the id of one that was refused."""
    for place in ("jobs", f"jobs/{job_id}", f"receipts?ids={job_id}", f"jobs/{job_id}/logs", "queue", "hosts"):
        status, body = gateway.ask("GET", f"{_API}/{place}")
        assert status == 200, (place, body)
    new_id = str(uuid.uuid4())
    document = {"image": "busybox", "command": "true"}
    bodies = {
        "jobs": {"jobs": [document], "ids": [new_id]},
        f"jobs/{job_id}/cancel": None,
        "cancel": {"ids": [job_id]},
    }
    for place, asked in bodies.items():
        status, body = gateway.ask("POST", f"{_API}/{place}", asked)
        assert (status, body["kind"]) == (503, "StoreAway"), (place, body)
        assert words in body["error"]
        assert is_clear(body["error"]), body["error"]
    return new_id


def test_the_key_changes_on_two_hosts_under_load(
    own_redis: servers.RedisServer, own_dockerd: servers.Dockerd, dockerd: servers.Dockerd, conclude: Conclude
) -> None:
    """As the manual says it: prepared and brought, used on each, and dropped once nothing waits for the old one."""
    changes, apart = (3, 12) if FULL else (1, 4)
    with (
        two_hosts(own_redis, [own_dockerd, dockerd], **NEVER_LOST) as (ledger, *workers),
        # It is on the first host.
        Gateway(own_redis.url, environ={"CELERY_DOCKER_KEY": workers[0].environ["CELERY_DOCKER_KEY"]}) as gateway,
    ):
        files = [KeyFile(worker.environ["CELERY_DOCKER_KEY"]) for worker in workers]
        for worker, file in zip(workers, files, strict=True):
            worker.policy.write_text(SIGNED)
            file.write(Keys(KEY))
            worker.start()
        with Submitters(ledger, gateway, _CLIENTS, most_s=2) as submitters:
            jobs = 0
            for _ in range(changes):
                for step in (_prepare, _use_here, _use_there, _drop_old):
                    if step is _drop_old:
                        eventually(lambda: ledger.ended() == len(ledger.entries), 120, "what the old key has signed")
                    jobs += apart
                    changed = submitters.at(jobs - apart // 2, lambda: step(*files))  # noqa: B023
                    submitters.go_on(jobs)
                    assert changed.wait(120)
                    submitters.hold()
            ledger.recover()
            row = ledger.settle(f"the key that signs is changed on two hosts under load, {in_words(changes)}")
            assert {ledger.status(entry) for entry in ledger.entries} == {"SUCCESS"}
            assert submitters.untruths() == submitters.complaints == []
        assert all(file.needed().old is None and file.needed().signing != KEY for file in files)
        hosts = {attempt["host"] for entry in ledger.entries for attempt in ledger.receipt(entry)["attempts"]}
        assert len(hosts) == 2
    conclude(row)


def _prepare(here: KeyFile, there: KeyFile) -> None:
    _key(here, "prepare")
    _key(there, "import", given=_key(here, "export"))


def _use_here(here: KeyFile, _: KeyFile) -> None:
    _key(here, "use")


def _use_there(_: KeyFile, there: KeyFile) -> None:
    _key(there, "use")


def _drop_old(here: KeyFile, there: KeyFile) -> None:
    _key(here, "drop-old")
    _key(there, "drop-old")


def _key(file: KeyFile, action: str, given: str = "") -> str:
    """Change the keys of a host as its administrator does; return what is printed."""
    environ = commandline.environ("redis://", Path(file.path).parent) | {"CELERY_DOCKER_KEY": file.path}
    command = commandline.process("key", action)
    return subprocess.run(
        command, env=environ, input=given, capture_output=True, text=True, check=True, timeout=60
    ).stdout
