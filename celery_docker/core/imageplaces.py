"""Places of an image at which its container has something mounted: what would be made in the folders of a job. Pure.

Docker makes the folder that it mounts on, as root, and follows the links of the image to it. So nothing is mounted in
what a job mounts of its host, by whatever way it leads there. Paths come in normalised, without '..' and '//'.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from celery_docker.core import jobspec
from celery_docker.core.mountkinds import is_within
from celery_docker.core.plan import ContainerPlan

# What Docker and Podman put into each container, or make anew there.
_ENGINES = ("/sbin/docker-init", "/etc", "/run", "/dev", "/proc", "/sys")
_FIELDS = {jobspec.CONTAINER_INPUT: "inputpath", jobspec.CONTAINER_OUTPUT: "outputpath"}


def targets(plan: ContainerPlan, *, writable: bool = False) -> list[str]:
    """Return where the container has files and folders of the host; only those that are `writable`, if asked for."""
    return [mount["Target"] for mount in plan.binds if not (writable and mount["ReadOnly"])]


def further(plan: ContainerPlan) -> list[str]:
    """Return the targets of the mounts beside input and output."""
    return [target for target in targets(plan) if target not in _FIELDS]


def holding(plan: ContainerPlan, path: str) -> str | None:
    """Return the target in which a path of the container lies, by its names; None where it lies in no mount."""
    return next((target for target in targets(plan) if is_within(path, target)), None)


def name_of(target: str) -> str:
    """Return the words for what is mounted at a target."""
    return f"the {_FIELDS[target]}" if target in _FIELDS else f"the mount {target!r}"


def asked(plan: ContainerPlan, volumes: Sequence[str]) -> list[str]:
    """Return the paths of the image of which `problem` has to know where they lead; `volumes` are the image's."""
    if not targets(plan):
        return []
    return [*further(plan), *_ENGINES, *volumes]


def problem(
    plan: ContainerPlan, volumes: Sequence[str], places: Mapping[str, str | None], *, must_exist: bool = False
) -> str | None:
    """Return the first reason for which a container must not be made; None: it may.

    `places` has where each path leads in the image alone, None for what no folder can be at, or is not there where it
    `must_exist`.
    """
    return next(_problems(plan, volumes, places, ", or is not there" if must_exist else ""), None)


def _problems(
    plan: ContainerPlan, volumes: Sequence[str], places: Mapping[str, str | None], missing: str
) -> Iterator[str]:
    image = f"image {plan.image!r}"
    for target in further(plan):
        if places[target] != target:
            yield f"mounts: {target!r} lies behind a link or a file of {image}{missing}; name a folder without one"
    for target in targets(plan):
        for path in _ENGINES:
            if _is_near(places[path] or path, target):
                field = _FIELDS.get(target, "mounts")
                yield f"{field}: {target!r} is in the way of {path} of {image}, which each container has for itself"
        for volume in volumes:
            place = places[volume]
            if place is None or (volume != target and _is_in_the_way(volume, place, target)):
                yield (
                    f"{image}: its VOLUME {volume!r} lies in {name_of(target)}, and what the job writes there would "
                    "be lost with its container; build the image without it"
                )


def _is_near(path: str, target: str) -> bool:
    return is_within(path, target) or is_within(target, path)


def _is_in_the_way(volume: str, place: str, target: str) -> bool:
    """Tell whether a volume would be mounted in a target, or over it. Below a volume without links a target is safe."""
    return is_within(place, target) if volume == place else _is_near(place, target)
