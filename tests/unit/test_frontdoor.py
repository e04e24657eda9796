"""The Makefile's helpers and the build's scripts: for root and for anybody, in any checkout."""

from __future__ import annotations

import ast
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import changelog
from tests.conftest import require

ROOT = Path(__file__).parents[2]
PROGRAMS = sorted(
    path for folder in ("bench", "celery_docker", "debian", "tests") for path in (ROOT / folder).rglob("*.py")
)


def test_nothing_imports_from_the_folder_debian() -> None:
    """Where python3-debian is installed, as on every standard Debian, `import debian` means that library."""
    imported: set[str] = set()
    for node in (node for program in PROGRAMS for node in ast.walk(ast.parse(program.read_text()))):
        if isinstance(node, ast.Import):
            imported.update(alias.name.partition(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            imported.add((node.module or "").partition(".")[0])
    assert "celery_docker" in imported
    assert "debian" not in imported
    assert "attr: debian" not in (ROOT / "setup.cfg").read_text()


def test_pages_are_written_where_debians_own_library_is_installed(tmp_path: Path) -> None:
    require("man", "" if shutil.which("rst2man") else "rst2man (python3-docutils) is not installed")
    library = tmp_path / "library/debian"
    library.mkdir(parents=True)
    library.joinpath("__init__.py").write_text("")
    command = [sys.executable, "-B", str(ROOT / "debian/pages.py"), str(tmp_path / "pages")]
    subprocess.run(command, check=True, timeout=20, env={"PYTHONPATH": str(library.parent)})
    assert changelog.VERSION in (tmp_path / "pages/man/celery-docker.1").read_text()


def test_who_may_not_install_is_told_what_to_install() -> None:
    """The shell comes from the package dash; the other is in no archive."""
    command = ["sh", "-c", (ROOT / "tests/install-packages").read_text(), "install-packages", "dash", "no-such-package"]
    user = os.geteuid() or 65534
    process = subprocess.run(command, user=user, cwd="/", capture_output=True, text=True, check=False, timeout=20)
    assert process.returncode == 1
    assert process.stderr == "missing here: no-such-package; install them first: sudo apt-get install no-such-package\n"


def test_a_release_of_debian_is_no_part_of_the_programs_version() -> None:
    for packaged, expected in {"0.2.0+deb12u1": "0.2.0", "0.3.0~rc1+deb13u1": "0.3.0rc1"}.items():
        assert changelog.parse(f"celery-docker ({packaged}) bookworm; urgency=medium\n") == expected


@pytest.mark.parametrize("release", ["", "+deb12u1"], ids=["in a checkout", "in the copy of a build"])
def test_the_readme_installs_the_packages_that_are_built(tmp_path: Path, release: str) -> None:
    (tmp_path / "debian").mkdir()
    entries = re.sub(r"\(([^)+]*)[^)]*", rf"(\g<1>{release}", changelog.CHANGELOG.read_text(), count=1)
    (tmp_path / "debian/changelog").write_text(entries)
    shutil.copy(ROOT / "Makefile", tmp_path)
    command = ["make", "--no-print-directory", "--dry-run", "deb-all"]
    lines = subprocess.run(
        command, cwd=tmp_path, capture_output=True, text=True, check=True, timeout=20
    ).stdout.splitlines()
    built = [Path(word).name for word in lines[-1].split() if word.endswith(".deb")]
    files = re.findall(r"celery-docker_\S+\.deb", (ROOT / "README.md").read_text())
    assert files
    assert {name for name in files if name not in built} == set()


def test_the_source_package_holds_what_a_build_takes_and_nothing_that_was_built(tmp_path: Path) -> None:
    require("man", "" if shutil.which("dpkg-source") and shutil.which("dh_clean") else "debhelper is not installed")
    command = ["make", "--no-print-directory", "--always-make", f"BUILD={tmp_path}/build", "source"]
    environ = {name: value for name, value in os.environ.items() if not name.startswith("MAKE")}
    made = subprocess.run(command, cwd=ROOT, env=environ, capture_output=True, text=True, check=True, timeout=120)
    dsc = made.stdout.splitlines()[-1]
    subprocess.run(["dpkg-source", "--extract", dsc, str(tmp_path / "unpacked")], capture_output=True, check=True)
    unpacked = {path.relative_to(tmp_path / "unpacked") for path in (tmp_path / "unpacked").rglob("*")}
    assert {Path("debian/rules"), Path("tests/unit/test_frontdoor.py"), Path("celery_docker/version.py")} <= unpacked
    assert not {path for path in unpacked if path.parts[0] == "build" or path.suffix in {".pyc", ".whl"}}
    assert not unpacked & {Path("debian/celery-docker"), Path("debian/test-venv"), Path("debian/pages")}
