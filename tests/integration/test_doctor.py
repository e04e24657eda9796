"""Each bad day made for real, and what `celery-docker doctor` says about it."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest

from celery_docker.core.findings import Level
from celery_docker.doctor import facts, hostchecks, hostfacts
from celery_docker.store import keys
from tests import commandline, servers
from tests.conftest import require

# Without systemctl it cannot see the services of this computer, where the package may be installed.
NOWHERE = {"PATH": "/nonexistent"}


@pytest.fixture
def redis_as() -> Iterator[list[servers.RedisServer]]:
    """Redis servers of a test's own, ended with it."""
    require("redis", servers.RedisServer.missing())
    running: list[servers.RedisServer] = []
    yield running
    for server in running:
        server.stop()


def started(running: list[servers.RedisServer], **options: str) -> servers.RedisServer:
    """Start a Redis with these lines in its redis.conf."""
    server = servers.RedisServer({name.replace("_", "-"): value for name, value in options.items()})
    running.append(server)
    server.start()
    return server


def examined(url: str) -> tuple[int, dict[str, list[str]]]:
    """Return the status of doctor, and its lines by what they are about."""
    environ = {**NOWHERE, "CELERY_DOCKER_BROKER_URL": url}
    completed = commandline.call("doctor", environ=environ)
    assert completed.stderr == ""
    findings: dict[str, list[str]] = {}
    for line in completed.stdout.splitlines():
        level, subject, says = line.split(maxsplit=2)
        findings.setdefault(subject.rstrip(":"), []).append(f"{level} {says}")
    return completed.returncode, findings


def beat(server: servers.RedisServer, host: str, *, ago_s: float = 0, ahead_s: float = 0, version: str = "") -> None:
    """Write the heartbeat that a worker would have sent."""
    with server.client() as client:
        seconds, micros = client.time()
        heard_at = seconds + micros / 1e6 - ago_s
        client.zadd(keys.HOSTS, {host: heard_at})
        about = {"version": version, "clock": datetime.fromtimestamp(heard_at + ahead_s, UTC).isoformat()}
        client.hset(keys.host_about(host), "about", json.dumps(about))


def test_redis_away() -> None:
    status, findings = examined(f"redis://127.0.0.1:{servers.free_port()}/0")
    assert status == 1
    assert findings["redis"][0].startswith("fail cannot reach Redis at redis://127.0.0.1:")
    assert set(findings) == {"redis"}


def test_the_wrong_password(redis_as: list[servers.RedisServer]) -> None:
    server = started(redis_as, requirepass="right")
    status, findings = examined(server.url.replace("right", "wrong"))
    assert status == 1
    assert findings["redis"][0].startswith("fail Redis at redis://:***@127.0.0.1")
    assert "wrong" not in str(findings)


def test_a_good_day(redis_as: list[servers.RedisServer]) -> None:
    server = started(redis_as, requirepass="right", appendonly="yes", maxmemory="1gb")
    beat(server, "a")
    status, findings = examined(server.url)
    assert status == 0, findings
    assert findings["password"] == ["ok Redis asks for one"]
    assert findings["persistence"] == ["ok Redis writes every change to its append-only file"]
    assert findings["eviction"] == ["ok Redis throws nothing away"]
    assert findings["memory"][0].startswith("ok Redis uses 0%")
    assert findings["workers"] == ["ok 1 alive: a"]
    assert findings["clock"] == ["ok all clocks agree within 5 s"]


def test_a_public_address_without_a_password(redis_as: list[servers.RedisServer]) -> None:
    server = started(redis_as, bind="*", protected_mode="no")
    status, findings = examined(server.url)
    assert status == 1
    assert "asks for no password: whoever can connect is root on the workers" in findings["password"][0]
    with server.client() as client:
        client.config_set("protected-mode", "yes")
    assert examined(server.url)[1]["password"] == ["ok Redis asks for none, and others cannot reach it"]


def test_no_persistence_and_an_eviction_policy(redis_as: list[servers.RedisServer]) -> None:
    server = started(redis_as, maxmemory="100mb", maxmemory_policy="allkeys-lru")
    status, findings = examined(server.url)
    assert status == 1
    assert findings["persistence"] == [
        "fail a restart of Redis loses every job → set appendonly yes in redis.conf, or: sudo celery-docker setup-redis"
    ]
    assert findings["eviction"][0].startswith("fail with maxmemory-policy allkeys-lru Redis throws jobs away")
    with server.client() as client:
        client.config_set("save", "3600 1")
    assert examined(server.url)[1]["persistence"][0].startswith("warn a power cut loses")


def test_redis_near_its_limit(redis_as: list[servers.RedisServer]) -> None:
    server = started(redis_as)
    with server.client() as client:
        client.config_set("maxmemory", int(client.info("memory")["used_memory"] * 1.1))
    memory = examined(server.url)[1]["memory"][0]
    assert memory.startswith("warn Redis uses ")
    assert memory.endswith("→ raise maxmemory in redis.conf, or keep results for less long")


def test_no_worker_alive_clocks_apart_and_another_version(redis_as: list[servers.RedisServer]) -> None:
    server = started(redis_as)
    assert examined(server.url)[1]["workers"][0].startswith("fail none is alive → systemctl start celery-worker")
    beat(server, "a", ago_s=120)
    workers = examined(server.url)[1]["workers"]
    assert workers[0].startswith("fail none is alive")
    assert workers[1].startswith("warn a was last heard 2m ago")
    beat(server, "b", ahead_s=60, version="0.0.1")
    findings = examined(server.url)[1]
    assert findings["workers"][0] == "ok 1 alive: b"
    assert findings["clock"] == [
        "warn b is 1m ahead of Redis' host → let both keep the time with systemd-timesyncd or chrony"
    ]
    assert "others are not: b 0.0.1" in findings["version"][0]


def test_a_user_who_may_ask_little_is_told_what_is_known(redis_as: list[servers.RedisServer]) -> None:
    """A fact that this user may not see is named, and is no failure of doctor's."""
    server = started(redis_as, requirepass="right")
    with server.client() as client:
        client.execute_command("ACL SETUSER me on >mine ~* +ping +time +select")
    status, findings = examined(server.url.replace(":right@", "me:mine@"))
    assert status == 0
    assert set(findings) == {"redis", "password", "clock"}
    assert [line for line in findings["redis"] if line.startswith("skip ")] == [
        "skip this user of Redis may not ask about it, so these were not looked at: persistence, eviction, memory, "
        "workers → celery-docker doctor --broker URL, with the login of its administrator"
    ]


def test_for_programs(redis_as: list[servers.RedisServer]) -> None:
    server = started(redis_as)
    completed = commandline.call("doctor", "--json", "--broker", server.url, environ=NOWHERE)
    findings = json.loads(completed.stdout)
    assert completed.returncode == 1
    assert {"level", "what", "says", "remedy", "details"} == set(findings[0])
    assert [finding["what"] for finding in findings][:2] == ["redis", "password"]


def test_docker(own_dockerd: servers.Dockerd) -> None:
    docker_facts = hostfacts.docker(own_dockerd.url)
    unit = facts.Unit("celery-worker", "active", "running")
    (line,) = hostchecks.docker(facts.Host((unit,), docker_facts))
    assert line.level is Level.OK
    (line,) = hostchecks.live_restore(facts.Host((unit,), docker_facts))
    assert line.level is Level.WARN
    own_dockerd.end()
    docker_facts = hostfacts.docker(own_dockerd.url)
    (line,) = hostchecks.docker(facts.Host((unit,), docker_facts))
    assert line.lines()[0].startswith(f"fail  docker: does not answer at {own_dockerd.url}: ")


def test_a_docker_that_is_too_old(dockerd: servers.Dockerd, old_dockerd: servers.Dockerd) -> None:
    """It answers, so that nobody may say it does not."""
    status, answer = old_dockerd.request("GET", f"/v{dockerd.api}/info")
    assert (status, b"Maximum supported API version is 1.40" in answer) == (400, True)
    unit = facts.Unit("celery-worker", "active", "running")
    (line,) = hostchecks.docker(facts.Host((unit,), hostfacts.docker(old_dockerd.url)))
    version = json.loads(old_dockerd.request("GET", "/version")[1])["Version"]
    assert line.lines() == [f"fail  docker: {version} (API 1.40) is too old → install Docker 20.10 or later"]


def test_a_nearly_full_disk(tmp_path: Path) -> None:
    """A file system of its own, with less left than Docker needs for an image."""
    require("docker", "" if os.geteuid() == 0 else "a mount needs root")
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64m", "tmpfs", str(tmp_path)], check=True, timeout=60)
    try:
        disk_facts = hostfacts.disks((str(tmp_path), "/no/such/folder"))
    finally:
        subprocess.run(["umount", str(tmp_path)], check=True, timeout=60)
    (finding,) = hostchecks.disks(
        facts.Host((facts.Unit("celery-worker", "active", "running"),), facts.DockerFacts("d"), disk_facts)
    )
    assert finding.lines() == [
        f"fail  disk: {tmp_path} has 64 MiB left of 64 MiB → make room; docker system prune removes unused images"
    ]


def test_the_interpreter_behind_a_link(tmp_path: Path) -> None:
    (tmp_path / "python3.99").touch()
    (tmp_path / "python").symlink_to("python3.99")
    assert hostfacts.interpreter(str(tmp_path / "python")) == "python3.99"
    assert hostfacts.interpreter(str(tmp_path / "none")) is None


def test_groups() -> None:
    assert hostfacts.is_in_group("root", "root") is True
    assert hostfacts.is_in_group("nobody", "root") is False
    assert hostfacts.is_in_group("nobody", "no-such-group") is False
    assert hostfacts.is_in_group("no-such-user", "root") is None
