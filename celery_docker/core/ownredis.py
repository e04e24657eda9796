"""The Redis that `setup-redis` makes for this queue alone: its configuration, and its line in a file of settings. Pure.

It is an instance of Debian's own template redis-server@.service, or of valkey-server@.service. Invariant: a change that
it has answered is on the disk (appendfsync always), and nothing is thrown away: what Redis has accepted stays accepted.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from celery_docker.core import settings

INSTANCE = "celery-docker"
DEFAULT_PORT = 6380
_VARIABLE = f"{settings.PREFIX}BROKER_URL"
_MARK = "# Set by celery-docker setup-redis; before it: "
_ASSIGNMENT = re.compile(rf"\s*{_VARIABLE}\s*=")
_LOGIN = re.compile(r"//[^@/]*@")
_CONFIG = """\
# The Redis of celery-docker, made by "celery-docker setup-redis", which leaves this
# file alone once it is there; "setup-redis --remove" removes it. After a change:
# systemctl restart {unit}

# For workers and submitters on this host. For those of other hosts add an address of a
# private network, and name it in their CELERY_DOCKER_BROKER_URL.
bind 127.0.0.1 -::1
port {port}
requirepass {password}

# What Redis has answered is on the disk: an accepted job survives a power cut.
dir {data}
appendonly yes
appendfsync always
save ""
# Where memory is limited, refuse new jobs; throw none away.
maxmemory-policy noeviction

pidfile /run/{name}-celery-docker/{name}-server.pid
# To the journal: journalctl -u {unit}
logfile ""
"""


@dataclass(frozen=True)
class Server:
    """A server that Debian packages with a template of units; `name` is also its user's."""

    name: str

    @property
    def package(self) -> str:
        return f"{self.name}-server"

    @property
    def template(self) -> str:
        return f"{self.package}@.service"

    @property
    def unit(self) -> str:
        return f"{self.package}@{INSTANCE}"

    @property
    def config_file(self) -> str:
        return f"/etc/{self.name}/{self.name}-{INSTANCE}.conf"

    @property
    def data_folder(self) -> str:
        return f"/var/lib/{self.name}/{INSTANCE}"

    def config(self, port: int, password: str) -> str:
        """Return the configuration of an instance."""
        return _CONFIG.format(name=self.name, unit=self.unit, data=self.data_folder, port=port, password=password)


SERVERS = (Server("redis"), Server("valkey"))


def broker_url(config: str) -> str:
    """Return the broker's URL for a configuration; an empty one if it lacks a port or a password."""
    words = dict(line.split(None, 1) for line in config.splitlines() if len(line.split(None, 1)) == 2)
    port, password = words.get("port", "").strip(), words.get("requirepass", "").strip().strip('"')
    return f"redis://:{password}@127.0.0.1:{port}/0" if port.isdigit() and password else ""


def without_login(url: str) -> str:
    """Return a URL that everybody may read."""
    return _LOGIN.sub("//", url, count=1)


def with_broker(text: str, url: str) -> str:
    """Return a file of settings with this broker; what it said before is kept in a comment."""
    lines = without_broker(text).splitlines()
    former = [line for line in lines if _ASSIGNMENT.match(line)]
    # The last one counts, for systemd too.
    place = lines.index(former[-1]) if former else len(lines)
    lines[place : place + 1] = [_MARK + (former[-1].strip() if former else "nothing"), f"{_VARIABLE}={url}"]
    return "\n".join(lines) + "\n"


def without_broker(text: str) -> str:
    """Return a file of settings as it was before `with_broker`; one without its mark comes back as it is."""
    lines: list[str] = []
    rest = iter(text.splitlines(keepends=True))
    for line in rest:
        if not line.startswith(_MARK):
            lines.append(line)
            continue
        former = line.removeprefix(_MARK)
        following = next(rest, "")
        if not _ASSIGNMENT.match(following):
            lines.append(following)
        elif _ASSIGNMENT.match(former):
            lines.append(former)
    return "".join(lines)
