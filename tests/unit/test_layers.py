"""The import rules of the package: a folder may import what stands below it, and each library has one importer."""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import celery_docker

FOLDER = Path(celery_docker.__file__).parent

# What each folder may import of ours, besides itself; modules in no folder go by their own name.
MAY_IMPORT = {
    "errors": set(),
    "version": set(),
    "core": {"errors"},
    "store": {"errors", "core"},
    "engine": {"errors", "core"},
    "host": {"errors", "core"},
    "run": {"errors", "core", "host"},
    "opener": {"errors", "core", "host"},
    "background": {"errors", "version", "core", "host", "run"},
    "worker": {"errors", "core", "store", "engine", "host", "run", "background"},
    "client": {"errors", "core", "host", "store"},
    "gateway": {"errors", "version", "core", "host", "store", "client"},
    "doctor": {"errors", "core", "store", "engine", "host"},
    "cli": {"errors", "version", "core", "host", "store", "client", "doctor"},
    "__init__": {"core", "client"},
}
# Who may import which library that is not ours.
OWNERS = {
    "docker": {"engine.credentials"},
    "redis": {"store.redislink"},
    "celery": {"worker"},
    "kombu": {"worker.transport"},
    "prometheus_client": {"client.exposition"},
    "waitress": {"gateway.webserver"},
    # Celery's command line is made with it; its complaints about options are the administrator's to read.
    "click": {"worker.options"},
}
PURE = {
    *(
        "__future__",
        "base64",
        "binascii",
        "bz2",
        "collections",
        "csv",
        "dataclasses",
        "datetime",
        "email",
        "enum",
        "fnmatch",
        "hashlib",
        "hmac",
        "ipaddress",
        "json",
    ),
    *(
        "lzma",
        "math",
        "pathlib",
        "re",
        "shlex",
        "signal",
        "textwrap",
        "tomllib",
        "typing",
        "unicodedata",
        "urllib",
        "zlib",
    ),
}
IMPURE_CALLS = {
    *("now", "today", "utcnow", "raise_signal", "alarm", "setitimer", "open", "print", "input", "getenv"),
}

MODULES = {
    ".".join(path.relative_to(FOLDER).with_suffix("").parts): ast.parse(path.read_text())
    for path in FOLDER.rglob("*.py")
    if path.name != "__init__.py" or path.parent == FOLDER
}


def _imports(module: str) -> Iterator[str]:
    for node in ast.walk(MODULES[module]):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "imports are absolute, so that a reader and this test see where they lead"
            names = [f"{node.module}.{alias.name}" for alias in node.names]
            yield from (name if name.removeprefix("celery_docker.") in MODULES else node.module or "" for name in names)


def _ours(module: str) -> set[str]:
    return {name.removeprefix("celery_docker.") for name in _imports(module) if name.startswith("celery_docker.")}


def _is_in(module: str, places: set[str]) -> bool:
    return any(module == place or module.startswith(f"{place}.") for place in places)


@pytest.mark.parametrize("module", MODULES)
def test_imports_point_down(module: str) -> None:
    folder = module.partition(".")[0]
    up = {name for name in _ours(module) if not _is_in(name, MAY_IMPORT[folder] | {folder})}
    assert not up, f"{module} imports {up}, which {folder} may not"


def test_no_circle() -> None:
    unsorted = {module: _ours(module) & MODULES.keys() for module in MODULES}
    while free := {module for module, needs in unsorted.items() if not needs & unsorted.keys()}:
        unsorted = {module: needs for module, needs in unsorted.items() if module not in free}
    assert not unsorted, f"these import each other in a circle, or lie on the way to one: {sorted(unsorted)}"


@pytest.mark.parametrize("module", MODULES)
def test_a_library_is_imported_only_by_its_owner(module: str) -> None:
    foreign = {name.partition(".")[0] for name in _imports(module)} - sys.stdlib_module_names - {"celery_docker"}
    trespassing = {library for library in foreign if not _is_in(module, OWNERS.get(library, set()))}
    assert not trespassing, f"{module} imports {trespassing}"


@pytest.mark.parametrize(
    "module",
    [name for name in MODULES if name.startswith("core.") or "Pure." in (ast.get_docstring(MODULES[name]) or "")],
)
def test_what_is_pure_asks_neither_the_clock_nor_the_system(module: str) -> None:
    """All of `core`, and every module that says of itself that it is pure."""
    impure = {name for name in _imports(module) if name.partition(".")[0] not in PURE | {"celery_docker"}}
    called = {
        node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
        for node in ast.walk(MODULES[module])
        if isinstance(node, ast.Call)
    }
    assert not impure | called & IMPURE_CALLS
