"""Values of a job that are lists or tables of texts: their form, their bound and their schema. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

# As many of each as somebody can mean; the kernel and Docker have bounds that they tell at the start only.
MOST_ENTRIES = 64


def pairs(value: Any, separator: str, form: str) -> list[tuple[str, Any]]:
    """Return names and values of a table, or of a list of texts with a separator; the value of a bare name is None.

    Raises `ValueError` that names the `form` of such a text.
    """
    check_number(value)
    if isinstance(value, Mapping) and all(isinstance(name, str) for name in value):
        return list(value.items())
    if isinstance(value, list | tuple) and all(isinstance(item, str) for item in value):
        parts = [item.partition(separator) for item in value]
        return [(name, text if found else None) for name, found, text in parts]
    raise ValueError(f"must be a table, or a list of {form!r}")


def check_number(value: Any) -> None:
    if isinstance(value, list | tuple | Mapping) and len(value) > MOST_ENTRIES:
        raise ValueError(f"has {len(value):,} entries; {MOST_ENTRIES} are the most")


def texts(value: Any, form: str) -> list[str]:
    check_number(value)
    if not isinstance(value, list | tuple) or not all(isinstance(item, str) for item in value):
        raise ValueError(f"must be a list like {[form]!r}")
    return list(value)


def table(names: Mapping[str, Any], item: str) -> Mapping[str, Any]:
    """Return the schema of a table of values, or of a list of texts."""
    return {
        "anyOf": [
            {"type": "object", "maxProperties": MOST_ENTRIES, **names},
            {"type": "array", "maxItems": MOST_ENTRIES, "items": {"type": "string", "pattern": item}},
        ]
    }
