"""Who may what through the gateway, and as which user a job runs."""

from __future__ import annotations

import pytest

from celery_docker import errors
from celery_docker.core import access
from celery_docker.core.access import Identity, Right, Rights

CELERY = 990
ROOT = Identity("root", 0, 0, (0,))
ALICE = Identity("alice", 1000, 1000, (1000, 27))
WWW = Identity("www-data", 33, 33, (33,))
MEMBER = Identity("carol", 1001, 1001, (1001, CELERY))
PERSONS = frozenset({Right.READ, Right.SUBMIT, Right.CANCEL})
READS, SUBMITS, ALL = Rights(frozenset({Right.READ})), Rights(PERSONS), Rights(frozenset(Right))


@pytest.mark.parametrize(
    ("identity", "rights"),
    [
        (ROOT, ALL),
        (ALICE, SUBMITS),
        (MEMBER, ALL),
        (Identity("celery", 991, CELERY, ()), ALL),
        (Identity("www-data", 33, 33, (33,)), READS),
        (Identity("zabbix", 999, 999, ()), READS),
        (Identity("nobody", 65534, 65534, ()), READS),
        (Identity("4000000", 4_000_000, 4_000_000, ()), SUBMITS),
        # Group root is no right: the kernel gives it to nobody by itself, and containers have it.
        (Identity("dave", 1002, 0, (0,)), SUBMITS),
    ],
)
def test_rights(identity: Identity, rights: Rights) -> None:
    assert access.rights_of(identity, CELERY) == rights


def test_without_the_group_root_alone_may_everything() -> None:
    assert access.rights_of(MEMBER, None) == SUBMITS
    assert access.rights_of(ROOT, None) == ALL


def test_who_only_reads_is_told_who_may() -> None:
    access.check(ALICE, SUBMITS, Right.SUBMIT)
    access.check(WWW, READS, Right.READ)
    line = r"^user 'www-data' \(uid 33\) may only read: .*; submit as one of them$"
    for right in (Right.SUBMIT, Right.CANCEL):
        with pytest.raises(errors.NotAllowed, match=line):
            access.check(WWW, READS, right)


@pytest.mark.parametrize(
    ("identity", "granted", "held"),
    [
        (ALICE, {Right.READ}, {Right.READ}),
        (ALICE, {Right.SUBMIT, Right.CANCEL}, {Right.SUBMIT, Right.CANCEL}),
        # No more than it says: not even root's, nor that of a member of group celery.
        (ROOT, {Right.READ, Right.SUBMIT}, {Right.READ, Right.SUBMIT}),
        (MEMBER, {Right.READ}, {Right.READ}),
        # No more than the account may by itself.
        (WWW, {Right.READ, Right.SUBMIT}, {Right.READ}),
        (WWW, {Right.SUBMIT}, set()),
        (Identity("nobody", 65534, 65534, ()), {Right.READ, Right.SUBMIT, Right.CANCEL}, {Right.READ}),
        (ALICE, {Right.ADMIN}, {Right.ADMIN}),
        (WWW, {Right.ADMIN}, {Right.ADMIN}),
    ],
)
def test_rights_of_a_token(identity: Identity, granted: set[Right], held: set[Right]) -> None:
    rights = access.rights_of_token(granted, identity, "0badcafe")
    assert (rights.held, rights.token, rights.may_everything) == (held, "0badcafe", Right.ADMIN in granted)
    assert {right for right in Right if rights.has(right)} == (set(Right) if Right.ADMIN in granted else held)


def test_a_token_that_lacks_a_right_is_named() -> None:
    rights = access.rights_of_token({Right.READ}, ALICE, "0badcafe")
    with pytest.raises(errors.NotAllowed) as caught:
        access.check(ALICE, rights, Right.SUBMIT)
    assert str(caught.value) == (
        "token 0badcafe of 'alice' (uid 1000) lacks the right submit; ask the administrator for one that has it: "
        "celery-docker token add alice --rights submit,..."
    )
    # Here no other token would help.
    with pytest.raises(errors.NotAllowed, match="may only read"):
        access.check(WWW, access.rights_of_token({Right.SUBMIT}, WWW, "0badcafe"), Right.SUBMIT)


def test_a_right_that_an_account_cannot_use_is_not_granted() -> None:
    access.check_grant("alice", 1000, {Right.READ, Right.SUBMIT, Right.CANCEL})
    access.check_grant("root", 0, {Right.SUBMIT})
    access.check_grant("www-data", 33, {Right.READ})
    access.check_grant("www-data", 33, {Right.ADMIN})
    line = r"^'www-data' is the account of a service \(uid 33\), and cannot cancel or submit; name "
    with pytest.raises(errors.UsageError, match=line):
        access.check_grant("www-data", 33, {Right.READ, Right.SUBMIT, Right.CANCEL})


@pytest.mark.parametrize(("owner", "sees"), [("1000", True), ("1001", False), ("0", False), (None, False), ("", False)])
def test_own_jobs_only(owner: str | None, sees: bool) -> None:
    assert access.may_see(ALICE, SUBMITS, owner) is sees
    assert access.may_see(MEMBER, ALL, owner)


@pytest.mark.parametrize("asked", [None, "alice", "1000", "1000:1000", "alice:1000"])
def test_the_job_runs_as_its_submitter(asked: str | None) -> None:
    assert access.job_user(ALICE, SUBMITS, asked) == "1000:1000"


@pytest.mark.parametrize("asked", ["root", "0", "0:0", "bob", "1001", "1000:0", "1000:27", "alice:0", "01000"])
def test_another_user_or_group_is_refused(asked: str) -> None:
    with pytest.raises(errors.NotAllowed) as caught:
        access.job_user(ALICE, SUBMITS, asked)
    line = f"user: '{asked}' is not the submitter: jobs of 'alice' (uid 1000) run as 1000:1000; leave user out"
    assert str(caught.value) == line


def test_who_may_everything_names_any_user_and_is_himself_without() -> None:
    assert access.job_user(ROOT, ALL, "bob") == "bob"
    assert access.job_user(ROOT, ALL, None) == "0:0"
    assert access.job_user(MEMBER, ALL, None) == "1001:1001"
