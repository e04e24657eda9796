"""Jobs that have and bring all that a job can, more of them than a machine has room for; and what is left of them.

Each checks from inside, in every run, that it has what it asked for: a job that has not fails, and counts as lost.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from tests.faults.booted import Booted
from tests.faults.ledger import HELD, SETTLE_S, Entry, Ledger
from tests.waiting import eventually
from tests.workers.roomsampler import Leases, RoomSampler

GIB = 2**30
GPUS = ("0", "1", "2", "3")
# The GPUs are those of a program of NVIDIA's that does nothing.
OFFER: dict[str, str | int] = {"CONCURRENCY": 8, "CPUS": 64, "MEMORY": "4g", "GPUS": f"device={','.join(GPUS)}"}
_HOOK = "/usr/bin/nvidia-container-runtime-hook"
_REF, _DESK = "/srv/ref", "/srv/desk"
_TEXT = "\ufeffa\r\n\0\r ä 漢\n" * 500
_DIGEST = hashlib.md5(_TEXT.encode()).hexdigest()  # noqa: S324  # busybox has it
_SCRIPT = '#!/bin/sh\nexec "$@"\n# the end'
# $GPUS is how many it has asked for.
_LOOK = f"""[ "$(md5sum)" = "{_DIGEST}  -" ] || exit 91
[ "$(tail -n 1 /celery-docker/script)" = "# the end" ] || exit 92
[ "$(cat /ref/file)" = "of the host" ] && ! touch /ref/file 2>/dev/null || exit 93
touch /desk/$(basename $F) || exit 94
[ "$HOME $(ls -A $HOME)" = "$TMPDIR " ] && touch ~/needle-9 || exit 95
[ "$(echo $NVIDIA_VISIBLE_DEVICES | tr , '\\n' | grep -c '[0-3]')" = $GPUS ] || exit 96
"""
# GPUs and GiB. In whatever order those without room are passed, of each eight all GPUs are leased and jobs wait.
_SHAPES = ((1, 0.25), (2, 0.25), (0, 3.0), (2, 0.25), (0, 1.5), (1, 0.25), (2, 0.25), (0, 0.25))


@dataclass(frozen=True)
class Watch:
    """What containers of the machine took, as Docker said it all the time."""

    room: RoomSampler
    leases: Leases

    def check(self) -> None:
        """Fail unless all GPUs were leased, none of them twice, and no more memory was in use than is offered."""
        (most,) = self.room.peaks.values()
        assert 2 * GIB < most.memory_bytes <= 4 * GIB
        assert (self.leases.shared, self.leases.most) == ([], len(GPUS))


def prepare(host: Booted) -> None:
    """Have the machine's Docker give out GPUs, and make what jobs mount."""
    host.debian.write(_HOOK, "#!/bin/sh\n", 0o755)
    host.debian.write(f"{_REF}/file", "of the host\n")
    host.debian.run("install", "-d", "-m", "777", _DESK)
    host.restart_docker()


@contextmanager
def watched(host: Booted) -> Iterator[Watch]:
    """Sample what containers take; at the end nothing of theirs may be left."""
    with RoomSampler(host.docker) as room, Leases(host.docker) as leases:
        yield Watch(room, leases)
    eventually(lambda: _left(host) == [], 60, "no volume and no scratch folder to be left")


def add(ledger: Ledger, number: int, body: str) -> list[Entry]:
    """Queue jobs of all shapes by turns; in each second one the container's own layer is read-only."""
    entries = []
    for index in range(number):
        gpus, memory_gib = _SHAPES[index % len(_SHAPES)]
        options: dict[str, Any] = {"gpus": gpus} if gpus else {}
        entries.append(
            ledger.add(
                f"GPUS={gpus}\n{_LOOK}{body}",
                memory=int(memory_gib * GIB),
                script=_SCRIPT,
                stdin=_TEXT,
                scratch=True,
                read_only=index % 4 > 1,
                mounts=[f"{_REF}:/ref:ro", f"{_DESK}:/desk"],
                retries=0,
                **options,
            )
        )
    return entries


def held(ledger: Ledger, watch: Watch) -> list[Entry]:
    """Queue jobs that end at `let_go`, more than there is room for; return them once the room is full."""
    ledger.hold()
    entries = add(ledger, len(_SHAPES), HELD)
    full(ledger, watch)
    eventually(lambda: ledger.running() + ledger.parked() == len(entries), 60, "all to run or wait")
    return entries


def full(ledger: Ledger, watch: Watch) -> None:
    """Wait until all GPUs are leased, and jobs are parked."""
    eventually(
        lambda: len(watch.leases.now()) == len(GPUS) and ledger.parked() >= 2, SETTLE_S, "jobs to run, and to wait"
    )


def _left(host: Booted) -> list[str]:
    """Return the volumes of the machine's Docker, and what is left of scratch folders on its disk."""
    volumes = [volume["Name"] for volume in json.loads(host.docker.request("GET", "/volumes")[1])["Volumes"] or ()]
    return volumes + host.debian.shell("find /var/lib/docker -name needle-9").stdout.split()
