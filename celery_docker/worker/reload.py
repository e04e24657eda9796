"""The reload of a worker, ExecReload= of its unit: checks what the next process would start with, then asks for it.

Invariant: the running worker is signalled only if the next process could take over from it. Otherwise it goes on with
what it has, and this says in one line why. The environment is that of the next process, the settings file read anew by
systemd; that of the running one is in /proc.
"""

from __future__ import annotations

import os
import signal
import socket
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

from celery_docker import errors
from celery_docker.core import fixedsettings, settings
from celery_docker.engine.dockerd import DockerEngine
from celery_docker.store import redislink
from celery_docker.worker import configuration


def main(environ: Mapping[str, str]) -> int:
    """Hand the jobs of the process MAINPID over to its successor; return 78 where that could not work."""
    try:
        pid = _worker(environ)
        check(environ, _environment(pid))
    except errors.CeleryDockerError as exc:
        text = f"not reloaded, the worker goes on with its old settings: {exc}"
        configuration.complain(errors.SettingsError(text), environ)
        return configuration.EX_CONFIG
    with suppress(ProcessLookupError):  # it has just ended by itself, and systemd starts the next
        os.kill(pid, signal.SIGHUP)
    return 0


def _worker(environ: Mapping[str, str]) -> int:
    """Return the process to be reloaded, as systemd names it."""
    pid = environ.get("MAINPID", "")
    if not pid.isdigit():
        raise errors.SettingsError("MAINPID is not set: this is called by systemctl reload celery-worker")
    return int(pid)


def check(environ: Mapping[str, str], running: Mapping[str, str]) -> None:
    """Check that a worker with this environment could take over from one with the environment `running`.

    Raises `SettingsError` for its configuration, and for a change that a reload cannot make; `StoreRefused`,
    `StoreAway` and `EngineDenied` for a Redis or Docker that would not have it.
    """
    after = configuration.read(environ).settings
    before = _settings(running)
    if before is not None:
        fixedsettings.check_reload(before, after, socket.gethostname())
    _check_redis(after.broker_url, may_be_away=before is not None and before.broker_url == after.broker_url)
    # Away it may be: it is the same Docker, which the next process waits for as this one does.
    with suppress(errors.EngineAway):
        DockerEngine(after.docker_host, connections=1).check()


def _check_redis(url: str, *, may_be_away: bool) -> None:
    link = redislink.connect(url)
    try:
        link.check()
    except errors.StoreAway:
        if not may_be_away:
            raise
    finally:
        link.close()


def _settings(running: Mapping[str, str]) -> settings.Settings | None:
    """Return the settings of a running worker; None for what a version with other rules has accepted."""
    try:
        return settings.parse(running)
    except errors.SettingsError:
        return None


def _environment(pid: int) -> dict[str, str]:
    """Return the environment that a process was started with, empty where it has gone."""
    try:
        block = Path(f"/proc/{pid}/environ").read_text(errors="surrogateescape")
    except OSError:
        return {}
    return dict(pair.partition("=")[::2] for pair in block.split("\0") if pair)


if __name__ == "__main__":
    raise SystemExit(main(os.environ))
