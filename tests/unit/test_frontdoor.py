"""The Makefile's helpers and the build's scripts: for root and for anybody, in any checkout."""

from __future__ import annotations

import ast
import os
import shutil
import subprocess
import sys
from pathlib import Path

from changelog import VERSION
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
    assert VERSION in (tmp_path / "pages/man/celery-docker.1").read_text()


def test_who_may_not_install_is_told_what_to_install() -> None:
    """The shell comes from the package dash; the other is in no archive."""
    command = ["sh", "-c", (ROOT / "tests/install-packages").read_text(), "install-packages", "dash", "no-such-package"]
    user = os.geteuid() or 65534
    process = subprocess.run(command, user=user, cwd="/", capture_output=True, text=True, check=False, timeout=20)
    assert process.returncode == 1
    assert process.stderr == "missing here: no-such-package; install them first: sudo apt-get install no-such-package\n"
