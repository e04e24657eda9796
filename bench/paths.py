"""The cost of a job's paths: opened as its user and pinned by celery-docker-open, beside a mere look at them.

    sudo build/venv/bin/python -m bench.paths [COUNT]

A start with a folder as input, one as output and a log asks three questions: pin, log, release. CPU is that of the
process of root's and of its children.
"""

from __future__ import annotations

import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from celery_docker.core.jobspec import JobSpec
from celery_docker.core.policy import Policy
from celery_docker.host import resolver
from tests.workers.opener import Asking, Opener

_TICKS = os.sysconf("SC_CLK_TCK")
_UID = "54321"


def main(count: int) -> None:
    with tempfile.TemporaryDirectory(dir="/var/tmp") as name, Opener() as process:
        home = Path(name)
        os.chown(home, int(_UID), int(_UID))
        for folder in ("in", "out"):
            (home / folder).mkdir()
        rules = Policy(mounts=(name,))
        asked = Asking(process.socket, "bench", rules)
        spec = JobSpec("busybox", user=_UID, inputpath=f"{name}/in", outputpath=f"{name}/out")
        deeds: dict[str, Callable[[], object]] = {
            "look": lambda: resolver.resolve(spec, "", rules),
            "pin": lambda: asked.pin("job", spec),
            "log": lambda: os.close(asked.open_log(f"{name}/job.log", _UID)),
            "release": lambda: asked.release("job"),
        }
        for deed, action in deeds.items():
            action()
            before, walls = _cpu_s(process), list[float]()
            for _ in range(count):
                begin = time.perf_counter()
                action()
                walls.append(time.perf_counter() - begin)
            cpu_ms = (_cpu_s(process) - before) * 1000 / count
            print(f"{deed:16} {statistics.median(walls) * 1000:7.2f} ms {cpu_ms:7.2f} ms CPU of root's process")


def _cpu_s(process: Opener) -> float:
    pid = process.process.pid if process.process is not None else 0
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return sum(map(int, fields[11:15])) / _TICKS


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 200)
