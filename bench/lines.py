"""Runs a command whose lines end in the kernel's uptime, and prints as JSON how many seconds old each was when it came.

Needs nothing but Python. All machines here share one kernel, hence one uptime; a container reads it in steps of 10 ms.
The first line only shows that the command is attached: it leaves a file, and is not counted.
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

ATTACHED = Path("/srv/attached")


def main(command: Sequence[str]) -> None:
    """Run the command to its end."""
    ages_s = []
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:  # noqa: S603  # our own words
        for line in process.stdout or ():
            ages_s.append(time.clock_gettime(time.CLOCK_BOOTTIME) - float(line.split()[-1]))
            ATTACHED.touch()
    print(json.dumps(ages_s[1:]))


if __name__ == "__main__":
    main(sys.argv[1:])
