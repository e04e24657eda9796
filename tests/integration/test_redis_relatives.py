"""Redis' relatives, and URLs that nearly fit: one line says what is wrong, and whether a restart could mend it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing

import pytest
from celery import Celery

from celery_docker import Client
from celery_docker.core.jobspec import JobSpec
from celery_docker.doctor import checks, facts, redisfacts
from tests import servers
from tests.conftest import require
from tests.workers.worker import Worker

_NEEDED = 69
_WRONG = 78


@pytest.fixture(params=["cluster", "replica", "database", "tls", "plain", "sentinel"])
def relative(request: pytest.FixtureRequest) -> Iterator[tuple[str, str]]:
    """Start such a server; return its kind and a URL that names it."""
    require("redis", servers.RedisServer.missing())
    kind: str = request.param
    options = {
        "cluster": {"cluster-enabled": "yes", "cluster-port": str(servers.free_port())},
        # Of a primary that is not there: the port is free.
        "replica": {"replicaof": f"127.0.0.1 {servers.free_port()}"},
    }
    is_sentinel = kind == "sentinel"
    with servers.Sentinel() if is_sentinel else servers.RedisServer(options.get(kind), tls=kind == "plain") as server:
        plain = f"redis://127.0.0.1:{server.port}"
        urls = {"database": f"{plain}/99", "tls": plain.replace("redis:", "rediss:")}
        yield kind, urls.get(kind, plain)


def test_a_worker_says_what_is_wrong(relative: tuple[str, str], dockerd: servers.Dockerd) -> None:
    """Exit 78: systemd does not start it again, since only a correction helps; 69: it waits for better times."""
    kind, url = relative
    expected = {
        "cluster": (_WRONG, "belongs to a Redis Cluster, which is not supported: name a Redis that works alone"),
        "replica": (_NEEDED, "is a read-only replica: name its primary in the URL, or promote it"),
        "database": (_WRONG, "has no database of that number: name another in the URL"),
        "tls": (_WRONG, "does not speak TLS: write redis:// instead of rediss:// in the URL, or set tls-port there"),
        "plain": (_WRONG, "speaks TLS: write rediss:// instead of redis:// in the URL"),
        "sentinel": (_WRONG, "is a Sentinel, which is not supported: name the Redis itself"),
    }
    status, sentence = expected[kind]
    worker = Worker(url, dockerd)
    try:
        worker.launch()
        assert worker.wait() == status, worker.log
        lines = worker.log.splitlines()
        assert len(lines) == 1, lines
        assert sentence in lines[0]
        assert f"127.0.0.1:{url.rpartition(':')[2].partition('/')[0]}" in lines[0]
    finally:
        worker.stop()


@pytest.mark.parametrize("scheme", ["sentinel", "redis+sentinel", "redis-cluster"])
def test_a_url_of_what_is_not_supported(dockerd: servers.Dockerd, scheme: str) -> None:
    worker = Worker(f"{scheme}://127.0.0.1:{servers.free_port()}/0", dockerd)
    try:
        worker.launch()
        assert worker.wait() == _WRONG
        assert "Sentinel and Redis Cluster are not supported; the URL must look like redis://" in worker.log
    finally:
        worker.stop()


def test_a_file_of_the_url_that_is_missing(dockerd: servers.Dockerd) -> None:
    """The Redis is there and speaks TLS: nobody is told to start it."""
    require("redis", servers.RedisServer.missing())
    with servers.RedisServer(tls=True) as server:
        worker = Worker(f"rediss://127.0.0.1:{server.port}/0?ssl_ca_certs=/none/ca.crt", dockerd)
        try:
            worker.launch()
            assert worker.wait() == _NEEDED, worker.log
            assert "ssl_ca_certs '/none/ca.crt': No such file or directory; correct the URL, or the file" in worker.log
            assert "start it there" not in worker.log
            assert len(worker.log.splitlines()) == 1, worker.log
        finally:
            worker.stop()


def test_a_socket_of_redis_serves_everybody(dockerd: servers.Dockerd) -> None:
    """The worker, its results and its control commands, the client and doctor: with a password and another database."""
    require("redis", servers.RedisServer.missing())
    server = servers.RedisServer({"requirepass": "pw"})
    path = server.folder / "door.sock"
    server.options["unixsocket"] = str(path)
    with server:
        url = f"unix://:pw@{path}?db=1"
        worker = Worker(url, dockerd)
        try:
            worker.start()
            with closing(Client(url)) as client:
                job = client.submit(JobSpec("busybox", ("true",)))
                assert job.wait(timeout=60) == "succeeded"
            plain = Celery(broker=f"redis://:pw@127.0.0.1:{server.port}/1", set_as_current=False)
            assert len(plain.control.inspect(timeout=5, limit=1).ping()) == 1
            findings = {finding.what: finding for finding in checks.findings(facts.Facts(redisfacts.gather(url)))}
            assert findings["redis"].says == f"answers at {path}"
            assert findings["password"].says == "Redis asks for one"
            assert findings["workers"].says.startswith("1 alive")
        finally:
            worker.stop()
