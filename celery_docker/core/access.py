"""A submitter and his rights: who may see and end a job, and as which user a job runs. Pure.

Invariant: what is decided here rests on what the kernel or a token attests, never on what a document says.
"""

from __future__ import annotations

from collections.abc import Set
from dataclasses import dataclass
from enum import StrEnum

from celery_docker import errors
from celery_docker.core import kinds

# The members of this group may everything, as root may.
ADMINISTRATORS = "celery"
# Below are the accounts of services, such as www-data; the first number of people's on Debian.
FIRST_PERSON = 1000
# What the kernel calls a user whom it has no number for, such as one of another user namespace.
NOBODY = 65534


@dataclass(frozen=True)
class Identity:
    """A submitter, as the kernel or a token attests it."""

    name: str
    uid: int
    gid: int
    groups: tuple[int, ...]


class Right(StrEnum):
    """A right: to see one's own jobs, to submit, to cancel and retry; or all of it, with the jobs of everybody."""

    READ = "read"
    SUBMIT = "submit"
    CANCEL = "cancel"
    ADMIN = "admin"


@dataclass(frozen=True)
class Rights:
    """The rights of a submitter; `token` is the id of the token that grants them, empty without one.

    `until` is the end of the browser's session that stands for the token, None without one.
    """

    held: Set[Right]
    token: str = ""
    until: float | None = None

    @property
    def may_everything(self) -> bool:
        """True for whoever has every right, with the jobs of everybody."""
        return Right.ADMIN in self.held

    def has(self, right: Right) -> bool:
        """Tell whether a right is among them."""
        return right in self.held or self.may_everything


def rights_of(identity: Identity, administrators_gid: int | None) -> Rights:
    """Return what somebody may; `administrators_gid` is the group `celery` on this host, None where there is none."""
    is_member = administrators_gid is not None and administrators_gid in (identity.gid, *identity.groups)
    return Rights(frozenset(Right) if identity.uid == 0 or is_member else _own(identity.uid))


def rights_of_token(granted: Set[Right], identity: Identity, token: str) -> Rights:
    """Return what a token lets its account do: no more than the account may by itself, unless it is an admin's."""
    return Rights(granted if Right.ADMIN in granted else granted & _own(identity.uid), token)


def check_grant(account: str, uid: int, granted: Set[Right]) -> None:
    """Raise `UsageError` where a token would have rights that its account cannot use."""
    useless = sorted(granted - _own(uid)) if Right.ADMIN not in granted else []
    if useless:
        raise errors.UsageError(
            f"{kinds.shown(account)} is the account of a service (uid {uid}), and cannot {' or '.join(useless)}; "
            f"name the account of a person, from uid {FIRST_PERSON} on"
        )


def _own(uid: int) -> Set[Right]:
    """Return the rights that an account has by its number. Everybody may read: his own jobs, and lengths of queues."""
    is_person = uid == 0 or (uid >= FIRST_PERSON and uid != NOBODY)
    return frozenset({Right.READ, Right.SUBMIT, Right.CANCEL} if is_person else {Right.READ})


def check(identity: Identity, rights: Rights, right: Right) -> None:
    """Raise `NotAllowed` for somebody who lacks a right, with who has it."""
    if rights.has(right):
        return
    if rights.token and right in _own(identity.uid):
        raise errors.NotAllowed(
            f"token {rights.token} of {_shown(identity)} lacks the right {right}; ask the administrator for one that "
            f"has it: celery-docker token add {identity.name} --rights {right},..."
        )
    raise errors.NotAllowed(
        f"user {_shown(identity)} may only read: jobs are submitted, cancelled and retried by root, by members of "
        f"group {ADMINISTRATORS}, and by users from uid {FIRST_PERSON} on; submit as one of them"
    )


def may_see(identity: Identity, rights: Rights, owner_uid: str | None) -> bool:
    """Tell whether a job or batch is somebody's business; `owner_uid` is that of its record, None where it has none."""
    return rights.may_everything or owner_uid == str(identity.uid)


def job_user(identity: Identity, rights: Rights, asked: str | None) -> str:
    """Return the user as whom a job runs: the submitter himself, unless he may name another.

    Raises `NotAllowed` for a document that names another user.
    """
    own = f"{identity.uid}:{identity.gid}"
    if asked is None:
        return own
    if rights.may_everything:
        return asked
    if names(identity, asked):
        return own
    raise errors.NotAllowed(
        f"user: {kinds.shown(asked)} is not the submitter: jobs of {_shown(identity)} run as {own}; leave user out"
    )


def names(identity: Identity, asked: str) -> bool:
    """Tell whether the user of a job document is somebody himself, by his name or number."""
    user, _, group = asked.partition(":")
    return user in (identity.name, str(identity.uid)) and group in ("", str(identity.gid))


def _shown(identity: Identity) -> str:
    return f"{kinds.shown(identity.name)} (uid {identity.uid})"
