"""Orders to pull an image before its jobs come: looked for in Redis, judged by this host's policy, and carried out.

Invariants: a host carries an order out once, also over its restarts: its report in Redis says whether it has. Nothing
is pulled that a job of the same submitter could not have had pulled.
"""

from __future__ import annotations

import contextlib
import logging
import time
from collections.abc import Callable
from threading import Lock, Thread
from typing import Protocol

from celery_docker import errors
from celery_docker.core import plan, policy, pullorder
from celery_docker.core.pullorder import PullOrder, PullReport, PullState
from celery_docker.host import resolver
from celery_docker.run.authority import Authority
from celery_docker.run.periodic import Periodic

log = logging.getLogger(__name__)

# Between them it is woken while there are orders.
_LOOK_EVERY_S = 60.0
_TELL_EVERY_S = 1.0
_MOST_AT_ONCE = 4


class Orders(Protocol):
    """The questions to the orders in Redis."""

    def orders(self) -> list[str]: ...
    def read(self, order_id: str, host: str) -> tuple[str | None, PullReport | None]: ...
    def tell(self, order_id: str, host: str, report: PullReport) -> None: ...


class Puller(Protocol):
    """The question to Docker."""

    def pull(
        self,
        image: str,
        platform: str | None = None,
        *,
        since_s: float | None = ...,
        fresh: bool = ...,
        check: Callable[[], object] = ...,
        progress: Callable[[int, int], object] = ...,
    ) -> str: ...


class PullOrders:
    """Carries the orders for one host out; `start` once, `stop` once.

    `refresh` reports the images of this host anew, before an order counts as carried out.
    """

    def __init__(
        self, orders: Orders, engine: Puller, authority: Authority, host: str, refresh: Callable[[], object]
    ) -> None:
        self._orders = orders
        self._engine = engine
        self._authority = authority
        self._host = host
        self._refresh = refresh
        self._done: set[str] = set()
        self._under_way: set[str] = set()
        self._lock = Lock()
        self._loop = Periodic("pull orders", _LOOK_EVERY_S, self.look)

    def start(self) -> None:
        """Begin to look for orders."""
        self._loop.start()

    def wake(self) -> None:
        """Look now: there are orders."""
        self._loop.wake()

    def stop(self) -> None:
        """Begin no more pulls; those under way end with the process, and go on in the next."""
        self._loop.stop()

    def look(self) -> None:
        """Look once; each new order is carried out in a thread of its own. Raises `StoreAway` or `StoreRefused`."""
        order_ids = self._orders.orders()
        with self._lock:
            self._done.intersection_update(order_ids)
        for order_id in order_ids:
            with self._lock:
                if order_id in self._done or order_id in self._under_way or len(self._under_way) >= _MOST_AT_ONCE:
                    continue
            self._begin(order_id)

    def _begin(self, order_id: str) -> None:
        text, report = self._orders.read(order_id, self._host)
        with self._lock:
            if text is None or (report is not None and report.state.is_final):
                self._done.add(order_id)
                return
            self._under_way.add(order_id)
        Thread(target=self._run, args=(order_id, text), daemon=True, name="pull order").start()

    def _run(self, order_id: str, text: str) -> None:
        try:
            report = self._carried_out(order_id, text)
            if report is not None:
                log.info("image order %s: %s %s", order_id, report.state.value, report.reason or report.digest)
                self._orders.tell(order_id, self._host, report)
            with self._lock:
                self._done.add(order_id)
        except errors.CeleryDockerError as exc:
            log.debug("image order %s: %s", order_id, exc)  # Redis is away: it is begun again
        except Exception:
            log.exception("a mistake of ours, in image order %s", order_id)
            with self._lock:
                self._done.add(order_id)
        finally:
            with self._lock:
                self._under_way.discard(order_id)

    def _carried_out(self, order_id: str, text: str) -> PullReport | None:
        """Return what came of an order; None for one that is not for this host."""
        try:
            order = pullorder.parse(order_id, text)
            if order.hosts and self._host not in order.hosts:
                return None
            rules = self._authority.rules_for_pull(order)
        except (errors.SignatureError, errors.HostError, ValueError) as exc:
            return PullReport(PullState.REFUSED, reason=str(exc))
        problems = policy.pull_violations(rules, order.image, order.platform, resolver.own_platform())
        if problems:
            return PullReport(PullState.REFUSED, reason="; ".join(problems))
        return self._pulled(order)

    def _pulled(self, order: PullOrder) -> PullReport:
        told_s, so_far = 0.0, (0, 0)

        def progress(pulled_bytes: int, size_bytes: int) -> None:
            nonlocal so_far
            so_far = pulled_bytes, size_bytes

        def tell() -> None:
            nonlocal told_s
            if time.monotonic() - told_s >= _TELL_EVERY_S:
                told_s = time.monotonic()
                with contextlib.suppress(errors.CeleryDockerError):
                    self._orders.tell(order.order_id, self._host, PullReport(PullState.PULLING, *so_far))

        tell()
        try:
            digest = self._engine.pull(
                plan.tagged(order.image), order.platform, fresh=True, check=tell, progress=progress
            )
        except (errors.RequestError, errors.HostError) as exc:
            return PullReport(PullState.FAILED, *so_far, reason=str(exc))
        with contextlib.suppress(errors.CeleryDockerError, OSError):
            self._refresh()
        return PullReport(PullState.PULLED, *so_far, digest=digest)
