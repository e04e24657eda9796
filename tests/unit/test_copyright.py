"""debian/copyright and the bill of materials name every wheel that the package holds, with its license."""

from __future__ import annotations

import importlib.metadata
import json
import re
import runpy
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from packaging.requirements import Requirement

ROOT = Path(__file__).parents[2]
COPYRIGHT = (ROOT / "debian/copyright").read_text(encoding="utf-8")
SBOM: dict[str, Any] = runpy.run_path(str(ROOT / "debian/sbom.py"))
LICENSES: dict[str, str] = SBOM["licenses"](COPYRIGHT)
REQUIREMENTS = [
    Requirement(line.removesuffix(" \\"))
    for line in (ROOT / "requirements.txt").read_text().splitlines()
    if re.match(r"\w", line) and "win32" not in line
]
# The words of wheels that do not write SPDX's.
OTHER_WORDS = {
    "Apache-2.0": {"Apache 2"},
    "BSD-3-Clause": {"BSD", "BSD License", "Dual License", "New BSD"},
    "MIT AND HPND-Markus-Kuhn": {"MIT License"},
    "ZPL-2.1 AND HPND": {"ZPL 2.1"},
}


def test_each_wheel_has_a_paragraph_and_each_paragraph_a_wheel() -> None:
    assert list(LICENSES) == [requirement.name for requirement in REQUIREMENTS]


def test_licenses_are_those_that_the_wheels_state() -> None:
    for requirement in REQUIREMENTS:
        if requirement.marker is None or requirement.marker.evaluate():
            metadata = importlib.metadata.metadata(requirement.name).json
            classifiers = [line.rpartition(" :: ")[2] for line in metadata.get("classifier", ()) if "License" in line]
            stated = metadata.get("license_expression") or metadata.get("license") or classifiers[0]
            expression = LICENSES[requirement.name]
            assert stated in {expression} | OTHER_WORDS.get(expression, set()), requirement.name


def test_each_license_has_its_text() -> None:
    expressions = set(re.findall(r"^License: (.+)\n(?! )", COPYRIGHT, re.MULTILINE))
    names = {name for expression in expressions for name in re.split(" or | and ", expression)}
    assert names == set(re.findall(r"^License: (.+)\n ", COPYRIGHT, re.MULTILINE))


def _wheel(name: str, url: str) -> dict[str, Any]:
    """An entry of pip's report."""
    return {
        "metadata": {"name": name, "version": "1.5"},
        "download_info": {"url": url, "archive_info": {"hash": f"sha256={'0' * 64}"}},
    }


def test_the_bill_of_materials_is_the_same_wherever_the_wheels_came_from() -> None:
    online = SBOM["document"]([_wheel("redis", "https://e.org/redis.whl"), _wheel("amqp", "https://e.org/a")], LICENSES)
    offline = SBOM["document"]([_wheel("amqp", "file:///srv/a"), _wheel("redis", "file:///srv/redis.whl")], LICENSES)
    assert json.dumps(online) == json.dumps(offline)
    assert [component["purl"] for component in online["components"]] == ["pkg:pypi/amqp@1.5", "pkg:pypi/redis@1.5"]


def test_a_wheel_without_a_license_is_named() -> None:
    with pytest.raises(ValueError, match=r"^new-thing 1\.5 has no license: add a paragraph .* to debian/copyright$"):
        SBOM["document"]([_wheel("New_Thing", "")], LICENSES)


def test_lintian_accepts_the_files_of_the_wheels_and_no_others(tmp_path: Path) -> None:
    """No override has a whole folder but those of the wheels, and no wheel that this release's package is without."""
    site = tmp_path / "python3.99/site-packages"
    for name in ("celery_docker/errors.py", "redis/client.py", "redis-1.5.dist-info/METADATA", "six.py", "stray.py"):
        (site / name).parent.mkdir(parents=True, exist_ok=True)
        (site / name).touch()
    command = [sys.executable, "-B", str(ROOT / "debian/overrides.py"), str(tmp_path)]
    printed = subprocess.run(command, capture_output=True, text=True, check=True, timeout=20).stdout.splitlines()
    assert [line.removeprefix("celery-docker: dir-or-file-in-opt ") for line in printed if line[0] != "#"] == [
        f"[opt/celery/venv/lib/python3.99/site-packages/{name}]"
        for name in ("celery_docker/*", "redis-*.dist-info/*", "redis/*", "six.py")
    ]
    by_hand = (ROOT / "debian/celery-docker.lintian-overrides").read_text().splitlines()
    assert [line for line in by_hand if re.search(r"/\S*\*", line)] == []
    assert by_hand[0].startswith("#")
