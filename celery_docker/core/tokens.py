"""The tokens of users on other hosts: the text of their file, and what a token looks like. Pure.

Invariant: the file has hashes only, and a line that cannot be read takes nothing from the others.
"""

from __future__ import annotations

import hashlib
import hmac
import re
from collections.abc import Iterable, Set
from dataclasses import dataclass

from celery_docker.core import kinds
from celery_docker.core.access import Right

FILE = "/etc/celery-docker/tokens"
# What is drawn for a token, before it is written in 43 characters.
BYTES = 32
MOST_BYTES = 2**20
MOST_LABEL = 60
_TOKEN = re.compile(r"[A-Za-z0-9_-]{43}", re.ASCII)
_LINE = re.compile(r"(\S{1,256}) ([a-z,]{1,60}) ([0-9a-f]{64})(?: (\S.{0,59}))?")
_ID_DIGITS = 8
_HEAD = "# Tokens of celery-docker-api: account, rights, hash, label. See celery-docker token --help\n"


@dataclass(frozen=True)
class Token:
    """A token as its file has it: the account for which it stands, its rights, its hash, and what it is for."""

    account: str
    rights: Set[Right]
    digest: str
    label: str = ""

    @property
    def id(self) -> str:
        """The name by which it is listed and removed: the beginning of its hash."""
        return self.digest[:_ID_DIGITS]

    @property
    def shown_rights(self) -> str:
        """Its rights as they are written."""
        return ",".join(right for right in Right if right in self.rights)

    def line(self) -> str:
        """Return its line in the file."""
        return " ".join(filter(None, (self.account, self.shown_rights, self.digest, self.label)))


@dataclass(frozen=True)
class Tokens:
    """The tokens of a file, and a complaint for each line that is none."""

    tokens: tuple[Token, ...] = ()
    problems: tuple[str, ...] = ()

    def find(self, secret: str) -> Token | None:
        """Return the token that somebody shows, None where it is not one of these; it takes as long for each."""
        wanted = digest(secret)
        found = None
        for token in self.tokens:
            if hmac.compare_digest(token.digest, wanted):
                found = token
        return found


def digest(secret: str) -> str:
    """Return the hash of a token. It is drawn at random, and long: salt and a slow hash would add nothing."""
    return hashlib.sha256(secret.encode("utf-8", "surrogateescape")).hexdigest()


def is_token(text: str) -> bool:
    """Tell whether a text looks like a token."""
    return _TOKEN.fullmatch(text) is not None


def parse_rights(text: str) -> frozenset[Right]:
    """Return the rights in a list with commas; raises `ValueError` that says what is allowed."""
    try:
        return frozenset(map(Right, text.split(",")))
    except ValueError:
        raise ValueError(f"must be some of {', '.join(Right)}, with commas between them") from None


def parse_account(text: str) -> str:
    """Return the name of an account; raises `ValueError` that says what is allowed."""
    if not text.isprintable() or not re.fullmatch(r"[^\s#]\S{0,255}", text):
        raise ValueError("must be the name of an account, without blanks")
    return text


def parse_label(text: str) -> str:
    """Return a label; raises `ValueError` that says what is allowed."""
    if not text.isprintable() or not 1 <= len(text) <= MOST_LABEL or text != text.strip():
        raise ValueError(f"must be 1 to {MOST_LABEL} printable characters")
    return text


def parse(text: bytes) -> Tokens:
    """Return the tokens in the text of a file. A complaint names the line and never a hash."""
    tokens: dict[str, Token] = {}
    problems = []
    for number, line in enumerate(text.split(b"\n"), 1):
        try:
            token = _parsed(line.decode().rstrip("\r"))
            if token is None:
                continue
            if token.id in tokens:
                raise ValueError("is a token that stands above it already")
        except ValueError as exc:
            why = "is not UTF-8" if isinstance(exc, UnicodeError) else str(exc)
            problems.append(f"line {number} {why}; it does not count, remove it")
        else:
            tokens[token.id] = token
    return Tokens(tuple(tokens.values()), tuple(problems))


def _parsed(line: str) -> Token | None:
    """Return the token of a line, None for a comment; raises `ValueError`."""
    if not line.strip() or line.startswith("#"):
        return None
    match = _LINE.fullmatch(line)
    if match is None or not line.isprintable():
        raise ValueError("is not an account, rights, a hash of 64 hexadecimal digits, and perhaps a label")
    try:
        return Token(match[1], parse_rights(match[2]), match[3], match[4] or "")
    except ValueError as exc:
        raise ValueError(f"has the rights {kinds.shown(match[2])}, which {exc}") from exc


def added(text: bytes, token: Token) -> bytes:
    """Return the text of a file with one token more."""
    before = text or _HEAD.encode()
    return before + (b"" if before.endswith(b"\n") else b"\n") + f"{token.line()}\n".encode()


def removed(text: bytes, ids: Iterable[str]) -> bytes:
    """Return the text of a file without these tokens; every other line stays as it is."""
    gone = set(ids)
    return b"\n".join(line for line in text.split(b"\n") if all(token.id not in gone for token in parse(line).tokens))
