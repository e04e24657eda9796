"""The context of a command: its arguments, the environment, the screen, and a client when it needs one."""

from __future__ import annotations

import signal
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

from celery_docker import errors
from celery_docker.cli import exitcodes, lastid
from celery_docker.cli.screen import Screen
from celery_docker.cli.syntax import flagtable, parser
from celery_docker.cli.syntax.grammar import PROGRAM
from celery_docker.client import configfiles
from celery_docker.client.outages import Outages
from celery_docker.core import gatewayurl

if TYPE_CHECKING:
    from celery_docker.client.client import Client

_LAYER_FLAGS = ("--broker", "--queue")
WAITS = "jobs go on, and this waits for Redis"


@dataclass(frozen=True)
class Context:
    """A command with its arguments, the environment it was called in, and the screen to answer on."""

    arguments: parser.Arguments
    environ: Mapping[str, str]
    screen: Screen

    @property
    def wants_json(self) -> bool:
        return self.arguments.is_set(flagtable.JSON)

    @property
    def is_quiet(self) -> bool:
        return self.arguments.is_set(flagtable.QUIET)

    def has(self, key: str) -> bool:
        """Return whether a flag was given."""
        return key in self.arguments.flags

    def text(self, key: str) -> str | None:
        """Return the value of a flag, None where it was not given."""
        value: str | None = self.arguments.flags.get(key)
        return value

    @cached_property
    def config(self) -> configfiles.Config:
        flags = {flag: self.arguments.flags[flag] for flag in _LAYER_FLAGS if flag in self.arguments.flags}
        return configfiles.read(self.environ, flags)

    @property
    def is_whole(self) -> bool:
        """True where nothing of a table is to be cut: somebody wants that, or a program reads it."""
        return self.has("--no-trunc") or not self.screen.is_terminal

    @property
    def operands(self) -> list[str]:
        """Return the operands of a command that takes jobs, with the id that @last stands for."""
        return [self.expand_last(name) for name in self.arguments.operands]

    def expand_last(self, name: str) -> str:
        """Return the id that was submitted last for `@last`, any other name as it is."""
        return lastid.expand(self.environ, name)

    @contextmanager
    def detaching(self, command: str, *names: str) -> Iterator[None]:
        """Tell whoever interrupts a command that waits for jobs how to come back to them, or to cancel them."""
        before = signal.getsignal(signal.SIGTERM)
        if before is signal.SIG_DFL:
            signal.signal(signal.SIGTERM, _terminate)
        try:
            yield
        except KeyboardInterrupt:
            operands = " ".join(names)
            # On a terminal stands ^C, or a bar.
            line_end = "\n" if self.screen.err.isatty() else ""
            self.screen.note(
                f"{line_end}nothing was cancelled; come back with: {PROGRAM} {command} {operands}, "
                f"or cancel with: {PROGRAM} cancel {operands}"
            )
            raise
        finally:
            signal.signal(signal.SIGTERM, before)

    @property
    def advice(self) -> str:
        """What may help a job that no host runs; doctor is for those with Redis."""
        return "ask the administrator" if gatewayurl.is_gateway(self.config.broker_url) else f"see {PROGRAM} doctor"

    def outages(self) -> Outages:
        """Return what lets this wait for a Redis that has answered already, and says so."""
        return Outages(lambda exc: self.screen.note(f"{PROGRAM}: {exc}; {WAITS}"), has_answered=True)

    @contextmanager
    def client(self) -> Iterator[Client]:
        """Open a client; where Redis fails, the complaint says what to ask the administrator for."""
        # Redis takes longer to import than everything else here: not for --help, and not for a mistake.
        from celery_docker.client import client

        with self._explained(), closing(client.Client(self.config.broker_url)) as opened:
            yield opened

    @contextmanager
    def _explained(self) -> Iterator[None]:
        try:
            yield
        except (errors.StoreAway, errors.StoreRefused) as exc:
            raise self.config.with_remedy(exc) from exc


def _terminate(*_: object) -> None:
    raise exitcodes.Terminated
