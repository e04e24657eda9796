"""How soon the status page shows something, and what it costs: `python -m bench.page`.

Starts a Redis, the service and a headless Chromium of its own, with some jobs and hosts that are made up. Each time is
the best of some loads, without a cache. `--screenshots DIR` also draws each view, wide and narrow, light and dark.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from celery_docker.core.container import Stream
from celery_docker.core.lifecycle import State
from tests import servers
from tests.browser import Browser, Page
from tests.gateways import Gateway
from tests.scenes import GIB, Scene

LOADS = 5
OUT, ERR = Stream.STDOUT, Stream.STDERR
LIVE = "document.getElementById('health')?.textContent === 'Live'"
# Notes when the view is drawn, by the clock that starts with the load.
_NOTE = """
new MutationObserver(() => {
  if (document.body?.dataset.shown !== undefined) window.drawnAt ??= performance.now();
}).observe(document, {subtree: true, attributes: true, attributeFilter: ["data-shown"]});
"""
_PAINT = "performance.getEntriesByName('first-contentful-paint')[0]?.startTime"
MINUTE_S, HOUR_S = 60.0, 3600.0
RUNNING = [
    ("align-sample-017", "node1", 34 * MINUTE_S, OUT, "[12:03:05] processed 1,204,331 reads (81 %), 2 min left"),
    ("train-resnet-50", "gpu@node4", 5 * HOUR_S, OUT, "epoch 12/60  loss 0.0931  lr 3.0e-4  482 img/s"),
    (
        "render-frame-0118",
        "node2",
        41.0,
        ERR,
        "Fra:118 Mem:512.31M (Peak 802.11M) | Time:00:41.22 | Rendering 118 / 256 samples",
    ),
    ("nightly-backup", "node1", 9 * MINUTE_S, OUT, "copying /srv/data/2026-11/part-00017.parquet"),
]
FAILED = [
    (
        "convert-004.tif",
        State.FAILED,
        "exit code 1",
        1,
        "ValueError: could not convert string to float: 'n/a' (line 4711)",
    ),
    (
        "fit-model-33",
        State.FAILED,
        "exit code 137, ended by SIGKILL, perhaps out of memory: limit 2g, raise it with -m",
        137,
        "Killed",
    ),
    ("import-orders", State.TIMED_OUT, "ran longer than 3600 s", None, "waiting for the lock of the table orders"),
    (
        "qc-12",
        State.REJECTED,
        "mounts[0]: '/etc' is not below a folder that this host's policy allows: /srv, /data",
        None,
        "",
    ),
    (
        "<img src=x onerror=alert(1)>",
        State.FAILED,
        "exit code 127, the command was not found in the image",
        127,
        "sh: fitt: not found",
    ),
]


def heartbeats(scene: Scene) -> None:
    """Let all hosts say that they are alive, which counts for half a minute."""
    scene.host("node1", slots=8, running=5)
    scene.host("node2", slots=8, running=2)
    scene.host("gpu@node4", slots=4, running=4, gpus=4, queues=["gpu"])
    scene.host("bigmem1", accepting=False, status="Takes no jobs: Docker does not answer; 0 jobs run")


def furnish(scene: Scene) -> dict[str, str]:
    """Make jobs and hosts as an ordinary afternoon has them; return the views by name."""
    heartbeats(scene)
    scene.client.drain("node2", "new disk")
    scene.day("node1", "node2", "gpu@node4")
    batch = scene.batch("scans-2026-11", 240)
    members = scene.members(batch)
    for number, job_id in enumerate(members[:60]):
        scene.start(job_id)
        ends = {"exit_code": 1, "reason": "exit code 1"} if number in (17, 40) else {"exit_code": 0}
        scene.end(job_id, State.FAILED if number in (17, 40) else State.SUCCEEDED, **ends)
    failed = [_failed(scene, *line) for line in FAILED]
    running = [_running(scene, *line) for line in RUNNING]
    waiting = [scene.submit("sweep-lr-3e-4", queue="night"), scene.submit("big-assembly", memory=64 * GIB)]
    waiting.append(scene.submit("report", after=[running[0]]))
    return {
        "overview": "/",
        "jobs": "/jobs",
        "waiting": "/jobs?state=queued",
        "failed": "/jobs?state=failures&last=24h",
        "job": f"/jobs/{running[0]}",
        "failed-job": f"/jobs/{failed[1]}",
        "waiting-job": f"/jobs/{waiting[2]}",
        "batch": f"/jobs?batch={batch}",
        "batches": "/batches",
        "hosts": "/hosts",
    }


def _running(scene: Scene, name: str, host: str, since_s: float, stream: Stream, last: str) -> str:
    job_id = scene.submit(
        name,
        cpus=4,
        memory=8 * GIB,
        mounts=["/srv/ref:/ref:ro"],
        inputpath=f"/srv/data/{name}",
        labels={"project": "cohort-B"},
    )
    lines = [
        (OUT, f"2026-11-28 12:{number:02}:11 step {number}: residual {10 ** -(number / 9):.3e}\n")
        for number in range(60)
    ]
    lines[40:40] = [(ERR, "warning: column 'rate' has 41 empty values, <b>ignored</b>\n")]
    scene.start(job_id, host, *lines, (stream, f"{last}\n"))
    scene.age(job_id, since_s)
    return job_id


def _failed(scene: Scene, name: str, state: State, reason: str, code: int | None, last: str) -> str:
    job_id = scene.start(scene.submit(name, memory=2 * GIB), "node1", *([(ERR, f"{last}\n")] if last else []))
    scene.end(
        job_id, state, reason=reason, exit_code=code, last_stderr_line=last or None, output=f"{last}\n", run_s=912.4
    )
    scene.age(job_id, 26 * MINUTE_S)
    return job_id


@contextmanager
def signed_in(browser: Browser, gateway: Gateway) -> Iterator[Page]:
    """Yield a page of somebody who sees all jobs."""
    with browser.page() as page:
        page.open(f"{gateway.tcp_url}/")
        page.wait("document.activeElement?.id === 'token'")
        page.type(gateway.token("root", "admin"))
        page.press("Enter")
        page.wait(LIVE)
        yield page


def go(page: Page, place: str) -> None:
    """Show a view."""
    page.value(f"location.hash = {place!r}")
    page.wait(f"document.body.dataset.shown === {'#' + place!r} && {LIVE}")
    page.wait("document.getElementById('log-state')?.textContent !== 'Loading…'")


def load_ms(page: Page, url: str) -> tuple[float, float]:
    """Return the milliseconds from the start of a load to the first paint, and to the view with its rows."""
    page.open("about:blank")
    page.open(url)
    page.wait(f"{LIVE} && window.drawnAt && {_PAINT}")
    return page.value(_PAINT), page.value("window.drawnAt")


def measure(page: Page, url: str, views: dict[str, str]) -> None:
    """Print the figures of each view."""
    page.call("Network.setCacheDisabled", cacheDisabled=True)
    page.call("Page.addScriptToEvaluateOnNewDocument", source=_NOTE)
    print(f"{'view':14}{'first paint':>14}{'with its rows':>16}{'bytes':>10}")
    for name, place in views.items():
        times = []
        for _ in range(LOADS):
            page.requests.clear()
            times.append(load_ms(page, f"{url}/#{place}"))
        paint_ms, drawn_ms = (min(column) for column in zip(*times, strict=True))
        received = sum(request["bytes"] for request in page.requests)
        print(f"{name:14}{paint_ms:>11.0f} ms{drawn_ms:>13.0f} ms{received:>10,}")


def draw(page: Page, scene: Scene, folder: Path, views: dict[str, str]) -> None:
    """Write pictures of each view."""
    folder.mkdir(parents=True, exist_ok=True)
    for width in (1280, 400):
        for theme in ("light", "dark"):
            page.resize(width, 800)
            page.theme(theme)
            heartbeats(scene)
            for name, place in views.items():
                go(page, place)
                page.screenshot(folder / f"{name}-{width}-{theme}.png")


def main(argv: Sequence[str]) -> int:
    """Measure and print; return the exit status."""
    parser = argparse.ArgumentParser(prog="python -m bench.page", description=__doc__)
    parser.add_argument("--screenshots", type=Path, metavar="DIR", help="also draw each view into this folder")
    options = parser.parse_args(argv)
    print(f"{os.cpu_count()} CPUs, load average before it {os.getloadavg()[0]:.1f}: best is 0", file=sys.stderr)
    with servers.RedisServer() as redis, Gateway(redis.url) as gateway, Scene(redis.url) as scene, Browser() as browser:
        views = furnish(scene)
        with signed_in(browser, gateway) as page:
            measure(page, gateway.tcp_url, views)
            if options.screenshots is not None:
                draw(page, scene, options.screenshots, views)
    return 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
