"""Orders to pull an image: judged by the policy, carried out once, and reported."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

import pytest

from celery_docker import errors
from celery_docker.background import pullorders
from celery_docker.background.pullorders import PullOrders
from celery_docker.core import policyfile
from celery_docker.core.access import Identity
from celery_docker.core.pullorder import PullOrder, PullReport, PullState
from celery_docker.core.signingkeys import Keys
from celery_docker.host.keyfile import KeyFile
from celery_docker.run.authority import Authority
from tests.waiting import eventually

KEY = b"k" * 32
ALICE, BOB = Identity("alice", 54321, 54322, ()), Identity("bob", 54331, 54332, ())
DIGEST = f"sha256:{'a' * 64}"


class Orders:
    """The orders in Redis; `failures` are raised by the next reports."""

    def __init__(self) -> None:
        self.texts: dict[str, str] = {}
        self.reports: dict[str, list[PullReport]] = {}
        self.failures: list[Exception] = []

    def orders(self) -> list[str]:
        return list(self.texts)

    def read(self, order_id: str, host: str) -> tuple[str | None, PullReport | None]:
        reports = self.reports.get(order_id, [])
        return self.texts.get(order_id), reports[-1] if reports else None

    def tell(self, order_id: str, host: str, report: PullReport) -> None:
        if self.failures and report.state.is_final:
            raise self.failures.pop()
        self.reports.setdefault(order_id, []).append(report)

    def give(self, order: PullOrder) -> None:
        self.texts[order.order_id] = order.text()

    def last(self, order_id: str = "o1") -> PullReport:
        eventually(lambda: self.reports.get(order_id, []) and self.reports[order_id][-1].state.is_final, 20, "the end")
        return self.reports[order_id][-1]


class Engine:
    """Docker; `failure` is what a pull ends with."""

    def __init__(self) -> None:
        self.pulled: list[tuple[str, str | None]] = []
        self.failure: Exception | None = None

    def pull(
        self,
        image: str,
        platform: str | None = None,
        *,
        since_s: float | None = None,
        fresh: bool = False,
        check: Callable[[], object] = lambda: None,
        progress: Callable[[int, int], object] = lambda _pulled, _size: None,
    ) -> str:
        assert fresh, "the tag is asked for anew"
        self.pulled.append((image, platform))
        progress(5, 7)
        check()
        if self.failure is not None:
            raise self.failure
        return DIGEST


class World:
    """One host with its orders."""

    def __init__(self, folder: Path) -> None:
        self.orders, self.engine, self.folder, self.refreshed = Orders(), Engine(), folder, 0
        self.host = self.made("")

    def made(self, rules: str) -> PullOrders:
        authority = Authority(policyfile.parse(f'mounts = ["/tmp"]\n{rules}'), KeyFile(str(self.folder / "key")))
        self.host = PullOrders(self.orders, self.engine, authority, "node1", self._refresh)
        return self.host

    def _refresh(self) -> None:
        self.refreshed += 1


def looked(host: PullOrders) -> bool:
    host.look()
    return True


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> World:
    monkeypatch.setattr(pullorders, "_TELL_EVERY_S", 0.0)
    return World(tmp_path)


def test_an_order_is_carried_out_and_followed(world: World) -> None:
    world.orders.give(PullOrder("o1", "lab/tool"))
    world.host.look()
    assert world.orders.last() == PullReport(PullState.PULLED, 5, 7, DIGEST)
    assert PullReport(PullState.PULLING, 5, 7) in world.orders.reports["o1"]
    assert world.engine.pulled == [("lab/tool:latest", None)]
    assert world.refreshed == 1


def test_it_is_carried_out_once_also_over_a_restart(world: World) -> None:
    world.orders.give(PullOrder("o1", "busybox"))
    world.host.look()
    world.orders.last()
    world.host.look()
    world.made("").look()
    world.orders.give(PullOrder("o2", "busybox"))
    world.host.look()
    world.orders.last("o2")
    assert len(world.engine.pulled) == 2


def test_one_that_a_killed_worker_has_begun_is_begun_again(world: World) -> None:
    world.orders.give(PullOrder("o1", "busybox"))
    world.orders.reports["o1"] = [PullReport(PullState.PULLING, 1, 7)]
    world.host.look()
    assert world.orders.last().state is PullState.PULLED


def test_one_for_other_hosts_is_left_alone(world: World) -> None:
    world.orders.give(PullOrder("o1", "busybox", hosts=("node2", "node3")))
    world.orders.give(PullOrder("o2", "busybox", hosts=("node1", "node3")))
    world.host.look()
    assert world.orders.last("o2").state is PullState.PULLED
    assert "o1" not in world.orders.reports


@pytest.mark.parametrize(
    "failure", [errors.RequestError("image 'busybox:latest' cannot be pulled: not found"), errors.HostError("no route")]
)
def test_a_pull_that_fails_says_why(world: World, failure: Exception) -> None:
    world.engine.failure = failure
    world.orders.give(PullOrder("o1", "busybox"))
    world.host.look()
    assert world.orders.last() == PullReport(PullState.FAILED, 5, 7, reason=str(failure))


def test_the_policy_judges_before_the_pull(world: World) -> None:
    host = world.made('images = ["lab/*"]\n')
    world.orders.give(PullOrder("o1", "busybox"))
    world.orders.give(PullOrder("o2", "lab/tool:1", "linux/riscv64"))
    host.look()
    assert "image: 'busybox' is not allowed on this host; rule images" in world.orders.last("o1").reason
    assert "platform: 'linux/riscv64' is not allowed on this host" in world.orders.last("o2").reason
    assert world.orders.last("o2").state is PullState.REFUSED
    assert world.engine.pulled == []


def test_a_host_of_signed_jobs_takes_orders_of_those_who_may(world: World) -> None:
    """By the rules for each; an order that is unsigned, or changed, is refused."""
    KeyFile(str(world.folder / "key")).write(Keys(KEY))
    host = world.made('submitters = "signed"\nimages = ["lab/*"]\n[submitter.bob]\nimages = ["busybox"]\n')
    now_s = time.time()
    orders = {
        "unsigned": PullOrder("unsigned", "lab/tool:1"),
        "alice": PullOrder("alice", "lab/tool:1").signed(KEY, ALICE, now_s),
        "bob": PullOrder("bob", "lab/tool:1").signed(KEY, BOB, now_s),
        "forged": PullOrder("forged", "lab/tool:1").signed(b"o" * 32, ALICE, now_s),
    }
    for order in orders.values():
        world.orders.give(order)
    eventually(lambda: looked(host) and len(world.orders.reports) == len(orders), 20, "a report about each")
    assert {name: world.orders.last(name).state for name in orders} == {
        **dict.fromkeys(("unsigned", "bob", "forged"), PullState.REFUSED),
        "alice": PullState.PULLED,
    }
    assert world.engine.pulled == [("lab/tool:1", None)]


@pytest.mark.parametrize("text", ["", "x", "[]", '{"pull": "UPPER"}', '{"pull": "busybox", "signature": 5}'])
def test_an_order_that_cannot_be_read_is_refused_once(world: World, text: str) -> None:
    world.orders.texts["o1"] = text
    world.host.look()
    assert world.orders.last().state is PullState.REFUSED
    world.host.look()
    assert len(world.orders.reports["o1"]) == 1


def test_one_whose_end_redis_has_not_taken_is_begun_again(world: World) -> None:
    world.orders.failures = [errors.StoreAway("no answer")]
    world.orders.give(PullOrder("o1", "busybox"))
    world.host.look()
    eventually(lambda: looked(world.host) and len(world.engine.pulled) == 2, 20, "the second pull")
    assert world.orders.last().state is PullState.PULLED


def test_an_order_that_has_expired_is_left_alone(world: World) -> None:
    world.orders.texts["o1"] = ""
    world.orders.read = lambda *_: (None, None)  # type: ignore[method-assign]
    world.host.look()
    world.host.look()
    assert world.orders.reports == {}
