"""Print the overrides for the files below site-packages: overrides.py FOLDER, the folder lib of the packaged venv.

Lintian refuses each file in /opt. Those of the program and of the wheels that debian/copyright names belong there; any
other is refused.
"""

import pathlib
import re
import sys

ROOT = pathlib.Path(__file__).resolve().parents[1]
_PROGRAM = ("site-packages/celery_docker/*", "site-packages/celery_docker-*.dist-info/*")


def main(lib: pathlib.Path) -> None:
    """Print a line for each pattern of debian/copyright that this release's package has a file for."""
    (python,) = lib.glob("python3*")
    wheels = re.findall(r"\*/(site-packages/\S+)", (ROOT / "debian/copyright").read_text(encoding="utf-8"))
    print("# The program, and the wheels that debian/copyright names.")
    for pattern in (*_PROGRAM, *wheels):
        if any(python.glob(pattern)):
            print(f"celery-docker: dir-or-file-in-opt [opt/celery/venv/lib/{python.name}/{pattern}]")


if __name__ == "__main__":
    main(pathlib.Path(sys.argv[1]))
