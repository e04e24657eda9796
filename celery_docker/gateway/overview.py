"""What everybody with a name may know: hosts, lengths of queues, and who he is."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from celery_docker.client import summary, views
from celery_docker.core import jobspec
from celery_docker.core.access import Identity, Right, Rights
from celery_docker.gateway import parameters
from celery_docker.gateway.routing import Answer, Request
from celery_docker.store.queries import Queries


@dataclass(frozen=True)
class Overview:
    """The handlers about hosts and queues. Each raises `StoreAway` or `StoreRefused`."""

    queries: Queries

    def hosts(self, request: Request) -> Answer:
        """List the hosts by name; with a limit, a page of them."""
        rows, now = self.queries.hosts.rows(), self.queries.now()
        after, limit = request.query.get(parameters.BEFORE.name, ""), request.query.get(parameters.HOSTS_LIMIT.name)
        later = [row for row in rows if row.host > after]
        rows = later[:limit]
        return Answer(
            {
                "hosts": [{**views.host_json(row, now), "lost": row.lost, "report": dict(row.about)} for row in rows],
                "next": rows[-1].host if len(rows) < len(later) else None,
                "now": views.timestamp(now),
            }
        )

    def queue(self, request: Request) -> Answer:
        """Say how much there is to do, and who does it."""
        return Answer(summary.of(self.queries, request.query.get(parameters.QUEUE.name, jobspec.DEFAULT_QUEUE)))

    def identity(self, request: Request) -> Answer:
        """Say who asks, and what he may."""
        return Answer(identity_json(request.identity, request.rights))


def identity_json(identity: Identity, rights: Rights) -> dict[str, Any]:
    """Return somebody and his rights for programs."""
    return {
        "name": identity.name,
        "uid": identity.uid,
        "gid": identity.gid,
        "groups": list(identity.groups),
        "may_read": rights.has(Right.READ),
        "may_submit": rights.has(Right.SUBMIT),
        "may_cancel": rights.has(Right.CANCEL),
        "may_everything": rights.may_everything,
        "token": rights.token or None,
        "session_until": views.timestamp(rights.until),
    }
