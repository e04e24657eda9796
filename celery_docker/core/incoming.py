"""The message of a job as it comes out of Redis, whoever wrote it: read once, to a delivery or a refusal.

Pure. Invariants: `parse` raises nothing, whatever the bytes, and its memory is bounded. What a worker hands to Celery
and writes into a record is built here anew from values that `messageheaders` and `messagebody` have checked.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from celery_docker.core import canvas, kinds, message, messagebody, messageheaders, strictjson, wording
from celery_docker.core import signature as signatures
from celery_docker.core.access import Identity
from celery_docker.core.jobrecord import ANY_TIME, Term
from celery_docker.core.signature import Signature
from celery_docker.core.signingkeys import Keys
from celery_docker.core.strictjson import NotUsable
from celery_docker.core.timelimits import NO_LIMITS, Limits

# A message in which the body is base64.
MOST_TEXT_BYTES = messagebody.MOST_BYTES * 3 // 2
_ID = re.compile(rb'(?<!\\)"id": ?"([a-zA-Z0-9][a-zA-Z0-9_.-]{0,127})"')
_MOST_TAG = 128


@dataclass(frozen=True)
class Incoming:
    """A message that can be run: the job's arguments, and its envelope as a record keeps it.

    `refusal` is why the job is to end as rejected; its arguments are empty then. `limits` are Celery's time limits.
    The `signature` is of the right form, and not verified; None: it has none.
    """

    job_id: str
    args: Sequence[Any]
    kwargs: Mapping[str, Any]
    envelope: Mapping[str, Any]
    term: Term = ANY_TIME
    refusal: str = ""
    limits: Limits = NO_LIMITS
    signature: Signature | None = None


class Signed(Protocol):
    """A message that was read, as far as its signature goes."""

    @property
    def job_id(self) -> str: ...
    @property
    def args(self) -> Sequence[Any]: ...
    @property
    def kwargs(self) -> Mapping[str, Any]: ...
    @property
    def envelope(self) -> Mapping[str, Any]: ...
    @property
    def limits(self) -> Limits: ...
    @property
    def signature(self) -> Signature | None: ...


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
    """Return True, for any queue: a record's message was checked when it was taken."""
    return True


def parse(text: bytes | str, *, source: str = "", is_own_queue: Callable[[str], bool] = anywhere) -> Incoming | Refusal:
    """Return what a message says; `source` is the Redis list it came from, empty for one out of a record."""
    if len(text) > MOST_TEXT_BYTES:
        most = wording.size(messagebody.MOST_BYTES)
        reason = f"it has {wording.size(len(text))}; its arguments may have {most} at most: pass a file"
        return Refusal(reason, _id_in(text))
    try:
        envelope = strictjson.table(text)
    except NotUsable as exc:
        return Refusal(f"it {exc}")
    about = _about(envelope)
    try:
        return _incoming(envelope, source, is_own_queue)
    except NotUsable as exc:
        return Refusal(wording.one_line(str(exc), messageheaders.MOST_REASON), *about)


def rejected(refusal: Refusal, source: str) -> Incoming:
    """Return what stands for a refused message whose job has an id: that job ends as rejected, with the reason."""
    envelope = _envelope(
        {**message.headers(refusal.job_id, refusal.origin), messageheaders.REFUSED: refusal.reason},
        [],
        {},
        canvas.EMPTY,
        source,
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


def submitter(job: Signed, queue: str, keys: Keys, now_s: float) -> Identity | None:
    """Return who has signed a job that comes from this queue, None where nobody has.

    Raises `SignatureError` for a job that nobody may run, and `HostError` where only a clock is wrong.
    """
    if job.signature is None:
        return None
    return signatures.verify(keys, job.signature, job_id=job.job_id, queue=queue, digest=digest(job), now_s=now_s)


def digest(job: Signed) -> str:
    """Return the digest of all that decides what a job runs."""
    return signatures.digest(job.args, job.kwargs, message.canvas(job.envelope), job.limits)


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
        with_body = _quietly(lambda: strictjson.table(messagebody.unpacked(envelope, headers)))
        headers = {**headers, **{name: with_body[name] for name in ("id", "task") if name in with_body}}
    job_id, task, origin = (headers.get(name) for name in ("id", "task", "origin"))
    return (
        str(job_id) if messageheaders.is_usable_id(job_id) else "",
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


def _incoming(envelope: Mapping[str, Any], source: str, is_own_queue: Callable[[str], bool]) -> Incoming:
    headers = envelope.get("headers")
    if not isinstance(headers, dict):
        raise NotUsable("it has no headers; send it with a Celery client, or with celery-docker submit")
    content_type = envelope.get("content-type")
    if content_type != "application/json":
        raise NotUsable(f"content-type: {kinds.shown(content_type)} is refused; only 'application/json' is read")
    if "task" in headers:
        messageheaders.check_task(headers)
        args, kwargs, embed = messagebody.arguments(strictjson.parse(messagebody.unpacked(envelope, headers)))
    else:
        headers, args, kwargs, embed = _of_first_protocol(envelope, headers)
        messageheaders.check_task(headers)
    checked = messageheaders.checked(headers, is_from_client=bool(source))
    try:
        follows = canvas.check(embed, is_own_queue)
    except NotUsable as exc:
        raise NotUsable(f"what is to follow the job: {exc}") from exc
    place = source or list_of(envelope)
    new_headers = {**message.headers(checked["id"], ""), **checked}
    sound = message.timeless(_envelope(new_headers, args, kwargs, follows, place, _tag(envelope)))
    signature = signatures.parse(checked[signatures.HEADER]) if signatures.HEADER in checked else None
    expires = kinds.moment(checked["expires"])
    term = Term(kinds.moment(checked["eta"]), signature.not_after_s if signature and expires is None else expires)
    limits = Limits(*checked["timelimit"])
    refusal = checked.get(messageheaders.REFUSED, "")
    return Incoming(checked["id"], args, kwargs, sound, term, refusal, limits, signature)


def _of_first_protocol(
    envelope: Mapping[str, Any], headers: Mapping[str, Any]
) -> tuple[dict[str, Any], list[Any], dict[str, Any], dict[str, Any]]:
    """Return headers and arguments of a message in Celery's protocol 1, which has all of it in the body."""
    body = strictjson.parse(messagebody.unpacked(envelope, headers))
    if not isinstance(body, dict) or "task" not in body:
        raise NotUsable("it names no task; send it with a Celery client, or with celery-docker submit")
    args, kwargs, _ = messagebody.arguments([body.get("args") or [], body.get("kwargs") or {}, None])
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
