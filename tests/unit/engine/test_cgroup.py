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


def usage(folder: Path, pid: int | None = 7) -> Usage:
    c = Container(_ID, "run-x", Status.RUNNING, {}, "sha256:x", pid=pid)
    return cgroup.usage(c, root=str(folder / "sys"), proc=str(folder / "proc"))


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
    assert usage(tmp_path, pid=None) == Usage()
    assert usage(tmp_path) == Usage()


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
