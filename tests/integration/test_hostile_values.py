"""Values that others have written: no terminal, journal or service manager obeys them, and no password is shown."""

from __future__ import annotations

import json
import time

import pytest

from celery_docker.client.client import Client
from celery_docker.store import keys
from tests import servers
from tests.integration.test_poison import cli
from tests.integration.test_worker import Plain, clean_redis, plain, worker
from tests.waiting import eventually
from tests.workers.worker import Worker

__all__ = ["clean_redis", "plain", "worker"]

EVIL = "x\nWATCHDOG=trigger\nSTOPPING=1\x1b]0;title\x07\x9b31m\u202egnp.exe"


def test_the_reason_of_a_drain_is_one_harmless_line_to_systemd_and_in_the_log(
    worker: Worker, clean_redis: servers.RedisServer
) -> None:
    client = Client(clean_redis.url)
    (host,) = (row.host for row in client.queries.hosts.rows())
    client.drain(host, EVIL)
    eventually(lambda: "drained by" in worker.status, 20, "the drain")
    lines = [line for text in worker.notifications() for line in text.splitlines()]
    assert {line.partition("=")[0] for line in lines} == {"STATUS", "READY"}
    assert all(line.isprintable() for line in lines)
    assert all(line.isprintable() for line in worker.log.splitlines())
    for words in (("workers",), ("workers", "--json"), ("status",), ("doctor",)):
        _, out, complaint = cli(clean_redis, *words)
        assert all(line.isprintable() for line in (out + complaint).splitlines()), words
    client.resume(host)
    client.close()


def test_what_a_record_says_reaches_no_terminal_as_it_is(worker: Worker, clean_redis: servers.RedisServer) -> None:
    fields = {"state": "failed", "name": EVIL, "image": EVIL, "reason": EVIL, "queue": EVIL, "owner": EVIL}
    receipt = {"state": "failed", "reason": EVIL, "host": EVIL, "last_stderr_line": EVIL, "name": EVIL}
    with clean_redis.client() as redis:
        spec, labels = json.dumps({"image": EVIL}), json.dumps({EVIL: EVIL})
        redis.hset(keys.job("evil"), mapping={**fields, "labels": labels, "spec": spec})
        redis.hset(keys.job("evil"), mapping={"receipt": json.dumps(receipt), "submitted_by": EVIL, "surprise": EVIL})
        redis.zadd(keys.INDEX, {"evil": time.time()})
    readers = (("ps", "-a"), ("ps", "-a", "--json"), ("status", "evil"), ("inspect", "evil"), ("results", "evil"))
    for words in (*readers, ("results", "evil", "--json"), ("wait", "evil"), ("retry", "evil")):
        _, out, complaint = cli(clean_redis, *words)
        text = out + complaint
        assert all(line.replace("\t", " ").isprintable() for line in text.splitlines()), (words, text)
        if words[0] == "inspect":
            assert json.loads(out)[0]["surprise"] == EVIL


@pytest.mark.parametrize(
    "url",
    [
        "redis//:geheim@127.0.0.1/0",
        "redis:/user:geheim@127.0.0.1:1/0",
        "redis:geheim@127.0.0.1",
        "user:geheim@127.0.0.1:6379",
        "redis://:ge/geheim@127.0.0.1:6379/0",
        "redis://:geheim@127.0.0.1:1/0?ssl_password=geheim",
        "rediss://127.0.0.1:1/0?ssl_keyfile_password=geheim",
        "redis://:geheim@127.0.0.1:port/0",
        "redis://127.0.0.1:1/0?pasword=geheim",
    ],
)
def test_no_password_is_shown_whatever_is_wrong_with_the_url(url: str, dockerd: servers.Dockerd) -> None:
    _, out, complaint = cli(url, "ps")
    assert complaint
    assert "Traceback" not in complaint
    assert "geheim" not in out + complaint
    worker = Worker(url, dockerd)
    try:
        worker.launch()
        time_over = time.monotonic() + 3
        eventually(
            lambda: worker.process is not None and (worker.process.poll() is not None or time.monotonic() > time_over),
            40,
        )
        assert "geheim" not in worker.log + "".join(worker.notifications())
        assert "Traceback" not in worker.log
    finally:
        worker.stop()


@pytest.mark.parametrize(
    "job",
    [
        {"workdir": "/bin/busybox"},
        {"workdir": "/bin/busybox/x"},
    ],
    ids=["a file as workdir", "below a file"],
)
def test_what_can_never_start_is_not_tried_again(job: dict[str, object], worker: Worker, plain: Plain) -> None:
    line, receipt = plain.fail("busybox", **{"command": "true", **job})
    assert receipt["state"] == "rejected", line
    assert len(receipt["attempts"]) <= 1
    assert len(line) < 1500
