"""What is to be released for one release of Debian, and the machine on which gates try it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.machines import machine
from tests.machines.installed import Installed
from tests.waiting import eventually

ROOT = Path(__file__).parents[2]
# For a command that installs, builds or examines packages: gates say nothing of how busy this computer is.
PATIENCE_S = 3600
_TOOLS = ("autopkgtest", "lintian", "piuparts")
_HELD = "echo run >>/output/runs; until [ -e /output/go ]; do sleep 0.05; done"
_CHECK_FILES = """
dpkg --audit
dpkg --verify celery-docker | grep -v ' c /etc/' || true
find /opt/celery -name '*.dpkg-*' -o -name '*.pyc.old'
"""
_CHECK_BYTECODE = """
import marshal, sys
from importlib.util import cache_from_source, source_hash
from pathlib import Path
for source in Path(sys.argv[1]).rglob("*.py"):
    code = Path(cache_from_source(source)).read_bytes()
    assert code[8:16] == source_hash(source.read_bytes()), source
    marshal.loads(code[16:])
"""


@dataclass(frozen=True)
class Candidate:
    """The package for one release, such as bookworm, and that for the next release, if there is one."""

    release: str
    package: Path
    successor: Candidate | None = None

    @property
    def version(self) -> str:
        return self.package.name.split("_")[1]

    @contextmanager
    def ready_machine(self, *, has_network: bool = False) -> Iterator[Installed]:
        """Boot a machine with Docker, Redis and an image; the package lies in /root, and is not installed."""
        with machine.Machine.boot("ready", machine.ready_image(self.release), nat=has_network) as debian:
            machine.import_busybox(debian)
            debian.push(self.package, f"/root/{self.package.name}")
            yield Installed(debian)
        assert machine.leftovers() == []

    @contextmanager
    def tools_machine(self) -> Iterator[machine.Machine]:
        """Boot a machine with the release's own tools for packages, and a network; the package lies in /root."""
        image = machine.base_image(self.release, packages=(*machine.READY, *_TOOLS), variant="tools")
        with machine.Machine.boot("tools", image, nat=True) as debian:
            debian.push(self.package, f"/root/{self.package.name}")
            yield debian
        assert machine.leftovers() == []


class HeldJob:
    """A job that runs until it is let go, and notes each of its runs."""

    def __init__(self, installed: Installed) -> None:
        self._debian = installed.debian
        self._debian.shell("rm -rf /srv/held && install -d -m 777 /srv/held")
        submit = ("celery-docker", "submit", "--retries", "0", "-o", "/srv/held")
        self._job_id = self._debian.run(*submit, "busybox", "sh", "-c", _HELD).stdout.split()[0]
        eventually(self._debian.path("/srv/held/runs").exists, 60, "the held job to run")

    def succeeds(self) -> None:
        """Let it end; it has run once."""
        self._debian.run("touch", "/srv/held/go")
        self._debian.run("celery-docker", "wait", self._job_id)
        runs = self._debian.read("/srv/held/runs").count("run\n")
        assert runs == 1, f"the job ran {runs} times"


def works(installed: Installed) -> None:
    """The installation is whole, and its worker runs a job."""
    debian = installed.debian
    assert status(installed) == "installed ok"
    incomplete = debian.shell(_CHECK_FILES).stdout
    assert incomplete == "", incomplete
    debian.run("/opt/celery/venv/bin/python", "-c", _CHECK_BYTECODE, "/opt/celery/venv/lib")
    installed.wait_until_ready()
    assert debian.run("celery-docker", "run", "busybox", "echo", "hello").stdout == "hello\n"


def status(installed: Installed) -> str:
    """Return dpkg's state of the package with its error flag, such as `half-installed reinstreq`."""
    query = ("dpkg-query", "--show", "--showformat=${db:Status-Status} ${db:Status-Eflag}", "celery-docker")
    return installed.debian.run(*query, check=False).stdout
