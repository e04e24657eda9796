"""The commands that need no Redis: `config` and `completion`."""

from __future__ import annotations

from typing import Any

from celery_docker import errors
from celery_docker.cli import tables
from celery_docker.cli.context import Context
from celery_docker.cli.syntax import completion as scripts
from celery_docker.core import gatewayurl, kinds, redisurl

_COLUMNS = (tables.Column("setting"), tables.Column("value"), tables.Column("from"))


def config(context: Context) -> int:
    """Show each setting and where it came from, secrets masked."""
    settings_in_use = context.config
    way = "celery-docker-api" if gatewayurl.is_gateway(settings_in_use.broker_url) else "redis"
    if context.wants_json:
        table: dict[str, Any] = {
            setting.name: {"value": redisurl.masked(setting.value), "source": setting.source}
            for setting in settings_in_use.values
        }
        context.screen.json({**table, "way": {"value": way, "source": "broker_url"}})
    else:
        context.screen.table(
            _COLUMNS,
            [
                *((setting.name, redisurl.masked(setting.value), setting.source) for setting in settings_in_use.values),
                ("way", way, "broker_url"),
            ],
        )
    for path in settings_in_use.closed:
        context.screen.note(f"you may not read {path}; a setting in it is not shown here")
    return 0


def completion(context: Context) -> int:
    """Print the completion script of a shell."""
    (shell,) = context.arguments.operands
    make = scripts.SHELLS.get(shell)
    if make is None:
        raise errors.UsageError(f"completion: {kinds.shown(shell)} must be one of {', '.join(scripts.SHELLS)}")
    context.screen.out.write(make())
    return 0
