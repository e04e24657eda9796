"""Each bad day of a machine as facts, and the line that `doctor` prints about it."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from celery_docker.core.findings import Finding
from celery_docker.doctor import hostchecks
from celery_docker.doctor.facts import Disk, DockerFacts, Gpus, Host, SecretFile, Unit
from tests.unit.doctor.printed import RUNNING, WELL, lines

GIB = 2**30
# Behind the socket that Debian's podman-docker makes.
PODMAN = DockerFacts("unix:///run/docker.sock", version="Podman 4.3.1", api="1.41", has_live_restore=True)


@pytest.mark.parametrize(
    ("check", "subject", "expected"),
    [
        (
            hostchecks.services,
            Host((Unit("celery-worker", "failed", "failed", ("bad setting\x1b[2J", "Failed")),), WELL),
            [
                "fail  celery-worker: has failed → mend what its last lines say, then systemctl restart celery-worker",
                "      | bad setting\\x1b[2J",
                "      | Failed",
            ],
        ),
        *(
            (
                hostchecks.services,
                Host((Unit("celery-worker", "activating", sub, ("Redis away",), restarts),), WELL),
                [
                    "fail  celery-worker: ends again and again; systemd keeps starting it → mend what its last lines "
                    "say, then systemctl restart celery-worker",
                    "      | Redis away",
                ],
            )
            for sub, restarts in (("auto-restart", 0), ("start", 1))
        ),
        *(
            (
                hostchecks.services,
                Host((Unit("celery-worker", active, sub, (), restarts),), WELL),
                [f"ok    celery-worker: is {active}"],
            )
            for active, sub, restarts in (("activating", "start", 0), ("active", "running", 1))
        ),
        (
            hostchecks.opener,
            Host((RUNNING,), WELL, has_opener=False),
            [
                "fail  paths: celery-docker-open does not listen, and jobs with paths wait → "
                "systemctl restart celery-docker-open.socket"
            ],
        ),
        (hostchecks.opener, Host((RUNNING,), WELL, has_opener=True), []),
        (hostchecks.files, Host((RUNNING,), WELL), []),
        (hostchecks.files, Host((RUNNING,), WELL, files=(SecretFile("registries", "/d/config.json"),)), []),
        (
            hostchecks.files,
            Host(
                (RUNNING,),
                WELL,
                files=(
                    SecretFile("notices", "/n.toml", ("chat", "pager")),
                    SecretFile("registries", "/d/config.json", ("r.example",)),
                ),
            ),
            ["ok    notices: /n.toml has chat, pager", "ok    registries: /d/config.json has r.example"],
        ),
        (
            hostchecks.files,
            Host((RUNNING,), WELL, files=(SecretFile("notices", "/n.toml", is_denied=True),)),
            ["skip  notices: you may not read /n.toml → sudo celery-docker doctor"],
        ),
        (
            hostchecks.files,
            Host(
                (RUNNING,),
                WELL,
                files=(
                    SecretFile("notices", "/n.toml", failure="is not TOML: \x1b", is_closed=True, is_public=True),
                    SecretFile("registries", "/d/config.json", failure="cannot be used: no JSON"),
                ),
            ),
            [
                "fail  notices: /n.toml is not TOML: \\x1b → mend it; until then nobody of it is told",
                "fail  notices: the workers may not read /n.toml → chgrp celery /n.toml; chmod 640 /n.toml",
                "warn  notices: /n.toml has secrets in it, and everybody can read it → chmod 640 /n.toml",
                "fail  registries: /d/config.json cannot be used: no JSON → write it anew: "
                "docker --config /etc/celery-docker/docker login",
            ],
        ),
        (
            hostchecks.files,
            Host((RUNNING,), PODMAN, files=(SecretFile("registries", "/d/c.json", ("r",), "x", is_closed=True),)),
            [
                "fail  registries: /d/c.json x → write it anew: "
                "podman login --authfile /etc/celery-docker/docker/config.json",
                "fail  registries: the workers may not read /d/c.json → "
                "chgrp -R celery /d; chmod 2750 /d; chmod 640 /d/c.json",
            ],
        ),
        (
            hostchecks.services,
            Host((Unit("celery-worker", "inactive", "dead"),), WELL),
            ["warn  celery-worker: is stopped on this host → systemctl start celery-worker"],
        ),
        (
            hostchecks.services,
            Host((RUNNING, Unit("celery-worker@gpu", "inactive", "dead")), WELL),
            [
                "ok    celery-worker: is active",
                "warn  celery-worker@gpu: is stopped on this host → systemctl start celery-worker@gpu",
            ],
        ),
        (
            hostchecks.docker,
            Host((RUNNING,), DockerFacts("unix:///d", "Connection refused")),
            [
                "fail  docker: does not answer at unix:///d: Connection refused → systemctl start docker; if that "
                "fails: journalctl -u docker"
            ],
        ),
        (
            hostchecks.docker,
            Host((RUNNING,), DockerFacts("unix:///run/podman/podman.sock", "No such file")),
            [
                "fail  docker: does not answer at unix:///run/podman/podman.sock: No such file → systemctl start "
                "podman.socket; if that fails: journalctl -u podman"
            ],
        ),
        (
            hostchecks.docker,
            Host((RUNNING,), DockerFacts("unix:///d", "Permission denied", is_denied=True)),
            [
                "skip  docker: you may not ask Docker at unix:///d, so it was not looked at → sudo celery-docker "
                "doctor; or join group docker, which is as good as root"
            ],
        ),
        (
            hostchecks.docker,
            Host((RUNNING,), DockerFacts("unix:///d", version="19.03", api="1.40")),
            ["fail  docker: 19.03 (API 1.40) is too old → install Docker 20.10 or later"],
        ),
        (
            hostchecks.docker,
            Host((RUNNING,), DockerFacts("unix:///run/podman/podman.sock", version="Podman 3.0", api="1.40")),
            ["fail  docker: Podman 3.0 (API 1.40) is too old → install Podman 4.3 or later"],
        ),
        (hostchecks.docker, Host((RUNNING,), WELL), ["ok    docker: 26.1 (API 1.45)"]),
        (
            hostchecks.live_restore,
            Host((RUNNING,), DockerFacts("unix:///d", has_live_restore=False)),
            [
                "warn  live-restore: a restart of Docker ends the running jobs; they start again → put "
                '"live-restore": true into /etc/docker/daemon.json, then systemctl reload docker'
            ],
        ),
        (
            hostchecks.live_restore,
            Host((RUNNING,), WELL),
            ["ok    live-restore: containers survive a restart of Docker"],
        ),
        (
            hostchecks.live_restore,
            Host((RUNNING,), PODMAN),
            ["ok    live-restore: containers survive a restart of Podman"],
        ),
        (
            hostchecks.group,
            Host((RUNNING,), WELL, is_in_docker_group=False),
            [
                "fail  group: user celery, the worker's, is not in group docker → adduser celery docker; systemctl "
                "restart celery-worker"
            ],
        ),
        (hostchecks.group, Host((RUNNING,), WELL, is_in_docker_group=True), []),
        (
            hostchecks.release,
            Host((RUNNING,), WELL, python="python3.11", debian_python="python3.13"),
            [
                "warn  release: the package is of another release of Debian: it runs on python3.11, and this one has "
                "python3.13 → install the celery-docker of this release; Debian no longer mends the other Python"
            ],
        ),
        (hostchecks.release, Host((RUNNING,), WELL, python="python3.13", debian_python="python3.13"), []),
        (hostchecks.release, Host((RUNNING,), WELL, python="python3.11"), []),
        (
            hostchecks.disks,
            Host((RUNNING,), PODMAN, (Disk("/a", 10 * GIB, GIB - 1),)),
            ["fail  disk: /a has 1 GiB left of 10 GiB → make room; podman system prune removes unused images"],
        ),
        (
            hostchecks.disks,
            Host(
                (RUNNING,),
                WELL,
                (Disk("/a", 10 * GIB, GIB - 1), Disk("/b", 100 * GIB, 4 * GIB), Disk("/c", GIB * 9, GIB)),
            ),
            [
                "fail  disk: /a has 1 GiB left of 10 GiB → make room; docker system prune removes unused images",
                "fail  disk: /b has 4 GiB left of 100 GiB → make room; docker system prune removes unused images",
            ],
        ),
        (
            hostchecks.disks,
            Host((RUNNING,), WELL, (Disk("/a", 10 * GIB, 5 * GIB),)),
            ["ok    disk: at least 5 GiB are free"],
        ),
        (hostchecks.gpus, Host((RUNNING,), WELL), []),
        (
            hostchecks.gpus,
            Host((RUNNING,), WELL, gpus=Gpus(("0", "1"), "by the driver of NVIDIA")),
            ["ok    gpus: jobs can have 2 GPUs: 0, 1 (by the driver of NVIDIA)"],
        ),
        (
            hostchecks.gpus,
            Host((RUNNING,), WELL, gpus=Gpus((), "CELERY_DOCKER_GPUS is 0", ("/etc/cdi/a.json is not JSON\x1b",))),
            [
                "ok    gpus: jobs can have none (CELERY_DOCKER_GPUS is 0)",
                "warn  gpus: /etc/cdi/a.json is not JSON\\x1b → mend that, or name them by CELERY_DOCKER_GPUS; then "
                "reload the worker",
            ],
        ),
    ],
)
def test_this_host(check: Callable[[Host], list[Finding]], subject: Host, expected: list[str]) -> None:
    assert lines(check(subject)) == expected
