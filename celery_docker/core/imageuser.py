"""User of a job whom its image does not know: the name and the home that programs look for in the environment. Pure.

Docker takes HOME from the image's /etc/passwd. Whoever is not in there has no name, and `/` for a home, which only root
may write: Python's `getpass.getuser()` fails, and so does all that writes to ~/.cache. What the job or the image says
is kept.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from typing import Any

from celery_docker.core.plan import ContainerPlan

_NAMES = ("USER", "LOGNAME")
_HOME = "HOME"
_TMP = "/tmp"  # noqa: S108  # the container's own
# The second where a job mounts a folder of the host at /home, in which Docker would make the first.
_OWN_HOMES = ("/home/celery-docker", "/celery-docker")
_FIELDS = 7
_ID = re.compile(r"[0-9]{1,10}")


@dataclass(frozen=True)
class ImageUsers:
    """The users that an image knows, and whether everybody may write its /tmp.

    `false_gids`: gids that are the name of another group in the image.
    """

    uids: frozenset[int]
    has_open_tmp: bool
    false_gids: frozenset[int] = frozenset()


def uids_of(passwd: str) -> frozenset[int]:
    """Return the uids in the text of an /etc/passwd; a line without its seven fields counts for nothing."""
    rows = (line.split(":") for line in passwd.split("\n"))
    return frozenset(int(row[2]) for row in rows if len(row) == _FIELDS and _ID.fullmatch(row[2]))


def false_gids_of(groups: str) -> frozenset[int]:
    """Return the gids in the text of an /etc/group that are the name of a group with another gid, or with none.

    Docker looks for the number of a user's group among the names too. For instance:

        image   /etc/group has the line 1001:x:42:
        job     is to run as 1001:1001
        Docker  gives it the gid 1001, and with it the group 42, which may be the host's shadow
    """
    rows = (line.strip().split(":") for line in groups.split("\n"))
    return frozenset(int(row[0]) for row in rows if _ID.fullmatch(row[0]) and row[2:3] != row[:1])


def is_open(mode: int) -> bool:
    """Return True for the mode bits of a folder that everybody may enter and write."""
    return mode & 0o003 == 0o003


def missing(plan: ContainerPlan, image_variables: Collection[str]) -> list[str]:
    """Return the variables that neither the job nor the image sets; none for a job without a user of its own."""
    if plan.user_name is None:
        return []
    own = {assignment.partition("=")[0] for assignment in plan.body["Env"]}
    return [name for name in (*_NAMES, _HOME) if name not in own and name not in image_variables]


def completed(plan: ContainerPlan, image_variables: Collection[str], users: ImageUsers) -> ContainerPlan:
    """Return the plan with a name and a home for its user, where the image does not know the user.

    The home is /tmp, where everybody may write it, else a tmpfs. Root may write `/` and needs none.
    """
    uid, _, gid = plan.body.get("User", "").partition(":")
    names = missing(plan, image_variables)
    if not names or not uid.isdigit() or int(uid) in users.uids:
        return plan
    values = {name: plan.user_name for name in _NAMES}
    tmpfs = {}
    if uid != "0":
        host_config = plan.body["HostConfig"]
        has_open_tmp = _has_open_tmp(host_config, users)
        values[_HOME] = _TMP if has_open_tmp else _own_home(host_config)
        if _HOME in names and not has_open_tmp:
            tmpfs = {values[_HOME]: f"uid={uid},gid={gid},mode=0700,exec"}
    env = sorted([*plan.body["Env"], *(f"{name}={values[name]}" for name in names if name in values)])
    host_config = dict(plan.body["HostConfig"])
    if tmpfs:
        host_config["Tmpfs"] = {**tmpfs, **host_config.get("Tmpfs", {})}
    return replace(plan, body={**plan.body, "Env": env, "HostConfig": host_config})


def _has_open_tmp(host_config: Mapping[str, Any], users: ImageUsers) -> bool:
    """Return True if everybody in the container may write its /tmp: that of the image, or one that the job has."""
    if _TMP in _targets(host_config):
        return False
    options = host_config.get("Tmpfs", {}).get(_TMP)
    if options is not None:
        return not any(word == "ro" or word.startswith("mode=") for word in options.split(","))
    return users.has_open_tmp and "ReadonlyRootfs" not in host_config


def _own_home(host_config: Mapping[str, Any]) -> str:
    first, second = _OWN_HOMES
    return second if any(first.startswith(f"{target}/") for target in _targets(host_config)) else first


def _targets(host_config: Mapping[str, Any]) -> list[str]:
    return [mount["Target"] for mount in host_config.get("Mounts", ())]
