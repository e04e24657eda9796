"""The message of a job as it comes out of Redis, whoever wrote it: read once, to a delivery or a refusal.

Pure. Invariants: `parse` raises nothing, whatever the bytes, and unpacks no more than `MOST_BYTES`. What a worker hands
to Celery and writes into a record is built here anew from values that were checked.
"""

from __future__ import annotations

import base64
import binascii
import bz2
import lzma
import re
import zlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from celery_docker.core import canvas, jobspec, kinds, message, strictjson, wording
from celery_docker.core.jobrecord import ANY_TIME, Term
from celery_docker.core.strictjson import NotUsable
from celery_docker.core.timelimits import NO_LIMITS, Limits

# A message's body, unpacked; and the text around it, in which the body is base64.
MOST_BYTES = message.MOST_BYTES
MOST_TEXT_BYTES = MOST_BYTES * 3 // 2
# The header by which a worker remembers that it has refused a message whose job has an id.
REFUSED = "refused"
_ID = re.compile(rb'(?<!\\)"id": ?"([a-zA-Z0-9][a-zA-Z0-9_.-]{0,127})"')
# What a record may bear, and a client can ask for; our keys have a colon.
_USABLE = re.compile(r"[ -9;-~]{1,128}", re.ASCII)
_MOST_REASON = 500
_MOST_REPR = 1024
_MOST_TAG = 128
_UNPACKED_MEMORY = 64 * 2**20


@dataclass(frozen=True)
class Incoming:
    """A message that can be run: the job's arguments, and its envelope as a record keeps it.

    `refusal` is why the job is to end as rejected; its arguments are empty then. `limits` are Celery's time limits.
    """

    job_id: str
    args: Sequence[Any]
    kwargs: Mapping[str, Any]
    envelope: Mapping[str, Any]
    term: Term = ANY_TIME
    refusal: str = ""
    limits: Limits = NO_LIMITS


@dataclass(frozen=True)
class Refusal:
    """A message that cannot be run: `reason` in one line, and what else could be read of it, empty where nothing could.

    `job_id` is there only where a client could ask for that job's result.
    """

    reason: str
    job_id: str = ""
    task: str = ""
    origin: str = ""


def anywhere(_queue: str) -> bool:
    """Say of every queue that it is one of ours: a record's message was checked when it was taken."""
    return True


def parse(text: bytes | str, *, source: str = "", is_own_queue: Callable[[str], bool] = anywhere) -> Incoming | Refusal:
    """Return what a message says; `source` is the Redis list it came from, empty for one out of a record."""
    if len(text) > MOST_TEXT_BYTES:
        reason = (
            f"it has {wording.size(len(text))}; its arguments may have {wording.size(MOST_BYTES)} at most: pass a file"
        )
        return Refusal(reason, _id_in(text))
    try:
        envelope = strictjson.table(text)
    except NotUsable as exc:
        return Refusal(f"it {exc}")
    about = _about(envelope)
    try:
        return _incoming(envelope, source, is_own_queue)
    except NotUsable as exc:
        return Refusal(wording.one_line(str(exc), _MOST_REASON), *about)


def rejected(refusal: Refusal, source: str) -> Incoming:
    """Return what stands for a refused message whose job has an id: that job ends as rejected, with the reason."""
    envelope = _envelope(
        {**message.headers(refusal.job_id, refusal.origin), REFUSED: refusal.reason}, [], {}, canvas.EMPTY, source
    )
    return Incoming(refusal.job_id, (), {}, envelope, refusal=refusal.reason)


def of_record(job_id: str, text: str | None) -> dict[str, Any] | None:
    """Return the envelope that a record keeps of its job, None where it has none.

    One that cannot be read is that of a job that ends as rejected.
    """
    if text is None:
        return None
    parsed = parse(text)
    if isinstance(parsed, Incoming) and parsed.job_id == job_id:
        return dict(parsed.envelope)
    reason = parsed.reason if isinstance(parsed, Refusal) else "it is that of another job"
    return dict(rejected(Refusal(f"its message in Redis cannot be used: {reason}", job_id), "").envelope)


def of_envelope(job_id: str, envelope: Mapping[str, Any] | None) -> Incoming:
    """Return what an envelope of ours says of a job; None stands for a job that ends as rejected, if it ever runs."""
    if envelope is None:
        return rejected(Refusal("its message is gone from Redis, so that nobody knows what to run", job_id), "")
    try:
        return _incoming(envelope, "", anywhere)
    except NotUsable as exc:
        return rejected(Refusal(f"its message in Redis cannot be used: {exc}", job_id), "")


def for_celery(incoming: Incoming, tag: str) -> dict[str, Any]:
    """Return the envelope that Celery gets: without the arguments, which are no business of it."""
    body = message.body([], {}, message.canvas(incoming.envelope))
    return {**message.redelivery(incoming.envelope, tag), "body": body}


def list_of(envelope: Mapping[str, Any]) -> str:
    """Return the Redis list that an envelope belongs into."""
    properties = envelope.get("properties")
    properties = properties if isinstance(properties, dict) else {}
    info = properties.get("delivery_info")
    queue = info.get("routing_key") if isinstance(info, dict) else None
    return message.queue_key(queue if isinstance(queue, str) else "", properties.get("priority"))


def _about(envelope: Mapping[str, Any]) -> tuple[str, str, str]:
    """Return id, task and sender of a message that may be of any kind, as far as they can be shown."""
    value = envelope.get("headers")
    headers: dict[str, Any] = value if isinstance(value, dict) else {}
    if "task" not in headers:
        with_body = _quietly(lambda: strictjson.table(_unpacked(envelope, headers)))
        headers = {**headers, **{name: with_body[name] for name in ("id", "task") if name in with_body}}
    job_id, task, origin = (headers.get(name) for name in ("id", "task", "origin"))
    return (
        str(job_id) if _is_usable(job_id) else "",
        wording.one_line(task, 200) if isinstance(task, str) else "",
        wording.one_line(origin, 200) if isinstance(origin, str) else "",
    )


def _tag(envelope: Mapping[str, Any]) -> str:
    properties = envelope.get("properties")
    tag = properties.get("delivery_tag") if isinstance(properties, dict) else None
    return tag if isinstance(tag, str) and len(tag) <= _MOST_TAG else ""


def _id_in(text: bytes | str) -> str:
    """Return the id in a text that is too long to be read; the quotes of a body in it are escaped, or base64."""
    ids = set(_ID.findall(text if isinstance(text, bytes) else text.encode()))
    return ids.pop().decode() if len(ids) == 1 else ""


def _quietly(action: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    try:
        return action()
    except NotUsable:
        return {}


def _is_usable(job_id: object) -> bool:
    """Say whether a client can ask for the result of this id, and a record bear it."""
    return isinstance(job_id, str) and _USABLE.fullmatch(job_id) is not None


def _incoming(envelope: Mapping[str, Any], source: str, is_own_queue: Callable[[str], bool]) -> Incoming:
    headers = envelope.get("headers")
    if not isinstance(headers, dict):
        raise NotUsable("it has no headers; send it with a Celery client, or with celery-docker submit")
    content_type = envelope.get("content-type")
    if content_type != "application/json":
        raise NotUsable(f"content-type: {kinds.shown(content_type)} is refused; only 'application/json' is read")
    if "task" in headers:
        _check_task(headers)
        args, kwargs, embed = _body(strictjson.parse(_unpacked(envelope, headers)))
    else:
        headers, args, kwargs, embed = _of_first_protocol(envelope, headers)
        _check_task(headers)
    checked = {name: _header(name, headers, check) for name, check in _HEADERS.items()}
    if REFUSED in headers:
        checked[REFUSED] = _refused(headers[REFUSED])
    job_id = checked["id"] = _header("id", headers, _usable_id if REFUSED in headers else kinds.parse_job_id)
    if source and checked["retries"]:
        raise NotUsable(
            f"header retries: {checked['retries']} is refused; say how often to retry by the job's argument retries"
        )
    try:
        follows = canvas.check(embed, is_own_queue)
    except NotUsable as exc:
        raise NotUsable(f"what is to follow the job: {exc}") from exc
    place = source or list_of(envelope)
    made = _envelope({**message.headers(job_id, ""), **checked}, args, kwargs, follows, place, _tag(envelope))
    term = Term(kinds.moment(checked["eta"]), kinds.moment(checked["expires"]))
    limits = Limits(*checked["timelimit"])
    return Incoming(job_id, args, kwargs, message.timeless(made), term, checked.get(REFUSED, ""), limits)


def _check_task(headers: Mapping[str, Any]) -> None:
    task = headers["task"]
    if task != jobspec.TASK_NAME:
        raise NotUsable(f"task: {kinds.shown(task)} is not known here; the only one is {jobspec.TASK_NAME!r}")


def _refused(value: Any) -> str:
    if not isinstance(value, str) or not value:
        raise NotUsable("header refused: is of the worker's own")
    return wording.one_line(value, _MOST_REASON)


def _body(value: Any) -> tuple[list[Any], dict[str, Any], Any]:
    if not isinstance(value, list) or len(value) != 3:
        raise NotUsable("its body is not [args, kwargs, what follows], as Celery's protocol 2 has it")
    args, kwargs, embed = value
    if not isinstance(args, list) or not isinstance(kwargs, dict):
        raise NotUsable("its arguments are not a list and a table of keywords")
    return args, kwargs, embed


def _unpacked(envelope: Mapping[str, Any], headers: Mapping[str, Any]) -> bytes:
    body, properties = envelope.get("body"), envelope.get("properties")
    coding = properties.get("body_encoding") if isinstance(properties, dict) else None
    if not isinstance(body, str):
        raise NotUsable("it has no body")
    if envelope.get("content-encoding", "utf-8") not in ("utf-8", "UTF-8", "us-ascii", None):
        raise NotUsable(f"content-encoding: {kinds.shown(envelope['content-encoding'])} is refused; send UTF-8")
    if coding not in (None, "base64"):
        raise NotUsable(f"body_encoding: {kinds.shown(coding)} is refused; only 'base64' is read")
    try:
        data = body.encode() if coding is None else base64.b64decode(body, validate=True)
    except (binascii.Error, ValueError) as exc:
        raise NotUsable("its body is not base64") from exc
    data = _decompressed(data, headers.get("compression"))
    if len(data) > MOST_BYTES:
        raise NotUsable(f"its arguments have more than {wording.size(MOST_BYTES)}, which is the most; pass a file")
    return data


def _decompressed(data: bytes, compression: Any) -> bytes:
    """Return at most one byte more than is allowed, so that a small message never becomes a large one."""
    if compression is None:
        return data
    unpack = _COMPRESSIONS.get(compression) if isinstance(compression, str) else None
    if unpack is None:
        names = ", ".join(_COMPRESSIONS)
        raise NotUsable(f"compression: {kinds.shown(compression)} is not known; known are {names}")
    try:
        return unpack(data)
    except (zlib.error, OSError, EOFError, ValueError, lzma.LZMAError, MemoryError) as exc:
        raise NotUsable(f"its body cannot be unpacked as {compression}") from exc


_COMPRESSIONS: Mapping[str, Callable[[bytes], bytes]] = {
    # kombu calls it gzip; it is zlib.
    "application/x-gzip": lambda data: zlib.decompressobj(zlib.MAX_WBITS | 32).decompress(data, MOST_BYTES + 1),
    "application/x-bz2": lambda data: bz2.BZ2Decompressor().decompress(data, MOST_BYTES + 1),
    "application/x-lzma": lambda data: lzma.LZMADecompressor(memlimit=_UNPACKED_MEMORY).decompress(
        data, MOST_BYTES + 1
    ),
}


def _of_first_protocol(
    envelope: Mapping[str, Any], headers: Mapping[str, Any]
) -> tuple[dict[str, Any], list[Any], dict[str, Any], dict[str, Any]]:
    """Return headers and arguments of a message in Celery's protocol 1, which has all of it in the body."""
    body = strictjson.parse(_unpacked(envelope, headers))
    if not isinstance(body, dict) or "task" not in body:
        raise NotUsable("it names no task; send it with a Celery client, or with celery-docker submit")
    args, kwargs, _ = _body([body.get("args") or [], body.get("kwargs") or {}, None])
    about = {name: body.get(name) for name in ("task", "id", "eta", "expires", "retries", "timelimit")}
    about["group"] = body.get("taskset")
    embed = {"callbacks": body.get("callbacks"), "errbacks": body.get("errbacks"), "chord": body.get("chord")}
    return about, args, kwargs, embed


def _envelope(
    headers: Mapping[str, Any],
    args: Sequence[Any],
    kwargs: Mapping[str, Any],
    embed: Mapping[str, Any],
    source: str,
    tag: str = "",
) -> dict[str, Any]:
    return message.envelope(
        headers,
        message.body(args, kwargs, embed),
        queue=message.queue_name(source),
        tag=tag,
        priority=message.priority_of(source),
    )


def _header(name: str, headers: Mapping[str, Any], check: Callable[[Any], Any]) -> Any:
    try:
        return check(headers.get(name))
    except ValueError as exc:
        raise NotUsable(f"header {name}: {kinds.shown(headers.get(name))} {exc}") from exc


def _usable_id(value: Any) -> str:
    if not _is_usable(value):
        raise ValueError("is not an id")
    return str(value)


def _text(value: Any) -> str | None:
    if value is not None and (not isinstance(value, str) or len(value) > _MOST_REPR):
        raise ValueError(f"must be a string of at most {_MOST_REPR} characters")
    return value


def _words(value: Any) -> str:
    if value is not None and not isinstance(value, str):
        raise ValueError("must be a string")
    return (value or "")[:_MOST_REPR]


def _whole(value: Any) -> int | None:
    if value is not None and (not isinstance(value, int) or isinstance(value, bool) or not 0 <= value < 2**31):
        raise ValueError("must be a whole number")
    return value


def _flag(value: Any) -> bool | None:
    if value is not None and not isinstance(value, bool):
        raise ValueError("must be true or false")
    return value


def _limits(value: Any) -> list[float | None]:
    if value is None:
        return [None, None]
    if not isinstance(value, list) or len(value) != 2 or not all(_is_limit(limit) for limit in value):
        raise ValueError(f"must be two numbers of seconds, up to {jobspec.LONGEST_S:,}")
    hard, soft = value
    if hard and soft and soft > hard:
        raise ValueError("has a soft limit (the second) above the hard one")
    return value


def _is_limit(value: Any) -> bool:
    return value is None or (
        isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value <= jobspec.LONGEST_S
    )


def _names(value: Any) -> list[str] | None:
    if value is not None and (not isinstance(value, list) or not all(isinstance(entry, str) for entry in value)):
        raise ValueError("must be a list of names")
    return value


def _stamps(value: Any) -> dict[str, Any]:
    if value is not None and not isinstance(value, dict):
        raise ValueError("must be a table")
    return value or {}


def _time(value: Any) -> str | None:
    kinds.moment(value)
    return None if value is None else str(value)


_HEADERS: Mapping[str, Callable[[Any], Any]] = {
    **dict.fromkeys(("root_id", "parent_id", "group", "shadow"), _text),
    **dict.fromkeys(("argsrepr", "kwargsrepr", "origin"), _words),
    **dict.fromkeys(("group_index", "retries", "replaced_task_nesting"), _whole),
    **dict.fromkeys(("eta", "expires"), _time),
    "timelimit": _limits,
    "ignore_result": _flag,
    "stamped_headers": _names,
    "stamps": _stamps,
}
