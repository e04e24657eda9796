"""Run gate after gate for each release, one line for each, and the table at the end; 1 if any failed.

usage: python -m tests.release RELEASE=PACKAGE.deb… [GATE | RELEASE/GATE]…, by root; without a gate all are run
"""

from __future__ import annotations

import sys
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from tests.release import interruptions, life, packaging
from tests.release.candidate import Candidate

Gate = Callable[[Candidate], str]
# Those of a minute or less first.
GATES: dict[str, Gate] = {
    "lintian": packaging.lintian,
    "sizes": life.sizes,
    "autopkgtest": packaging.autopkgtest,
    "life": life.life,
    "killed": interruptions.killed,
    "full-disk": interruptions.full_disk,
    "piuparts": packaging.piuparts,
    "build": packaging.build,
    "release-upgrade": life.release_upgrade,
}


@dataclass(frozen=True)
class Result:
    """The end of a gate for a release."""

    release: str
    gate: str
    seconds: float
    remark: str
    has_passed: bool

    @property
    def cell(self) -> str:
        return f"{'passed' if self.has_passed else 'FAILED'} {self.seconds:.0f} s"


def main(arguments: list[str]) -> int:
    """Run what was asked for; return 0 if all have passed, 2 for a name that no gate has."""
    pairs = [argument.partition("=") for argument in arguments if "=" in argument]
    candidates: list[Candidate] = []
    for release, _, package in reversed(pairs):
        candidates[:0] = [Candidate(release, Path(package).resolve(), *candidates[:1])]
    names = {f"{candidate.release}/{gate}": candidate for gate in GATES for candidate in candidates}
    if candidates:  # the last one has no successor
        del names[f"{candidates[-1].release}/release-upgrade"]
    wishes = [argument for argument in arguments if "=" not in argument]
    for wish in wishes:
        if not any(_fits(wish, name) for name in names):
            print(
                f"no gate is called {wish!r}; there are {', '.join(GATES)}, for one release as in {next(iter(names))}"
            )
            return 2
    results = []
    for name, candidate in names.items():
        if not wishes or any(_fits(wish, name) for wish in wishes):
            results.append(_run(name.partition("/")[2], candidate))
            print(f"== {name}: {results[-1].cell} {results[-1].remark}".rstrip(), flush=True)
    print("\n".join(_table([candidate.release for candidate in candidates], results)))
    return 0 if all(result.has_passed for result in results) else 1


def _fits(wish: str, name: str) -> bool:
    return wish in (name, name.partition("/")[2])


def _run(gate: str, candidate: Candidate) -> Result:
    begin_s = time.monotonic()
    try:
        remark, has_passed = GATES[gate](candidate), True
    except Exception:  # noqa: BLE001  # whatever it is, the other gates are run too
        traceback.print_exc()
        remark, has_passed = "", False
    return Result(candidate.release, gate, time.monotonic() - begin_s, remark, has_passed)


def _table(releases: list[str], results: list[Result]) -> list[str]:
    cells = {(result.gate, result.release): result for result in results}
    rows = [["gate", *releases]]
    rows += [
        [gate, *(cells[gate, release].cell if (gate, release) in cells else "-" for release in releases)]
        for gate in dict.fromkeys(result.gate for result in results)
    ]
    lines = ["".join(cell.ljust(18) for cell in row).rstrip() for row in rows]
    return lines + [f"{result.release}/{result.gate}: {result.remark}" for result in results if result.remark]


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
