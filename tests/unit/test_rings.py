"""The import rule of the three rings: imports only point inwards, and each library has one importer."""

from __future__ import annotations

import ast
import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

import celery_docker

PACKAGE = "celery_docker"
FOLDER = Path(celery_docker.__file__).parent

CORE = {
    "errors",
    "keys",
    "container",
    "values",
    "sizes",
    "jobspec",
    "policy",
    "lifecycle",
    "plan",
    "settings",
    "message",
    "output",
    "receipt",
    "judgement",
    "rows",
    "batch",
    "exitcodes",
    "tables",
    "progress",
    "listing",
    "clientconf",
    "cli_types",
    "cli_table",
    "cli_help",
    "completion",
    "roff",
    "manual",
    "doctor",
    "facts",
}
ADAPTERS = {
    "engine",
    "enginecalls",
    "enginefault",
    "enginehttp",
    "engineview",
    "cgroup",
    "logstream",
    "store",
    "upkeep",
    "livelog",
    "catalog",
    "redislink",
    "systemd",
    "logfiles",
    "host",
    "hosts",
    "identity",
    "redisfacts",
    "hostfacts",
}
SHELL = {
    "ports",
    "job",
    "patience",
    "attempt",
    "harvest",
    "runner",
    "node",
    "gate",
    "about",
    "health",
    "orphans",
    "recent",
    "broadcast",
    "standby",
    "handles",
    "outages",
    "watching",
    "donemarks",
    "clientfiles",
    "tasks",
    "transport",
    "app",
    "worker",
    "client",
    "newjob",
    "tasks_cli",
    "cli",
    "cli_call",
    "cli_batch",
    "cli_job",
    "cli_last",
    "cli_parse",
    "screen",
    "dryrun",
    "commands_submit",
    "commands_batch",
    "commands_jobs",
    "commands_show",
    "commands_logs",
    "cli_names",
    "cli_show",
    "commands_hosts",
    "commands_queue",
    "commands_doctor",
    "commands_config",
    "drain",
    "membership",
}
RING = dict.fromkeys(CORE, 0) | dict.fromkeys(ADAPTERS, 1) | dict.fromkeys(SHELL, 2)

# An adapter knows the core and nothing else of ours; these are adapters in several files.
PARTS = {
    "engine": {"enginecalls", "enginefault", "enginehttp", "engineview", "cgroup", "logstream"},
    "enginecalls": {"enginefault", "enginehttp"},
    "store": {"redislink"},
    "upkeep": {"redislink"},
    "livelog": {"redislink"},
    "catalog": {"redislink"},
    "hosts": {"redislink"},
    "redisfacts": {"redislink", "catalog"},
    "hostfacts": {"enginehttp"},
}

# Who may import which library that is not ours.
LIBRARIES = {
    "docker": {"engine"},
    "redis": {"redislink"},
    "celery": {"tasks", "app", "worker", "drain"},
    "kombu": {"transport"},
    # Celery's command line is made with it; its complaints about options are the administrator's to read.
    "click": {"worker"},
}

# What the core may import: values, parsers and grammars. `None` means all of it, otherwise these names only.
PURE: dict[str, set[str] | None] = {
    "__future__": None,
    "base64": None,
    "collections": None,
    "collections.abc": None,
    "csv": None,
    "dataclasses": None,
    "datetime": None,
    "enum": None,
    "fnmatch": {"fnmatchcase"},
    "hashlib": None,
    "json": None,
    "math": None,
    "pathlib": {"PurePosixPath"},
    "re": None,
    "shlex": None,
    "signal": None,
    "textwrap": None,
    "tomllib": None,
    "typing": None,
    "unicodedata": None,
    "urllib.parse": None,
}
# Pure modules have impure corners: the clock, and the process's own signals.
IMPURE_NAMES = {"now", "today", "utcnow", "raise_signal", "alarm", "setitimer", "open", "print", "input"}


@dataclass(frozen=True)
class Import:
    """One name that one module imports; `name` is None for a plain `import module`."""

    module: str
    name: str | None

    @property
    def library(self) -> str:
        return self.module.partition(".")[0]

    @property
    def ours(self) -> str | None:
        """The module of this package that is meant, if it is one of ours."""
        if self.library != PACKAGE:
            return None
        return self.module.partition(".")[2] or self.name or "__init__"


def _imports(tree: ast.Module) -> Iterator[Import]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (Import(alias.name, None) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "imports are absolute, so that a reader and this test see where they lead"
            yield from (Import(node.module or "", alias.name) for alias in node.names)


def _tree(module: str) -> ast.Module:
    return ast.parse((FOLDER / f"{module}.py").read_text())


MODULES = sorted(path.relative_to(FOLDER).with_suffix("").as_posix() for path in FOLDER.rglob("*.py"))
LISTED = [module for module in MODULES if module in RING]


def test_every_module_is_in_a_ring() -> None:
    """A new module has to say where it belongs."""
    homeless = [module for module in MODULES if module not in RING and module != "__init__"]
    assert not homeless, f"{homeless}: put each into CORE, ADAPTERS or SHELL at the top of {__file__}"


def test_the_package_itself_imports_nothing() -> None:
    """Importing one module must not load the others; `celery_docker.Client` is loaded when somebody asks for it."""
    script = "import celery_docker, sys; print([name for name in sys.modules if name.startswith('celery_docker.')])"
    assert _printed(script) == "[]"


def test_the_client_library_needs_neither_celery_nor_docker() -> None:
    script = "import sys; from celery_docker import Client; Client('redis://127.0.0.1:1/0').catalog; "
    libraries = ("celery", "kombu", "docker", "click")
    assert _printed(f"{script}print([name for name in {libraries} if name in sys.modules])") == "[]"


def _printed(script: str) -> str:
    """Return what a Python of its own prints."""
    environ = {"PYTHONPATH": str(FOLDER.parent), "PATH": os.environ["PATH"]}
    done = subprocess.run(
        [sys.executable, "-c", script], env=environ, capture_output=True, text=True, timeout=60, check=True
    )
    return done.stdout.strip()


@pytest.mark.parametrize("module", LISTED)
def test_imports_point_inwards(module: str) -> None:
    outwards = {
        one.ours for one in _imports(_tree(module)) if one.ours is not None and RING.get(one.ours, 99) > RING[module]
    }
    assert not outwards, f"{module} imports {outwards}, which lie further out"


@pytest.mark.parametrize("module", sorted(ADAPTERS & set(MODULES)))
def test_an_adapter_imports_no_other_adapter(module: str) -> None:
    others = {one.ours for one in _imports(_tree(module)) if one.ours in ADAPTERS} - PARTS.get(module, set())
    assert not others, f"{module} imports the adapters {others}"


@pytest.mark.parametrize("module", LISTED)
def test_a_library_is_imported_only_by_its_owner(module: str) -> None:
    foreign = {
        one.library
        for one in _imports(_tree(module))
        if one.ours is None and one.library not in sys.stdlib_module_names
    }
    unknown = foreign - LIBRARIES.keys()
    assert not unknown, f"{module} imports {unknown}: name its one importer in LIBRARIES"
    trespassing = {library for library in foreign if module not in LIBRARIES[library]}
    assert not trespassing, f"{module} imports {trespassing}, which only {[LIBRARIES[x] for x in trespassing]} may"


@pytest.mark.parametrize("module", sorted(CORE & set(MODULES)))
def test_the_core_imports_only_what_is_pure(module: str) -> None:
    for one in _imports(_tree(module)):
        if one.ours is not None:
            continue
        assert one.module in PURE, f"{module} imports {one.module}, which is not on the list of pure modules"
        allowed = PURE[one.module]
        assert allowed is None or one.name in allowed, f"{module} may import only {allowed} from {one.module}"


@pytest.mark.parametrize("module", sorted(CORE & set(MODULES)))
def test_the_core_asks_neither_the_clock_nor_the_system(module: str) -> None:
    called = {
        node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
        for node in ast.walk(_tree(module))
        if isinstance(node, ast.Call)
    }
    assert not called & IMPURE_NAMES, f"{module} calls {called & IMPURE_NAMES}"
