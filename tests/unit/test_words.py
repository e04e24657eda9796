"""Plain words of the package: docstrings begin with a verb or a noun, and names say what they hold; pages are short."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import celery_docker

FOLDER = Path(celery_docker.__file__).parent
NODES = [
    (f"{path.relative_to(FOLDER.parent)}:{getattr(node, 'lineno', 1)}", node)
    for path in sorted(FOLDER.rglob("*.py"))
    for node in ast.walk(ast.parse(path.read_text()))
]
PRONOUNS = {"what", "whatever", "which", "whether", "who", "whoever", "whom", "whose", "how"}
VAGUE = {"found", "said", "told", "one", "left", "known", "meant"}


def _docstrings() -> Iterator[tuple[str, str]]:
    for place, node in NODES:
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            text = ast.get_docstring(node)
            if text:
                yield place, text


def _names() -> Iterator[tuple[str, str]]:
    """Yield place and name of all that the package binds: variables, parameters, exceptions."""
    for place, node in NODES:
        if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            yield place, node.id
        elif isinstance(node, ast.arg):
            yield place, node.arg
        elif isinstance(node, ast.ExceptHandler) and node.name:
            yield place, node.name


def test_docstrings_begin_with_a_verb_or_a_noun() -> None:
    """Fewer than 3 in 100 begin with a pronoun."""
    docstrings = list(_docstrings())
    unclear = [f"{place}: {text.splitlines()[0]}" for place, text in docstrings if _first_word(text) in PRONOUNS]
    assert len(unclear) < 0.03 * len(docstrings), "begin these with a verb or a noun:\n" + "\n".join(unclear)


def _first_word(text: str) -> str:
    return text.split()[0].strip(",.:;").lower()


def test_names_say_what_they_hold() -> None:
    """Fewer than 5 in 1000 are participles or pronouns that could hold anything."""
    names = list(_names())
    vague = [f"{place}: {name}" for place, name in names if name.strip("_") in VAGUE]
    assert len(vague) < 0.005 * len(names), "name these by what they hold, as in receipt, rows, job_id:\n" + "\n".join(
        vague
    )


def test_the_page_on_the_architecture_is_two_pages_in_print() -> None:
    """Whoever begins reads it whole; what is told elsewhere is pointed to."""
    page = (FOLDER.parent / "docs" / "ARCHITECTURE.md").read_text()
    assert len(page.splitlines()) <= 120
    assert max(map(len, page.splitlines())) <= 120
    assert len(page) < 9_800


def test_no_line_of_the_changelog_is_too_long_for_lintian() -> None:
    lines = (Path(__file__).parents[2] / "debian/changelog").read_text().splitlines()
    assert [line for line in lines if len(line) > 80 and not line.startswith(" -- ")] == []
