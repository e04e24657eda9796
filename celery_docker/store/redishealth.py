"""Gathers the facts about Redis and the hosts that report to it. One that this user may not ask for is None."""

from __future__ import annotations

import ipaddress
import time
from typing import Any
from urllib.parse import parse_qsl, urlencode, urlsplit

from celery_docker import errors
from celery_docker.core import hostreport, jobspec
from celery_docker.core.redishealth import FailedNotices, Redis, StuckQueue, Worker
from celery_docker.store import listing, parking, redislink
from celery_docker.store.hostqueries import HostQueries
from celery_docker.store.jobqueries import JobQueries
from celery_docker.store.notices import NoticeStore
from celery_docker.store.refused import RefusedMessages

_LOGIN = ("username", "password")


def of_link(link: redislink.Link) -> Redis:
    """Return the facts about a Redis. Raises `StoreAway`."""
    now, ours = _clocks(link)
    info = _asked(link, "info") or {}
    rules = _rules(link)
    refusals = _refusals(link)
    save = rules.get("save")
    return Redis(
        where=where_of(link.url),
        is_local=_is_local(urlsplit(link.url).hostname or ""),
        is_open=_is_open(link.url),
        bind=rules.get("bind"),
        is_protected={"yes": True, "no": False}.get(rules.get("protected-mode", "")),
        has_log=_flag(info, "aof_enabled"),
        log_sync=rules.get("appendfsync"),
        save=save,
        last_save_failed=_failed(info, save),
        eviction=info.get("maxmemory_policy"),
        used_bytes=info.get("used_memory"),
        most_bytes=info.get("maxmemory"),
        ahead_s=None if now is None else ours - now,
        workers=_workers(link),
        refused=None if refusals is None else len(refusals),
        last_refusal=refusals[-1] if refusals else "",
        stuck=_stuck(link),
        notices=_notices(link),
    )


def _asked(link: redislink.Link, command: str, *args: Any, **options: Any) -> Any:
    """Return an answer, None to a question that this user may not ask."""
    try:
        with link.translated():
            return getattr(link.client, command)(*args, **options)
    except errors.StoreRefused:
        return None


def _clocks(link: redislink.Link) -> tuple[float | None, float]:
    """Return the time of Redis and that of this host in the middle of the question."""
    before = time.time()
    answer = _asked(link, "time")
    ours = (before + time.time()) / 2
    return (None if answer is None else answer[0] + answer[1] / 1e6), ours


def _rules(link: redislink.Link) -> dict[str, str]:
    """Return the settings that matter, as far as this user may see them."""
    rules: dict[str, str] = {}
    for name in ("bind", "protected-mode", "save", "appendfsync"):
        rules |= _asked(link, "config_get", name) or {}
    return rules


def _flag(info: dict[str, Any], name: str) -> bool | None:
    return bool(info[name]) if name in info else None


def _failed(info: dict[str, Any], save: str | None) -> bool | None:
    """Tell whether Redis failed to write what it is set to write; None where it does not say."""
    states = [info.get("aof_last_write_status")] if info.get("aof_enabled") else []
    states += [info.get("rdb_last_bgsave_status")] if save else []
    return any(state not in ("ok", None) for state in states)


def _workers(link: redislink.Link) -> tuple[Worker, ...] | None:
    """Return the hosts that are not lost; None where this user may not ask for them."""
    try:
        rows = HostQueries(link).rows()
    except errors.StoreRefused:
        return None
    return tuple(
        Worker(
            row.host,
            row.heard_s,
            row.ahead_s,
            row.about.get("version"),
            row.about.get("machine"),
            row.about.get("unit", Worker.unit),
            hostreport.offer(row.about),
        )
        for row in rows
        if not row.lost
    )


def _refusals(link: redislink.Link) -> list[str] | None:
    try:
        return [row.reason for row in RefusedMessages(link).rows()]
    except errors.StoreRefused:
        return None


def _notices(link: redislink.Link) -> FailedNotices:
    """Return the notices that wait after a failure; none where this user may not ask."""
    try:
        return NoticeStore(link).failed()
    except errors.StoreRefused:
        return FailedNotices()


def _stuck(link: redislink.Link) -> tuple[StuckQueue, ...]:
    """Return the queues in which jobs wait for a worker; none where this user may not ask."""
    try:
        jobs, rows = JobQueries(link), HostQueries(link).rows()
        served = {queue for row in rows for queue in row.about.get("queues", ())}
        parked = jobs.parked()
        waiting = {*jobs.waiting_queues(), *(group.queue for group in parked)}
        lengths = jobs.queue_lengths(sorted({jobspec.DEFAULT_QUEUE, *served, *waiting}))
    except errors.StoreRefused:
        return ()
    hosts = [listing.host_facts(row) for row in rows]
    return tuple(StuckQueue(*row) for row in parking.stuck(lengths, parked, hosts))


def where_of(url: str) -> str:
    """Return the place of a Redis without its login."""
    parts = urlsplit(url)
    return parts.netloc.rpartition("@")[2] or parts.path


def _is_local(hostname: str) -> bool:
    try:
        return ipaddress.ip_address(hostname).is_loopback
    except ValueError:
        return hostname in ("localhost", "")


def _is_open(url: str) -> bool | None:
    """Tell whether Redis answers to somebody without a login; None where a certificate is one."""
    parts = urlsplit(url)
    options = parse_qsl(parts.query)
    if any(name == "ssl_certfile" for name, _ in options):
        return None
    bare = urlencode([pair for pair in options if pair[0] not in _LOGIN])
    place = f"{parts.netloc.rpartition('@')[2]}{parts.path}"
    # Not urlunsplit, which leaves out the slashes of an empty host.
    stranger = redislink.connect(f"{parts.scheme}://{place}{f'?{bare}' if bare else ''}")
    try:
        stranger.check()
        return True
    except errors.StoreRefused:
        return False
    except errors.StoreAway:
        return None
    finally:
        stranger.close()
