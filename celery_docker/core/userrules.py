"""The users that a rule allows: by name, by number, as a range of numbers, or anybody. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass

from celery_docker.core import kinds

ANY = "*"
# Whoever has submitted the job, which only a signature tells.
SELF = "self"
_RANGE = re.compile(r"([0-9]+)-([0-9]+)", re.ASCII)
_NUMBERS = re.compile(r"[0-9]+(:[0-9]+)?", re.ASCII)


def check(rule: str) -> None:
    """Raise `ValueError` for a rule that can be meant for no user; its words go on after the rule."""
    if rule == ANY or any(character.isalpha() or character == "_" for character in rule):
        return  # A name may have a hyphen, as www-data has.
    bounds = _RANGE.fullmatch(rule)
    if not bounds and not _NUMBERS.fullmatch(rule):
        raise ValueError(f"must be a name, a uid, uid:gid, a range of uids like '1000-59999', or {ANY!r}")
    if any(_number(digits) > kinds.MAX_ID for digits in re.split("[:-]", rule)):
        raise ValueError(f"must have numbers from 0 to {kinds.MAX_ID}")
    if bounds and _number(bounds[1]) > _number(bounds[2]):
        raise ValueError("must begin with the lower number")


def check_group(rule: str) -> None:
    """Raise `ValueError` for a rule that can be meant for no group, like `check`."""
    if ":" in rule:
        raise ValueError("must be one group")
    try:
        check(rule)
    except ValueError as exc:
        raise ValueError(
            str(exc).replace("a uid, uid:gid, a range of uids like", "a gid, a range of gids like")
        ) from exc


@dataclass(frozen=True)
class Asked:
    """The user that a job asks for: as submitted, the number and the name on this host (empty: none).

    `has_own_group`: no other group than the user's own is asked for. `is_self`: it is the job's submitter.
    """

    user: str
    uid: str | None
    name: str = ""
    has_own_group: bool = False
    is_self: bool = False


def allow(rules: Iterable[str], asked: Asked) -> bool:
    """Return True if a rule allows the user of a job.

    One with another group than the user's own is allowed by a rule of exactly these words only: gid 0, or Docker's,
    would open the host's folders to the job.
    """
    is_own = asked.has_own_group or ":" not in asked.user
    return any(
        asked.is_self if rule == SELF else rule == asked.user or (is_own and _covers(rule, asked)) for rule in rules
    )


def _covers(rule: str, asked: Asked) -> bool:
    if rule == asked.name:
        return True
    if asked.uid is None:
        return False
    bounds = _RANGE.fullmatch(rule)
    if bounds:
        return _number(bounds[1]) <= _number(asked.uid) <= _number(bounds[2])
    return rule.isascii() and rule.isdigit() and _number(rule) == _number(asked.uid)


def _number(digits: str) -> int:
    """Return the number; of thousands of digits, which Python would refuse to read, the first do."""
    return int(digits[:1000])
