"""The facts about the tokens of users on other hosts, for `doctor`. Changes nothing."""

from __future__ import annotations

import pwd

from celery_docker import errors
from celery_docker.doctor import facts, hostfacts
from celery_docker.host.tokenfile import TokenFile


def gather(file: TokenFile) -> facts.Tokens:
    """Return the facts about the tokens in a file."""
    is_listening = hostfacts.listens_over_tcp()
    try:
        accounts = {token.id: token.account for token in file.tokens().tokens}
        problems = file.problems()
    except errors.TokensError as exc:
        is_denied = isinstance(exc.__cause__, PermissionError)
        return facts.Tokens(is_listening, failure=str(exc), is_denied=is_denied)
    strangers = frozenset(token_id for token_id, account in accounts.items() if not _is_there(account))
    return facts.Tokens(is_listening, accounts, strangers, tuple(problems))


def _is_there(account: str) -> bool:
    try:
        pwd.getpwnam(account)
    except KeyError:
        return False
    return True
