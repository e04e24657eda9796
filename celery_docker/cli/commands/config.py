"""The commands that need no Redis: `config` and `completion`."""

from __future__ import annotations

from celery_docker import errors
from celery_docker.cli import tables
from celery_docker.cli.context import Context
from celery_docker.cli.syntax import completion as scripts
from celery_docker.client import usertoken
from celery_docker.client.configlayers import DEFAULT_SOURCE
from celery_docker.core import gatewayurl, kinds, redisurl

_COLUMNS = (tables.Column("setting"), tables.Column("value"), tables.Column("from"))


def config(context: Context) -> int:
    """Show each setting and where it came from, secrets masked."""
    settings_in_use = context.config
    way = "celery-docker-api" if gatewayurl.is_gateway(settings_in_use.broker_url) else "redis"
    rows = [(setting.name, redisurl.masked(setting.value), setting.source) for setting in settings_in_use.values]
    problem = ""
    if gatewayurl.needs_token(settings_in_use.broker_url):
        try:
            rows.append(("token", "***", usertoken.read(context.environ).source))
        except errors.SettingsError as exc:
            rows.append(("token", "", DEFAULT_SOURCE))
            problem = str(exc)
    rows.append(("way", way, "broker_url"))
    if context.wants_json:
        context.screen.json({name: {"value": value, "source": source} for name, value, source in rows})
    else:
        context.screen.table(_COLUMNS, rows)
    if problem:
        context.screen.note(problem)
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
