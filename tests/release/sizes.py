"""The size of an installation."""

from __future__ import annotations

from tests.release.candidate import Candidate

_DEB_LIMIT_BYTES = 3_000_000
_INSTALLED_LIMIT_BYTES = 40_000_000


def sizes(candidate: Candidate) -> str:
    """Compare the sizes of the package, and of all that is there once it is installed, with their limits."""
    with candidate.ready_machine() as installed:
        installed.install(candidate.package)
        used = installed.debian.shell(
            "{ dpkg -L celery-docker; find /opt/celery -name '*.pyc'; } | sort -u | tr '\\n' '\\0' |"
            " xargs -0 stat --format='%F:%s' | sed -n 's/^regular .*://p'"
        ).stdout
    package_bytes, installed_bytes = candidate.package.stat().st_size, sum(map(int, used.split()))
    report = f".deb {package_bytes / 1e6:.1f} MB, installed {installed_bytes / 1e6:.1f} MB"
    assert package_bytes <= _DEB_LIMIT_BYTES, report
    assert installed_bytes <= _INSTALLED_LIMIT_BYTES, report
    return report
