"""`make test`: all tests in phases, four at a time, since a test waits more than it computes.

With `--coverage` each is measured, which costs as much of the processor as the unit tests themselves.

Each phase is a pytest with servers and machines of its own. What it prints goes to a file in build/phases, and comes in
one piece when it has ended; the last lines are the wall time and the result of each.
"""

from __future__ import annotations

import platform
import shutil
import subprocess
import sys
import time
from itertools import chain
from pathlib import Path

LANES = 4
OUTPUT = Path("build/phases")
ROOT = Path(__file__).parents[1]
_PARTS = 6
# They take about twice as long as others of their size.
_SLOW = ("attached", "gpus", "jobs", "page", "pulls", "reload", "room", "snakemake", "waits", "worker")
# What a job may ask for is seen from inside on the Docker of the other release, too, and Snakemake's jobs run there.
_OTHER_RELEASE = "bookworm" if platform.freedesktop_os_release().get("VERSION_CODENAME") == "trixie" else "trixie"
_SNAKEMAKE = ("the_example_while_a_worker_is_killed", "ctrl_c_leaves_no_container", "the_wrappers_cancel")
_AGAIN = (
    *("tests/integration/test_fields.py", "tests/integration/test_mounts.py"),
    "tests/integration/test_notices.py::test_a_job_tells_of_its_end",
    *(f"tests/integration/test_snakemake.py::test_{name}" for name in _SNAKEMAKE),
)


def _parts() -> list[tuple[str, ...]]:
    """Share out the files of the integration tests to phases of about the same length."""

    def length(file: Path) -> int:
        return file.stat().st_size * (2 if file.stem.removeprefix("test_") in _SLOW else 1)

    parts: list[list[Path]] = [[] for _ in range(_PARTS)]
    for file in sorted((ROOT / "tests/integration").glob("test_*.py"), key=length, reverse=True):
        min(parts, key=lambda part: sum(map(length, part))).append(file)
    return [tuple(str(file.relative_to(ROOT)) for file in part) for part in parts]


def _others(*paths: str) -> tuple[str, ...]:
    return tuple(f"--ignore={path}" for path in paths)


_INTEGRATION = _parts()
# The longest first, so that no long one is left for the end; what has no phase of its own is in unit-and-contract.
PHASES: dict[str, tuple[str, ...]] = {
    "system": ("tests/system", *_others("tests/system/test_demo.py")),
    "demo-trixie": ("tests/system/test_demo.py", "-ktrixie"),
    "demo": ("tests/system/test_demo.py", "-knot trixie"),
    **{f"integration-{part}": files for part, files in enumerate(_INTEGRATION, 1)},
    "faults": ("tests/faults", *_others("tests/faults/test_booted.py")),
    "unit-and-contract": ("tests", *_others("tests/faults", "tests/system", *chain.from_iterable(_INTEGRATION))),
    "booted-faults": ("tests/faults/test_booted.py",),
    "other-docker": (f"--docker={_OTHER_RELEASE}", "-knot podman", *_AGAIN),
}


class Phase:
    """A pytest that runs."""

    def __init__(self, name: str, *, is_measured: bool) -> None:
        self._name = name
        self._began_s = time.monotonic()
        self._output = OUTPUT / name
        print(f"== {name} begins, see {self._output}", flush=True)
        # It ends when this process is killed; Ctrl-C reaches both.
        measured = ("-m", "coverage", "run") if is_measured else ()
        command = ("setpriv", "--pdeathsig", "TERM", sys.executable, *measured, "-m", "pytest", *PHASES[name])
        with self._output.open("wb") as output:
            self._process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=output, stderr=output)

    @property
    def is_over(self) -> bool:
        return self._process.poll() is not None

    @property
    def has_passed(self) -> bool:
        return self._process.wait() == 0

    def conclude(self) -> str:
        """Wait for its end and print its output; return the line for the end of all."""
        result = "passed" if self.has_passed else "FAILED"
        with self._output.open("rb") as output:
            shutil.copyfileobj(output, sys.stdout.buffer)
        line = f"{_time_since(self._began_s)}  {self._name}: {result}"
        print(f"== {line.strip()}", flush=True)
        return line


def main(*, is_measured: bool) -> int:
    """Run every phase; return 0 if all have passed."""
    began_s = time.monotonic()
    OUTPUT.mkdir(parents=True, exist_ok=True)
    waiting = list(PHASES)
    running: list[Phase] = []
    over: list[Phase] = []
    lines = []
    try:
        while waiting or running:
            while waiting and len(running) < LANES:
                running.append(Phase(waiting.pop(0), is_measured=is_measured))
            for phase in [phase for phase in running if phase.is_over]:
                running.remove(phase)
                over.append(phase)
                lines.append(phase.conclude())
            time.sleep(0.1)
    except KeyboardInterrupt:
        # Each has heard it too, and removes its servers and machines.
        lines += [phase.conclude() for phase in running]
        return 130
    finally:
        print(*lines, f"{_time_since(began_s)}  in all", sep="\n")
    return 0 if all(phase.has_passed for phase in over) else 1


def _time_since(began_s: float) -> str:
    minutes, seconds = divmod(round(time.monotonic() - began_s), 60)
    return f"{minutes:3} min {seconds:2} s"


if __name__ == "__main__":
    sys.exit(main(is_measured="--coverage" in sys.argv[1:]))
