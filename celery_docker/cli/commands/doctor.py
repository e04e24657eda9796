"""The command `doctor`: gathers the facts, and prints what the checks make of them."""

from __future__ import annotations

from celery_docker import errors
from celery_docker import version as package
from celery_docker.cli.call import Call
from celery_docker.client import configfiles
from celery_docker.doctor import checks, facts, hostfacts

_FAILED = 1


def doctor(call: Call) -> int:
    """Print a line for each check; return 1 if one of them failed."""
    from celery_docker.doctor import redisfacts

    known = facts.Facts(
        redis=redisfacts.gather(call.config.broker_url),
        host=hostfacts.gather(_docker_host(call)),
        version=package.version() or "0+source",
    )
    found = checks.findings(known)
    if call.wants_json:
        call.screen.json([finding.to_json() for finding in found])
    else:
        for finding in found:
            for line in finding.lines():
                call.screen.data(line)
    return _FAILED if any(finding.level is checks.Level.FAIL for finding in found) else 0


def _docker_host(call: Call) -> str:
    """Return the worker's Docker; where its settings are not usable, the usual one: the service's log names them."""
    try:
        return configfiles.worker_settings(call.environ).docker_host
    except errors.SettingsError:
        return configfiles.DEFAULT_DOCKER_HOST
