"""The command `images`: which images the hosts have, and the order to pull one before its jobs come."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from celery_docker import errors
from celery_docker.cli.context import Context
from celery_docker.cli.tables import Align, Column
from celery_docker.core import imagepin, kinds, wording
from celery_docker.core.hoststate import WorkerState
from celery_docker.core.pullorder import PullReport, PullState
from celery_docker.store.listing import WorkerRow, state_of

if TYPE_CHECKING:
    from celery_docker.client.client import Client

_COLUMNS = (
    Column("host", min_width=6, may_shrink=True),
    Column("image", min_width=12, may_shrink=True),
    Column("digest"),
    Column("size", Align.RIGHT),
    Column("used", Align.RIGHT),
)
_AWAY = (WorkerState.SILENT, WorkerState.LOST, WorkerState.STOPPING)
_DIGEST_CHARS = 12
_ASK_EVERY_S = 0.5
_SAY_EVERY_S = 5.0
# A host looks for orders every two seconds.
_ANSWER_S = 30.0


def images(context: Context) -> int:
    """List the images of the hosts, or have hosts pull some."""
    action, *names = context.arguments.operands or ["list"]
    if action not in ("list", "pull") or (action == "list" and names):
        raise errors.UsageError(f"images: {kinds.shown(action)} must be pull IMAGE, or nothing")
    if action == "list":
        with context.client() as client:
            return _list(context, client)
    if len(names) != 1:
        raise errors.UsageError("images pull: name one image, as in: celery-docker images pull registry/group/tool:1")
    image = _checked(kinds.IMAGE, names[0])
    with context.client() as client:
        return _pull(context, client, image)


def _checked(kind: kinds.Kind, text: str) -> str:
    try:
        return str(kind.parse(text))
    except ValueError as exc:
        raise errors.UsageError(f"images pull: {kinds.shown(text)} {exc}") from exc


# The list


def _list(context: Context, client: Client) -> int:
    hosts = [row.host for row in _chosen(context, client.queries.hosts.rows())]
    reports = client.images.reports(hosts)
    if context.wants_json:
        for host, report in reports.items():
            context.screen.line_of_json({"host": host, **report})
        return 0
    rows = [cells for host, report in reports.items() for cells in _cells(host, report)]
    if context.is_quiet:
        for name in dict.fromkeys(row[1] for row in rows):
            context.screen.data(name)
        return 0
    context.screen.table(_COLUMNS, rows, whole=context.is_whole)
    for host in hosts:
        if host not in reports:
            context.screen.note(f"{host}: it has not reported its images; its worker is older, or has just begun")
        elif (count := reports[host]["count"] or 0) > len(reports[host]["images"]):
            context.screen.note(f"{host}: those of {count} images that were used last")
    return 0


def _cells(host: str, report: Mapping[str, Any]) -> Iterator[tuple[str, ...]]:
    for image in report["images"]:
        for name in image["names"] or [_nameless(image)]:
            used = "never" if image["used_s"] is None else wording.ago(image["used_s"])
            yield host, name, _digest(name, image), wording.size(image["size_bytes"]), used


def _nameless(image: Mapping[str, Any]) -> str:
    """Return a name for an image without a tag: its repository's, or its id."""
    digests = image["digests"]
    return imagepin.repository(digests[0]) if digests else str(image["id"]).partition(":")[2][:_DIGEST_CHARS]


def _digest(name: str, image: Mapping[str, Any]) -> str:
    digest = imagepin.own_digest(name, image["digests"]) or ""
    return digest.partition(":")[2][:_DIGEST_CHARS] or wording.UNKNOWN


def _chosen(context: Context, rows: Sequence[WorkerRow]) -> list[WorkerRow]:
    """Return the hosts that were named, without a name those that are there."""
    names = context.arguments.flags.get("--host", ())
    by_name = {row.host: row for row in rows}
    for name in names:
        if name not in by_name:
            known = ", ".join(sorted(by_name)) or "none"
            raise errors.UsageError(f"--host: no worker has the name {kinds.shown(name)}; known are {known}")
    return [by_name[name] for name in dict.fromkeys(names)] or [row for row in rows if state_of(row) not in _AWAY]


# The pull


def _pull(context: Context, client: Client, image: str) -> int:
    rows = _chosen(context, client.queries.hosts.rows())
    if not rows:
        context.screen.note("no host is there to pull it; see celery-docker workers")
        return 1
    platform = context.text("--platform")
    hosts = [row.host for row in rows]
    order_id = client.images.order(image, platform=platform, hosts=hosts)
    try:
        reports = _followed(context, client, image, order_id, hosts)
    except KeyboardInterrupt:
        context.screen.note("the hosts go on pulling it; see celery-docker images")
        raise
    if context.wants_json:
        context.screen.json([{"host": host, **vars(report)} for host, report in reports.items()])
    return 0 if all(report.state is PullState.PULLED for report in reports.values()) else 1


def _followed(
    context: Context, client: Client, image: str, order_id: str, hosts: Sequence[str]
) -> dict[str, PullReport]:
    """Wait until each host has carried the order out, or cannot; say how it goes."""
    ended: dict[str, PullReport] = {}
    began_s = told_s = time.monotonic()
    while True:
        reports = client.images.told(order_id)
        away = _away(client, hosts)
        for host in hosts:
            report = reports.get(host)
            if host in ended:
                continue
            if report is None or not report.state.is_final:
                report = _given_up(host, report, away, time.monotonic() - began_s)
            if report is not None:
                ended[host] = report
                context.screen.note(_sentence(host, image, report))
        if len(ended) == len(hosts):
            return ended
        if time.monotonic() - told_s >= _SAY_EVERY_S:
            told_s = time.monotonic()
            for host in hosts:
                if host in reports and host not in ended:
                    context.screen.note(_sentence(host, image, reports[host]))
        time.sleep(_ASK_EVERY_S)


def _away(client: Client, hosts: Sequence[str]) -> dict[str, str]:
    """Return those of the hosts that cannot answer now, with the reason."""
    rows = {row.host: row for row in client.queries.hosts.rows()}
    states = {host: state_of(rows[host]) if host in rows else WorkerState.LOST for host in hosts}
    return {host: state.value for host, state in states.items() if state in _AWAY}


def _given_up(host: str, report: PullReport | None, away: Mapping[str, str], waited_s: float) -> PullReport | None:
    """Return the report for a host that is not waited for any more; None while it is."""
    if host in away:
        reason = f"the host is {away[host]}; it pulls the image if it comes back within a day"
    elif report is None and waited_s >= _ANSWER_S:
        reason = "no answer; its worker may be of an older version, which knows no such order"
    else:
        return None
    return PullReport(PullState.FAILED, reason=reason)


def _sentence(host: str, image: str, report: PullReport) -> str:
    if report.state is PullState.PULLED:
        return f"{host}: pulled {image}" + (f", {report.digest}" if report.digest else "")
    if report.state is PullState.PULLING:
        size = f": {wording.size(report.pulled_bytes)} of {wording.size(report.size_bytes)}"
        return f"{host}: pulling {image}" + (size if report.size_bytes else "")
    return f"{host}: {report.state.value}: {report.reason}"
