"""The job as flags describe it: the text of each becomes what a job document says.

Pure; the table of the flags is that of the fields, in `jobspec`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from celery_docker.core import jobfields, jobspec, kinds

_BY_FLAG = {key: line for line in jobfields.DOCUMENT for key in (line.name, *line.flags)}


def document(flags: Mapping[str, str | Sequence[str] | bool | None]) -> dict[str, Any]:
    """Return the job document, JSON-ready, that flags describe; what is None or an absent switch is left out.

    Keys are flags (`--memory`) or names of fields (`memory`, which is what stands for a place on the command line too).
    Whatever is missing or contradicts itself is for `jobspec.parse_document` to say. Raises `SpecError` with one line
    that names each bad flag, its value and what is allowed.
    """
    fields: dict[str, Any] = {}
    problems = []
    for key, value in flags.items():
        line = _BY_FLAG.get(key)
        if line is None:
            problems.append(f"{kinds.shown(key)} is not an option")
        elif line.name in fields:
            problems.append(f"{line.flag}: was given twice, under two names")
        else:
            fields |= _of_flag(line, key, value, problems)
    jobspec.refuse(problems)
    return fields


def _of_flag(line: jobfields.Field, key: str, text: Any, problems: list[str]) -> dict[str, Any]:
    """Return the field that a flag sets, empty if it is not given; a problem is added to `problems`."""
    if text is None or (text is False and key.startswith("-")):
        return {}
    try:
        value = line.parse(_json_value(line, key, text))
    except ValueError as exc:
        problems.append(line.complaint(line.flag, text, exc))
        return {}
    return {} if value is None else {line.name: jobspec.json_ready(value)}


def _json_value(line: jobfields.Field, key: str, value: Any) -> Any:
    """Return the JSON value that a flag stands for."""
    if value is True and key.startswith("-"):
        return value if line.const is None else line.const
    if line.repeated:
        entries = [value] if isinstance(value, str) else value
        return [line.from_text(entry) if isinstance(entry, str) else entry for entry in entries]
    return line.from_text(value) if isinstance(value, str) else value
