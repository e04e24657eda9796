"""Clients that submit jobs through a gateway, all at the same time, each job until it is told that it is accepted.

A fault comes where the test wants it: they go on to a number of jobs that the test names, and hold there.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator

from celery_docker import errors
from celery_docker.client.httpsocket import HttpSocket
from tests.faults.counting import FINAL
from tests.faults.ledger import Entry, Ledger
from tests.gateways import Gateway
from tests.waiting import eventually

_AT_ONCE = 100
# Between two tries of a client.
_PAUSE_S = 0.1
# What no complaint may have: words of Python, and of our scripts in Redis.
_INNER_WORDS = ("Traceback", "Exception", "Error:", "errno", "object at 0x", "script:", "user_script", "None", ".py")
_STATES = {"succeeded": "SUCCESS", "cancelled": "REVOKED"}


class Submitters:
    """`clients` threads; none has another job's request under way before it knows of its last one."""

    def __init__(self, ledger: Ledger, gateway: Gateway, clients: int, most_s: float = 0.5) -> None:
        self.clients = clients
        self.accepted: list[Entry] = []
        self.complaints: list[str] = []
        # Those whose request is under way.
        self.asking: set[Entry] = set()
        self._ledger = ledger
        self._gateway = gateway
        self._most_s = most_s
        self._taken = 0
        self._most = 0
        self._is_over = False
        self._failures: list[BaseException] = []
        self._changed = threading.Condition()
        self._actions: dict[int, Callable[[], object]] = {}
        self._threads = [threading.Thread(target=self._submit_all, daemon=True) for _ in range(clients)]

    def go_on(self, jobs: int) -> None:
        """Let them submit until there are so many jobs in all; return at once."""
        with self._changed:
            self._most = jobs
            self._changed.notify_all()

    def go_to(self, jobs: int) -> None:
        """Let them submit until so many jobs are accepted in all, and hold there."""
        self.go_on(jobs)
        self.hold()

    def hold(self) -> None:
        """Wait until they hold, with everything accepted."""

        def all_accepted() -> bool:
            assert not self._failures, self._failures
            return len(self.accepted) == self._most

        eventually(all_accepted, 120, "all jobs to be accepted")

    def at(self, jobs: int, action: Callable[[], object]) -> threading.Event:
        """Have the client whose job is accepted as number `jobs` do something at once, amid the requests of others.

        Return what is set once it is done.
        """
        done = threading.Event()

        def act() -> None:
            action()
            done.set()

        self._actions[jobs] = act
        return done

    def untruths(self) -> list[str]:
        """Return what the gateway says of these jobs that Redis' results and the jobs' own files do not."""
        http = HttpSocket(self._gateway.url)
        said: dict[str, str] = {}
        for first in range(0, len(self.accepted), _AT_ONCE):
            job_ids = [entry.job_id for entry in self.accepted[first : first + _AT_ONCE]]
            said |= zip(job_ids, http.get("receipts", ids=job_ids)["states"], strict=True)
        listed = {job["id"] for job in _listed(http)}
        lines = [
            f"{entry.job_id}: {state}, but {self._ledger.status(entry)}, {entry.lines()}"
            for entry in self.accepted
            if _STATES.get(state := said[entry.job_id], "FAILURE") != self._ledger.status(entry)
            or self._ledger.status(entry) not in FINAL
        ]
        return lines + [f"{entry.job_id} is not listed" for entry in self.accepted if entry.job_id not in listed]

    def _submit_all(self) -> None:
        http = HttpSocket(self._gateway.url)
        try:
            while self._may_go_on():
                self._submit(http)
        except BaseException as exc:
            self._failures.append(exc)
            raise

    def _may_go_on(self) -> bool:
        with self._changed:
            self._changed.wait_for(lambda: self._is_over or self._taken < self._most)
            self._taken += 1
            return not self._is_over

    def _submit(self, http: HttpSocket) -> None:
        with self._changed:
            seconds = self._ledger.random.uniform(0, self._most_s)
        entry, document = self._ledger.planned(f"sleep {seconds:.2f}")
        self.asking.add(entry)
        while not self._is_over:
            try:
                http.send("POST", "jobs", body={"jobs": [document], "ids": [entry.job_id]})
                break
            except (errors.StoreAway, errors.StoreRefused, errors.KeysError) as exc:
                self.complaints.append(str(exc))
            threading.Event().wait(_PAUSE_S)
        self.asking.discard(entry)
        with self._changed:
            self.accepted.append(entry)
            action = self._actions.pop(len(self.accepted), None)
        if action is not None:
            action()

    def __enter__(self) -> Submitters:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        with self._changed:
            self._is_over = True
            self._changed.notify_all()
        for thread in self._threads:
            thread.join(120)
        assert not self._failures, self._failures


def is_clear(line: str) -> bool:
    """Tell whether a complaint is one line for people, with a remedy behind a semicolon or a colon."""
    return len(line.splitlines()) == 1 and not any(word in line for word in _INNER_WORDS)


def _listed(http: HttpSocket) -> Iterator[dict[str, str]]:
    before = None
    while True:
        page = http.get("jobs", limit=_AT_ONCE, before=before)
        yield from page["jobs"]
        before = page["next"]
        if before is None:
            return
