"""Print the package's bill of materials (CycloneDX 1.6, JSON): sbom.py REPORT.

Runs on Debian's own Python when the package is built. REPORT is pip's, of the wheels that it installed from
requirements.txt: name, version and sum. Licenses are those of debian/copyright; a wheel without one ends the build.
Nothing in it tells one build from the next: no time, no serial number, no place from which a wheel came.
"""

from __future__ import annotations

import json
import pathlib
import re
import sys
from typing import Any

ROOT = pathlib.Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from changelog import VERSION  # noqa: E402  # the source tree is known only now

OWN_LICENSE = "BSD-2-Clause"
# The first pattern of a wheel's paragraph is that of its metadata.
_WHEEL = re.compile(
    r"^Files: \*/site-packages/(?P<name>\w+)-\*\.dist-info/\*\n(?:.+\n)*?License: (?P<license>.+)$", re.M
)


def main(report: pathlib.Path) -> None:
    """Print the document."""
    installed = json.loads(report.read_text(encoding="utf-8"))["install"]
    print(json.dumps(document(installed, licenses((ROOT / "debian/copyright").read_text(encoding="utf-8"))), indent=2))


def licenses(copyright_file: str) -> dict[str, str]:
    """Return the SPDX expression of each wheel that debian/copyright names, by normalized name."""
    return {
        _normalized(wheel["name"]): wheel["license"].replace(" or ", " OR ").replace(" and ", " AND ")
        for wheel in _WHEEL.finditer(copyright_file)
    }


def document(installed: list[dict[str, Any]], license_of: dict[str, str]) -> dict[str, Any]:
    """Return the bill of materials of the wheels in a report of pip; ValueError names one without a license."""
    components = sorted((_component(wheel, license_of) for wheel in installed), key=lambda entry: str(entry["name"]))
    package = {"type": "application", "name": "celery-docker", "version": VERSION, "licenses": _licenses(OWN_LICENSE)}
    return {
        "$schema": "http://cyclonedx.org/schema/bom-1.6.schema.json",
        "bomFormat": "CycloneDX",
        "specVersion": "1.6",
        "version": 1,
        "metadata": {"component": package},
        "components": components,
    }


def _component(wheel: dict[str, Any], license_of: dict[str, str]) -> dict[str, Any]:
    name, version = _normalized(wheel["metadata"]["name"]), wheel["metadata"]["version"]
    if name not in license_of:
        raise ValueError(f"{name} {version} has no license: add a paragraph for its files to debian/copyright")
    digest = wheel["download_info"]["archive_info"]["hash"].removeprefix("sha256=")
    purl = f"pkg:pypi/{name}@{version}"
    return {
        "type": "library",
        "bom-ref": purl,
        "name": name,
        "version": version,
        "hashes": [{"alg": "SHA-256", "content": digest}],
        "licenses": _licenses(license_of[name]),
        "purl": purl,
    }


def _licenses(expression: str) -> list[dict[str, Any]]:
    return [{"expression": expression}] if " " in expression else [{"license": {"id": expression}}]


def _normalized(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


if __name__ == "__main__":
    try:
        main(pathlib.Path(sys.argv[1]))
    except ValueError as exc:
        sys.exit(f"sbom.py: {exc}")
