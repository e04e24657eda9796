"""An order to pull an image on hosts before its jobs come: its text in Redis, who has signed it, and how it goes. Pure.

It is signed as a job is, and is none: its queue has a name that no queue can have, and its arguments are those of no
job, so that neither can be taken for the other.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Any

from celery_docker import errors
from celery_docker.core import canvas, containerkinds, kinds, signature, strictjson
from celery_docker.core.access import Identity
from celery_docker.core.signature import Signature
from celery_docker.core.signingkeys import Keys
from celery_docker.core.timelimits import NO_LIMITS

QUEUE = "celery-docker:pulls"
# For so long a host that comes back still carries an order out.
LASTS_S = 86_400
_MOST_HOSTS = 10_000


class PullState(StrEnum):
    """The state of an order on one host."""

    PULLING = "pulling"
    PULLED = "pulled"
    # By the policy, or for want of a signature.
    REFUSED = "refused"
    FAILED = "failed"

    @property
    def is_final(self) -> bool:
        return self is not PullState.PULLING


@dataclass(frozen=True)
class PullOrder:
    """An order. `hosts` are those that are to carry it out, none: all. The `signature` is not verified yet."""

    order_id: str
    image: str
    platform: str | None = None
    hosts: tuple[str, ...] = ()
    signature: Signature | None = None

    @property
    def arguments(self) -> dict[str, Any]:
        """The contents of the order, which a signature is about."""
        return {"pull": self.image, "platform": self.platform, "hosts": list(self.hosts)}

    def text(self) -> str:
        """Return the order as Redis has it."""
        signed = {} if self.signature is None else {"signature": self.signature.header()}
        return json.dumps({**self.arguments, **signed}, separators=(",", ":"))

    def signed(self, key: bytes, identity: Identity, now_s: float) -> PullOrder:
        """Return the order, signed."""
        return replace(self, signature=signature.sign(key, identity, self.order_id, QUEUE, self.arguments, now_s))

    def submitter(self, keys: Keys, now_s: float) -> Identity | None:
        """Return who has signed the order, None where nobody has. Raises `SignatureError` and `HostError`."""
        if self.signature is None:
            return None
        digest = signature.digest((), self.arguments, canvas.EMPTY, NO_LIMITS)
        who = signature.verify(keys, self.signature, job_id=self.order_id, queue=QUEUE, digest=digest, now_s=now_s)
        if self.signature.at_s < now_s - LASTS_S:
            raise errors.SignatureError("signature: it is more than a day old; give the order again")
        return who


def parse(order_id: str, text: str) -> PullOrder:
    """Return an order as Redis has it. Raises `ValueError` in one line."""
    table = strictjson.table(text)
    image, platform, hosts = table.get("pull"), table.get("platform"), table.get("hosts", [])
    if not isinstance(image, str):
        raise ValueError("it names no image")  # bad input, not a mistake of ours
    kinds.IMAGE.parse(image)
    if platform is not None:
        containerkinds.PLATFORM.parse(platform)
    if not isinstance(hosts, list) or len(hosts) > _MOST_HOSTS or not all(isinstance(host, str) for host in hosts):
        raise ValueError("it has no list of hosts")
    signed = signature.parse(table["signature"]) if "signature" in table else None
    return PullOrder(order_id, image, platform, tuple(hosts), signed)


@dataclass(frozen=True)
class PullReport:
    """The report of one host about an order."""

    state: PullState
    pulled_bytes: int = 0
    size_bytes: int = 0
    digest: str = ""
    reason: str = ""

    def text(self) -> str:
        """Return the report as Redis has it."""
        return json.dumps({**vars(self), "state": self.state.value}, separators=(",", ":"))


def parse_report(text: str | None) -> PullReport | None:
    """Return a report as Redis has it; None where there is none that can be read."""
    try:
        table: Mapping[str, Any] = strictjson.table(text or "")
        state = PullState(str(table.get("state")))
    except ValueError:
        return None
    digest, reason = (value if isinstance(value, str) else "" for value in (table.get("digest"), table.get("reason")))
    return PullReport(state, _count(table.get("pulled_bytes")), _count(table.get("size_bytes")), digest, reason)


def _count(value: Any) -> int:
    return value if isinstance(value, int) and not isinstance(value, bool) and value > 0 else 0
