"""A control command as it comes over Redis' channels to all workers: one for us to carry out, or a refusal. Pure.

Invariant: what passes has the shape that Celery relies on; its reply goes where replies go, and into no other list.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping
from typing import Any

from celery_docker.core import kinds, strictjson, wording
from celery_docker.core.strictjson import NotUsable

# A revoke may name tens of thousands of jobs.
MOST_BYTES = 4 * 2**20
_REPLIES = "reply.celery.pidbox"


def parse(text: bytes | str, commands: Mapping[str, Any]) -> dict[str, Any]:
    """Return the envelope of a command that is one of these, built anew. Raises `NotUsable`."""
    if len(text) > MOST_BYTES:
        raise NotUsable(f"it has {wording.size(len(text))}; {wording.size(MOST_BYTES)} are the most")
    envelope = strictjson.table(text)
    if not isinstance(envelope.get("properties"), dict):
        raise NotUsable("it is not Celery's")
    body = strictjson.table(_text(envelope))
    method, arguments = body.get("method"), body.get("arguments") or {}
    if not isinstance(method, str) or method not in commands:
        raise NotUsable(f"the command {kinds.shown(method)} is not known")
    if not isinstance(arguments, dict):
        raise NotUsable(f"the arguments of {method} are no table")
    return _built(envelope, {**_addressed(body), "method": method, "arguments": arguments, **_reply(body)})


def _text(envelope: Mapping[str, Any]) -> str:
    text = envelope.get("body")
    if envelope.get("content-type") != "application/json" or not isinstance(text, str):
        raise NotUsable("its body is no JSON")
    if envelope["properties"].get("body_encoding") != "base64":
        return text
    try:
        return base64.b64decode(text, validate=True).decode()
    except ValueError as exc:
        raise NotUsable("its body is not base64") from exc


def _addressed(body: Mapping[str, Any]) -> dict[str, Any]:
    destination, pattern, matcher = (body.get(name) for name in ("destination", "pattern", "matcher"))
    if destination is not None and not _is_names(destination):
        raise NotUsable("its destination is no list of workers")
    if matcher not in (None, "glob", "pcre") or not isinstance(pattern, str | None):
        raise NotUsable("its pattern is none")
    # A regular expression of somebody else's could keep the worker busy for ever.
    if matcher == "pcre":
        raise NotUsable("a regular expression for the names of workers is refused; use a glob, or a list of names")
    return {"destination": destination, "pattern": pattern, "matcher": matcher}


def _is_names(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(entry, str) for entry in value)


def _reply(body: Mapping[str, Any]) -> dict[str, Any]:
    reply_to, ticket = body.get("reply_to"), body.get("ticket")
    if reply_to is None:
        return {}
    if not isinstance(reply_to, dict) or reply_to.get("exchange") != _REPLIES:
        raise NotUsable("its reply would go elsewhere than to where replies go")
    if not isinstance(reply_to.get("routing_key"), str) or not isinstance(ticket, str | None):
        raise NotUsable("its reply has no address")
    return {"reply_to": {name: reply_to[name] for name in ("exchange", "routing_key")}, "ticket": ticket}


def _built(envelope: Mapping[str, Any], body: Mapping[str, Any]) -> dict[str, Any]:
    headers = envelope.get("headers")
    headers = headers if isinstance(headers, dict) else {}
    clock, expires = headers.get("clock"), headers.get("expires")
    safe_headers: dict[str, Any] = {"clock": clock} if isinstance(clock, int) and 0 <= clock < 2**53 else {}
    if isinstance(expires, int | float):
        safe_headers["expires"] = expires
    return {
        "body": base64.b64encode(json.dumps(body).encode()).decode(),
        "content-type": "application/json",
        "content-encoding": "utf-8",
        "headers": safe_headers,
        "properties": {"body_encoding": "base64", "delivery_tag": "", "delivery_info": {}},
    }
