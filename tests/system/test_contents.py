"""The files of the package, as they are in the .deb."""

from __future__ import annotations

import fnmatch
import json
import re
import subprocess
from pathlib import Path

import pytest

DOC = Path("usr/share/doc/celery-docker")


@pytest.fixture(scope="module")
def contents(package: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with all that the package unpacks."""
    folder = tmp_path_factory.mktemp("contents")
    subprocess.run(["dpkg-deb", "--extract", str(package), str(folder)], check=True, timeout=60)
    return folder


@pytest.fixture
def site_packages(contents: Path) -> Path:
    (folder,) = contents.glob("opt/celery/venv/lib/python3*/site-packages")
    return folder


def test_the_bill_of_materials_lists_the_wheels_that_are_there(contents: Path, site_packages: Path) -> None:
    components = json.loads((contents / DOC / "sbom.cdx.json").read_text())["components"]
    listed = {f"{component['name'].replace('-', '_')}-{component['version']}.dist-info" for component in components}
    present = {path.name for path in site_packages.glob("*.dist-info")}
    assert listed == {name for name in present if not name.startswith("celery_docker-")}


def test_what_snakemake_needs_is_there(contents: Path) -> None:
    """The scripts can be run, and no file of bytecode came along."""
    folder = contents / "usr/share/celery-docker/snakemake"
    assert {path.name for path in folder.iterdir() if path.stat().st_mode & 0o111 and path.is_file()} == {
        *("submit", "status", "cancel"),
    }
    assert (folder / "example/Snakefile").is_file()
    assert {path.name for path in (folder / "snakemake_executor_plugin_celery_docker").iterdir()} == {
        *("__init__.py", "document.py", "gateway.py"),
    }


def test_each_file_of_a_wheel_has_one_license(contents: Path, site_packages: Path) -> None:
    """That of one paragraph of copyright; our own files have that of all files."""
    text = (contents / DOC / "copyright").read_text()
    paragraphs = [block.split() for block in re.findall(r"^Files: (\*/(?:.+\n)+?)Copyright: ", text, re.MULTILINE)]
    files = [str(path.relative_to(contents)) for path in site_packages.rglob("*") if not path.is_dir()]
    owners = {
        file: sum(any(fnmatch.fnmatchcase(file, pattern) for pattern in patterns) for patterns in paragraphs)
        for file in files
    }
    own = {file for file in files if "/site-packages/celery_docker" in file}
    assert own
    assert {file for file, count in owners.items() if count != 1} == own
