"""Tokens: the text of their file, damaged in every way, and what is found in it."""

from __future__ import annotations

import hashlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from celery_docker.core import tokens
from celery_docker.core.access import Right
from celery_docker.core.tokens import Token

SECRETS = ("a" * 43, "b" * 43, "c" * 43)
A, B = (
    Token("alice", frozenset({Right.READ, Right.SUBMIT}), tokens.digest(SECRETS[0]), "her laptop"),
    Token("bob", frozenset({Right.ADMIN}), tokens.digest(SECRETS[1])),
)
FILE = tokens.added(tokens.added(b"", A), B)


def test_a_file_of_tokens() -> None:
    assert tokens.parse(FILE).tokens == (A, B)
    assert tokens.parse(FILE).problems == ()
    lines = FILE.decode().splitlines()
    assert lines[0].startswith("# ")
    assert lines[1:] == [
        f"alice read,submit {hashlib.sha256(b'a' * 43).hexdigest()} her laptop",
        f"bob admin {hashlib.sha256(b'b' * 43).hexdigest()}",
    ]
    assert not any(secret.encode() in FILE for secret in SECRETS)


def test_a_token_is_found_by_all_of_it() -> None:
    known = tokens.parse(FILE)
    assert (known.find(SECRETS[0]), known.find(SECRETS[1]), known.find(SECRETS[2])) == (A, B, None)
    # The hash lies where others may read it: it is no token.
    for text in (
        "",
        SECRETS[0][:-1],
        f"{SECRETS[0]}\n",
        f"{SECRETS[0]}\0",
        "a" * 42 + "\xe4",
        A.digest,
        "\udcff",
        A.id,
    ):
        assert known.find(text) is None


@pytest.mark.parametrize(
    ("line", "words"),
    [
        (b"alice", "is not an account, rights, a hash of 64 hexadecimal digits, and perhaps a label"),
        (b"alice read " + b"a" * 63, "is not an account"),
        (b"alice read " + b"A" * 64, "is not an account"),
        (b"alice  read " + b"a" * 64, "is not an account"),
        (b"alice read " + b"a" * 64 + b"x", "is not an account"),
        (b"alice read " + b"a" * 64 + b" a\tb", "is not an account"),
        (b"alice read " + b"a" * 64 + b" " + b"x" * 61, "is not an account"),
        (b"al\0ice read " + b"a" * 64, "is not an account"),
        (
            b"alice read,fly " + b"a" * 64,
            "has the rights 'read,fly', which must be some of read, submit, cancel, admin",
        ),
        (b"alice read, " + b"a" * 64, "has the rights 'read,', which must be"),
        (b"alice \xff " + b"a" * 64, "is not UTF-8"),
        (b"mallory admin " + A.digest.encode(), "is a token that stands above it already"),
    ],
)
def test_a_broken_line_takes_nothing_from_the_others(line: bytes, words: str) -> None:
    known = tokens.parse(FILE.replace(b"bob", line + b"\nbob"))
    assert known.tokens == (A, B)
    (problem,) = known.problems
    assert problem.startswith(f"line 3 {words}")
    assert problem.endswith("; it does not count, remove it")
    assert "a" * 20 not in problem
    # A command that changes the file leaves it to the administrator.
    assert (line in tokens.removed(FILE + line + b"\n", [A.id])) == (A.digest.encode() not in line)


def test_a_file_that_was_cut_off_or_comes_from_elsewhere() -> None:
    assert tokens.parse(FILE[:-1]).tokens == (A, B)
    assert tokens.parse(FILE[:-2]).tokens == (A,)
    assert tokens.parse(FILE.replace(b"\n", b"\r\n")).tokens == (A, B)
    assert tokens.parse(tokens.added(FILE[:-1], A)).problems[0].startswith("line 4 is a token that stands above")
    assert tokens.parse(b"").tokens == ()


def test_what_is_removed() -> None:
    assert tokens.parse(tokens.removed(FILE, [A.id])).tokens == (B,)
    assert tokens.removed(FILE, []) == FILE
    by_hand = FILE.replace(b"read,submit", b"submit,read").replace(b"\n", b"\r\n")
    assert tokens.parse(tokens.removed(by_hand, [A.id])).tokens == (B,)


@given(st.binary(max_size=300), st.binary(max_size=300))
def test_any_bytes_leave_what_can_be_read(before: bytes, after: bytes) -> None:
    text = before.replace(A.id.encode(), b"") + b"\n" + f"{A.line()}\n".encode() + after
    assert A in tokens.parse(text).tokens
    assert A not in tokens.parse(tokens.removed(text, [A.id])).tokens


@pytest.mark.parametrize("text", ["", "READ", "read,,submit", "read submit", " read", "root", "admin,"])
def test_rights_that_there_are_not(text: str) -> None:
    with pytest.raises(ValueError, match="must be some of read, submit, cancel, admin, with commas"):
        tokens.parse_rights(text)


@pytest.mark.parametrize("text", ["", "#a", "a b", "a\n", "a\0b", "a" * 257, "a\u2028b"])
def test_what_is_no_account_and_no_label(text: str) -> None:
    with pytest.raises(ValueError, match="must be the name of an account"):
        tokens.parse_account(text)
    if text not in ("#a", "a b"):
        with pytest.raises(ValueError, match="must be 1 to 60 printable characters"):
            tokens.parse_label(text)
    assert not tokens.is_token(text)
