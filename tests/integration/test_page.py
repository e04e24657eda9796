"""The status page in a real browser, on the real service: seen, typed at, and attacked by the jobs that it shows."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from celery_docker.core.container import Stream
from celery_docker.core.lifecycle import State
from tests import axe, servers
from tests.browser import Browser, Page
from tests.conftest import require
from tests.gateways import Gateway
from tests.integration.test_worker import clean_redis
from tests.scenes import Scene
from tests.waiting import eventually
from tests.workers.worker import Worker

__all__ = ["clean_redis"]

CAROL = 31003
FILES = Path(__file__).parents[2] / "celery_docker/gateway/page"
HOSTILE = "<img src=x onerror=alert(1)>"
SCRIPT = "<script>alert(2)</script>"
OUT, ERR = Stream.STDOUT, Stream.STDERR
# As many as the page has at most.
ROWS = 25
ROW_COUNT = "document.querySelectorAll('tbody tr').length"
LIVE = "document.getElementById('health')?.textContent === 'Live'"
_CLICK = """(() => {
  const dialog = document.querySelector("dialog[open]");
  const nodes = [...(dialog ?? document).querySelectorAll("button, a")];
  const node = nodes.find((node) => node.textContent.trim() === %s && !node.disabled);
  node?.click();
  return Boolean(node);
})()"""


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """One browser for all tests of this file: each opens a page of its own."""
    require("browser", Browser.missing())
    with Browser() as browser:
        yield browser


@pytest.fixture
def gateway(clean_redis: servers.RedisServer) -> Iterator[Gateway]:
    with Gateway(clean_redis.url) as gateway:
        gateway.users(carol=CAROL)
        yield gateway
        assert "Traceback" not in gateway.log


@pytest.fixture
def scene(clean_redis: servers.RedisServer) -> Iterator[Scene]:
    with Scene(clean_redis.url) as scene:
        scene.host("node1", running=1)
        yield scene


@pytest.fixture
def page(browser: Browser, gateway: Gateway, scene: Scene) -> Iterator[Page]:
    """A page of somebody who sees all jobs."""
    with signed_in(browser, gateway, gateway.token("root", "admin")) as page:
        yield page


@contextmanager
def signed_in(browser: Browser, gateway: Gateway, token: str) -> Iterator[Page]:
    """Yield a page after a login; whatever happens in it then breaks no rule of the page's."""
    with browser.page() as page:
        page.open(f"{gateway.tcp_url}/")
        page.wait("document.activeElement?.id === 'token'", "the field of the token to have the focus")
        # That nobody is signed in is an answer of 401, which a browser notes.
        page.console.clear()
        page.type(token)
        page.press("Enter")
        page.wait(LIVE, "to be signed in")
        yield page
        assert page.problems == []


def go(page: Page, place: str) -> None:
    """Show a view."""
    page.value(f"location.hash = {json.dumps(place)}")
    page.wait(f"document.body.dataset.shown === {json.dumps('#' + place)} && {LIVE}", f"{place} to be shown")


def click(page: Page, text: str) -> None:
    """Press the button or follow the link that has this text; in a dialog, if one is open."""
    page.wait(_CLICK % json.dumps(text), f"{text!r} to be there")


def asked(page: Page) -> list[dict[str, Any]]:
    """Return what the page has asked of the API since the list was cleared."""
    page.value("0")
    return [request for request in page.requests if "/api/v1/" in request["url"]]


def refresh(page: Page) -> list[dict[str, Any]]:
    """Return the requests of one whole refresh, which a page makes at once when it is seen again."""
    # The first puts off the one that the page would make by itself, so that the second is alone.
    for _ in range(2):
        page.requests.clear()
        page.value("document.getElementById('health').textContent = ''")
        page.value("document.dispatchEvent(new Event('visibilitychange'))")
        page.wait(LIVE, "a refresh")
    eventually(lambda: all(request["bytes"] for request in asked(page)), message="the size of each answer")
    return asked(page)


def refreshes(page: Page) -> int:
    """Return how often the page has put the same question since the list was cleared."""
    return max(Counter(request["url"] for request in asked(page)).values(), default=0)


def every_place(scene: Scene) -> list[str]:
    """Make jobs in all states, and return the places of all views."""
    scene.host("node2", slots=2, running=2, gpus=2)
    scene.day("node1", "node2")
    members = scene.members(scene.batch("sweep", 4))
    running = scene.start(members[0], "node1", (OUT, "step 1\n"), (ERR, "warning: none\n"))
    failed = scene.end(
        scene.start(members[1], "node2", (ERR, "no such file\n")), State.FAILED, exit_code=1, reason="exit code 1"
    )
    scene.end(scene.start(members[2]), State.SUCCEEDED, exit_code=0)
    waiting = scene.submit("waits", mounts=["/srv/data:/data:ro"], labels={"project": "x"}, queue="nowhere")
    batch = scene.client.store.record(running)["batch"]
    return [
        *(
            "/",
            "/jobs",
            "/jobs?state=queued",
            "/jobs?state=failures&last=24h",
            f"/jobs?batch={batch}",
            "/batches",
            "/hosts",
        ),
        *(f"/jobs/{job_id}" for job_id in (running, failed, waiting, "none")),
    ]


def test_the_page_is_small_and_loads_nothing_from_elsewhere(page: Page, gateway: Gateway) -> None:
    assert sum(file.stat().st_size for file in FILES.iterdir()) < 60_000
    page.call("Network.setCacheDisabled", cacheDisabled=True)
    page.open("about:blank")
    page.requests.clear()
    page.open(f"{gateway.tcp_url}/#/jobs")
    page.wait(LIVE)
    loaded = {request["url"].removeprefix(gateway.tcp_url).partition("?")[0] for request in page.requests}
    assert {"/", "/static/app.js", "/static/style.css"} <= loaded
    assert all(path.startswith(("/api/v1/", "/static/")) or path == "/" for path in loaded), loaded
    assert page.value("localStorage.length + sessionStorage.length") == 0


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_no_view_keeps_anybody_out(page: Page, scene: Scene, theme: str) -> None:
    """axe finds nothing serious, in both themes, and at 400 pixels nothing sticks out."""
    require("browser", axe.missing())
    page.theme(theme)
    page.value(axe.script())
    for place in every_place(scene):
        if place.endswith("none"):
            page.value(f"location.hash = {json.dumps(place)}")
            page.see("It is not there")
        else:
            go(page, place)
        assert page.value(axe.RUN) == [], place
        page.resize(400, 800)
        assert page.value("document.documentElement.scrollWidth") <= 400, place
        assert page.value(axe.RUN) == [], f"{place} at 400"
        page.resize(1280, 800)
    # The last of them is not there, which a browser notes.
    page.console.clear()
    click(page, "Show all jobs")
    page.wait("document.querySelector('[data-pick][data-can=cancel]')")
    page.value("document.querySelector('[data-pick][data-can=cancel]').click()")
    click(page, "Cancel 1 job")
    page.see("Cancel 1 job?")
    assert page.value(axe.RUN) == []
    page.press("Escape")
    click(page, "Sign out")
    page.see("Signed out")
    assert page.value(axe.RUN) == []
    page.console.clear()


def test_what_a_job_says_is_shown_and_does_nothing(page: Page, scene: Scene) -> None:
    label = {"<b>label</b>": '"><svg onload=alert(3)>'}
    common: dict[str, Any] = {"labels": label, "env": {"SECRET": "hunter2"}, "stdin": "hunter3"}
    said = [(ERR, "<iframe src='javascript:alert(4)'></iframe>\n"), (OUT, f"{SCRIPT}\x1b[31m red\x07\n")]
    running = scene.start(scene.submit(HOSTILE, **common), "node1", *said)
    failed = scene.start(scene.submit(HOSTILE, **common), "node1", *said)
    scene.end(
        failed,
        State.FAILED,
        exit_code=1,
        reason=f"{SCRIPT}\u202egnp.exe",
        last_stderr_line="<a href=javascript:alert(5)>x",
    )
    waiting = scene.submit(HOSTILE, queue="nowhere")
    scene.client.cancel(waiting, reason=SCRIPT)
    batch = scene.batch(HOSTILE, 2)
    scene.host("<u>node</u>", status="<u>status</u>", phase="starting", accepting=False)
    places = [
        "/",
        "/jobs",
        "/batches",
        "/hosts",
        f"/jobs?batch={batch}",
        f"/jobs/{running}",
        f"/jobs/{failed}",
        f"/jobs/{waiting}",
    ]
    places += [f"/jobs?name={HOSTILE}", f"/jobs?host={SCRIPT}&state={SCRIPT}"]
    for place in places:
        page.value(f"location.hash = {json.dumps(place)}")
        page.wait("document.body.dataset.shown === location.hash", place)
        page.see("<u>node</u>" if place == "/hosts" else SCRIPT if "host=" in place else HOSTILE)
        shown = page.value("document.documentElement.outerHTML")
        assert "hunter" not in shown
        assert "\u202e" not in shown
        assert (
            page.value("document.querySelectorAll('img, iframe, b > svg, u, main script, [onerror], [onload]').length")
            == 0
        )
    go(page, f"/jobs/{failed}")
    page.see(f"{SCRIPT}\ufffdgnp.exe", "<b>label</b>=", f"{SCRIPT} red\ufffd")
    assert page.value("getComputedStyle(document.querySelector('.log .err'), '::before').content") == '"err "'
    page.value("document.querySelector('[data-do=retry-one]').click()")
    page.see("Retry 1 job?")
    assert page.problems == []


def test_by_keyboard_alone(browser: Browser, gateway: Gateway, scene: Scene) -> None:
    """From the login to a cancelled job: each step has a focus that is seen, and the dialog gives it back."""
    status, job = gateway.ask_tcp(
        token := gateway.token("carol"), "POST", "/api/v1/jobs", {"image": "busybox", "name": "mine"}
    )
    assert status == 201
    with signed_in(browser, gateway, token) as page:
        page.see("mine")
        assert page.value("document.activeElement.textContent") == "Overview"
        tab_to(page, "mine")
        page.press("Enter")
        page.wait(f"document.body.dataset.shown === '#/jobs/{job['id']}'")
        assert page.value("document.activeElement.tagName") == "H1"
        tab_to(page, "Cancel")
        page.press("Enter")
        page.see("Cancel 1 job?")
        words = {page.value("document.activeElement.textContent")}
        # Round and round: it never leaves the dialog.
        for _ in range(4):
            page.press("Tab")
            words.add(
                page.value("document.activeElement.closest('dialog') ? document.activeElement.textContent : 'outside'")
            )
        assert words - {"outside"} == {"Go back", "Cancel 1 job"}
        page.press("Escape")
        assert page.value("document.activeElement.textContent") == "Cancel"
        assert gateway.ask_tcp(token, "GET", f"/api/v1/jobs/{job['id']}")[1]["cancel_reason"] is None
        page.press("Enter")
        tab_to(page, "Cancel 1 job")
        page.press("Space")
        page.see("cancelled by carol")
        assert gateway.ask_tcp(token, "GET", f"/api/v1/jobs/{job['id']}")[1]["cancel_reason"] == "cancelled by carol"
        # And by its own link to the content of another view.
        tab_to(page, "Skip to the content", back=True)
        page.press("Enter")
        assert page.value("document.activeElement.id") == "main"


def tab_to(page: Page, text: str, *, back: bool = False) -> None:
    """Press Tab until what has this text has the focus, which must be seen."""
    for _ in range(80):
        if page.value("document.activeElement.textContent.trim()") == text and page.value(
            "document.activeElement.tagName"
        ) in ("A", "BUTTON"):
            assert page.value("getComputedStyle(document.activeElement).outlineStyle") != "none", text
            return
        page.press("Tab", shift=back)
    raise AssertionError(f"{text!r} is not reached: {page.text[:1000]}")


def test_a_hidden_page_asks_nothing(browser: Browser, gateway: Gateway, page: Page) -> None:
    """Nor has its session anything to do with another browser's."""
    go(page, "/jobs")
    with signed_in(browser, gateway, gateway.token("root", "admin")) as other:
        go(other, "/jobs")
        page.hide()
        for each in (page, other):
            each.requests.clear()
        # Meanwhile the one that is seen asks again and again, by itself.
        eventually(lambda: refreshes(other) >= 3, message="three refreshes")
        assert asked(page) == []
        page.front()
        eventually(lambda: asked(page), message="a page that is seen again to ask")


def test_a_refresh_is_small(page: Page, scene: Scene) -> None:
    """Of each view that is full of rows, with names, reasons and lines as long as real ones are."""
    name, reason = (
        "align-cohort-B-sample-0042",
        "exit code 137, ended by SIGKILL, perhaps out of memory: limit 2g, raise it with -m",
    )
    for _ in range(ROWS + 3):
        scene.start(
            scene.submit(name, labels={"project": "x" * 500}),
            "node1",
            (OUT, "processed 1,204,331 reads, 2 min left\n" * 3),
        )
        failed = scene.start(scene.submit(name), "node1", (ERR, "Killed\n"))
        scene.end(failed, State.FAILED, exit_code=137, reason=reason, output="x" * 3000)
        scene.submit(name, labels={"project": "x" * 500})
        scene.batch("sweep", 1)
        scene.host(f"node{_ + 10}", plenty="x" * 2000)
    for place in ("/", "/jobs", "/jobs?state=failures", "/jobs?state=queued", "/batches", "/hosts", f"/jobs/{failed}"):
        go(page, place)
        assert page.value(ROW_COUNT) <= ROWS
        if not place.endswith(failed):  # It has ended, and is not asked for again.
            assert 0 < sum(request["bytes"] for request in refresh(page)) < 20_000, place
    go(page, "/jobs?state=active")
    assert page.value(ROW_COUNT) == ROWS
    assert sum(request["bytes"] for request in refresh(page)) < 20_000


def test_a_hundred_thousand_jobs(page: Page, scene: Scene) -> None:
    """One page of rows comes, whatever there is, and the next one on request."""
    batch = scene.batch("large", 100_000)
    for place in ("/jobs", f"/jobs?batch={batch}", "/jobs?state=queued"):
        go(page, place)
        assert page.value(ROW_COUNT) == ROWS
        assert sum(request["bytes"] for request in refresh(page)) < 20_000
        first = page.value("[...document.querySelectorAll('tbody tr')].map((row) => row.dataset.key)")
        click(page, "Next →" if "batch" in place else "Older →")
        page.wait("location.hash.includes('before=') && document.body.dataset.shown === location.hash")
        second = page.value("[...document.querySelectorAll('tbody tr')].map((row) => row.dataset.key)")
        assert len({*first, *second}) == 2 * ROWS
    go(page, "/")
    page.see("100,000")
    assert page.value(ROW_COUNT) <= ROWS
    # On a busy machine Redis may take too long for so many once; the page asks again, and the browser notes it.
    page.console[:] = [problem for problem in page.console if "status of 503" not in problem]


def test_no_jobs_yet(page: Page) -> None:
    for place, text in (
        ("/", "celery-docker submit"),
        ("/jobs", "celery-docker submit"),
        ("/batches", "celery-docker batch"),
    ):
        go(page, place)
        page.see("yet. This submits one:", text)
    go(page, "/jobs?name=nothing")
    page.see("No job is like that")


def test_output_is_followed(page: Page, scene: Scene) -> None:
    job_id = scene.start(scene.submit("talks"), "node1", (OUT, "first\nsec"), (ERR, "careful\n"))
    go(page, f"/jobs/{job_id}")
    page.see("first", "sec", "careful")
    scene.print(job_id, (OUT, "ond\n\n\x1b[1mbold\x1b[0m 50 %\r100 %\n"))
    page.see("second", "100 %")
    lines = "[...document.querySelectorAll('.log span')].map((line) => line.textContent)"
    assert page.value(lines) == ["first", "second", "careful", "", "100 %"]
    page.value("document.querySelector('[value=err]').click()")
    assert page.value("[...document.querySelectorAll('.log span')].filter((line) => line.offsetHeight).length") == 1
    scene.end(job_id, State.FAILED, exit_code=3, reason="exit code 3")
    page.see("✕ failed exit code 3, on node1, ", "This is all that is kept here")
    assert page.value("document.getElementById('said').textContent") == "The job is failed now"


def test_the_number_is_in_the_question_and_only_a_yes_counts(page: Page, scene: Scene) -> None:
    for number in range(3):
        scene.submit(f"job-{number}")
    ended = scene.end(scene.start(scene.submit("ended")), State.FAILED, exit_code=1, reason="exit code 1")
    go(page, "/jobs")
    page.value("document.querySelector('[data-do=pick-all]').click()")
    click(page, "Cancel 3 jobs")
    page.see("Cancel 3 jobs?", "job-0")
    page.requests.clear()
    click(page, "Go back")
    page.wait("!document.querySelector('dialog').open")
    assert [request for request in asked(page) if request["method"] == "POST"] == []
    click(page, "Cancel 3 jobs")
    click(page, "Cancel 3 jobs")
    page.wait("document.getElementById('said').textContent === '3 jobs will be cancelled'")
    assert all(scene.client.store.record(job_id).get("cancel_reason") for job_id in ids(page) if job_id != ended)
    go(page, f"/jobs/{ended}")
    click(page, "Retry")
    click(page, "Retry 1 job")
    page.wait(f"document.body.dataset.shown.startsWith('#/jobs/') && !document.body.dataset.shown.endsWith('{ended}')")
    page.see("Retry of", ended[:8])


def ids(page: Page) -> list[str]:
    """Return the ids of the rows."""
    return [
        str(job_id) for job_id in page.value("[...document.querySelectorAll('tbody tr')].map((row) => row.dataset.key)")
    ]


def test_the_failed_jobs_of_a_batch_are_tried_again(page: Page, scene: Scene) -> None:
    batch = scene.batch("sweep", 5)
    members = scene.members(batch)
    for job_id in members[:2]:
        scene.end(scene.start(job_id), State.FAILED, exit_code=1, reason="exit code 1")
    go(page, "/batches")
    page.see("2/5", "2 failed, 3 waiting")
    click(page, "Retry failed (2)")
    page.see("Retry 2 failed jobs?", "batch sweep")
    click(page, "Retry 2 failed jobs")
    page.see("5 waiting")
    assert len(scene.client.batch(batch).jobs()) == 5
    go(page, f"/jobs?batch={batch}")
    page.see("Batch sweep", "0 of 5 ended")


def test_filters_are_in_the_address_and_so_is_the_command(page: Page, scene: Scene) -> None:
    scene.submit("it's one")
    scene.submit("two")
    go(page, "/jobs")
    page.value("document.querySelector('[name=name]').focus()")
    page.type("it's one")
    page.value("document.querySelector('[name=state]').value = 'queued'")
    page.press("Enter")
    page.wait("document.body.dataset.shown === '#/jobs?state=queued&name=it%27s+one'")
    page.wait(f"{ROW_COUNT} === 1")
    assert page.value("document.querySelector('#foot code').textContent") == (
        "celery-docker ps --state queued --json | jq -c 'select(.name == \"it'\\''s one\")'"
    )
    # Another one who follows the link sees the same.
    page.open(page.value("location.href"))
    page.wait(f"{LIVE} && {ROW_COUNT} === 1 && document.querySelector('[name=state]').value === 'queued'")
    go(page, "/jobs?host=node1&state=active")
    assert page.value("document.querySelector('#foot code').textContent") == (
        "celery-docker ps --state starting --state running --json | jq -c 'select(.host == \"node1\")'"
    )
    go(page, "/jobs?mine=1&last=24h")
    assert page.value("[...document.querySelectorAll('.tick input')].every((box) => box.checked)")


def test_what_was_known_stays_while_redis_or_the_service_is_away(browser: Browser) -> None:
    with servers.RedisServer() as redis, Gateway(redis.url) as gateway, Scene(redis.url) as scene:
        scene.submit("stays")
        with signed_in(browser, gateway, gateway.token("root", "admin")) as page:
            go(page, "/jobs")
            page.see("stays")
            redis.end()
            page.see("Redis is away", "as of", "stays")
            page.value("location.hash = '/hosts'")
            page.see("The next try is in")
            redis.start()
            page.wait(f"document.body.dataset.shown === '#/hosts' && {LIVE}")
            gateway.kill()
            page.see("The service does not answer", "as of")
            gateway.start()
            page.wait(LIVE)
            # What went wrong is what the browser has noted.
            assert page.console != []
            page.console.clear()


def test_a_session_that_has_ended(page: Page, gateway: Gateway) -> None:
    Path(gateway.tokens.path).write_text("")
    page.see("Signed out", "Sign in")
    assert page.value("document.getElementById('who').textContent") == ""
    page.type("x" * 43)
    page.press("Enter")
    page.wait("document.getElementById('login-says').textContent")
    page.console.clear()


def test_a_real_job_from_its_first_line_to_its_cancel(
    browser: Browser, clean_redis: servers.RedisServer, dockerd: servers.Dockerd
) -> None:
    with Worker(clean_redis.url, dockerd), Gateway(clean_redis.url) as gateway:
        gateway.users(carol=CAROL)
        token = gateway.token("carol")
        document = {
            "image": "busybox",
            "command": ["sh", "-c", "echo first; echo oops >&2; sleep 1000"],
            "name": "real",
        }
        status, job = gateway.ask_tcp(token, "POST", "/api/v1/jobs", document)
        assert status == 201
        with signed_in(browser, gateway, token) as page:
            page.see("real")
            go(page, f"/jobs/{job['id']}")
            page.see("● running", "first", "oops", "sh -c 'echo first; echo oops >&2; sleep 1000'")
            click(page, "Cancel")
            click(page, "Cancel 1 job")
            page.see("cancelled by carol", "This is all that is kept here")
            go(page, "/hosts")
            page.see("0 of 2")
        eventually(lambda: dockerd.containers() == [], message="no container left by the test")
