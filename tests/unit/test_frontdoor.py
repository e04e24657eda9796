"""The Makefile's helpers and the build's scripts: for root and for anybody, in any checkout."""

from __future__ import annotations

import ast
import os
import subprocess
import sys
from pathlib import Path

import pytest

from changelog import VERSION

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
    library = tmp_path / "library/debian"
    library.mkdir(parents=True)
    library.joinpath("__init__.py").write_text("")
    command = [sys.executable, "-B", str(ROOT / "debian/pages.py"), str(tmp_path / "pages")]
    subprocess.run(command, check=True, timeout=20, env={"PYTHONPATH": str(library.parent)})
    assert VERSION in (tmp_path / "pages/man/celery-docker.1").read_text()


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A folder with a blank in its path, of somebody who is not root, in which root has run make."""
    if os.geteuid() != 0:
        pytest.skip("only root can make files of others")
    folder = tmp_path / "a checkout"
    (folder / "build/venv").mkdir(parents=True)
    (folder / "build/venv/file").touch()
    (folder / "build/link").symlink_to("/etc/passwd")
    (folder / "Makefile").touch()
    for path in (folder, folder / "Makefile", folder / "build"):
        os.chown(path, 65534, 65534)
    for path in (*folder.parents[:3],):
        path.chmod(0o755)
    return folder


def helper(name: str, *args: str, folder: Path, user: int = 0) -> subprocess.CompletedProcess[str]:
    """Run one of the Makefile's helpers in a folder."""
    script = (ROOT / "tests" / name).read_text()
    command = ["sh", "-c", script, name, *args]
    return subprocess.run(command, cwd=folder, user=user, capture_output=True, text=True, check=False, timeout=20)


def test_who_is_not_root_is_told_what_of_root_is_in_the_way(checkout: Path) -> None:
    done = helper("make-writable", "build", folder=checkout, user=65534)
    assert done.returncode == 1
    assert done.stderr.startswith("build/")
    assert done.stderr.endswith("remove it first: sudo make clean\n")
    assert done.stderr.count("\n") == 1


def test_what_root_has_made_is_handed_over_to_the_owner_of_the_checkout(checkout: Path) -> None:
    before = os.stat("/etc/passwd").st_uid
    assert helper("hand-over", folder=checkout).returncode == 0
    assert {path.lstat().st_uid for path in checkout.rglob("*")} == {65534}
    assert os.stat("/etc/passwd").st_uid == before
    assert helper("make-writable", "build", folder=checkout, user=65534).returncode == 0


def test_who_may_not_install_is_told_what_to_install(tmp_path: Path) -> None:
    """The shell comes from the package dash; the other is in no archive."""
    user = 65534 if os.geteuid() == 0 else os.geteuid()
    done = helper("install-packages", "dash", "no-such-package", folder=Path("/"), user=user)
    assert done.returncode == 1
    assert done.stderr == "missing here: no-such-package; install them first: sudo apt-get install no-such-package\n"
