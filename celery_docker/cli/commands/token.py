"""The command `token`: makes, lists and removes the tokens of users on other hosts.

Shows a token once, to whoever makes it. Asks neither Redis nor Docker.
"""

from __future__ import annotations

import pwd

from celery_docker import errors
from celery_docker.cli.context import Context
from celery_docker.cli.syntax.grammar import PROGRAM
from celery_docker.cli.tables import Column
from celery_docker.core import access, kinds, tokens
from celery_docker.core.access import Right
from celery_docker.core.tokens import Token
from celery_docker.host import tokenfile
from celery_docker.host.tokenfile import TokenFile

RIGHTS, LABEL = "--rights", "--label"
_NOT_IN_ORDER = 1
_COLUMNS = (Column("id"), Column("account"), Column("rights"), Column("label"))


def token(context: Context) -> int:
    """Make, list or remove tokens; return 1 if `list` finds the file not in order."""
    action, *names = context.arguments.operands or ["list"]
    act = _ACTIONS.get(action)
    if act is None:
        raise errors.UsageError(f"token: {kinds.shown(action)} must be {', '.join(_ACTIONS)}")
    if action != "add":
        for flag in (RIGHTS, LABEL):
            if context.has(flag):
                raise errors.UsageError(f"token {action}: {flag} is for token add")
    return act(context, TokenFile(tokens.FILE), names)


def _list(context: Context, file: TokenFile, names: list[str]) -> int:
    if names:
        raise errors.UsageError(f"token list: {kinds.shown(names[0])} is one word too many")
    known, problems = file.tokens().tokens, file.problems()
    if context.wants_json:
        rows = [{"id": t.id, "account": t.account, "rights": sorted(t.rights), "label": t.label} for t in known]
        context.screen.json({"file": file.path, "tokens": rows, "problems": problems})
    else:
        table = [(t.id, t.account, t.shown_rights, t.label) for t in known]
        context.screen.table(_COLUMNS, table, whole=context.is_whole)
        for problem in problems:
            context.screen.note(f"token: {problem}")
    return _NOT_IN_ORDER if problems else 0


def _add(context: Context, file: TokenFile, names: list[str]) -> int:
    if len(names) != 1:
        raise errors.UsageError("token add: name one account, for whom the token is to stand")
    made, secret = _made(context, names[0])
    file.add(made)
    lost = f"token {made.id} was made and could not be shown; remove it: celery-docker token remove {made.id}"
    with context.screen.safe(f"{PROGRAM}: {lost}"):
        if context.wants_json:
            context.screen.json(
                {
                    "id": made.id,
                    "account": made.account,
                    "rights": sorted(made.rights),
                    "label": made.label,
                    "token": secret,
                }
            )
        else:
            context.screen.data(secret)
    if not context.wants_json:
        context.screen.note(
            f"token {made.id} of {made.account} ({made.shown_rights}): it is shown this once; its user puts it into "
            "~/.config/celery-docker/token, with mode 0600"
        )
    return 0


def _made(context: Context, account: str) -> tuple[Token, str]:
    if not context.has(RIGHTS):
        raise errors.UsageError(f"token add: say what it may with {RIGHTS}, such as {RIGHTS} read,submit,cancel")
    rights: frozenset[Right] = context.arguments.flags[RIGHTS]
    try:
        entry = pwd.getpwnam(tokens.parse_account(account))
    except ValueError as exc:
        raise errors.UsageError(f"token add: {kinds.shown(account)} {exc}") from exc
    except KeyError:
        raise errors.UsageError(
            f"token add: this host has no account {kinds.shown(account)}; jobs run as an account of this host"
        ) from None
    access.check_grant(entry.pw_name, entry.pw_uid, rights)
    secret = tokenfile.new()
    return Token(entry.pw_name, rights, tokens.digest(secret), context.text(LABEL) or ""), secret


def _remove(context: Context, file: TokenFile, names: list[str]) -> int:
    if not names:
        raise errors.UsageError("token remove: name tokens by their ids; list them with: celery-docker token list")
    file.remove(names)
    return 0


_ACTIONS = {"list": _list, "add": _add, "remove": _remove}
