"""The plan of one attempt: the exact container that Docker is asked for.

Owns names, labels and every safety default of a container. Pure: the same job always gives the same plan, and the plan
is the body of Docker's `POST /containers/create`.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from celery_docker.core import container, devicekinds, gpus, jobspec, jobtexts, kinds, limitkinds, ownfolder, userrules
from celery_docker.core.admission import NOTHING, Needs
from celery_docker.core.joblogs import JobLogs
from celery_docker.core.policy import Policy

# The container's own log is the complete copy that adoption reads from. The driver `local` keeps bytes; `json-file`
# keeps text, in which a byte that is not UTF-8 becomes three. Until the container is removed, a byte of short lines
# costs the disk 1.4 bytes (`json-file`: 2). Nothing may rotate it away: Docker takes the daemon's value for every
# option that is not given, and refuses "unlimited"; an exabyte is as good.
_LOG_CONFIG = {"Type": "local", "Config": {"max-size": "1000p", "max-file": "1", "compress": "false"}}
_NANO = 10**9
# What `docker run --entrypoint ""` sends; an empty list would mean the image's own.
NO_ENTRYPOINT = [""]
# The id of an image, or its beginning as `docker images` prints it, has no tag.
_IMAGE_ID = re.compile(r"[0-9a-f]{12,64}")
_JOB_ID_VARIABLE = "CELERY_DOCKER_JOB_ID"
# By which programs know where to write.
_FOLDER_VARIABLES = ("HOME", "TMPDIR")


@dataclass(frozen=True)
class Resolved:
    """The names in a job, resolved on this host: `user` as `uid[:gid]`, paths without symlinks; None: not asked for.

    `user_name` is the user's name on this host, or the uid where it has none; `groups` are a submitter's further ones.
    `mounts` are the sources of the job's, in their order.
    """

    user: str | None = None
    inputpath: str | None = None
    outputpath: str | None = None
    logoutfile: str | None = None
    logerrfile: str | None = None
    user_name: str | None = None
    groups: tuple[int, ...] = ()
    mounts: tuple[str, ...] = ()


@dataclass(frozen=True)
class ContainerPlan:
    """A container to be made: its name, the request body in the words of the Docker API (1.41), and when to pull.

    `user_name` is for an image that does not know the job's user; see `imageuser`. `is_strict`: the policy names users,
    or groups, so the container must not be started while the groups of its image are not known. `platform` is that of
    its image, None: Docker's own. `script` and `stdin` are texts to be put into `ownfolder`, None: the job has none;
    `has_scratch`: an empty folder of the job's user is to be made there.
    """

    name: str
    body: dict[str, Any]
    pull: str = kinds.DEFAULT_PULL
    user_name: str | None = None
    is_strict: bool = False
    platform: str | None = None
    script: str | None = field(default=None, repr=False)
    stdin: str | None = field(default=None, repr=False)
    has_scratch: bool = False

    @property
    def image(self) -> str:
        return str(self.body["Image"])

    @property
    def binds(self) -> list[Mapping[str, Any]]:
        """The mounts of files and folders of the host."""
        return [mount for mount in self.body["HostConfig"]["Mounts"] if mount.get("Type") != "volume"]


def plan(
    spec: jobspec.JobSpec,
    *,
    job_id: str,
    attempt: int,
    host: str,
    resolved: Resolved,
    policy: Policy,
    boot: str = "",
    digest: str = "",
    logs: JobLogs | None = None,
    given: Sequence[str] | None = None,
    needs: Needs = NOTHING,
) -> ContainerPlan:
    """Return the container for one attempt of a job on this host, since the boot with this id (empty: unknown).

    `digest` is that of the job's arguments. `given` are the GPUs that the job has been given, by name; None: it is not
    to be run, and has what it asks for. `needs` is what it takes of the host's offer.
    """
    body: dict[str, Any] = {
        "Image": tagged(spec.image),
        "Env": _environment(spec, job_id),
        "Labels": {
            **_labels(spec, job_id, attempt, host, boot),
            **(logs.labels if logs is not None else {}),
            **_labels_of_run(digest, given or (), needs),
        },
        "AttachStdout": True,
        "AttachStderr": True,
        "HostConfig": _host_config(spec, resolved, policy),
    }
    if requests := gpus.preview(spec.gpus) if given is None else gpus.requests(given):
        body["HostConfig"]["DeviceRequests"] = requests
    if spec.read_only and (spec.scratch or spec.script is not None or spec.stdin is not None):
        body["HostConfig"]["Mounts"].append(_volume(ownfolder.FOLDER, body["Labels"]))
    body |= _changes(spec, resolved)
    return ContainerPlan(
        *(container.name_of(job_id), body, spec.pull or kinds.DEFAULT_PULL, resolved.user_name),
        is_strict=resolved.user is not None
        and (policy.self_only or userrules.ANY not in policy.users or spec.group_add is not None),
        platform=spec.platform,
        script=spec.script,
        stdin=spec.stdin,
        has_scratch=bool(spec.scratch),
    )


def _changes(spec: jobspec.JobSpec, resolved: Resolved) -> dict[str, Any]:
    """Return what a job wants otherwise than its image."""
    entrypoint = None if spec.entrypoint is None else list(spec.entrypoint) or NO_ENTRYPOINT
    changes = {
        "Cmd": None if spec.command is None else list(spec.command),
        "Entrypoint": entrypoint if spec.script is None else list(jobtexts.entrypoint(spec.script)),
        "WorkingDir": spec.workdir,
        "StopSignal": spec.stop_signal,
        "Hostname": spec.hostname,
        "User": resolved.user,
    }
    return {name: value for name, value in changes.items() if value is not None}


def in_slice(plan: ContainerPlan, slice_path: str, driver: str) -> ContainerPlan:
    """Return the plan of a container whose control group is below that of a slice, as Docker's driver wants it named.

    `slice_path` is as the kernel has it, such as /celery-docker.slice; `driver` is `systemd` or `cgroupfs`.
    """
    parent = slice_path.rpartition("/")[2] if driver == "systemd" else slice_path
    return replace(plan, body={**plan.body, "HostConfig": {**plan.body["HostConfig"], "CgroupParent": parent}})


def tagged(image: str) -> str:
    """Return the name with the tag that Docker assumes (else a pull fetches every tag); an image id has none."""
    last = image.rpartition("/")[2]
    return image if ":" in last or "@" in last or _IMAGE_ID.fullmatch(image) else f"{image}:latest"


def docker_run_line(plan: ContainerPlan) -> str:
    """Return the `docker run` that makes the same container, quoted for a shell; secrets in the environment too.

    SCRIPT and STDIN stand for the paths of files with these texts of the job.
    """
    body = plan.body
    entrypoint = body.get("Entrypoint", [])
    # The flag takes one word; what follows it can only stand before the command.
    words = [plan.image, *entrypoint[1:], *body.get("Cmd", [])]
    line = shlex.join(["docker", "run", *_flags(plan, entrypoint), *words])
    return line if plan.stdin is None else f"{line} < STDIN"


def _flags(plan: ContainerPlan, entrypoint: list[str]) -> list[str]:
    body, config = plan.body, plan.body["HostConfig"]
    log = config["LogConfig"]
    memory = [str(config[key]) for key in ("Memory", "MemorySwap") if key in config]
    pairs = [
        ("--name", [plan.name]),
        ("--pull", [plan.pull]),
        ("--platform", [plan.platform] if plan.platform else []),
        ("--network", [config["NetworkMode"]]),
        ("--hostname", [body["Hostname"]] if "Hostname" in body else []),
        ("--add-host", config.get("ExtraHosts", [])),
        ("--dns", config.get("Dns", [])),
        ("--cap-drop", config.get("CapDrop", [])),
        ("--cap-add", config.get("CapAdd", [])),
        ("--security-opt", config["SecurityOpt"]),
        ("--pids-limit", [str(config["PidsLimit"])]),
        ("--log-driver", [log["Type"]]),
        ("--log-opt", _assignments(log["Config"])),
        ("--memory", memory[:1]),
        ("--memory-swap", memory[1:]),
        ("--cpus", [str(config["NanoCpus"] / _NANO)] if "NanoCpus" in config else []),
        ("--shm-size", [str(config["ShmSize"])] if "ShmSize" in config else []),
        ("--ulimit", [f"{limit['Name']}={limit['Soft']}:{limit['Hard']}" for limit in config.get("Ulimits", [])]),
        ("--device", [":".join(device.values()) for device in config.get("Devices", [])]),
        *gpus.flags(config.get("DeviceRequests", [])),
        ("--mount", [_mount_option(mount) for mount in _mounts_to_type(plan)]),
        ("--tmpfs", [f"{path}:{options}".rstrip(":") for path, options in config.get("Tmpfs", {}).items()]),
        ("--env", body["Env"]),
        ("--label", _assignments(body["Labels"])),
        ("--user", [body["User"]] if "User" in body else []),
        ("--group-add", config.get("GroupAdd", [])),
        ("--workdir", [body["WorkingDir"]] if "WorkingDir" in body else []),
        ("--stop-signal", [body["StopSignal"]] if "StopSignal" in body else []),
        ("--entrypoint", entrypoint[:1]),
    ]
    switches = {"--init": True, "--interactive": plan.stdin is not None, "--read-only": "ReadonlyRootfs" in config}
    given = [flag for flag, is_given in switches.items() if is_given]
    return [*given, *(word for flag, texts in pairs for text in texts for word in (flag, text))]


def _assignments(table: Mapping[str, str]) -> list[str]:
    return [f"{name}={text}" for name, text in table.items()]


def _mounts_to_type(plan: ContainerPlan) -> list[Mapping[str, Any]]:
    """Return the mounts; that of a file stands for a script, a volume for an empty folder."""
    mounts = plan.binds
    if plan.script is not None:
        mounts.append(_bind("SCRIPT", ownfolder.path(ownfolder.SCRIPT), read_only=True))
    if plan.has_scratch:
        mounts.append(_volume(ownfolder.path(ownfolder.SCRATCH), plan.body["Labels"]))
    return mounts


def _mount_option(mount: Mapping[str, Any]) -> str:
    source = [f"source={mount['Source']}"] if "Source" in mount else []
    parts = [f"type={mount['Type']}", *source, f"target={mount['Target']}"]
    return ",".join(map(_csv_cell, [*parts, "readonly"] if mount["ReadOnly"] else parts))


def _csv_cell(text: str) -> str:
    """Return a cell as Docker's CSV reader wants it: a path may hold commas and quotes."""
    return '"' + text.replace('"', '""') + '"' if set(text) & set(',"\r\n') else text


def _environment(spec: jobspec.JobSpec, job_id: str) -> list[str]:
    folders = dict.fromkeys(_FOLDER_VARIABLES, ownfolder.path(ownfolder.SCRATCH)) if spec.scratch else {}
    return sorted(_assignments({**folders, **(spec.env or {}), _JOB_ID_VARIABLE: job_id}))


def _labels(spec: jobspec.JobSpec, job_id: str, attempt: int, host: str, boot: str) -> dict[str, str]:
    name_label = {} if spec.name is None else {container.LABEL_NAME: spec.name}
    return {
        **(spec.labels or {}),
        **name_label,
        container.LABEL_JOB: job_id,
        container.LABEL_HOST: host,
        container.LABEL_ATTEMPT: str(attempt),
        **({container.LABEL_BOOT: boot} if boot else {}),
    }


def _labels_of_run(digest: str, given: Sequence[str], needs: Needs) -> dict[str, str]:
    """Return the labels by which a container is followed; empty ones are there to replace those of its image."""
    labels = {
        container.LABEL_ARGUMENTS: digest,
        container.LABEL_GPUS: ",".join(given),
        container.LABEL_NEEDS: "" if needs == NOTHING else str(needs),
    }
    return labels if digest else {name: text for name, text in labels.items() if text}


def _host_config(spec: jobspec.JobSpec, resolved: Resolved, policy: Policy) -> dict[str, Any]:
    config: dict[str, Any] = {
        "Init": True,
        "NetworkMode": spec.network or policy.networks[0],
        "SecurityOpt": ["no-new-privileges"],
        "PidsLimit": spec.pids_limit or policy.limits.pids,
        "LogConfig": _LOG_CONFIG,
        "Mounts": _mounts(spec, resolved),
    }
    if resolved.groups:
        config["GroupAdd"] = [str(gid) for gid in resolved.groups]
    memory = spec.memory or policy.usual_memory_bytes
    cpus = spec.cpus or policy.usual_cpus
    if memory is not None:
        config["Memory"] = config["MemorySwap"] = memory
    if cpus is not None:
        config["NanoCpus"] = round(cpus * _NANO)
    if spec.shm_size is not None:
        config["ShmSize"] = spec.shm_size
    if spec.ulimits is not None:
        config["Ulimits"] = [_ulimit(name, limit) for name, limit in spec.ulimits.items()]
    if spec.read_only:
        config["ReadonlyRootfs"] = True
    if spec.device is not None:
        config["Devices"] = [_device(*devicekinds.device_of(text)) for text in spec.device]
    if spec.tmpfs is not None:
        config["Tmpfs"] = dict(spec.tmpfs)
    lists = {"CapDrop": spec.cap_drop, "CapAdd": spec.cap_add, "ExtraHosts": spec.add_host, "Dns": spec.dns}
    return config | {key: list(texts) for key, texts in lists.items() if texts is not None}


def _device(path: str, place: str, permissions: str) -> dict[str, str]:
    return {"PathOnHost": path, "PathInContainer": place, "CgroupPermissions": permissions}


def _ulimit(name: str, limit: str) -> dict[str, Any]:
    soft, hard = limitkinds.ulimit_of(limit)
    return {"Name": name, "Soft": soft, "Hard": hard}


def _mounts(spec: jobspec.JobSpec, resolved: Resolved) -> list[dict[str, Any]]:
    mounts = []
    if resolved.inputpath is not None:
        mounts.append(_bind(resolved.inputpath, jobspec.CONTAINER_INPUT, read_only=True))
    if resolved.outputpath is not None:
        mounts.append(_bind(resolved.outputpath, jobspec.CONTAINER_OUTPUT, read_only=False))
    further = zip(spec.mounts or (), resolved.mounts, strict=True)
    return mounts + [_bind(source, mount.target, read_only=mount.is_read_only) for mount, source in further]


def _volume(target: str, labels: Mapping[str, str]) -> dict[str, Any]:
    """Return the mount of an empty volume without a name, which goes with its container."""
    ours = {name: labels[name] for name in (container.LABEL_JOB, container.LABEL_HOST)}
    options = {"NoCopy": True, "Labels": ours}
    return {"Type": "volume", "Target": target, "ReadOnly": False, "VolumeOptions": options}


def _bind(source: str, target: str, *, read_only: bool) -> dict[str, Any]:
    return {"Type": "bind", "Source": source, "Target": target, "ReadOnly": read_only}
