"""The page: its files, as they are in the package. They say nothing of jobs, and so everybody may have them.

Invariant: no other file can be asked for, since a request names none.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from importlib import resources

from celery_docker.gateway.routing import Answer, Request

_FOLDER = "page"


@dataclass(frozen=True)
class PageFile:
    """A file of the page, with the type of its content."""

    content: bytes
    content_type: str

    def answer(self, request: Request) -> Answer:
        """Return the file, or where the browser has it already, that it is the same."""
        tag = f'"{hashlib.sha256(self.content).hexdigest()[:32]}"'
        headers = {"ETag": tag, "Cache-Control": "no-cache"}
        has_it = tag in request.headers.if_none_match
        return Answer(b"" if has_it else self.content, 304 if has_it else 200, self.content_type, headers)


def file(name: str, content_type: str) -> PageFile:
    """Return a file of the package."""
    content = resources.files("celery_docker.gateway").joinpath(_FOLDER, name).read_bytes()
    return PageFile(content, f"{content_type}; charset=utf-8")
