"""The scripts of a process whose package is replaced while it runs."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import celery_docker

PACKAGE = Path(celery_docker.__file__).parent
PROGRAM = """
import shutil, sys
from celery_docker.store import jobstore, redislink
records = jobstore.connect("redis://127.0.0.1:1/0")
shutil.rmtree(sys.argv[1])
for name in sys.argv[2:]:
    assert redislink.source(name), name
print("all", len(sys.argv) - 2)
"""


def test_a_process_has_every_script_from_its_start(tmp_path: Path) -> None:
    """An upgrade unpacks the new package; until the reload the old process runs on, without its own files."""
    shutil.copytree(PACKAGE, tmp_path / "celery_docker")
    folder = tmp_path / "celery_docker" / "store" / "lua"
    names = sorted(path.stem for path in folder.glob("*.lua"))
    answer = subprocess.run(
        [sys.executable, "-c", PROGRAM, str(folder), *names],
        env={**os.environ, "PYTHONPATH": str(tmp_path)},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert (answer.stdout, answer.stderr) == (f"all {len(names)}\n", "")
    assert {"claim", "finish", "hold", "lose", "bury", "leave", "take"} <= set(names)
