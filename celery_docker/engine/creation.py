"""Creation of a container: first a look at its image, last one at the folders that the start would make.

A part of the engine. Invariants: a container that is returned has the plan's groups and no others, and its start makes
no folder on the host. Must not import docker.
"""

from __future__ import annotations

import posixpath
from collections.abc import Callable, Iterator
from dataclasses import replace
from urllib.parse import urlencode

from celery_docker import errors
from celery_docker.core import container, imageuser, jobspec
from celery_docker.core.plan import ContainerPlan, in_slice
from celery_docker.engine import api, faults, imageusers, podman

_LIFE_S = 10.0


class Creation:
    """Makes containers in the control group `slice_path`, if there is one and Docker's driver permits it."""

    def __init__(
        self,
        calls: api.Calls,
        slice_path: str,
        inspect: Callable[[str], container.Container | None],
        remove: Callable[[str], None],
    ) -> None:
        self._calls = calls
        self._images = imageusers.ImageUsersCache(calls)
        self._slice_path = slice_path
        self._inspect = inspect
        self._remove = remove
        # The driver of the Docker process of that number: the next one may be set to another.
        self._driver: tuple[int, str] | None = None

    def create(self, plan: ContainerPlan) -> str:
        """Make the planned container and return its id; see `DockerEngine.create`."""
        image = self._images.look_up(plan.image) if plan.user_name is not None else None
        if image is not None:
            _check_volumes(plan, image)
            plan = self._completed(plan, image)
        container_id = self._create(plan)
        try:
            if plan.is_strict:
                self._check_image(plan, container_id, image)
            self._check_folders(plan, container_id, image)
            self._check_tmpfs(plan, container_id)
        except (errors.HostError, errors.RequestError):
            self._remove(container_id)
            raise
        return container_id

    def _completed(self, plan: ContainerPlan, image: imageusers.Image) -> ContainerPlan:
        """Return the plan with a name and a home for its user. Raises `RequestError` for the groups of the image."""
        users = self._images.known(image.image_id)
        if users is None:
            # An image shows its files in a container only, and where nothing is mounted over them.
            host_config = {**plan.body["HostConfig"], "Mounts": [], "Tmpfs": {}}
            container_id = self._create(replace(plan, body={**plan.body, "HostConfig": host_config}))
            try:
                users = self._images.learn(image.image_id, container_id)
            finally:
                self._remove(container_id)
        if users is None:
            if plan.is_strict:
                raise errors.RequestError(f"image {plan.image!r}: its /etc/passwd and /etc/group cannot be read")
            return plan
        for gid in (plan.body["User"].partition(":")[2], *plan.body["HostConfig"].get("GroupAdd", ())):
            if gid.isdigit() and int(gid) in users.false_gids:
                raise errors.RequestError(
                    f"image {plan.image!r}: its /etc/group has {gid} as the name of another group, "
                    f"which Docker would give to a user of group {gid}; remove that line"
                )
        return imageuser.completed(plan, image.variables, users)

    def _check_image(self, plan: ContainerPlan, container_id: str, image: imageusers.Image | None) -> None:
        """Raise `HostError` where the container is of another image than the one that was looked at."""
        made = self._inspect(container_id)
        if made is None or image is None or made.image_id != image.image_id:
            raise errors.HostError(f"image {plan.image!r} was replaced while its container was made")

    def _check_folders(self, plan: ContainerPlan, container_id: str, image: imageusers.Image | None) -> None:
        """Raise `RequestError` where the start would make a folder of root's in the job's output folder."""
        for field, path in self._folders(plan, image):
            if self._images.is_missing(container_id, path):
                raise errors.RequestError(
                    f"{field}: {path!r} is not there in the container, and Docker would make it in the outputpath, "
                    "as root; make it there first"
                )

    def _check_tmpfs(self, plan: ContainerPlan, container_id: str) -> None:
        """Raise `RequestError` for a tmpfs behind a link of the image.

        Docker would follow it into the job's output, for instance, and make a folder of root's there, or into /proc,
        and not start. To Podman a link that leads to a mount is not there: beside mounts the folder has to be.
        """
        config = plan.body["HostConfig"]
        must_exist = bool(config["Mounts"]) and self._calls.is_podman()
        for path in config.get("Tmpfs", ()):
            obstacle = self._images.obstacle(container_id, path, must_exist=must_exist)
            if obstacle is not None:
                missing, remedy = (", or is not there", "of the image") if must_exist else ("", "without one")
                raise errors.RequestError(
                    f"tmpfs: {path!r} lies behind {obstacle!r} of image {plan.image!r}, which is a link or a "
                    f"file{missing}; name a folder {remedy}"
                )

    def _folders(self, plan: ContainerPlan, image: imageusers.Image | None) -> Iterator[tuple[str, str]]:
        """Yield the folders that may not be there before the start, with the field that names each."""
        if not _has_output(plan):
            return
        workdir = plan.body.get("WorkingDir")
        # Where links of the image lead, Docker knows; Podman makes the folder of its own layer at the start only.
        if workdir is not None and (_is_output(workdir) or not self._calls.is_podman()):
            yield "workdir", workdir
        if image is not None and workdir is None and _is_output(image.workdir):
            yield f"image {plan.image!r}, WORKDIR", image.workdir

    def _create(self, plan: ContainerPlan) -> str:
        if self._slice_path and (driver := self._cgroup_driver()) in ("systemd", "cgroupfs"):
            plan = in_slice(plan, self._slice_path, driver)
        try:
            body = podman.body(plan.body) if self._calls.is_podman() else plan.body
            query = {"name": plan.name} | ({"platform": plan.platform} if plan.platform else {})
            if plan.platform and self._calls.is_podman() and not self._images.is_of(plan.image, plan.platform):
                raise errors.ImageMissing(f"image {plan.image!r} for {plan.platform} is not on this host; pull it")
            answer = self._calls.ask("POST", f"/containers/create?{urlencode(query)}", body=body)
            if answer.ok:
                return str(self._calls.parsed(answer)["Id"])
        except errors.EngineAway:
            state = self._inspect(plan.name)
            if state is None or not plan.body["Labels"].items() <= state.labels.items():
                raise
            return state.container_id
        raise faults.create_refused(plan.name, plan.image, answer.status, answer.text, self._calls.service)

    def _cgroup_driver(self) -> str:
        """Return `systemd` or `cgroupfs`; empty where Docker is not root's, and can choose no group."""
        life = self._calls.life(_LIFE_S)
        if self._driver is None or self._driver[0] != life:
            about = self._calls.about("/info")
            is_rootless = any("rootless" in option for option in about.get("SecurityOptions") or ())
            self._driver = life, "" if is_rootless else str(about.get("CgroupDriver", ""))
        return self._driver[1]


def _check_volumes(plan: ContainerPlan, image: imageusers.Image) -> None:
    """Raise `RequestError` for a volume of the image's over a folder of the output.

    Docker makes that folder as root, even to answer whether it is there.
    """
    for volume in filter(_is_output, image.volumes):
        if _has_output(plan) and posixpath.normpath(volume) != jobspec.CONTAINER_OUTPUT:
            raise errors.RequestError(
                f"image {plan.image!r}: its VOLUME {volume!r} lies in the outputpath, and what the job writes there "
                "would be lost with its container; build the image without it"
            )


def _has_output(plan: ContainerPlan) -> bool:
    return not all(mount["ReadOnly"] for mount in plan.body["HostConfig"]["Mounts"])


def _is_output(path: str) -> bool:
    return f"{posixpath.normpath(path)}/".startswith(f"{jobspec.CONTAINER_OUTPUT}/")
