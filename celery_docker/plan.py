"""The plan of one attempt: the exact container that Docker is asked for.

Owns names, labels and every safety default of a container. Pure: the same job always gives the same plan, and the plan
is the body of Docker's `POST /containers/create`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from celery_docker import container, jobspec, policy

# The container's own log is the complete copy that adoption reads from, so nothing may rotate it away. Docker takes the
# daemon's value for every option that is not given, and refuses "unlimited"; an exabyte is as good.
_LOG_CONFIG = {"Type": "json-file", "Config": {"max-size": "1000p", "max-file": "1", "compress": "false"}}
_NANO = 10**9


@dataclass(frozen=True)
class Resolved:
    """What a job's names mean on this host: `user` as `uid[:gid]`, paths without symlinks; None when not asked for."""

    user: str | None = None
    inputpath: str | None = None
    outputpath: str | None = None
    logoutfile: str | None = None
    logerrfile: str | None = None


@dataclass(frozen=True)
class ContainerPlan:
    """A container to be made: its name and the request body in the words of the Docker API (1.41)."""

    name: str
    body: dict[str, Any]

    @property
    def image(self) -> str:
        return str(self.body["Image"])


def plan(
    spec: jobspec.JobSpec, *, job_id: str, attempt: int, host: str, resolved: Resolved, rules: policy.Policy
) -> ContainerPlan:
    """Return the container for one attempt of a job on this host."""
    body: dict[str, Any] = {
        "Image": tagged(spec.image),
        "Labels": {
            container.LABEL_JOB: job_id,
            container.LABEL_HOST: host,
            container.LABEL_ATTEMPT: str(attempt),
        },
        "AttachStdout": True,
        "AttachStderr": True,
        "HostConfig": _host_config(resolved, rules),
    }
    if spec.command is not None:
        body["Cmd"] = list(spec.command)
    if spec.stop_signal is not None:
        body["StopSignal"] = spec.stop_signal
    if resolved.user is not None:
        body["User"] = resolved.user
    return ContainerPlan(name=container.name_of(job_id), body=body)


def tagged(image: str) -> str:
    """Return the image name with the tag that Docker would assume; the API's pull would otherwise fetch every tag."""
    last = image.rpartition("/")[2]
    return image if ":" in last or "@" in last else f"{image}:latest"


def _host_config(resolved: Resolved, rules: policy.Policy) -> dict[str, Any]:
    config: dict[str, Any] = {
        "Init": True,
        "NetworkMode": rules.networks[0],
        "SecurityOpt": ["no-new-privileges"],
        "PidsLimit": rules.limits.pids,
        "LogConfig": _LOG_CONFIG,
        "Mounts": _mounts(resolved),
    }
    if rules.limits.memory_bytes is not None:
        config["Memory"] = config["MemorySwap"] = rules.limits.memory_bytes
    if rules.limits.cpus is not None:
        config["NanoCpus"] = int(rules.limits.cpus * _NANO)
    return config


def _mounts(resolved: Resolved) -> list[dict[str, Any]]:
    wanted = (
        (resolved.inputpath, jobspec.CONTAINER_INPUT, True),
        (resolved.outputpath, jobspec.CONTAINER_OUTPUT, False),
    )
    return [
        {"Type": "bind", "Source": source, "Target": target, "ReadOnly": read_only}
        for source, target, read_only in wanted
        if source is not None
    ]
