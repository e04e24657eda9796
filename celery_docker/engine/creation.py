"""Creation of a container: first a look at its image, last one at the folders that the start would make.

A part of the engine. Invariants: a container that is returned has the plan's groups and no others, and its script;
neither its making nor its start makes a folder on the host. Must not import docker.
"""

from __future__ import annotations

import contextlib
import posixpath
from collections.abc import Callable
from dataclasses import replace
from urllib.parse import urlencode

from celery_docker import errors
from celery_docker.core import container, imageplaces, imageuser, jobtexts, ownfolder
from celery_docker.core.plan import NO_ENTRYPOINT, ContainerPlan, in_slice
from celery_docker.engine import api, faults, imageusers, placing, podman

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
        self.remove = remove
        # The driver of the Docker process of that number: the next one may be set to another.
        self._driver: tuple[int, str] | None = None

    def create(self, plan: ContainerPlan) -> str:
        """Make the planned container and return its id; see `DockerEngine.create`."""
        needs_image = plan.is_strict or plan.stdin is not None or placing.has_volume(plan)
        needs_image = needs_image or bool(imageplaces.further(plan))
        image = self._images.look_up(plan.image) if plan.user_name is not None or needs_image else None
        if image is not None:
            with _Look(self, plan) as look:
                self._check_places(plan, image, look)
                if placing.has_volume(plan):
                    self._check_own_folder(plan, look)
                plan = self._completed(plan, image, look) if plan.user_name is not None else plan
            plan = _with_stdin(plan, image)
        container_id = self.make(plan)
        try:
            if needs_image:
                self._check_image(plan, container_id, image)
            if plan.stdin is not None:
                self._check_shell(plan, container_id)
            placing.place(self._calls, plan, container_id)
            self._check_folders(plan, container_id, image)
            self._check_tmpfs(plan, container_id)
        except (errors.HostError, errors.RequestError):
            self.remove(container_id)
            raise
        return container_id

    def _check_places(self, plan: ContainerPlan, image: imageusers.Image, look: _Look) -> None:
        """Raise `RequestError` where something would be mounted, by a link too, in what the job mounts of its host.

        Docker would make a folder of root's there, even to answer whether it is there.
        """
        # To Podman a link that leads nowhere is not there, so that what a job mounts on has to be.
        must_exist = bool(imageplaces.further(plan)) and self._calls.is_podman()
        places = {
            path: self._images.place(
                image.image_id, path, look.container_id, must_exist=must_exist and path in imageplaces.further(plan)
            )
            for path in imageplaces.asked(plan, image.volumes)
        }
        problem = imageplaces.problem(plan, image.volumes, places, must_exist=must_exist)
        if problem is not None:
            raise errors.RequestError(problem)

    def _check_own_folder(self, plan: ContainerPlan, look: _Look) -> None:
        """Raise `RequestError` where the volume for what a job brings would not lie at its place.

        Docker would follow a link of the image into the job's output, for instance, and make a folder of root's there.
        To Podman such a link is not there: beside mounts the folder has to be.
        """
        must_exist = bool(plan.binds) and self._calls.is_podman()
        if self._images.obstacle(look.container_id(), ownfolder.FOLDER, must_exist=must_exist) is not None:
            missing, remedy = (", or is not there", "with that folder") if must_exist else ("", "without it")
            raise errors.RequestError(
                f"image {plan.image!r}: its {ownfolder.FOLDER!r} is a link or a file{missing}, and what a job with "
                f"read_only brings is to lie there; build the image {remedy}"
            )

    def _check_shell(self, plan: ContainerPlan, container_id: str) -> None:
        if not self._images.has(container_id, jobtexts.SHELL):
            raise errors.RequestError(
                f"stdin: image {plan.image!r} has no {jobtexts.SHELL}, which opens the standard input of its command; "
                "put the text into a file that the job mounts"
            )

    def _completed(self, plan: ContainerPlan, image: imageusers.Image, look: _Look) -> ContainerPlan:
        """Return the plan with a name and a home for its user. Raises `RequestError` for the groups of the image."""
        users = self._images.known(image.image_id)
        if users is None:
            users = self._images.learn(image.image_id, look.container_id())
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
        """Raise `RequestError` where the start would make a folder of root's in what the job mounts of its host."""
        field, path = "workdir", plan.body.get("WorkingDir")
        if path is None and image is not None:
            field, path = f"image {plan.image!r}, WORKDIR", image.workdir
        if path is None:
            return
        writable = imageplaces.targets(plan, writable=True)
        holding = imageplaces.holding(plan, posixpath.normpath(path))
        # Where links of the image lead, Docker knows; Podman makes the folder of its own layer at the start only.
        is_doubtful = field == "workdir" and writable and not self._calls.is_podman()
        if (holding or is_doubtful) and self._images.is_missing(container_id, path):
            where = imageplaces.name_of(holding or writable[0])
            raise errors.RequestError(
                f"{field}: {path!r} is not there in the container, and Docker would make it in {where}, as root; "
                "make it there first"
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

    def make(self, plan: ContainerPlan) -> str:
        """Make a container as it is planned, without a look; return its id."""
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


def _with_stdin(plan: ContainerPlan, image: imageusers.Image) -> ContainerPlan:
    """Return the plan with the command that opens its standard input, if it has one.

    Raises `RequestError` where neither job nor image names a command.
    """
    if plan.stdin is None:
        return plan
    entrypoint = plan.body.get("Entrypoint", image.entrypoint)
    command = plan.body.get("Cmd", () if "Entrypoint" in plan.body else image.command)
    words = [*(() if entrypoint == NO_ENTRYPOINT else entrypoint), *command]
    if not words:
        raise faults.no_command(plan.image)
    first, *others = jobtexts.with_stdin(words)
    return replace(plan, body={**plan.body, "Entrypoint": [first], "Cmd": others})


class _Look(contextlib.ExitStack):
    """A look at the image of a plan, in a container that is made when it is needed, and removed at the end."""

    def __init__(self, creation: Creation, plan: ContainerPlan) -> None:
        super().__init__()
        self._creation, self._plan = creation, plan
        self._container_id = ""

    def container_id(self) -> str:
        """Return the id of the container: an image shows its files where nothing is mounted over them only."""
        if not self._container_id:
            host_config = {**self._plan.body["HostConfig"], "Mounts": [], "Tmpfs": {}}
            self._container_id = self._creation.make(
                replace(self._plan, body={**self._plan.body, "HostConfig": host_config})
            )
            self.callback(self._creation.remove, self._container_id)
        return self._container_id
