"""Pulls that several jobs wait for: who shares one, who waits on, and when it is cut off."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field

import pytest

from celery_docker import errors
from celery_docker.engine import sharedpulls
from celery_docker.engine.pullreports import PullReports
from celery_docker.engine.sharedpulls import PullRequest, SharedPull, SharedPulls
from celery_docker.engine.unixhttp import Cut
from tests.waiting import eventually

TOOL = PullRequest("tool:1", "tool", "1", None)
FAILED = errors.HostError("image 'tool:1' cannot be pulled now: no route")


class Left(Exception):
    """The end of a wait by its own job."""


class CutOff(Cut):
    """Ends a pull of the tests as the real one ends Docker's answer."""

    def __init__(self, end: Future[None]) -> None:
        super().__init__()
        self._end = end

    def make(self) -> None:
        self._end.set_exception(errors.EngineAway("cut"))


@dataclass
class Pulls:
    """Pulls that end when the test says so, and those who wait for them."""

    begun: list[tuple[PullRequest, SharedPull]] = field(default_factory=list)
    ends: list[Future[None]] = field(default_factory=list)
    waits: list[Future[SharedPull]] = field(default_factory=list)
    progress: list[list[tuple[int, int]]] = field(default_factory=list)
    leaving: set[int] = field(default_factory=set)

    def __post_init__(self) -> None:
        self.shared = SharedPulls(self._carry_out)
        self.pool = ThreadPoolExecutor(16)

    def _carry_out(self, request: PullRequest, pull: SharedPull) -> None:
        end: Future[None] = Future()
        pull.cut = CutOff(end)
        self.ends.append(end)
        self.begun.append((request, pull))
        end.result(20)

    def join(self, request: PullRequest = TOOL, *, since_s: float | None = None, fresh: bool = False) -> int:
        """Let one more job wait for an image; return its number."""
        number = len(self.waits)
        seen: list[tuple[int, int]] = []
        came = threading.Event()

        def check() -> None:
            came.set()
            if number in self.leaving:
                raise Left

        self.progress.append(seen)
        self.waits.append(
            self.pool.submit(
                self.shared.wait,
                *(request, PullReports(request.image)),
                since_s=time.monotonic() if since_s is None else since_s,
                fresh=fresh,
                check=check,
                progress=lambda pulled, size: seen.append((pulled, size)),
            )
        )
        eventually(lambda: came.is_set() or self.waits[number].done(), 10, "the job to wait")
        return number

    def end(self, number: int = -1) -> None:
        self.ends[number].set_result(None)

    def fail(self) -> None:
        self.ends[-1].set_exception(FAILED)


@pytest.fixture
def pulls(monkeypatch: pytest.MonkeyPatch) -> Pulls:
    monkeypatch.setattr(sharedpulls, "_CHECK_S", 0.01)
    return Pulls()


def until(condition: Callable[[], object], subject: str) -> None:
    eventually(condition, 10, subject)


def test_all_who_want_an_image_share_one_pull(pulls: Pulls) -> None:
    jobs = [pulls.join() for _ in range(8)]
    pulls.end()
    assert {pulls.waits[job].result(10) for job in jobs} == {pulls.begun[0][1]}
    assert len(pulls.begun) == 1


def test_all_see_how_far_it_has_come(pulls: Pulls) -> None:
    pulls.join()
    pulls.begun[0][1].reports.add(
        b'{"id": "1a", "status": "Downloading", "progressDetail": {"current": 3, "total": 10}}'
    )
    late = pulls.join()
    until(lambda: (3, 10) in pulls.progress[0] and (3, 10) in pulls.progress[late], "both to see it")
    pulls.end()


def test_all_get_its_failure_and_the_next_begins_another(pulls: Pulls) -> None:
    jobs = [pulls.join(), pulls.join()]
    pulls.fail()
    for job in jobs:
        with pytest.raises(errors.HostError, match="no route"):
            pulls.waits[job].result(10)
    pulls.join()
    pulls.end()
    assert pulls.waits[2].result(10) is pulls.begun[1][1]
    assert pulls.shared.counts == (1, 1), "each pull once, not each job"


@pytest.mark.parametrize(
    "other",
    [
        PullRequest("tool:2", "tool", "2", None),
        PullRequest("tool:1", "tool", "1", "linux/arm64"),
        PullRequest("tool:1", "tool", "1", None, login="another"),
    ],
    ids=["tag", "platform", "login"],
)
def test_another_image_platform_or_login_is_pulled_apart(pulls: Pulls, other: PullRequest) -> None:
    pulls.join()
    pulls.join(other)
    assert [request for request, _ in pulls.begun] == [TOOL, other]
    pulls.end(0)
    pulls.end(1)


def test_a_job_that_leaves_takes_the_pull_from_nobody(pulls: Pulls) -> None:
    first, second = pulls.join(), pulls.join()
    pulls.leaving.add(first)
    with pytest.raises(Left):
        pulls.waits[first].result(10)
    assert not pulls.ends[0].done()
    pulls.end()
    assert pulls.waits[second].result(10) is pulls.begun[0][1]


def test_the_last_to_leave_cuts_it_off(pulls: Pulls) -> None:
    """And whoever comes then gets a pull of its own, not the failure of the one that was cut."""
    for job in (pulls.join(), pulls.join()):
        pulls.leaving.add(job)
        with pytest.raises(Left):
            pulls.waits[job].result(10)
    until(pulls.ends[0].done, "the pull to be cut off")
    late = pulls.join()
    pulls.end()
    assert pulls.waits[late].result(10) is pulls.begun[1][1]
    assert pulls.shared.counts == (1, 0), "nobody waited for the other to fail"


def test_an_image_that_came_after_it_was_missing_is_not_pulled_again(pulls: Pulls) -> None:
    """Docker said that it is missing; before the job asks for the pull, that of another has ended."""
    missing_s = time.monotonic()
    first = pulls.join()
    pulls.end()
    pulls.waits[first].result(10)
    late = pulls.join(since_s=missing_s)
    assert pulls.waits[late].result(10) is pulls.begun[0][1]
    assert len(pulls.begun) == 1


def test_an_image_that_is_missing_later_is_pulled_again(pulls: Pulls) -> None:
    """Somebody has removed it."""
    first = pulls.join()
    pulls.end()
    pulls.waits[first].result(10)
    pulls.join()
    assert len(pulls.begun) == 2
    pulls.end()


def test_a_fresh_tag_is_not_that_of_a_pull_that_began_before(pulls: Pulls) -> None:
    """That one may have asked for the tag before it was moved; all who come meanwhile share the next pull."""
    first = pulls.join()
    late = [pulls.join(fresh=True) for _ in range(3)]
    assert len(pulls.begun) == 1
    pulls.end()
    assert pulls.waits[first].result(10) is pulls.begun[0][1]
    until(lambda: len(pulls.begun) == 2, "the next pull to begin")
    pulls.end()
    assert {pulls.waits[job].result(10) for job in late} == {pulls.begun[1][1]}
    assert len(pulls.begun) == 2


def test_one_who_waits_for_the_next_pull_does_not_keep_this_one(pulls: Pulls) -> None:
    first = pulls.join()
    fresh = pulls.join(fresh=True)
    pulls.leaving.add(first)
    until(pulls.ends[0].done, "the pull to be cut off")
    until(lambda: len(pulls.begun) == 2, "the next pull to begin")
    pulls.end()
    assert pulls.waits[fresh].result(10) is pulls.begun[1][1]


def test_its_login_is_not_shown() -> None:
    assert "secret" not in repr(PullRequest("tool:1", "tool", "1", None, login="secret"))


def test_nobody_waits_for_a_pull_that_could_not_begin(monkeypatch: pytest.MonkeyPatch) -> None:
    """No thread was to be had just then."""

    def fail(_thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    def wait() -> None:
        looks = iter(range(20))
        shared.wait(
            *(TOOL, PullReports(TOOL.image)),
            since_s=time.monotonic(),
            fresh=False,
            check=lambda: next(looks),
            progress=lambda _pulled, _size: None,
        )

    shared = SharedPulls(lambda _request, _pull: None)
    with monkeypatch.context() as patched:
        patched.setattr(threading.Thread, "start", fail)
        with pytest.raises(RuntimeError):
            wait()
    wait()
    assert shared.counts == (1, 0)
