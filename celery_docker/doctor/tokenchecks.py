"""The checks of the tokens of users on other hosts, and of the socket to which they show them. Pure."""

from __future__ import annotations

from celery_docker.core import wording
from celery_docker.core.findings import AS_ROOT, Finding, Level
from celery_docker.doctor import facts

_SUBJECT = "tokens"
_SOCKET = "celery-docker-api-tcp.socket"


def tokens(known: facts.Tokens) -> list[Finding]:
    """Tell who can ask celery-docker-api from elsewhere."""
    if known.is_denied:
        return [Finding(Level.SKIP, _SUBJECT, "you may not read them", AS_ROOT)]
    if known.failure:
        says, _, remedy = known.failure.removeprefix("token: ").rpartition("; ")
        return [Finding(Level.FAIL, _SUBJECT, says, remedy)]
    return [*_counted(known), *map(_problem, known.problems), *_strangers(known)]


def _counted(known: facts.Tokens) -> list[Finding]:
    accounts = sorted(set(known.accounts.values()))
    count = wording.counted(len(known.accounts), "token")
    if known.is_listening is None:
        return [Finding(Level.OK, _SUBJECT, f"{count}, of {', '.join(accounts)}")] if accounts else []
    if not known.is_listening:
        says = f"{count}, of {', '.join(accounts)}, that nobody can use" if accounts else "there are none"
        return [Finding(Level.OK, _SUBJECT, f"{says}: {_SOCKET} is off")]
    if not accounts:
        remedy = f"celery-docker token add NAME --rights read,submit,cancel; or systemctl disable --now {_SOCKET}"
        return [Finding(Level.WARN, _SUBJECT, f"there are none: {_SOCKET} is on, and answers nobody", remedy)]
    return [Finding(Level.OK, _SUBJECT, f"{count}, of {', '.join(accounts)}: {_SOCKET} is on")]


def _problem(text: str) -> Finding:
    says, _, remedy = text.rpartition("; ")
    return Finding(Level.WARN, _SUBJECT, says, remedy)


def _strangers(known: facts.Tokens) -> list[Finding]:
    return [
        Finding(
            Level.WARN,
            _SUBJECT,
            f"{token_id} stands for {known.accounts[token_id]}, and this host has no such account",
            f"celery-docker token remove {token_id}",
        )
        for token_id in known.accounts
        if token_id in known.strangers
    ]
