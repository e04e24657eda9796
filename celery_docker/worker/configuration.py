"""The configuration of a worker: settings, Celery's options and policy, read whole or refused.

Start, reload and `celery-docker check-config` read it here, so that what one of them accepts the others do too. As a
program it reads the configuration in its environment, says what is wrong with it and returns 78, else 0 and what the
worker would offer to jobs.
"""

from __future__ import annotations

import os
import socket
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from celery_docker import errors
from celery_docker.core import fixedsettings, policyfile, roomwords, settings, textinput
from celery_docker.core.policy import SIGNED, Policy
from celery_docker.host import capacity
from celery_docker.host.keyfile import KeyFile
from celery_docker.worker import options

EX_CONFIG = 78


@dataclass(frozen=True)
class Configuration:
    """Settings and a policy that a worker can start with."""

    settings: settings.Settings
    policy: Policy


def read(environ: Mapping[str, str]) -> Configuration:
    """Return the configuration that the environment describes.

    Raises `SettingsError` that names the variable or the rule, its value and what is allowed.
    """
    worker_settings = settings.parse(environ)
    fixedsettings.identity(worker_settings, socket.gethostname())
    options.check(worker_settings)
    policy = _read_policy(worker_settings.policy_file)
    if policy.submitters == SIGNED:
        _check_keys(KeyFile(worker_settings.key_file))
    return Configuration(worker_settings, policy)


def complain(exc: errors.CeleryDockerError, environ: Mapping[str, str]) -> None:
    """Print an error in one line, as an error where the journal reads it."""
    level = "<3>" if environ.get("JOURNAL_STREAM") else ""
    print(f"{level}celery-worker: {exc}", file=sys.stderr)


def main(environ: Mapping[str, str]) -> int:
    """Check the configuration; return the exit status."""
    try:
        usable = read(environ)
    except errors.SettingsError as exc:
        complain(exc, environ)
        return EX_CONFIG
    offered = capacity.offer(usable.settings)
    for line in (f"this host offers {roomwords.offer(offered)} to jobs", *capacity.excess(offered)):
        print(line)
    return 0


def _read_policy(path: str) -> Policy:
    try:
        return policyfile.parse(textinput.text(Path(path).read_bytes()))
    except (OSError, ValueError) as exc:
        raise errors.SettingsError(f"{settings.PREFIX}POLICY={path!r}: cannot be read: {exc}") from exc
    except errors.PolicyError as exc:
        raise errors.SettingsError(f"{path}: {exc}") from exc


def _check_keys(file: KeyFile) -> None:
    """Check the keys without which no job would run."""
    try:
        file.needed()
    except errors.KeysError as exc:
        raise errors.SettingsError(str(exc)) from exc
    if problems := file.problems():
        raise errors.SettingsError(f"key: {'; '.join(problems)}")


if __name__ == "__main__":
    raise SystemExit(main(os.environ))
