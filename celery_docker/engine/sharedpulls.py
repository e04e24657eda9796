"""Pulls that several jobs wait for: of each image, platform and login there is one at a time.

A part of the engine. Invariants: who waits leaves when it likes, and the others wait on; a pull for which nobody waits
any more is cut off. Two logins never share a pull: an image that one of them may not read is not had by the other's.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from concurrent import futures
from concurrent.futures import Future
from dataclasses import dataclass, field
from threading import Lock, Thread

from celery_docker.engine.pullreports import PullReports
from celery_docker.engine.unixhttp import Cut

_CHECK_S = 0.5
# The longest time between the moment at which an image was missing, and the wait for its pull.
_REMEMBERED_S = 300.0


@dataclass(frozen=True)
class PullRequest:
    """An image to be pulled; `login` is the header with the registry's credentials, empty without any."""

    image: str
    name: str
    tag: str
    platform: str | None
    login: str = field(repr=False, default="")


@dataclass(eq=False)
class SharedPull:
    """One pull; `waiting` counts those who need it."""

    reports: PullReports
    began_s: float
    cut: Cut = field(default_factory=Cut)
    result: Future[None] = field(default_factory=Future)
    ended_s: float | None = None
    waiting: int = 0


class SharedPulls:
    """Carries pulls out, each in a thread of its own; `carry_out` is one pull, from its beginning to its end."""

    def __init__(self, carry_out: Callable[[PullRequest, SharedPull], None]) -> None:
        self._carry_out = carry_out
        self._lock = Lock()
        self._pulls: dict[PullRequest, SharedPull] = {}
        self._done = self._failed = 0

    @property
    def counts(self) -> tuple[int, int]:
        """The number of pulls that have brought an image, and of those that failed; one that was cut off is neither."""
        with self._lock:
            return self._done, self._failed

    def wait(
        self,
        request: PullRequest,
        reports: PullReports,
        *,
        since_s: float,
        fresh: bool,
        check: Callable[[], object],
        progress: Callable[[int, int], object],
    ) -> SharedPull:
        """Wait for the pull of an image that was wanted at `since_s` of the monotonic clock, and begin one if need be.

        A pull that has ended well after that moment is as good as a new one. `fresh`: only if it began after it, for
        who wants the tag as it is now: one that began earlier may have asked what the tag means before it was moved.
        `check` is called twice a second; what it raises ends the wait. Raises what the pull raises.
        """
        while True:
            pull, is_mine = self._join(request, reports, since_s, fresh)
            try:
                while not futures.wait([pull.result], _CHECK_S).done:
                    progress(pull.reports.pulled_bytes, pull.reports.size_bytes)
                    check()
            finally:
                if is_mine:
                    self._leave(request, pull)
            if is_mine:
                progress(pull.reports.pulled_bytes, pull.reports.size_bytes)
                pull.result.result()
                return pull

    def _join(self, request: PullRequest, reports: PullReports, since_s: float, fresh: bool) -> tuple[SharedPull, bool]:
        """Return a pull to wait for, and whether its end is what is waited for; otherwise another one follows it."""
        with self._lock:
            pull = self._pulls.get(request)
            if pull is None or (pull.ended_s is not None and not _serves(pull, since_s, fresh)):
                self._forget_old()
                pull = SharedPull(reports, time.monotonic())
                Thread(target=self._run, args=(request, pull), daemon=True).start()
                # Now that it will end: where no thread is to be had, nobody may wait for it.
                self._pulls[request] = pull
            elif not _serves(pull, since_s, fresh):
                return pull, False
            pull.waiting += 1
            return pull, True

    def _leave(self, request: PullRequest, pull: SharedPull) -> None:
        with self._lock:
            pull.waiting -= 1
            if pull.waiting or pull.ended_s is not None:
                return
            if self._pulls.get(request) is pull:
                del self._pulls[request]
        pull.cut.make()

    def _run(self, request: PullRequest, pull: SharedPull) -> None:
        failure = None
        try:
            self._carry_out(request, pull)
        except Exception as exc:  # noqa: BLE001  # raised again where it is waited for
            failure = exc
        with self._lock:
            pull.ended_s = time.monotonic()
            if failure is None:
                self._done += 1
            elif pull.waiting:
                self._failed += 1
            if failure is not None and self._pulls.get(request) is pull:
                del self._pulls[request]
        if failure is None:
            pull.result.set_result(None)
        else:
            pull.result.set_exception(failure)

    def _forget_old(self) -> None:
        now_s = time.monotonic()
        for request, pull in list(self._pulls.items()):
            if pull.ended_s is not None and now_s - pull.ended_s > _REMEMBERED_S:
                del self._pulls[request]


def _serves(pull: SharedPull, since_s: float, fresh: bool) -> bool:
    """Return whether a pull brings the image to one who wanted it at that moment."""
    if fresh:
        return pull.began_s >= since_s
    return pull.ended_s is None or pull.ended_s >= since_s
