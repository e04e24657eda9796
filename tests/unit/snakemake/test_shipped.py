"""The folder as the package ships it."""

from __future__ import annotations

import ast
import os
import re

from tests.unit.snakemake import FOLDER

PLUGIN = FOLDER / "snakemake_executor_plugin_celery_docker"


def test_the_scripts_can_be_run() -> None:
    assert all(os.access(FOLDER / name, os.X_OK) for name in ("submit", "status", "cancel"))


def test_the_readme_lists_the_settings() -> None:
    """Those of the class that Snakemake makes its options of."""
    tree = ast.parse((PLUGIN / "__init__.py").read_text())
    (table,) = (node for node in tree.body if isinstance(node, ast.ClassDef) and node.name == "ExecutorSettings")
    names = [
        node.target.id for node in table.body if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name)
    ]
    listed = re.findall(r"(?m)^\| `--celery-docker-([a-z]+)` \|", (FOLDER / "README.md").read_text())
    assert sorted(listed) == sorted(names)
    assert names


def test_the_plugin_needs_nothing_that_snakemake_does_not_have() -> None:
    """It runs in the environment of the user's Snakemake."""
    for path in PLUGIN.glob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            modules = [node.module or ""] if isinstance(node, ast.ImportFrom) and not node.level else []
            modules += [name.name for name in node.names] if isinstance(node, ast.Import) else []
            for module in modules:
                assert module.startswith("snakemake_interface_") or module.partition(".")[0] in STDLIB, (path, module)


STDLIB = frozenset(__import__("sys").stdlib_module_names)
