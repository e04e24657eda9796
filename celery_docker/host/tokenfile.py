"""The file of tokens: read as soon as it changes, changed by one command at a time."""

from __future__ import annotations

import contextlib
import fcntl
import os
import secrets
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from celery_docker import errors
from celery_docker.core import tokens
from celery_docker.core.tokens import Token, Tokens
from celery_docker.host import secretfile


@dataclass
class TokenFile:
    """The tokens in one file, for any thread: a change counts from the next question on, without a restart."""

    path: str = tokens.FILE
    # The state of the file and what it says then, in one: two threads may look at a change at the same time.
    _kept: tuple[object, Tokens] = field(default=(None, Tokens()), repr=False)

    def tokens(self) -> Tokens:
        """Return the tokens, none where there is no file. Raises `TokensError` with the remedy."""
        try:
            state = secretfile.state(self.path)
            kept = self._kept
            if state != kept[0]:
                self._kept = kept = (state, tokens.parse(self._text()))
        except FileNotFoundError:
            return Tokens()
        except OSError as exc:
            raise self._unreadable(exc) from exc
        return kept[1]

    def add(self, token: Token) -> None:
        """Add a token. Raises `TokensError`; the file is as before then."""
        self._change(lambda text: tokens.added(text, token))

    def remove(self, ids: list[str]) -> None:
        """Remove tokens by their ids. Raises `TokensError`, and `UsageError` for an id that none has."""

        def change(text: bytes) -> bytes:
            known = {token.id for token in tokens.parse(text).tokens}
            for token_id in ids:
                if token_id not in known:
                    raise errors.UsageError(
                        f"token remove: {token_id!r} is no token's id; list them with: celery-docker token list"
                    )
            return tokens.removed(text, ids)

        self._change(change)

    def problems(self) -> list[str]:
        """Return what is wrong with the file, with the remedy; nothing where there is none. Raises `TokensError`."""
        try:
            found = secretfile.problems(self.path, "it names who may submit jobs from elsewhere")
        except FileNotFoundError:
            return []
        except OSError as exc:
            raise self._unreadable(exc) from exc
        return [*found, *(f"{self.path} {problem}" for problem in self.tokens().problems)]

    def _change(self, change: Callable[[bytes], bytes]) -> None:
        try:
            with _locked(os.path.dirname(self.path)):
                try:
                    text = self._text()
                except FileNotFoundError:
                    text = b""
                secretfile.write(self.path, change(text))
        except OSError as exc:
            raise errors.TokensError(
                f"token: cannot write {self.path}: {exc.strerror}; the tokens are as before"
                + ("; do it as root" if isinstance(exc, PermissionError) else "")
            ) from exc

    def _text(self) -> bytes:
        text = secretfile.read(self.path, tokens.MOST_BYTES + 1)
        if len(text) > tokens.MOST_BYTES:
            raise errors.TokensError(f"token: {self.path} is larger than 1 MiB; remove what is no token")
        return text

    def _unreadable(self, exc: OSError) -> errors.TokensError:
        remedy = f"it must be a file of root:{secretfile.GROUP} with mode 0640"
        if isinstance(exc, PermissionError) and os.path.lexists(self.path):
            remedy = secretfile.to_read(self.path)
        return errors.TokensError(f"token: cannot read {self.path}: {exc.strerror}; {remedy}")


def new() -> str:
    """Return a new token."""
    return secrets.token_urlsafe(tokens.BYTES)


@contextlib.contextmanager
def _locked(folder: str) -> Iterator[None]:
    """Let commands change the file one after the other: two that read the same would lose one's token."""
    number = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(number, fcntl.LOCK_EX)
        yield
    finally:
        os.close(number)
