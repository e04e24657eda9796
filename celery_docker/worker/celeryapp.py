"""The Celery application of a worker: its configuration, and why each value is what it is."""

from __future__ import annotations

import logging
import math
import os
import ssl
from typing import Any
from urllib.parse import parse_qs, urlsplit, urlunsplit

from celery import Celery, signals
from celery.apps.worker import Worker
from celery.platforms import EX_FAILURE
from celery.worker.control import Panel

from celery_docker.background.intake import Intake
from celery_docker.core import jobspec, redisurl, settings
from celery_docker.run.runner import Runner
from celery_docker.store import redislink
from celery_docker.worker import control
from celery_docker.worker.inbox import Recovery
from celery_docker.worker.task import RunDocker, free_frames, revoke_command

log = logging.getLogger(__name__)

_TLS_OPTIONS = ("ssl_cert_reqs", "ssl_ca_certs", "ssl_certfile", "ssl_keyfile")
_VERIFICATION = {"required": ssl.CERT_REQUIRED, "optional": ssl.CERT_OPTIONAL, "none": ssl.CERT_NONE}


def make(worker_settings: settings.Settings, runner: Runner, intake: Intake) -> Celery:
    """Return the application that takes jobs while the intake is open and runs them. Nothing is connected yet."""
    url, tls = _split_tls(worker_settings.broker_url)
    app = Celery("celery_docker", set_as_current=False)
    app.conf.update(_BASE, broker_url=url, broker_transport_options={**_TRANSPORT, "host": runner.host})
    if url.startswith("socket:"):
        # Celery's backend would hand the former to a socket, which knows none.
        app.conf.update(redis_socket_keepalive=False, broker_transport=f"{_BASE['broker_transport']}ToSocket")
    app.conf.update(result_backend=f"celery_docker.worker.results:Results+{url}")
    app.conf.update(result_expires=worker_settings.retention_s, broker_use_ssl=tls, redis_backend_use_ssl=tls)
    app.Worker = app.subclass_with_self(Controller, name="Worker")
    app.register_task(RunDocker(runner, intake))
    signals.task_postrun.connect(free_frames)
    app.steps["consumer"].add(Recovery)
    app.finalize()
    # Celery's own tasks let a sender write into the results of others; canvas does without them here.
    for name in set(app.tasks) - {jobspec.TASK_NAME}:
        app.tasks.pop(name)
    Panel.data["revoke"] = Panel.data["terminate"] = revoke_command(runner.cancel_many)
    Panel.data.update(control.commands(dict(Panel.data), file=worker_settings.file, unit=worker_settings.unit))
    return app


class Controller(Worker):  # type: ignore[misc]  # Celery ships no types
    """Celery's worker, which does not wait for its jobs when it cannot go on: the next process takes them over."""

    def stop(self, in_sighandler: bool = False, exitcode: int | None = None) -> None:
        """Stop as Celery does, or leave at once after an error that it calls unrecoverable."""
        if exitcode == EX_FAILURE:
            log.critical("the worker cannot go on and leaves; its containers run on, the next process takes them over")
            os._exit(EX_FAILURE)
        super().stop(in_sighandler, exitcode)


def _split_tls(url: str) -> tuple[str, dict[str, Any] | None]:
    """Return the URL as Celery says it, without its TLS options, and those for Celery.

    A server is verified unless the URL says no.
    """
    parts = urlsplit(url)
    if parts.scheme == redisurl.SOCKET_SCHEME:
        # Not urlunsplit, which leaves out the slashes of an empty host.
        return f"socket://{parts.netloc}{parts.path}?virtual_host={redisurl.database(url)}", None
    if parts.scheme != "rediss":
        return url, None
    query = {name: values[-1] for name, values in parse_qs(parts.query).items() if name in _TLS_OPTIONS}
    verify = query.pop("ssl_cert_reqs", "required")
    return urlunsplit(parts._replace(query="")), {**query, "ssl_cert_reqs": _VERIFICATION[verify]}


_TRANSPORT: dict[str, Any] = {
    "socket_timeout": redislink.CALL_TIMEOUT_S,
    "socket_connect_timeout": redislink.CONNECT_TIMEOUT_S,
    "socket_keepalive": True,
    "health_check_interval": redislink.HEALTH_CHECK_S,
    "retry_on_timeout": False,
}

_BASE: dict[str, Any] = {
    "task_default_queue": jobspec.DEFAULT_QUEUE,
    # A pickle is a program; nothing but JSON is read or written.
    "accept_content": ["json"],
    "task_serializer": "json",
    "result_serializer": "json",
    # A message is taken when a slot is free, so that queued jobs stay in Redis for other hosts.
    "worker_disable_prefetch": True,
    "worker_prefetch_multiplier": 1,
    "worker_pool": "celery_docker.worker.slots:Slots",
    # The broker may be away for as long as it likes; the defaults give up.
    "broker_connection_retry_on_startup": True,
    "broker_connection_max_retries": None,
    "broker_channel_error_retry": True,
    "worker_enable_prefetch_count_reduction": False,
    # No message is ever nowhere.
    "broker_transport": "celery_docker.worker.transport:Transport",
    # A result that could not be stored is stored later, not dropped.
    "result_backend_always_retry": True,
    "result_backend_max_retries": math.inf,
    "redis_socket_timeout": redislink.CALL_TIMEOUT_S,
    "redis_socket_connect_timeout": redislink.CONNECT_TIMEOUT_S,
    "redis_socket_keepalive": True,
    "redis_backend_health_check_interval": redislink.HEALTH_CHECK_S,
    # One backend for all slots instead of one connection pool each; storing is all that slots do with it.
    "result_backend_thread_safe": True,
    # The worker configures its own logging.
    "worker_hijack_root_logger": False,
    "worker_redirect_stdouts": False,
}
