"""A submitter and his rights: who may see and end a job, and as which user a job runs. Pure.

Invariant: what is decided here rests on what the kernel or a token attests, never on what a document says.
"""

from __future__ import annotations

from dataclasses import dataclass

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


@dataclass(frozen=True)
class Rights:
    """The rights of a submitter: to submit, cancel and retry, and to do so with the jobs of everybody."""

    may_submit: bool
    may_everything: bool


def rights_of(identity: Identity, administrators_gid: int | None) -> Rights:
    """Return what somebody may; `administrators_gid` is the group `celery` on this host, None where there is none.

    Everybody may read: his own jobs, and how long queues are.
    """
    is_member = administrators_gid is not None and administrators_gid in (identity.gid, *identity.groups)
    may_everything = identity.uid == 0 or is_member
    is_person = identity.uid >= FIRST_PERSON and identity.uid != NOBODY
    return Rights(may_submit=may_everything or is_person, may_everything=may_everything)


def check_submit(identity: Identity, rights: Rights) -> None:
    """Raise `NotAllowed` for somebody who may only read."""
    if not rights.may_submit:
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
    user, _, group = asked.partition(":")
    if user in (identity.name, str(identity.uid)) and group in ("", str(identity.gid)):
        return own
    raise errors.NotAllowed(
        f"user: {kinds.shown(asked)} is not the submitter: jobs of {_shown(identity)} run as {own}; leave user out"
    )


def _shown(identity: Identity) -> str:
    return f"{kinds.shown(identity.name)} (uid {identity.uid})"
