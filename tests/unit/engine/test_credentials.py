"""The credentials for a registry while the files of the package are being replaced."""

from __future__ import annotations

import sys

import pytest

from celery_docker import errors
from celery_docker.engine import credentials


def test_in_the_middle_of_an_upgrade_the_host_is_at_fault(monkeypatch: pytest.MonkeyPatch) -> None:
    """An upgrade of Debian brings another Python: the folder of the modules is gone before the worker is told."""
    monkeypatch.setitem(sys.modules, "docker.auth", None)
    with pytest.raises(errors.HostError, match=r"in the middle of its upgrade: .*docker.auth.*; see dpkg --audit"):
        credentials.pull_arguments("busybox", "docker")
