"""Looking up whole ids by their beginning in an index of Redis. Reads only."""

from __future__ import annotations

from collections.abc import Callable

from celery_docker.core import ids
from celery_docker.store import redislink

_IDS_AT_ONCE = 20_000
_MATCHES = 100


def resolve(link: redislink.Link, text: str, index: str, key_of: Callable[[str], str]) -> str:
    """Return the one id in an index that is `text` or begins with it. Raises `NoSuchJob` or `AmbiguousId`."""
    with link.translated():
        if text and link.client.exists(key_of(text)):
            return text
    return ids.resolve_prefix(text, beginning_with(link, text, index))


def beginning_with(link: redislink.Link, text: str, index: str) -> list[str]:
    """Return the ids in an index that begin with `text`, the newest first; about a hundred at most.

    The whole index is searched: only then is an id certain to be the only match.
    """
    matches: list[str] = []
    first = 0
    while text and len(matches) < _MATCHES:
        args = [text, first, first + _IDS_AT_ONCE - 1, _MATCHES]
        count, *part = link.call("resolve", [index], args)
        matches += part
        first += _IDS_AT_ONCE
        if int(count) < _IDS_AT_ONCE:
            break
    return matches
