"""The parts of the Snakemake plugin that need no Snakemake."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

FOLDER = Path(__file__).parents[3] / "docs/snakemake"


def load(name: str) -> ModuleType:
    """Return a module of the plugin by itself: the whole can only be imported where Snakemake is installed."""
    path = FOLDER / f"snakemake_executor_plugin_celery_docker/{name}.py"
    spec = importlib.util.spec_from_file_location(f"plugin_{name}", path)
    assert spec is not None
    assert spec.loader is not None
    module = sys.modules[spec.name] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
