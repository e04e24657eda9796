"""Who may what through the gateway, and as which user a job runs."""

from __future__ import annotations

import pytest

from celery_docker import errors
from celery_docker.core import access
from celery_docker.core.access import Identity, Rights

CELERY = 990
ROOT = Identity("root", 0, 0, (0,))
ALICE = Identity("alice", 1000, 1000, (1000, 27))
MEMBER = Identity("carol", 1001, 1001, (1001, CELERY))
READS, SUBMITS, ALL = Rights(False, False), Rights(True, False), Rights(True, True)


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
    access.check_submit(ALICE, SUBMITS)
    line = r"^user 'www-data' \(uid 33\) may only read: .*; submit as one of them$"
    with pytest.raises(errors.NotAllowed, match=line):
        access.check_submit(Identity("www-data", 33, 33, ()), READS)


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
