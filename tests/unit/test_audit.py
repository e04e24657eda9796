"""The lines of make audit."""

from __future__ import annotations

import runpy
from pathlib import Path
from typing import Any

AUDIT: dict[str, Any] = runpy.run_path(str(Path(__file__).parents[2] / "debian/audit.py"))


def test_a_hole_is_named_with_the_version_that_mends_it() -> None:
    hole = {"id": "PYSEC-2024-1", "aliases": ["CVE-2024-1"], "fix_versions": ["2.0"], "description": "…"}
    unmended = {"id": "PYSEC-2024-2", "aliases": [], "fix_versions": [], "description": "…"}
    wheels = [
        {"name": "vine", "version": "5.1", "vulns": []},
        {"name": "six", "version": "1.1", "vulns": [hole, unmended]},
    ]
    assert AUDIT["holes"](wheels) == [
        "six 1.1 has a hole: PYSEC-2024-1, CVE-2024-1; mended in 2.0",
        "six 1.1 has a hole: PYSEC-2024-2; mended in no version yet",
    ]
    assert AUDIT["unknown"](wheels) == []


def test_a_wheel_that_was_not_looked_up_is_not_clean() -> None:
    """pip-audit says "No known vulnerabilities found" then."""
    wheels = [{"name": "six", "skip_reason": "Dependency not found on PyPI and could not be audited: six (1.1)"}]
    assert AUDIT["holes"](wheels) == []
    assert AUDIT["unknown"](wheels) == ["the index does not say whether these 1 have holes: six"]


def test_newer_versions_are_named() -> None:
    locked = AUDIT["pins"]("# make lock\nsix==1.1 \\\n    --hash=sha256:00\nvine==5.1 ; sys_platform == 'win32' \\\n")
    assert locked == {"six": "1.1", "vine": "5.1"}
    assert AUDIT["newer"](locked, {"six": "1.2", "vine": "5.1", "zstd": "1"}) == [
        "six is locked at 1.1, newest that fits: 1.2",
        "zstd is locked at no version, newest that fits: 1",
    ]
