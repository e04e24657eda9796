"""The command line and the Python interface through the gateway, as a user who knows nothing of Redis."""

from __future__ import annotations

import contextlib
import json
import os
import tempfile
import threading
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from celery_docker import errors
from celery_docker.client.client import Client
from celery_docker.core.batch import Expanded
from celery_docker.core.batchinputs import Row, Source
from celery_docker.core.signingkeys import Keys
from celery_docker.host.keyfile import KeyFile
from tests import gateways, servers
from tests.gateways import Gateway, command, process
from tests.integration.test_worker import clean_redis
from tests.waiting import eventually
from tests.workers.worker import Worker

__all__ = ["clean_redis"]

ALICE, BOB = 31001, 31002
# The socket of the test stands for that of this host.
OWN_SOCKET = "from celery_docker.core import gatewayurl; gatewayurl.is_elsewhere = gatewayurl.needs_token"


@pytest.fixture(scope="module")
def gateway(server: servers.RedisServer, steady: Worker) -> Iterator[Gateway]:
    with Gateway(server.url) as gateway:
        yield gateway
        assert gateway.end() == 0
        assert "Traceback" not in gateway.log


def said(gateway: Gateway, *words: str, uid: int = ALICE, status: int = 0) -> str:
    made = command(gateway, uid, *words)
    assert made.returncode == status, made.stderr.decode()
    return made.stdout.decode().strip()


def test_config_says_which_way_is_in_use(gateway: Gateway) -> None:
    table = json.loads(said(gateway, "config", "--json"))
    assert table["broker_url"]["value"] == gateway.url
    assert table["way"]["value"] == "celery-docker-api"


def test_run_has_every_byte_and_the_exit_code(gateway: Gateway) -> None:
    made = command(gateway, ALICE, "run", "busybox", "seq", "1", "300000")
    assert made.returncode == 0, made.stderr
    assert made.stdout == b"".join(b"%d\n" % number for number in range(1, 300_001))
    made = command(gateway, ALICE, "run", "busybox", "sh", "-c", "printf 'a\\377b'; echo no >&2; exit 7")
    assert (made.returncode, made.stdout) == (7, b"a\xffb")
    assert made.stderr == b"no\ncelery-docker: exit code 7\n"
    assert said(gateway, "run", "busybox", "id", "-u") == str(ALICE)


def test_run_waits_for_a_slow_reader(gateway: Gateway) -> None:
    """More than the live log keeps for readers: the job stands still until it is taken."""
    with process(gateway, ALICE, "run", "busybox", "seq", "1", "1500000") as running:
        assert running.stdout is not None
        first = running.stdout.read(10)
        said(gateway, "ps")
        rest = running.stdout.read()
        assert running.wait(60) == 0
    assert first + rest == b"".join(b"%d\n" % number for number in range(1, 1_500_001))


def test_a_restart_of_the_gateway_costs_no_byte(gateway: Gateway) -> None:
    script = "for i in 1 2 3 4 5 6 7 8; do seq 1 5000; sleep 0.3; done"
    with process(gateway, ALICE, "run", "busybox", "sh", "-c", script) as running:
        assert running.stdout is not None
        data = running.stdout.read(5000)
        assert gateway.end() == 0
        gateway.start()
        data += running.stdout.read()
        assert running.wait(60) == 0
    assert data == b"".join(b"%d\n" % number for number in range(1, 5001)) * 8


def test_the_commands_about_a_job(gateway: Gateway) -> None:
    job_id = said(gateway, "submit", "--name", "sum", "--retries", "0", "busybox", "sh", "-c", "echo hi; exit 3")
    assert said(gateway, "wait", job_id, status=3) == ""
    assert said(gateway, "logs", job_id) == said(gateway, "logs", "-f", job_id[:13]) == "hi"
    (document,) = json.loads(said(gateway, "inspect", job_id))
    assert (document["exit_code"], document["uid"], document["spec"]["user"]) == (3, ALICE, f"{ALICE}:{ALICE}")
    assert json.loads(said(gateway, "status", "--json", job_id))["state"] == "failed"
    assert json.loads(said(gateway, "results", "--json", job_id))["exit_code"] == 3
    assert job_id in said(gateway, "ps", "--all", "-q", "--state", "failed")
    again = said(gateway, "retry", job_id)
    assert said(gateway, "wait", again, status=3) == ""
    for words in (["status"], ["logs"], ["inspect"], ["wait"], ["results"], ["retry"]):
        made = command(gateway, BOB, *words, job_id)
        assert made.returncode == 4, made.stdout
        assert made.stderr.startswith(b"celery-docker: no job"), made.stderr
    # A whole id may be that of a plain client's job without a record: it is told as one of these.
    assert b"there is no record of this job" in command(gateway, BOB, "cancel", job_id).stderr


def test_a_cancel_waits_for_the_container(gateway: Gateway) -> None:
    job_id = said(gateway, "submit", "busybox", "sleep", "1000")
    eventually(lambda: "running" in said(gateway, "status", job_id), message="the job to run")
    said(gateway, "cancel", job_id, "--reason", "a wrong input")
    assert said(gateway, "wait", job_id, status=143) == ""
    assert "a wrong input" in said(gateway, "status", job_id)


def test_a_batch(gateway: Gateway) -> None:
    batch_id = said(gateway, "batch", "--array", "1-5%2", "--retries", "0", "busybox", "sh", "-c", "test {} != 4")
    assert "4 succeeded" in command(gateway, ALICE, "watch", batch_id).stdout.decode()
    table = json.loads(said(gateway, "status", "--json", batch_id))
    assert (table["counts"], table["limit"], len(table["failed"])) == ({"succeeded": 4, "failed": 1}, 2, 1)
    rows = said(gateway, "ps", "-a", "--batch", batch_id, "-q").splitlines()
    assert len(rows) == 5
    failed = said(gateway, "results", "-q", "--failed", batch_id)
    assert failed == rows[3]
    assert said(gateway, "results", "-q", rows[4], batch_id).splitlines() == [rows[4], *rows[:4]]
    assert said(gateway, "results", "-q", "--failed", rows[0], rows[3]) == failed
    assert said(gateway, "results", "--failed", batch_id).splitlines()[1].split()[:4] == ["4", failed, "failed", "1"]
    assert [line.split()[0] for line in said(gateway, "results", batch_id).splitlines()[1:]] == [*"12345"]
    assert said(gateway, "retry", "--failed", batch_id) == batch_id
    assert command(gateway, BOB, "watch", batch_id).returncode == 4


def test_what_is_done_is_skipped(gateway: Gateway) -> None:
    """By the records of the batch before, then by the markers that this leaves."""
    with tempfile.TemporaryDirectory(prefix="cdt-done-", dir="/tmp") as folder:
        os.chown(folder, ALICE, ALICE)
        script = 'test "$1" != 3 || test -e /output/mended'
        line = ("--array", "1-3", "-o", folder, "--retries", "0", "busybox", "sh", "-c", script, "-", "{}")
        assert b"3 jobs queued" in command(gateway, ALICE, "batch", "--wait", *line).stderr
        Path(folder, "mended").touch()
        for words in ("1 job queued, 2 done already", "0 jobs queued, 3 done already"):
            made = command(gateway, ALICE, "batch", "--skip-done", "--wait", *line)
            assert made.returncode == 0, made.stderr
            assert words in made.stderr.decode()
        assert len(list(Path(folder).glob(".celery-docker-done-*"))) == 3


@pytest.mark.parametrize("is_elsewhere", [False, True])
def test_what_is_done_is_skipped_by_whichever_name_its_user_has(
    gateway: Gateway, monkeypatch: pytest.MonkeyPatch, is_elsewhere: bool
) -> None:
    """On the socket of this host, where the command line names the user by his number, and on another."""
    if not is_elsewhere:
        monkeypatch.setattr(gateways, "COMMAND", gateways.COMMAND.replace("uid = int", f"{OWN_SOCKET}\nuid = int"))
    script = f"exit 0 # {is_elsewhere}"
    for user in ([], ["-u", str(ALICE)], ["-u", f"{ALICE}:{ALICE}"]):
        line = ("--skip-done", "--wait", "--array", "1-3", *user, "busybox", "sh", "-c", script, "-", "{}")
        said(gateway, "batch", *line)
        assert "0 jobs queued, 3 done already" in command(gateway, ALICE, "batch", *line).stderr.decode(), user


def test_hosts_and_queues(gateway: Gateway) -> None:
    assert json.loads(said(gateway, "workers", "--json"))["state"] == "ready"
    assert said(gateway, "queue", "length") == "0"
    assert json.loads(said(gateway, "status", "--json"))["workers"] == {"ready": 1}


@pytest.mark.parametrize(
    "words", [["queue", "purge"], ["queue", "refused"], ["drain", "node1"], ["resume", "node1"], ["doctor"], ["images"]]
)
def test_what_needs_redis_says_so(gateway: Gateway, words: list[str]) -> None:
    made = command(gateway, ALICE, *words)
    assert made.returncode == 125
    line = f"celery-docker: {' '.join(words[:1] if words[0] != 'queue' else words)}: not through celery-docker-api; "
    remedy = "an administrator does it with sudo on a host of the queue, or with --broker redis://..."
    assert made.stderr.decode() == f"{line}{remedy}\n"


def test_who_cannot_ask_doctor_is_not_sent_there(gateway: Gateway) -> None:
    job_id = said(gateway, "submit", "--queue", "nowhere", "busybox", "true")
    waiting = command(gateway, ALICE, "wait", "--timeout", "1s", job_id).stderr.decode().splitlines()[0]
    assert waiting.endswith(": no worker serves the queue 'nowhere': it waits; ask the administrator")
    said(gateway, "cancel", job_id)


def test_a_forged_user_is_refused(gateway: Gateway) -> None:
    made = command(gateway, ALICE, "run", "--user", "0", "busybox", "id")
    assert made.returncode == 125
    assert made.stderr.startswith(b"celery-docker: user: '0' is not the submitter")


def test_a_batch_in_parts_that_a_request_may_have(gateway: Gateway) -> None:
    jobs = [
        Expanded(Row(number, Source.ARRAY, {}), {"image": "busybox", "command": ["true"]}, {"queue": "nowhere"})
        for number in range(1, 2_501)
    ]
    with closing(Client(gateway.url)) as client:
        made = client.submit_batch(jobs, limit=3, name="many")
        assert made.counts() == {"queued": 2500}
        assert [row.batch_index for row in client.queries.jobs.each_of_batch(made.id)] == list(range(1, 2501))
        assert {job.id for job in made.jobs()} <= {*said(gateway, "ps", "-q", "--queue", "nowhere", uid=0).splitlines()}
        assert made.jobs()[0].id not in said(gateway, "ps", "-q", "--queue", "celery", uid=0)
        assert said(gateway, "ps", "-q", "--batch", made.id, "--queue", "celery", uid=0) == ""
        for words in ((), ("--failed",)):
            out = command(gateway, 0, "results", *words, made.id)
            assert out.stderr.decode() == "not ended: 2,500 of 2,500 jobs\n"
        assert set(made.cancel()) == {"queued"}


def test_redis_away_is_waited_for(server: servers.RedisServer, gateway: Gateway) -> None:
    with closing(Client(gateway.url)) as client:
        job = client.submit("busybox", "sleep 3")
        states: list[str] = []
        waiting = threading.Thread(target=lambda: states.append(job.wait()))
        waiting.start()
        eventually(lambda: job.state == "running", message="the job to run")
        server.pause()
        server.resume()
        waiting.join(120)
        assert states == ["succeeded"]


def test_no_gateway_is_named_with_the_remedy() -> None:
    with closing(Client("http+unix:///nonexistent/api.sock")) as client:
        line = r"^cannot reach celery-docker-api at /nonexistent/api\.sock: No such file or directory; turn it on with"
        with pytest.raises(errors.StoreAway, match=line):
            client.submit("busybox", "true")


@pytest.mark.parametrize("submitters", ["any", "signed"])
def test_a_job_through_the_gateway_runs_as_who_connected(
    clean_redis: servers.RedisServer, dockerd: servers.Dockerd, submitters: str
) -> None:
    """Signed by the gateway, verified by the worker, and once more at a retry by somebody else."""
    with Gateway(clean_redis.url) as gateway, contextlib.ExitStack() as started:
        KeyFile(str(gateway.key)).write(Keys(b"k" * 32))
        worker = Worker(clean_redis.url, dockerd, CELERY_DOCKER_KEY=str(gateway.key))
        worker.policy.write_text(f'submitters = "{submitters}"\nmounts = ["/tmp"]\nnetworks = ["none"]\n')
        started.enter_context(worker)
        who = "echo $(id -u) $(id -g)"
        assert said(gateway, "run", "busybox", "sh", "-c", who) == f"{ALICE} {ALICE}"
        job_id = said(gateway, "submit", "--quiet", "busybox", "sh", "-c", who)
        said(gateway, "wait", job_id)
        again = said(gateway, "retry", "--quiet", job_id, uid=0)
        said(gateway, "wait", again, uid=0)
        assert said(gateway, "logs", again) == f"{ALICE} {ALICE}"
        made = command(gateway, BOB, "submit", "-u", "root", "busybox", "true")
        assert (made.returncode, made.stdout) != (0, b"")
        assert b"is not the submitter" in made.stderr
