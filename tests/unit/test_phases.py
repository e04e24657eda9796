"""`make test` runs every test, and each once; some once more with another Docker."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests import phases

FILES = sorted(path.relative_to(phases.ROOT) for path in (phases.ROOT / "tests").rglob("test_*.py"))


def phases_of(file: Path) -> Iterator[str]:
    for name, arguments in phases.PHASES.items():
        ignored = [argument.removeprefix("--ignore=") for argument in arguments if argument.startswith("--ignore=")]
        is_again = any(argument.startswith("--docker=") for argument in arguments)
        taken = [argument for argument in arguments if not argument.startswith("-") and not is_again]
        if any(map(file.is_relative_to, taken)) and not any(map(file.is_relative_to, ignored)):
            yield name


@pytest.mark.parametrize("file", FILES, ids=str)
def test_a_file_of_tests_is_in_one_phase(file: Path) -> None:
    """Or in two that share out its tests by a word."""
    names = list(phases_of(file))
    arguments = [argument for name in names for argument in phases.PHASES[name]]
    words = sorted(argument.removeprefix("-k") for argument in arguments if argument.startswith("-k"))
    assert len(names) == (2 if words else 1)
    assert words == [f"not {word}" for word in words[1:]] + words[1:]


def test_a_phase_takes_what_is_there() -> None:
    """pytest would end a phase whose file is gone, or one of its tests."""
    named = {argument.removeprefix("--ignore=") for arguments in phases.PHASES.values() for argument in arguments}
    paths = {argument.partition("::")[0] for argument in named if not argument.startswith("-")}
    assert [path for path in paths if not (phases.ROOT / path).exists()] == []
    tests = [argument.split("::") for argument in named if "::" in argument]
    assert [name for path, name in tests if f"def {name}(" not in (phases.ROOT / path).read_text()] == []


def test_the_integration_tests_are_shared_out_evenly() -> None:
    """And a file that was renamed is not still called slow."""
    names = [file.stem.removeprefix("test_") for file in FILES if file.is_relative_to("tests/integration")]
    assert [name for name in phases._SLOW if name not in names] == []
    counts = [len(files) for name, files in phases.PHASES.items() if name.startswith("integration-")]
    assert max(counts) < 2 * min(counts)
