"""The kernel's numbers, from folders laid out as cgroup versions 1 and 2 do."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from celery_docker.core.container import Container, Status, Usage
from celery_docker.engine import cgroup

_ID = "c0ffee" * 10


def write(folder: Path, files: dict[str, str]) -> None:
    for name, text in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)


def usage(folder: Path) -> Usage:
    places = cgroup.folders(7, _ID, root=str(folder / "sys"), proc=str(folder / "proc"))
    return cgroup.usage(places)


def test_version_2(tmp_path: Path) -> None:
    """One folder for all controllers, under systemd's slice."""
    path = f"/system.slice/docker-{_ID}.scope"
    stat = "usage_usec 1500000\nuser_usec 1000000\nsystem_usec 500000\n"
    write(tmp_path, {"proc/7/cgroup": f"0::{path}\n", f"sys{path}/cpu.stat": stat, f"sys{path}/memory.peak": "4096\n"})
    assert usage(tmp_path) == Usage(cpu_s=1.5, memory_peak_bytes=4096)


def test_version_2_of_an_old_kernel(tmp_path: Path) -> None:
    """No memory.peak before Linux 5.19: unknown, not zero."""
    path = f"/docker/{_ID}"
    write(tmp_path, {"proc/7/cgroup": f"0::{path}\n", f"sys{path}/cpu.stat": "usage_usec 1\n"})
    assert usage(tmp_path) == Usage(cpu_s=1e-6, memory_peak_bytes=None)


def test_version_1(tmp_path: Path) -> None:
    """A folder per controller, and an empty version 2 beside them."""
    path = f"/docker/{_ID}"
    groups = f"5:cpu,cpuacct:{path}\n4:memory:{path}\n1:name=systemd:{path}\n0::{path}\n"
    files = {f"sys/cpu,cpuacct{path}/cpuacct.usage": "2500000000\n"}
    files |= {f"sys/memory{path}/memory.max_usage_in_bytes": "8192\n", "proc/7/cgroup": groups}
    write(tmp_path, files)
    assert usage(tmp_path) == Usage(cpu_s=2.5, memory_peak_bytes=8192)


@pytest.mark.parametrize("groups", ["0::/user.slice/somebody.scope\n", "", "5:cpuacct:/docker/other\n0::/\n"])
def test_a_process_id_that_is_somebody_elses_now(tmp_path: Path, groups: str) -> None:
    """Their numbers are none of ours."""
    write(tmp_path, {"proc/7/cgroup": groups, "sys/cpu.stat": "usage_usec 1\n", "sys/memory.peak": "1\n"})
    assert usage(tmp_path) == Usage()


def test_a_container_that_does_not_run(tmp_path: Path) -> None:
    """No process, no numbers."""
    assert usage(tmp_path) == Usage()


def test_the_group_of_a_container_counts_those_below(tmp_path: Path) -> None:
    """A process may have moved into one; the figures of the container are those of its own group."""
    path = f"/system.slice/docker-{_ID}.scope"
    write(tmp_path, {"proc/7/cgroup": f"0::{path}/init.scope\n", f"sys{path}/memory.peak": "4096\n"})
    assert usage(tmp_path) == Usage(memory_peak_bytes=4096)


@pytest.mark.parametrize(
    ("slice_path", "paths"),
    [
        ("", [f"/system.slice/docker-{_ID}.scope", f"/docker/{_ID}"]),
        ("/lab.slice/lab-x.slice", [f"/lab.slice/lab-x.slice/docker-{_ID}.scope", f"/lab.slice/lab-x.slice/{_ID}"]),
    ],
)
def test_the_usual_folders_of_both_drivers(tmp_path: Path, slice_path: str, paths: list[str]) -> None:
    version_1 = [{name: f"{tmp_path}/{name}{path}" for name in ("cpuacct", "memory")} for path in paths]
    assert list(cgroup.usual_folders(_ID, slice_path, root=str(tmp_path))) == version_1
    write(tmp_path, {"cgroup.controllers": "cpu memory\n"})
    version_2 = [{"": f"{tmp_path}{path}"} for path in paths]
    assert list(cgroup.usual_folders(_ID, slice_path, root=str(tmp_path))) == version_2


def test_the_members_of_a_group(tmp_path: Path) -> None:
    """None where there is no such group, which is another thing than an empty one."""
    write(
        tmp_path, {"1/cgroup.procs": "12\n7\n", "2/cgroup.procs": "", "4/cgroup.procs": "", "4/a/b/cgroup.procs": "9"}
    )
    assert cgroup.members({"": str(tmp_path / "1")}) == [12, 7]
    assert cgroup.members({"": str(tmp_path / "4")}) == [9], "in a group that it has made itself"
    assert cgroup.members({"cpuacct": "/x", "memory": str(tmp_path / "2")}) == []
    assert cgroup.members({"": str(tmp_path / "3")}) is None


@pytest.mark.parametrize(
    ("status", "first"),
    [
        ("Name:\tx\nNSpid:\t7\t1\n", True),
        ("NSpid:\t7\t2\n", False),
        # In a namespace that the job has made below its own.
        ("NSpid:\t7\t2\t1\n", False),
        # Of no namespace but this one.
        ("NSpid:\t1\n", False),
        ("", False),
    ],
)
def test_the_first_process_of_a_container(tmp_path: Path, status: str, first: bool) -> None:
    write(tmp_path, {"7/status": status, "7/cgroup": f"0::/docker/{_ID}\n", "8/status": status, "8/cgroup": "0::/\n"})
    assert cgroup.is_first(7, _ID, proc=str(tmp_path)) is first
    assert not cgroup.is_first(8, _ID, proc=str(tmp_path))
    assert not cgroup.is_first(9, _ID, proc=str(tmp_path))


def test_the_age_of_a_process_is_by_the_boot_clock(tmp_path: Path) -> None:
    """The name of a program may hold blanks and parentheses."""
    began = int((time.clock_gettime(time.CLOCK_BOOTTIME) - 50) * os.sysconf("SC_CLK_TCK"))
    write(tmp_path, {"77/stat": f"77 (a) b (c) S {' '.join(['0'] * 18)} {began} 0 0\n"})
    ages = [
        cgroup.age_s(Container(_ID, "run-x", Status.RUNNING, {}, "", pid=pid), proc=str(tmp_path)) for pid in (77, 78)
    ]
    assert ages == [pytest.approx(50, abs=5), None]


def test_the_processes_of_a_container_are_found_by_the_name_of_their_cgroup(tmp_path: Path) -> None:
    """Under any parent and any manager of cgroups; neither those of the runtime that wait to start, nor ended ones."""
    process = {"1": f"0::/system.slice/docker-{_ID}.scope", "2": f"4:memory:/x/{_ID}\n0::/", "3": "0::/docker/other"}
    files = {f"{pid}/cgroup": groups + "\n" for pid, groups in process.items()}
    files |= {f"{pid}/cmdline": "sleep\0600\0" for pid in process}
    files |= {f"{pid}/cgroup": f"0::/docker/{_ID}\n" for pid in (4, 5, 6)}
    files |= {"4/cmdline": "runc\0init\0", "5/cmdline": "", "6/cmdline": "init\0", "self/cmdline": "x"}
    write(tmp_path, files)
    assert cgroup.processes(_ID, proc=str(tmp_path)) == [1, 2, 6]
