"""axe-core, which finds what keeps people with a screen reader or a keyboard out: fetched once from npm, by its sum."""

from __future__ import annotations

import hashlib
import io
import tarfile
import urllib.request
from pathlib import Path

VERSION = "4.14.1"
_SHA256 = "e6b0ce02b84d892e2e33e403485e7f3d6c29e2be6df65daf44d89ba564139745"
_URL = f"https://registry.npmjs.org/axe-core/-/axe-core-{VERSION}.tgz"
_KEPT = Path("/var/cache/celery-docker-test/axe-core") / f"{VERSION}.min.js"
_TIMEOUT_S = 60
# What the page is held to: the rules of WCAG 2.2 AA, and axe's own of good practice.
RUN = """
axe.run(document, {resultTypes: ["violations"]}).then((found) => found.violations
  .filter((each) => ["serious", "critical"].includes(each.impact))
  .map((each) => `${each.id}: ${each.nodes.map((node) => node.html.slice(0, 200) + node.failureSummary).join(" | ")}`))
"""


def script() -> str:
    """Return the program. Raises `OSError` where it is neither here nor to be had."""
    if not _KEPT.exists():
        with urllib.request.urlopen(_URL, timeout=_TIMEOUT_S) as answer:
            packed = answer.read()
        if hashlib.sha256(packed).hexdigest() != _SHA256:
            raise OSError(f"{_URL} is not the file that it was")
        with tarfile.open(fileobj=io.BytesIO(packed)) as archive:
            member = archive.extractfile("package/axe.min.js")
            assert member is not None
            _KEPT.parent.mkdir(parents=True, exist_ok=True)
            _KEPT.write_bytes(member.read())
    return _KEPT.read_text()


def missing() -> str:
    """Say why it cannot be had; empty if it can."""
    try:
        script()
    except OSError as exc:
        return f"axe-core {VERSION}: {exc}"
    return ""
