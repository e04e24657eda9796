"""Volumes without a name that have outlived the container of a job.

A part of the engine. Must not import docker.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping
from datetime import datetime
from typing import Any
from urllib.parse import quote, urlencode

from celery_docker.engine import api

log = logging.getLogger(__name__)


def prune(calls: api.Calls, labels: Mapping[str, str], *, before: datetime) -> None:
    """Remove the volumes with all these labels that no container has, made before that moment.

    A younger one may be for a container that is being made: Podman makes the volume first. Raises `HostError` with the
    rest undone.
    """
    filters = {"dangling": ["true"], "label": [f"{name}={value}" for name, value in labels.items()]}
    answer = calls.ask("GET", f"/volumes?{urlencode({'filters': json.dumps(filters)})}")
    if not answer.ok:
        raise calls.refused("the volumes cannot be listed", answer)
    for volume in calls.parsed(answer).get("Volumes") or ():
        # Podman takes a label without a value for any.
        if labels.items() <= (volume.get("Labels") or {}).items() and _is_older(volume, before):
            _remove(calls, str(volume["Name"]))


def _remove(calls: api.Calls, name: str) -> None:
    answer = calls.ask("DELETE", f"/volumes/{quote(name, safe='')}")
    if answer.ok:
        log.info("volume %s is removed: its container is gone", name[:12])
    elif answer.status not in (404, 409):
        raise calls.refused(f"volume {name[:12]} cannot be removed", answer)


def _is_older(volume: Mapping[str, Any], moment: datetime) -> bool:
    return datetime.fromisoformat(volume["CreatedAt"]) < moment
