"""Name known holes of the wheels in the package, and versions that are newer: audit.py NEWEST.

Runs on a Python that has pip-audit. NEWEST is like requirements.txt, with the versions that `make lock` would take if
there were none. The exit status is 0 only if each wheel was looked up and none has a known hole.
"""

from __future__ import annotations

import json
import pathlib
import re
import subprocess
import sys
from typing import Any

LOCKED = pathlib.Path(__file__).resolve().parents[1] / "requirements.txt"


def main(newest: pathlib.Path) -> int:
    """Print a line for each finding; return the exit status."""
    command = [sys.executable, "-m", "pip_audit", "--progress-spinner=off", "--disable-pip", "--require-hashes"]
    command += [f"--requirement={LOCKED}", "--format=json"]
    audit = subprocess.run(command, stdout=-1, stderr=-1, text=True, check=False)  # noqa: S603
    try:
        wheels = json.loads(audit.stdout)["dependencies"]
    except ValueError:
        print(f"nothing is audited: {audit.stderr.strip().splitlines()[-1]}")
        return 1
    unclean = [*holes(wheels), *unknown(wheels)]
    print(*unclean, *newer(pins(LOCKED.read_text()), pins(newest.read_text())), sep="\n")
    if not unclean:
        print(f"{len(wheels)} wheels, none with a known hole")
    return 1 if unclean else 0


def holes(wheels: list[dict[str, Any]]) -> list[str]:
    """Return a line for each hole in a report of pip-audit."""
    return [
        f"{wheel['name']} {wheel['version']} has a hole: {', '.join([hole['id'], *hole['aliases']])}; "
        f"mended in {', '.join(hole['fix_versions']) or 'no version yet'}"
        for wheel in wheels
        for hole in wheel.get("vulns", ())
    ]


def unknown(wheels: list[dict[str, Any]]) -> list[str]:
    """Return a line if pip-audit had no answer for some, which it does not count as a failure."""
    names = [wheel["name"] for wheel in wheels if "skip_reason" in wheel]
    return [f"the index does not say whether these {len(names)} have holes: {', '.join(names)}"] if names else []


def newer(locked: dict[str, str], newest: dict[str, str]) -> list[str]:
    """Return a line for each wheel that would be another now, or would come or go."""
    return [
        f"{name} is locked at {locked.get(name, 'no version')}, newest that fits: {newest.get(name, 'not needed')}"
        for name in sorted(locked | newest)
        if locked.get(name) != newest.get(name)
    ]


def pins(requirements: str) -> dict[str, str]:
    """Return the version of each name in a file of requirements."""
    return dict(re.findall(r"^([\w.-]+)==(\S+)", requirements, re.MULTILINE))


if __name__ == "__main__":
    sys.exit(main(pathlib.Path(sys.argv[1])))
