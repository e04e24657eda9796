"""The command `doctor`: gathers the facts, and prints what the checks make of them."""

from __future__ import annotations

from celery_docker import errors
from celery_docker import version as package
from celery_docker.cli import policycheck, tokenfacts
from celery_docker.cli.context import Context
from celery_docker.client import configfiles
from celery_docker.core import gatewayurl
from celery_docker.core.findings import Level
from celery_docker.doctor import checks, facts, hostfacts
from celery_docker.host.tokenfile import TokenFile

_FAILED = 1


def doctor(context: Context) -> int:
    """Print a line for each check; return 1 if one of them failed."""
    from celery_docker.client.remotequeries import needs_redis
    from celery_docker.doctor import redisfacts

    if gatewayurl.is_gateway(context.config.broker_url):
        needs_redis("doctor")
    gathered = facts.Facts(
        redis=redisfacts.gather(context.config.broker_url),
        host=hostfacts.gather(*_worker_settings(context)),
        version=package.version() or "0+source",
        closed=context.config.closed,
        tokens=tokenfacts.gather(TokenFile()),
    )
    findings = checks.findings(gathered)
    if context.wants_json:
        context.screen.json([finding.to_json() for finding in findings])
    else:
        for finding in findings:
            for line in finding.lines():
                context.screen.data(line)
    return _FAILED if any(finding.level is Level.FAIL for finding in findings) else 0


def _worker_settings(context: Context) -> tuple[str, str, str]:
    """Return the worker's Docker, policy and GPUs; where its settings are not usable, the usual ones."""
    try:
        settings = configfiles.worker_settings(context.environ)
    except errors.SettingsError:
        return configfiles.DEFAULT_DOCKER_HOST, policycheck.FILE, ""
    return settings.docker_host, settings.policy_file, settings.gpus
