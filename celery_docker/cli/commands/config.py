"""The commands that need no Redis: `config` and `completion`."""

from __future__ import annotations

from celery_docker import errors
from celery_docker.cli import tables
from celery_docker.cli.call import Call
from celery_docker.cli.syntax import completion as scripts
from celery_docker.core import settings

_COLUMNS = (tables.Column("setting"), tables.Column("value"), tables.Column("from"))


def config(call: Call) -> int:
    """Show each setting and where it came from, secrets masked."""
    found = call.config
    if call.wants_json:
        said = {one.name: {"value": settings.masked(one.value), "source": one.source} for one in found.values}
        call.screen.json(said)
    else:
        call.screen.table(_COLUMNS, [(one.name, settings.masked(one.value), one.source) for one in found.values])
    for path in found.closed:
        call.screen.note(f"you may not read {path}; it might say something else")
    return 0


def completion(call: Call) -> int:
    """Print the completion script of a shell."""
    (shell,) = call.words.operands
    make = scripts.SHELLS.get(shell)
    if make is None:
        raise errors.UsageError(f"completion: {shell!r} must be one of {', '.join(scripts.SHELLS)}")
    call.screen.out.write(make())
    return 0
