"""The process celery-docker-api: sockets from the service manager, the broker's URL from the environment.

Ends by itself when nobody has asked anything for a while; the socket stays, and the next request starts it again.
"""

from __future__ import annotations

import grp
import ipaddress
import logging
import os
import signal
import socket
import threading
from collections.abc import Mapping
from contextlib import ExitStack, closing
from typing import Any

from celery_docker import errors
from celery_docker.client import configfiles
from celery_docker.core import access, settings, tokens
from celery_docker.gateway import monitoring, routes
from celery_docker.gateway.application import Application, Closed
from celery_docker.gateway.callers import Callers
from celery_docker.gateway.jobs import Jobs
from celery_docker.gateway.logs import Logs
from celery_docker.gateway.monitoring import Monitoring
from celery_docker.gateway.overview import Overview
from celery_docker.gateway.sessions import Sessions
from celery_docker.gateway.shared import Shared
from celery_docker.gateway.status import RedisFacts, Status
from celery_docker.gateway.submitting import Submitting
from celery_docker.gateway.webserver import WebServer
from celery_docker.host import systemd
from celery_docker.host.keyfile import KeyFile
from celery_docker.host.tokenfile import TokenFile
from celery_docker.store import jobstore, redislink
from celery_docker.store.heads import Heads
from celery_docker.store.hostqueries import LatestHosts
from celery_docker.store.livelog import RedisLog
from celery_docker.store.queries import Queries

PROGRAM = "celery-docker-api"
BAD_CONFIG = 78
_THREADS = 16
_IDLE_S = 600.0
_PATIENCE_S = 30.0
_FIRST_FD = 3
# For so long a job's place in its queue may be told as it was, and why it waits for a host.
_KEEP_HEADS_S, _KEEP_HOSTS_S = 1.0, 0.2

_log = logging.getLogger(__name__)


def main(
    environ: Mapping[str, str],
    *,
    idle_s: float = _IDLE_S,
    patience_s: float = _PATIENCE_S,
    token_file: str = tokens.FILE,
) -> int:
    """Serve until a signal, or until it is idle; return the exit status."""
    logging.basicConfig(level=logging.INFO, handlers=[systemd.log_handler(environ, PROGRAM)])
    logging.getLogger("waitress.queue").setLevel(logging.ERROR)
    # It names what was asked by whoever goes away before the answer.
    logging.getLogger("waitress").setLevel(logging.WARNING)
    with ExitStack() as opened:
        try:
            listening = _sockets(environ)
        except errors.SettingsError as exc:
            _log.error("%s", exc)  # one line for who started it
            return BAD_CONFIG
        app = _application(environ, TokenFile(token_file), opened)
        server = WebServer(listening, app, _THREADS, idle_s=idle_s, patience_s=patience_s)
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda *_: server.stop())
        systemd.notify(environ, READY=1)
        server.run()
        systemd.notify(environ, STOPPING=1)
    return 0


def _application(environ: Mapping[str, str], token_file: TokenFile, opened: ExitStack) -> Application | Closed:
    """Return the application; with a bad setting one that says so to everybody.

    A process that ends instead would be started again for the connection that waits, again and again.
    """
    try:
        url, key_file = str(_setting(environ, "broker_url")), configfiles.key_file(environ)
        callers = Callers(_administrators(), token_file, names=_setting(environ, "api_hosts"))
        store = opened.enter_context(closing(jobstore.connect(url)))
        raw = opened.enter_context(closing(redislink.connect(url, text=False)))
        quick = opened.enter_context(closing(redislink.connect(url, timeout_s=monitoring.PATIENCE_S)))
    except (errors.SettingsError, errors.StoreRefused) as exc:
        _log.error("%s", exc)  # one line for who set it up
        return Closed(f"{exc}; correct it, then: systemctl try-restart {PROGRAM} {PROGRAM}-tcp")
    queries = Queries(store.link, Heads(store.link, _KEEP_HEADS_S), LatestHosts(store.link, _KEEP_HOSTS_S))
    log = Logs(RedisLog(raw), queries, threading.Semaphore(_THREADS // 2))
    shared = Shared()
    submitting = Submitting(store, queries, KeyFile(key_file), shared)
    status = Status(queries, RedisFacts(queries))
    overview, sessions = Overview(queries), Sessions(callers)
    table = routes.table(Jobs(store, queries, shared), submitting, log, overview, sessions, status, Monitoring(quick))
    return Application(table, callers)


def _setting(environ: Mapping[str, str], name: str) -> Any:
    """Return a setting that this service has in common with the worker. Raises `SettingsError`."""
    setting = next(setting for setting in settings.SETTINGS if setting.field == name)
    text = environ.get(setting.variable, "").strip() or setting.default
    try:
        return setting.value_of(text)
    except ValueError as exc:
        raise errors.SettingsError(f"{setting.variable}={settings.shown(text)}: {exc}") from exc


def _sockets(environ: Mapping[str, str]) -> list[socket.socket]:
    """Return the sockets that the service manager has handed over. Raises `SettingsError`."""
    count = environ.get("LISTEN_FDS", "") if environ.get("LISTEN_PID") == str(os.getpid()) else ""
    if not count.isdigit() or int(count) < 1:
        raise errors.SettingsError(f"no socket was handed over; start it with: systemctl start {PROGRAM}.socket")
    sockets = [socket.socket(fileno=_FIRST_FD + place) for place in range(int(count))]
    for listening in sockets:
        if listening.family != socket.AF_UNIX and not _is_loopback(listening):
            raise errors.SettingsError(
                f"{PROGRAM} does not listen on {listening.getsockname()[0]}: tokens would go over the network as plain "
                f"text; let it listen on 127.0.0.1, with a proxy in front that has a certificate"
            )
        listening.setblocking(False)
    return sockets


def _is_loopback(listening: socket.socket) -> bool:
    return (
        listening.family in (socket.AF_INET, socket.AF_INET6)
        and ipaddress.ip_address(listening.getsockname()[0]).is_loopback
    )


def _administrators() -> int | None:
    try:
        return grp.getgrnam(access.ADMINISTRATORS).gr_gid
    except KeyError:
        return None
