"""The command `key`: shows the fingerprints of the keys that sign jobs, changes the keys, and copies them.

Never shows a key, but for `export` into a pipe. Asks neither Redis nor Docker.
"""

from __future__ import annotations

import os
import sys

from celery_docker import errors
from celery_docker.cli.context import Context
from celery_docker.cli.syntax import flagtable
from celery_docker.cli.tables import Column
from celery_docker.client import configfiles
from celery_docker.core import kinds, signingkeys
from celery_docker.core.signingkeys import Keys, key_id
from celery_docker.host import keyfile
from celery_docker.host.keyfile import KeyFile

_NOT_IN_ORDER = 1
_MOST_BYTES = 65_536
_COLUMNS = (Column("key"), Column("use"))


def key(context: Context) -> int:
    """Show, change or copy the keys; return 1 if `show` finds the file not in order."""
    action = next(iter(context.arguments.operands), "show")
    act = _ACTIONS.get(action)
    if act is None:
        raise errors.UsageError(f"key: {kinds.shown(action)} must be {', '.join(_ACTIONS)}")
    return act(context, KeyFile(configfiles.key_file(context.environ)))


def _show(context: Context, file: KeyFile) -> int:
    keys = file.needed()
    problems = file.problems()
    if context.wants_json:
        rows = [{"key": key_id(key), "use": role} for role, key in keys.roles]
        context.screen.json({"file": file.path, "keys": rows, "problems": problems})
    else:
        context.screen.table(_COLUMNS, [(key_id(key), role) for role, key in keys.roles], whole=context.is_whole)
        for problem in problems:
            context.screen.note(f"key: {problem}")
    return _NOT_IN_ORDER if problems else 0


def _new(context: Context, file: KeyFile) -> int:
    made = keyfile.new()
    before = file.needed() if os.path.lexists(file.path) else None
    return _put(context, file, Keys(made) if before is None else before.renewed(made))


def _prepare(context: Context, file: KeyFile) -> int:
    return _put(context, file, file.needed().prepared(keyfile.new()))


def _use(context: Context, file: KeyFile) -> int:
    return _put(context, file, file.needed().switched())


def _drop_old(context: Context, file: KeyFile) -> int:
    return _put(context, file, file.needed().without_old())


def _export(context: Context, file: KeyFile) -> int:
    if sys.stdout.isatty():
        raise errors.UsageError(
            "key export: whoever reads a key can submit jobs as anybody, so it is not shown on a terminal; pipe it: "
            "celery-docker key export | ssh HOST celery-docker key import --yes"
        )
    context.screen.raw(file.needed().text().encode())
    return 0


def _import(context: Context, file: KeyFile) -> int:
    try:
        given = signingkeys.parse(sys.stdin.buffer.read(_MOST_BYTES))
    except (OSError, ValueError) as exc:
        raise errors.UsageError(f"key import: the standard input {exc}") from exc
    # With --yes a file that is damaged is mended.
    if os.path.lexists(file.path) and not context.has(flagtable.YES.key):
        _check_none_dropped(file.needed(), given)
    return _put(context, file, given)


def _check_none_dropped(before: Keys, given: Keys) -> None:
    dropped = [key_id(key) for key in before.valid if key not in given.valid]
    if dropped:
        raise errors.UsageError(
            f"key import: {', '.join(dropped)} of this host is not among the new keys: what it has signed would be "
            "refused; if nothing of that waits, say --yes"
        )


def _put(context: Context, file: KeyFile, keys: Keys) -> int:
    file.write(keys)
    return _show(context, file)


_ACTIONS = {
    "show": _show,
    "new": _new,
    "prepare": _prepare,
    "use": _use,
    "drop-old": _drop_old,
    "export": _export,
    "import": _import,
}
