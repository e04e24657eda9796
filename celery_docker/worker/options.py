"""The command line of Celery's worker: our words and the administrator's options, checked or run.

Owns click, with which Celery's command line is made; its complaints about options are the administrator's to read.
`celery.bin.celery` is not imported: it brings all other commands and an interactive shell, 9 MiB of this process.
"""

from __future__ import annotations

import shlex
from collections.abc import Iterator
from contextlib import contextmanager

import click
from celery import Celery
from celery.bin.base import CLIContext
from celery.bin.worker import worker as command

from celery_docker import errors
from celery_docker.core import settings


def check(worker_settings: settings.Settings) -> None:
    """Read the options as Celery's worker would. Raises `SettingsError` for one that it does not know or cannot use."""
    app = Celery("celery_docker", set_as_current=False)
    with _translated(worker_settings):
        context = _context(app, worker_settings, slots=1)
        try:
            app.config_from_cmdline(context.args, namespace="worker")
        except (KeyError, ValueError, AttributeError) as exc:
            words = shlex.join(context.args)
            raise click.UsageError(f"the words {words!r} are neither options nor Celery's own settings") from exc


def run(app: Celery, worker_settings: settings.Settings, slots: int) -> int:
    """Run Celery's worker until it ends; return its exit status. Raises `SettingsError` as `check` does."""
    with _translated(worker_settings):
        context = _context(app, worker_settings, slots)
        try:
            with context:
                command.invoke(context)
        except click.exceptions.Exit:  # how the command ends
            return 0
        except SystemExit as exc:
            return exc.code if isinstance(exc.code, int) else 1
    return 0


def _context(app: Celery, worker_settings: settings.Settings, slots: int) -> click.Context:
    """Return the command `worker` with its options read, under a parent in place of the command `celery`."""
    parent = click.Context(click.Command("celery"), obj=CLIContext(app=app, no_color=True, workdir=None, quiet=True))
    context: click.Context = command.make_context("worker", _words(worker_settings, slots), parent=parent)
    return context


def _words(worker_settings: settings.Settings, slots: int) -> list[str]:
    own = ["--concurrency", str(slots), "--loglevel", worker_settings.log_level, "--without-gossip", "--without-mingle"]
    return [*own, *worker_settings.words]


@contextmanager
def _translated(worker_settings: settings.Settings) -> Iterator[None]:
    """Turn a complaint about an option into ours."""
    where = f"{settings.PREFIX}OPTS={shlex.join(worker_settings.opts)!r}"
    try:
        yield
    except click.ClickException as exc:
        raise errors.SettingsError(f"{where}: {exc.format_message()}") from exc
    except click.exceptions.Exit as exc:  # what --help does
        raise errors.SettingsError(f"{where}: must have no option that ends the worker at once") from exc
