"""The call of `lua/take.lua`, which takes a message or a parked job for a host. Asks nothing of Redis."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from celery_docker.core.admission import FreeRoom
from celery_docker.store import keys

# The most messages of cancelled jobs that one call drops, or parks: some 20 ms of Redis' time.
_ASIDE_AT_ONCE = 500


def take_call(host: str, lists: Sequence[str], room: FreeRoom, *, is_new: bool) -> tuple[list[str], list[Any]]:
    """Return the keys and arguments of `lua/take.lua`; `is_new`: the connection may have lost an answer."""
    touched = [keys.host_sources(host), keys.WAITING, keys.CANCELLING, keys.PARKED, *lists]
    words = [keys.taken(host), int(is_new), keys.JOB, _ASIDE_AT_ONCE, keys.PARKED_GROUP]
    return touched, [*words, str(room.free), str(room.reserved), str(room.whole), room.reserved_id]
