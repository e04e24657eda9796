"""The watch over control groups, with real processes and prepared folders, laid out as versions 1 and 2 do."""

from __future__ import annotations

import subprocess
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from shutil import rmtree

import pytest

from celery_docker.core.container import Usage
from celery_docker.engine import usagewatch
from celery_docker.engine.usagewatch import UsageWatch
from tests.waiting import eventually

_IDS = [f"{number:064x}" for number in range(1, 4)]
_FILES = {
    1: {
        "cpuacct/{}/cpuacct.usage": "{cpu}000000000",
        "memory/{}/memory.max_usage_in_bytes": "{peak}",
        "memory/{}/memory.oom_control": "oom_kill_disable 0\nunder_oom 0\noom_kill {kills}",
    },
    2: {
        "{}/cpu.stat": "usage_usec {cpu}000000\nuser_usec 0",
        "{}/memory.peak": "{peak}",
        "{}/memory.events": "max 9\noom 9\noom_kill {kills}\noom_group_kill 9",
    },
}


@dataclass
class Host:
    """A machine's folders; its containers are processes of this test, all in the group `parent`."""

    folder: Path
    version: int
    parent: str = "docker"
    processes: dict[str, subprocess.Popen[bytes]] = field(default_factory=dict)
    # The containers whose end was told.
    told: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        if self.version == 2:
            self.write("sys/cgroup.controllers", "cpu memory")
        self.watch = UsageWatch(on_end=self.told.append, root=str(self.folder / "sys"), proc=str(self.folder / "proc"))
        (self.folder / "proc").mkdir(parents=True)

    def write(self, name: str, text: str) -> None:
        path = self.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"{text}\n" if text else "")

    def start(self, container_id: str) -> None:
        self.processes[container_id] = process = subprocess.Popen(["sleep", "1000"])
        group = f"/{self.parent}/{container_id}"
        self.write(f"proc/{process.pid}/cgroup", f"0::{group}" if self.version == 2 else f"4:memory:{group}")
        self.write(f"proc/{process.pid}/status", f"NSpid:\t{process.pid}\t1")
        self.write(f"proc/{process.pid}/cmdline", "sleep\0001000")
        if self.version == 1:
            self.write(f"proc/{process.pid}/cgroup", f"5:cpuacct:{group}\n4:memory:{group}\n0::/")
        self.use(container_id, 1, 1)
        self.write(f"sys/{'memory/' * (self.version == 1)}{group}/cgroup.procs", f"2\n{process.pid}")

    def use(self, container_id: str, cpu: int, peak: int, kills: int = 0) -> None:
        for name, text in _FILES[self.version].items():
            path = name.format(f"{self.parent}/{container_id}")
            self.write(f"sys/{path}", text.format(cpu=cpu, peak=peak, kills=kills))

    def end(self, container_id: str) -> None:
        process = self.processes.pop(container_id)
        process.kill()
        process.wait()
        rmtree(self.folder / "proc" / str(process.pid))

    def remove_group(self, container_id: str) -> None:
        for place in ("", "memory", "cpuacct"):
            rmtree(self.folder / "sys" / place / self.parent / container_id, ignore_errors=True)

    def group(self, container_id: str) -> Path:
        return self.folder / "sys" / ("memory" if self.version == 1 else "") / self.parent / container_id

    def wait(self, container_id: str, figures: Usage) -> None:
        eventually(lambda: self.watch.usage(container_id) == figures)


@pytest.fixture(params=[1, 2])
def host(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Host]:
    made = Host(tmp_path, request.param)
    yield made
    for container_id in list(made.processes):
        made.end(container_id)


def test_the_last_figures_count(host: Host) -> None:
    """Those from before its end are no figures: a job of half a second would have those of its beginning."""
    host.start(_IDS[0])
    host.watch.begin(_IDS[0])
    assert host.watch.usage(_IDS[0]) == Usage()
    host.use(_IDS[0], 7, 4096)
    host.end(_IDS[0])
    eventually(lambda: host.watch.usage(_IDS[0]) == Usage(7.0, 4096, oom_killed=False))
    host.watch.forget(_IDS[0])
    assert host.watch.usage(_IDS[0]) == Usage()


def test_the_kernel_says_that_there_was_no_memory_left(host: Host) -> None:
    host.start(_IDS[0])
    host.watch.begin(_IDS[0])
    host.use(_IDS[0], 1, 4096, kills=1)
    host.end(_IDS[0])
    host.wait(_IDS[0], Usage(1.0, 4096, oom_killed=True))


def test_a_container_that_is_over_at_once(host: Host) -> None:
    """Its group is there yet, without a process."""
    host.start(_IDS[0])
    host.use(_IDS[0], 3, 2048)
    procs = next((host.folder / "sys").rglob("cgroup.procs"))
    procs.write_text("")
    host.watch.begin(_IDS[0])
    assert host.watch.usage(_IDS[0]) == Usage(3.0, 2048, oom_killed=False)


def test_a_container_whose_group_went_too_early_has_no_figures(host: Host) -> None:
    host.start(_IDS[0])
    host.start(_IDS[1])
    host.watch.begin(_IDS[0])
    host.watch.begin(_IDS[1])
    host.remove_group(_IDS[0])
    host.end(_IDS[0])
    host.end(_IDS[1])
    eventually(lambda: host.watch.usage(_IDS[1]) == Usage(1.0, 1, oom_killed=False))
    assert host.watch.usage(_IDS[0]) == Usage()


def test_what_runs_on_is_sampled(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    """Figures that are a little old are better than none; and what was sampled stays when the end is missed."""
    monkeypatch.setattr(usagewatch, "_SAMPLE_EVERY_S", 0.01)
    host.start(_IDS[0])
    host.watch.begin(_IDS[0])
    eventually(lambda: host.watch.usage(_IDS[0]) == Usage(1.0, 1, oom_killed=False))
    host.use(_IDS[0], 2, 50)
    eventually(lambda: host.watch.usage(_IDS[0]) == Usage(2.0, 50, oom_killed=False))
    host.remove_group(_IDS[0])
    host.end(_IDS[0])
    eventually(lambda: not host.watch._ends)
    assert host.watch.usage(_IDS[0]) == Usage(2.0, 50, oom_killed=False)


def test_folders_that_are_unusual_are_found_by_the_processes_in_them(tmp_path: Path) -> None:
    """And whatever those of others are: a worker may move, and containers of its last place run on."""
    host = Host(tmp_path, 1, parent="lab/of/somebody")
    for container_id, parent in zip(_IDS, ("lab/of/somebody", "docker", "lab/of/another"), strict=True):
        host.parent = parent
        host.start(container_id)
        host.watch.begin(container_id)
        host.end(container_id)
        host.wait(container_id, Usage(1.0, 1, oom_killed=False))


def test_a_container_of_which_nothing_is_known(host: Host) -> None:
    """There are no figures, and no failure. It may run on where this machine's processes are not to be seen."""
    host.watch.begin(_IDS[0])
    assert host.watch.usage(_IDS[0]) == Usage()
    assert host.told == []


def test_a_second_run_counts_instead_of_the_first(host: Host) -> None:
    """Somebody has started it again: it has a new group."""
    host.start(_IDS[0])
    host.watch.begin(_IDS[0])
    host.end(_IDS[0])
    eventually(lambda: host.watch.usage(_IDS[0]) == Usage(1.0, 1, oom_killed=False))
    host.start(_IDS[0])
    host.watch.begin(_IDS[0])
    host.use(_IDS[0], 9, 9)
    host.end(_IDS[0])
    eventually(lambda: host.watch.usage(_IDS[0]) == Usage(9.0, 9, oom_killed=False))


def test_the_thread_ends_when_nothing_is_watched(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    """And comes back with the next container."""
    monkeypatch.setattr(usagewatch, "_SAMPLE_EVERY_S", 0.01)
    before = threading.active_count()
    for container_id in _IDS[:2]:
        host.start(container_id)
        host.watch.begin(container_id)
        assert threading.active_count() == before + 1
        host.end(container_id)
        host.wait(container_id, Usage(1.0, 1, oom_killed=False))
        host.watch.forget(container_id)
        eventually(lambda: threading.active_count() == before)


def test_an_end_is_told_once_its_figures_are_there(host: Host) -> None:
    told: list[tuple[str, Usage]] = []
    watch = UsageWatch(
        on_end=lambda container_id: told.append((container_id, watch.usage(container_id))),
        root=str(host.folder / "sys"),
        proc=str(host.folder / "proc"),
    )
    host.start(_IDS[0])
    watch.begin(_IDS[0])
    assert told == []
    host.end(_IDS[0])
    eventually(lambda: told)
    assert told == [(_IDS[0], Usage(1.0, 1, oom_killed=False))]


@pytest.mark.parametrize("is_removed", [False, True])
def test_an_end_before_the_first_look_is_told_too(host: Host, is_removed: bool) -> None:
    """Of a program that only prints, for instance: its group is empty, or gone already."""
    host.start(_IDS[0])
    host.watch.begin(_IDS[0])
    host.start(_IDS[1])
    host.end(_IDS[1])
    host.group(_IDS[1]).joinpath("cgroup.procs").write_text("")
    if is_removed:
        host.remove_group(_IDS[1])
    host.watch.begin(_IDS[1])
    assert host.told == [_IDS[1]]


@pytest.mark.parametrize("command", ["sleep\0001000", "runc\0init"])
def test_no_end_is_told_of_a_container_that_runs(host: Host, command: str) -> None:
    """In a group that it has made itself, or in a place of which nobody knows, and where it is only to begin."""
    host.start(_IDS[0])
    host.watch.begin(_IDS[0])
    host.start(_IDS[1])
    below = host.group(_IDS[1]) / "own"
    below.mkdir()
    host.group(_IDS[1]).joinpath("cgroup.procs").rename(below / "cgroup.procs")
    below.parent.joinpath("cgroup.procs").write_text("")
    host.watch.begin(_IDS[1])
    host.parent = "lab/of/another"
    host.start(_IDS[2])
    host.write(f"proc/{host.processes[_IDS[2]].pid}/cmdline", command)
    host.watch.begin(_IDS[2])
    assert host.told == []
    host.end(_IDS[1])
    eventually(lambda: host.told == [_IDS[1]])
