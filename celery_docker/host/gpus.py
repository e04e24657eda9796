"""The GPUs of this host that jobs can be given: those of CDI's specifications, else those of NVIDIA's driver.

Only looks. Invariant: a file that is damaged, or made to harm, hides at most its own devices.
"""

from __future__ import annotations

import os
import shutil
import stat
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from celery_docker.core import cdispecs, gpus, textinput

NVIDIA_DRIVER = "/proc/driver/nvidia/gpus"
# Docker gives out GPUs of NVIDIA if it finds this program at its start.
_NVIDIA_HOOK = "nvidia-container-runtime-hook"
_SYSTEM_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
_SUFFIXES = (".json", ".yaml", ".yml")
_MOST_FILES = 256


@dataclass(frozen=True)
class Gpus:
    """The GPUs that a host offers, by name, in the order in which jobs get them.

    `reason` says where they come from, or why there are none; `problems` what hides some, each with its remedy.
    """

    names: tuple[str, ...] = ()
    reason: str = ""
    problems: tuple[str, ...] = ()


def offered(setting: str, cdi_folders: Sequence[str], *, is_podman: bool = False, driver: str = NVIDIA_DRIVER) -> Gpus:
    """Return the GPUs that this host offers by a value of CELERY_DOCKER_GPUS that was parsed before.

    `cdi_folders` are those in which Docker looks for specifications; none: it has no CDI.
    """
    wanted = gpus.parse_setting(setting)
    if wanted == 0:
        return Gpus(reason="CELERY_DOCKER_GPUS is 0")
    if is_podman:
        return Gpus(reason="Podman takes no GPUs by the API of Docker")
    if isinstance(wanted, tuple):
        return Gpus(wanted, "CELERY_DOCKER_GPUS names them")
    there = _detected(cdi_folders, driver)
    if isinstance(wanted, int):
        return Gpus(there.names[:wanted], there.reason, there.problems)
    return there


def _detected(cdi_folders: Sequence[str], driver: str) -> Gpus:
    by_cdi = _of_cdi(cdi_folders)
    if by_cdi.names:
        return Gpus(by_cdi.names, f"by the specifications of CDI in {' and '.join(cdi_folders)}", by_cdi.problems)
    by_driver = _of_nvidia(driver)
    if by_driver and shutil.which(_NVIDIA_HOOK, path=_SYSTEM_PATH):
        return Gpus(by_driver, "by the driver of NVIDIA", by_cdi.problems)
    if by_driver:
        hidden = f"{len(by_driver)} of NVIDIA cannot be given to containers: install nvidia-container-toolkit"
        return Gpus((), "Docker cannot give out those that are here", (*by_cdi.problems, hidden))
    where = f"no specification of CDI in {' and '.join(cdi_folders)}" if cdi_folders else "Docker has no CDI here"
    return Gpus((), f"{where}, and there is no driver of NVIDIA", by_cdi.problems)


def _of_cdi(folders: Sequence[str]) -> cdispecs.Gpus:
    problems: list[str] = []
    read = cdispecs.gpus_of([_devices(folder, problems) for folder in folders])
    return cdispecs.Gpus(read.names, (*problems, *read.problems))


def _devices(folder: str, problems: list[str]) -> dict[str, list[cdispecs.Device]]:
    """Return the devices of each specification in a folder; what cannot be read is added to `problems`."""
    try:
        paths = sorted(path for path in Path(folder).iterdir() if path.suffix in _SUFFIXES)
    except OSError:
        return {}
    devices = {}
    for path in paths[:_MOST_FILES]:
        try:
            devices[str(path)] = cdispecs.parse(_text(path), is_json=path.suffix == ".json")
        except OSError as exc:
            problems.append(f"{path} cannot be read: {exc.strerror}")
        except ValueError as exc:
            problems.append(f"{path} {exc}")
    return devices


def _text(path: Path) -> str:
    """Return what is in a file; a pipe or a device is none, and would be waited for."""
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise ValueError("is no file")
        with open(descriptor, "rb", closefd=False) as file:
            return textinput.text(file.read(textinput.MAX_BYTES + 1))
    finally:
        os.close(descriptor)


def _of_nvidia(driver: str) -> tuple[str, ...]:
    """Return the indexes of the GPUs of NVIDIA's driver, which counts them by their places on the bus."""
    try:
        return tuple(map(str, range(min(len(os.listdir(driver)), gpus.MOST))))
    except OSError:
        return ()
