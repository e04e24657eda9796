"""The bytecode that an installation makes: whole, or none and a line that says why."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
LIMIT_BYTES = 20_000


def _compile(folder: Path, *, limit_bytes: int | str = "unlimited") -> subprocess.CompletedProcess[str]:
    """Run postinst's program; a file takes no byte beyond the limit, as on a disk that becomes full within it."""
    match = re.search(r"<<'EOF'\n(.*?)^EOF$", (ROOT / "debian/celery-docker.postinst").read_text(), re.M | re.S)
    assert match
    command = ["prlimit", f"--fsize={limit_bytes}", sys.executable, "-I", "-c", match[1], str(folder)]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)


def test_bytecode_of_which_a_full_disk_took_a_part_is_no_bytecode(tmp_path: Path) -> None:
    """Python 3.11 takes the part for the whole, and each start of the worker would fail."""
    source = tmp_path / "module.py"
    source.write_text("".join(f"name{number} = {number * 7919}\n" for number in range(2000)))
    code = tmp_path / f"__pycache__/module.{sys.implementation.cache_tag}.pyc"
    process = _compile(tmp_path, limit_bytes=LIMIT_BYTES)
    assert process.returncode == 1
    reason = rf"celery-docker: cannot write bytecode below {tmp_path}: [A-Z].*; mend that, such as by making room"
    assert re.fullmatch(rf"{reason}, then: dpkg --configure -a\n", process.stderr)
    assert not code.exists()
    assert _compile(tmp_path).returncode == 0
    assert code.stat().st_size > LIMIT_BYTES
