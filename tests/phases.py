"""`make test`: all tests in phases, two at a time, since a test waits more than it computes.

Each phase is a pytest with servers and machines of its own. What it prints goes to a file in build/phases, and comes in
one piece when it has ended; the last lines are the wall time and the result of each.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
import time
from pathlib import Path

LANES = 2
OUTPUT = Path("build/phases")
# The longest first, so that no long one is left for the end.
_FOLDERS: dict[str, tuple[str, ...]] = {
    "demo": ("tests/system/test_demo.py",),
    "integration": ("tests/integration",),
    "system": ("tests/system", "--ignore=tests/system/test_demo.py"),
    "booted-faults": ("tests/faults/test_booted.py",),
    "faults": ("tests/faults", "--ignore=tests/faults/test_booted.py"),
}
# With whatever has no phase of its own: no test is forgotten.
_REST = ("tests", *(f"--ignore={arguments[0]}" for arguments in _FOLDERS.values()))
PHASES = {**_FOLDERS, "unit-and-contract": _REST}


class Phase:
    """A pytest that runs."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._began_s = time.monotonic()
        self._output = OUTPUT / name
        print(f"== {name} begins, see {self._output}", flush=True)
        # It ends when this process is killed; Ctrl-C reaches both.
        pytest = ("-m", "coverage", "run", "-m", "pytest", *PHASES[name])
        command = ("setpriv", "--pdeathsig", "TERM", sys.executable, *pytest)
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


def main() -> int:
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
                running.append(Phase(waiting.pop(0)))
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
    sys.exit(main())
