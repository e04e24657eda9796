"""The submitter of a job, as somebody attests whom the submitter cannot fool. Pure."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Identity:
    """A submitter, as the kernel or a token attests it."""

    name: str
    uid: int
    gid: int
    groups: tuple[int, ...]
