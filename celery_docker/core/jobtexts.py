"""The texts that travel with a job: what each may be, and how its container comes to use it.

Pure. Invariant: no complaint has any of such a text in it, since a script may hold passwords.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

from celery_docker.core import kinds, ownfolder, wording

# Every job of a batch has its own copy in Redis, in its record and in its message.
MOST_BYTES = 256 * 1024
# The fields of a job that are such texts.
NAMES = ("script", "stdin")
SHELL = "/bin/sh"
_BOM = "\ufeff"
_NAMES_INTERPRETER = "#!"
_INTERPRETER = re.compile(r"#![ \t]*[^ \t]")
# The kernel looks no further for the name of the interpreter and its argument.
_MOST_FIRST_LINE_BYTES = 255


def entrypoint(script: str) -> tuple[str, ...]:
    """Return the words that run a script in its container: the kernel asks it for its interpreter, else it is sh's."""
    path = ownfolder.path(ownfolder.SCRIPT)
    return (path,) if script.startswith(_NAMES_INTERPRETER) else (SHELL, path)


def with_stdin(words: Sequence[str]) -> list[str]:
    """Return the words that run a command with the job's text as its standard input.

    A shell opens it: what Docker could hand over would be cut where worker or Docker dies in the middle.
    """
    return [SHELL, "-c", f'exec "$@" < {ownfolder.path(ownfolder.STDIN)}', "sh", *words]


def _script(value: Any) -> str:
    """Return the text of a script, without a byte order mark, which would hide its first line."""
    text = _text(value).removeprefix(_BOM)
    if not text:
        raise ValueError("is empty; give the text of a script, such as '#!/bin/sh' and its commands")
    if "\0" in text:
        raise ValueError("has a NUL byte, so it is a program and no script; put it into the image or a mounted folder")
    first_line = text.partition("\n")[0]
    if "\r" in first_line:
        raise ValueError("has lines that end with CR, as Windows writes them: no interpreter is found; save it with LF")
    if first_line.startswith(_NAMES_INTERPRETER):
        _check_interpreter(first_line)
    return text


def _check_interpreter(first_line: str) -> None:
    if not _INTERPRETER.match(first_line):
        raise ValueError("names no interpreter after '#!'; write for instance '#!/bin/sh'")
    if len(first_line.encode()) > _MOST_FIRST_LINE_BYTES:
        raise ValueError(
            f"has a first line of more than {_MOST_FIRST_LINE_BYTES} bytes, of which the kernel reads none"
        )


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise ValueError(f"must be a string, the text itself, not {type(value).__name__}")
    kinds.check_unicode(value)
    if len(value) > MOST_BYTES or len(value.encode()) > MOST_BYTES:
        most = wording.size(MOST_BYTES)
        raise ValueError(f"has more than {most}, which is the most that travels with a job; put it into a mounted file")
    return value


SCRIPT = kinds.Kind("FILE|-", _script, {"type": "string", "minLength": 1, "maxLength": MOST_BYTES}, shown=False)
STDIN = kinds.Kind("FILE|-", _text, {"type": "string", "maxLength": MOST_BYTES}, shown=False)
