"""Read the version from debian/changelog, the only place where it stands.

setup.cfg names VERSION, so that wheel and package cannot disagree. What a
rebuild appends to the package's version ("~bpo13+1", "+nmu1") is no part of
the program's. This module does not stand in debian/, since nothing can be
imported from there: Debian's own library python3-debian is called debian too.
"""

import pathlib
import re

CHANGELOG = pathlib.Path(__file__).with_name("debian") / "changelog"
FIRST_LINE = re.compile(r"celery-docker \((?P<release>[0-9.]+)(~(?P<pre>(a|b|rc)[0-9]+))?[^)]*\) ")


def parse(changelog: str) -> str:
    """Return the version of the newest entry as Python writes it: 1.0~rc1 is 1.0rc1."""
    entry = FIRST_LINE.match(changelog)
    if entry is None:
        raise ValueError(f"{CHANGELOG}: no version in the first line")
    return entry["release"] + (entry["pre"] or "")


VERSION = parse(CHANGELOG.read_text(encoding="utf-8"))
