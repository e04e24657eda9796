"""The Docker of another release of Debian, on this computer: its programs come from an image of machines.

So tests that have worker, pins and files here meet another Docker, without a machine. runc is that of this computer,
which is what a program of the other's C library would need.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager

from tests import servers
from tests.machines import machine

# Those of the image that run with another C library: they are Go, or static.
_PROGRAMS = ("containerd", "containerd-shim-runc-v2", "docker-init", "docker-proxy", "dockerd")


@contextmanager
def docker_of(release: str) -> Iterator[servers.Dockerd]:
    """Start it, with busybox."""
    image = machine.ready_image(release)
    with machine.kept(image):
        server = servers.Dockerd()
        programs = server.folder / "bin"
        programs.mkdir()
        for name in _PROGRAMS:
            places = (image / "usr" / folder / name for folder in ("bin", "sbin"))
            (programs / name).symlink_to(next(place for place in places if place.exists()))
        server.program = str(programs / "dockerd")
        server.environ = {**os.environ, "PATH": f"{programs}:{os.environ['PATH']}"}
        with server:
            server.import_busybox()
            yield server
