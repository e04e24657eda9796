"""Rules about users: names, numbers and ranges of numbers."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from celery_docker.core import kinds, userrules


@pytest.mark.parametrize(
    "rule",
    ["*", "alice", "www-data", "a-b", "3com-user", "_apt", "0", "1001", "1001:50", "1000-59999", "5-5", "0-2147483647"],
)
def test_a_rule(rule: str) -> None:
    userrules.check(rule)


FORM = "must be a name, a uid, uid:gid, a range of uids like '1000-59999', or '*'"


@pytest.mark.parametrize(
    ("rule", "complaint"),
    [
        ("5-1", "must begin with the lower number"),
        ("-5", FORM),
        ("5-", FORM),
        ("-", FORM),
        ("", FORM),
        ("1-2-3", FORM),
        ("1000 - 59999", FORM),
        ("1000..59999", FORM),
        ("1000\u201359999", FORM),  # the hyphen of a word processor
        ("\u0661-\u0665", FORM),  # digits, but not ours
        ("1000-59999:50", FORM),
        ("1000:50-60", FORM),
        ("**", FORM),
        ("0-2147483648", "must have numbers from 0 to 2147483647"),
        ("4294967295", "must have numbers from 0 to 2147483647"),
        ("5:99999999999", "must have numbers from 0 to 2147483647"),
        ("1-" + "9" * 9999, "must have numbers from 0 to 2147483647"),
    ],
)
def test_a_rule_that_can_be_meant_for_nobody(rule: str, complaint: str) -> None:
    with pytest.raises(ValueError, match=f"^{re.escape(complaint)}$"):
        userrules.check(rule)


@pytest.mark.parametrize(
    ("rule", "user", "uid", "allowed"),
    [
        ("1000-59999", "1000", "1000", True),
        ("1000-59999", "59999", "59999", True),
        ("1000-59999", "999", "999", False),
        ("1000-59999", "60000", "60000", False),
        ("1000-59999", "0", "0", False),
        ("1000-59999", "root", "0", False),
        ("1000-59999", "alice", "1001", True),
        ("1000-59999", "nobody-knows", None, False),
        ("0-0", "root", "0", True),
        # A range says nothing about groups.
        ("1000-59999", "1001:0", "1001", False),
        # The same number, however it is written
        ("1001", "01001", "01001", True),
        ("1001", "alice", "1001", True),
        ("1000-59999", "001001", "001001", True),
        ("10-20", "1", "1", False),
    ],
)
def test_ranges_and_numbers(rule: str, user: str, uid: str | None, allowed: bool) -> None:
    assert userrules.allow([rule], userrules.Asked(user, uid)) is allowed


@pytest.mark.parametrize(("user", "has_own_group"), [("1001", False), ("1001:1001", True), ("alice", False)])
@pytest.mark.parametrize("rule", ["alice", "1001", "1000-59999"])
def test_a_user_with_no_group_but_his_own_is_the_user(rule: str, user: str, has_own_group: bool) -> None:
    """The command line submits a job with the uid and the gid of whoever typed it."""
    assert userrules.allow([rule], userrules.Asked(user, "1001", "alice", has_own_group))
    assert not userrules.allow([rule], userrules.Asked("1001:0", "1001", "alice"))
    assert not userrules.allow([rule], userrules.Asked("alice:0", "1001", "alice"))


def test_a_user_without_a_name_is_nobody_in_particular() -> None:
    assert not userrules.allow(["alice"], userrules.Asked("1001", "1001", ""))


@given(*[st.integers(0, kinds.MAX_ID)] * 3)
def test_a_range_is_all_between_its_ends(low: int, high: int, uid: int) -> None:
    low, high = sorted((low, high))
    userrules.check(f"{low}-{high}")
    assert userrules.allow([f"{low}-{high}"], userrules.Asked(str(uid), str(uid))) is (low <= uid <= high)
