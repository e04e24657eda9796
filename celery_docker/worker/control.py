"""Celery's control commands, as a worker answers them: what nobody would see in the state of a host is refused."""

from __future__ import annotations

import functools
import logging
from collections.abc import Callable, Mapping
from typing import Any

from celery.utils.serialization import jsonify

from celery_docker.core import wording

log = logging.getLogger(__name__)

Command = Callable[..., Any]

_SLOTS = "set CELERY_DOCKER_CONCURRENCY in {file}, then: systemctl reload {unit}"
_QUEUES = "set CELERY_DOCKER_OPTS='-Q NAME,...' in {file}, then: systemctl reload {unit}"
REFUSED: Mapping[str, str] = {
    "shutdown": "use on its host: systemctl stop {unit}",
    "cancel_consumer": "use: celery-docker drain HOST, which is seen and outlives a restart",
    "add_consumer": _QUEUES,
    "pool_grow": _SLOTS,
    "pool_shrink": _SLOTS,
    "pool_restart": "use on its host: systemctl reload {unit}",
    "autoscale": _SLOTS,
    "time_limit": "give each job a timeout",
    "rate_limit": "use the limit of a batch, or CELERY_DOCKER_CONCURRENCY",
    "revoke_by_stamped_headers": "use revoke with the ids, or cancel their batch: celery-docker cancel BATCH",
    "election": "workers elect nobody, they run without gossip",
    "objgraph": "its library is not installed",
}


def commands(standard: Mapping[str, Command], *, file: str, unit: str) -> dict[str, Command]:
    """Return Celery's commands with ours for what is refused; none of them raises anything.

    `file` and `unit` are the worker's file of settings and its service.
    """
    refused = {name: _refusal(name, remedy.format(file=file, unit=unit)) for name, remedy in REFUSED.items()}
    guarded = {name: _guarded(name, command) for name, command in standard.items() if name not in REFUSED}
    return {**guarded, **refused}


def _refusal(name: str, remedy: str) -> Command:
    def refuse(state: Any, /, **_arguments: Any) -> dict[str, str]:
        log.warning("the control command %s was refused", name)
        return {"error": f"{name} is refused: {remedy}"}

    return refuse


def _guarded(name: str, command: Command) -> Command:
    @functools.wraps(command)
    def answer(state: Any, /, **arguments: Any) -> Any:
        try:
            # An answer that is no JSON would be lost, and with it what comes while Celery listens anew.
            return jsonify(command(state, **arguments), unknown_type_filter=repr)
        except Exception as exc:  # noqa: BLE001  # whatever somebody has sent, the worker goes on
            reason = wording.one_line(f"{type(exc).__name__}: {exc}", 300)
            log.error("the control command %s failed: %s", name, reason)
            return {"error": f"{name} failed: {reason}"}

    return answer
