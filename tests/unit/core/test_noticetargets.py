"""Whom a notice may go to: what a job may say, and the file of named targets."""

from __future__ import annotations

import re
from typing import Any

import pytest

from celery_docker.core import noticefile, noticetargets
from celery_docker.core.noticefile import Target

LONG = f"{'a' * 64}@{'b' * 60}.{'c' * 60}.{'d' * 60}.example.org"


@pytest.mark.parametrize(
    "target", ["alice@example.org", "a.b+c_d-e@x", "A1@host-1.example.org", "lab-chat", "pager2", "x" * 64]
)
def test_a_target(target: str) -> None:
    assert noticetargets.TARGETS.parse([target]) == (target,)
    assert re.search(noticetargets.TARGETS.schema["items"]["pattern"], target)


@pytest.mark.parametrize(
    "target",
    [
        *("", "alice@", "@example.org", "a@b@c", "a b@example.org", "alice@example.org\n", "a@b.c\r\nBcc: x@y.z"),
        *("-oQ/tmp@example.org", "-bs", "a@-b", "a@b-", "a@b..c", "a@[127.0.0.1]", "a%b@c", "a!b@c", '"a"@b', "ä@b.c"),
        *("a@exämple.org", "a,b@c", "<a@b.c>", "|/bin/sh@x", "/usr/bin/id", "https://169.254.169.254/", "Lab", "1x"),
        *("x" * 65, LONG, "a@b.c\0", "\u202ea@b.c"),
    ],
)
def test_what_is_no_target(target: str) -> None:
    """Neither a header nor a flag can be made of one, and no job names a URL or a program."""
    with pytest.raises(ValueError, match=r"^must be mail addresses"):
        noticetargets.TARGETS.parse([target])
    schema = noticetargets.TARGETS.schema["items"]
    # A schema's `$` is the end of the text.
    assert len(target) > schema["maxLength"] or not re.search(schema["pattern"].replace("$", r"\Z"), target)


@pytest.mark.parametrize("value", ["alice@example.org", 1, [1], {"a": "b"}, ["a@b.c"] * 9, [["a@b.c"]]])
def test_what_is_no_list_of_targets(value: Any) -> None:
    with pytest.raises(ValueError, match=r"^(must|has)"):
        noticetargets.TARGETS.parse(value)


def test_a_target_is_told_once() -> None:
    assert noticetargets.TARGETS.parse(["a@b.c", "x", "a@b.c"]) == ("a@b.c", "x")
    assert noticetargets.TARGETS.parse([]) is None


@pytest.mark.parametrize(
    ("kwargs", "count"),
    [
        ({}, 0),
        ({"notify": None}, 0),
        ({"notify": ["a@b.c", "x"]}, 2),
        ({"notify": ["a@b.c", "a@b.c"]}, 1),
        ({"notify": "a@b.c"}, 0),
        ({"notify": [7]}, 0),
    ],
)
def test_the_number_of_targets_in_a_message_that_nobody_has_checked(kwargs: dict[str, Any], count: int) -> None:
    assert noticetargets.count_in(kwargs) == count


@pytest.mark.parametrize("rule", ["*@example.org", "alice@example.org", "lab-chat"])
def test_a_rule(rule: str) -> None:
    noticetargets.check_rule(rule)


@pytest.mark.parametrize("rule", ["*", "*@*", "a*@example.org", "*@", "*@*.org", "https://x/*", "/bin/sh", ""])
def test_what_is_no_rule(rule: str) -> None:
    with pytest.raises(ValueError, match=r"^must be"):
        noticetargets.check_rule(rule)


def test_the_file_of_targets() -> None:
    text = """
        lab-chat = "https://chat.example.org:8443/hooks/secret?x=1"
        local = "http://127.0.0.1/"
        pager = ["/usr/local/bin/page", "--team", "a b"]
    """
    assert noticefile.parse(text) == {
        "lab-chat": Target(url="https://chat.example.org:8443/hooks/secret?x=1"),
        "local": Target(url="http://127.0.0.1/"),
        "pager": Target(command=("/usr/local/bin/page", "--team", "a b")),
    }
    assert "secret" not in repr(noticefile.parse(text))


@pytest.mark.parametrize(
    "text",
    [
        *("x", "x =", "Lab = 'http://a/'", "'a@b.c' = 'http://a/'", "x = 1", "x = []", "x = ['page']", "x = [1]"),
        *("x = 'ftp://a/SECRET'", "x = 'http:///SECRET'", "x = 'https://u:SECRET@a/'", "x = 'http://a b/SECRET'"),
        *('x = "http://a/SECRET\\r\\nHost: b"', "x = 'http://a:x/SECRET'", "x = 'http://ä/SECRET'", "x = '/bin/true'"),
        *('x = ["/bin/true", "a\\u0000b"]', "x = {url = 'http://a/SECRET'}", "x = " + "[" * 5000, "x = 'http://[::1'"),
    ],
)
def test_a_bad_file_of_targets(text: str) -> None:
    """Its complaint has no URL in it: it goes to the journal."""
    with pytest.raises(ValueError, match=r"^(is|has|must)") as caught:
        noticefile.parse(text)
    assert "SECRET" not in str(caught.value)
    assert "\n" not in str(caught.value)
