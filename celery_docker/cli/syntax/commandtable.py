"""The commands of `celery-docker`: the one table that parser, help, completion and man page are made of.

A command stands in `jobcommands` or in `hostcommands`; the flags of a job, and those that are the same everywhere, come
from `flagtable`. Pure, and imports nothing that is slow: a shell asks for it at every TAB. A command is done by the
function of its name, `-` being `_`, in `celery_docker.cli.commands.<module>`.
"""

from __future__ import annotations

from celery_docker.cli.syntax import hostcommands, jobcommands
from celery_docker.cli.syntax.grammar import Command

SUMMARY = "queue container jobs, and see what became of them"
LAST = jobcommands.LAST
# In the order of help and man page.
COMMANDS = (*jobcommands.COMMANDS, *hostcommands.COMMANDS)


def find(name: str) -> Command | None:
    """Return the command of that name, None if there is none."""
    return next((command for command in COMMANDS if command.name == name), None)
