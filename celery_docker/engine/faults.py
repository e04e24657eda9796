"""Meaning of a refusal of Docker, or of no answer at all: which of our errors, in which words.

Owns the judgement whose fault it is. Decides from typed facts (HTTP status, errno) where there are any. Must not import
docker: the engine hands over status, text and exceptions.
"""

from __future__ import annotations

import contextlib
import errno
import grp
import os
import pwd
import re
from collections.abc import Iterator

from celery_docker import errors
from celery_docker.core import wording
from celery_docker.engine import podman

CANNOT_START = {126: "it may not be executed; check its permissions in the image", 127: "not found in the image"}

# Docker reports a failed pull as one line of text, mostly with HTTP status 404 or 500, or inside a stream that began
# with 200. A status that can only mean the request decides first; then these words, which registries and dockerd use
# for a name that does not exist or may not be read. Everything else is the host's trouble and passes.
_REQUEST_STATUS = (400, 401, 403, 404)
_BUSY_STATUS = 429
_LOGIN_STATUS = (401, 403)
_LOGIN_PHRASES = (
    "pull access denied",
    "requested access to the resource is denied",
    "insufficient_scope",
    "unauthorized",
    "authentication required",
    "no basic auth credentials",
)
# Of the worker's own configuration of Docker; the unit says the same.
LOGIN_FOLDER = "/etc/celery-docker/docker"
# Of what Docker refuses with these, another try may see it otherwise: not there, too late, in use, too many.
_PASSING_STATUS = (404, 408, 409, _BUSY_STATUS)
# Docker has 400 for it, and writes 127 into the container, as if its command did not exist.
_KIND_PHRASE = "are you trying to mount a directory onto a file"
# Docker's words, and Podman's with status 500.
_NO_COMMAND_PHRASES = ("no command specified", "no command or entrypoint provided")
# Docker answers with 500 to these too, which stand in the job: its folder, mounts, user and command.
_JOBS_PHRASES = (
    "not a directory",
    _KIND_PHRASE,
    "unable to find user",
    "no matching entries in passwd file",
    "unable to find group",
    "no matching entries in group file",
    # Of an image's USER.
    "uids and gids must be in range",
    "invalid working directory",
    "chdir to cwd",
    "argument list too long",
    # runc's words for a limit of a process that is above what the host has, and crun's.
    "error setting rlimit",
    "setrlimit `",
    "exec format error",
    "executable file not found",
)
_BUSY_PHRASES = ("toomanyrequests", "too many requests", "rate limit")
_REQUEST_PHRASES = (
    "manifest unknown",
    "name unknown",
    "name invalid",
    "repository name not known",
    "repository does not exist",
    *_LOGIN_PHRASES,
    "no matching manifest",
    "does not match the specified platform",
    "invalid reference format",
)


# The package of a service, and the unit that makes its socket.
_ORIGINS = {"docker": ("docker.io", "docker.service"), "podman": ("podman", "podman.socket")}

# Docker passes the kernel's ENOSPC on as words only.
_FULL_PHRASE = "no space left on device"

# The words of runc for a container that the kernel ended before its command began, or that needs more than its limit
# already. Docker writes 127 into it, as if its command did not exist.
_SMALL_MEMORY_PHRASES = ("oom-killed", "memory limit too low", "memory.limit_in_bytes: device or resource busy")


# Podman has status 500 for it.
_NAME_TAKEN_PHRASE = "that name is already in use"
_NO_INIT_PHRASE = "container-init binary not found"


# The words of runc for a process that is gone when it is to start. With a memory limit that is the kernel's doing: the
# next try would end so too, or, where it gets a little further, run the job.
_ENDED_PHRASES = ("cannot start a stopped process", "container process is already dead", "init process is not running")


# The words of dockerd, and of runc for a program of NVIDIA's, for GPUs that a host offers and cannot give: its toolkit
# or driver is gone or broken, or CDI's specification. The job has asked for nothing wrong. A job's own command that is
# not found comes later in the text.
_NO_GPUS = re.compile(
    r'^exec: "nvidia-container|could not select device driver|error running (\w+ )?hook #\d|'
    r"cdi device injection failed",
    re.IGNORECASE,
)


def create_refused(
    name: str, image: str, status: int | None, text: str, service: str = "docker"
) -> errors.CeleryDockerError:
    """Return the error that a refused create stands for."""
    if status == 404:
        return errors.ImageMissing(f"image {image!r} is not on this host; pull it")
    if status == 409 or _NAME_TAKEN_PHRASE in text:
        return errors.NameTaken(f"a container named {name} exists already; look at it first")
    if any(phrase in text.lower() for phrase in _NO_COMMAND_PHRASES):
        return no_command(image)
    if _is_jobs_fault(status, text):
        return errors.RequestError(f"{service.capitalize()} refuses this job: {one_line(text)}")
    if _NO_INIT_PHRASE in text:
        return errors.HostError("Podman lacks the init that it puts into containers; apt install catatonit")
    return refused(f"container {name} cannot be made", status, text, service)


def start_refused(
    command: str, exit_code: int | None, status: int | None, text: str, service: str = "docker"
) -> errors.CeleryDockerError:
    """Return the error that a refused start stands for; `exit_code` is what Docker wrote into the container."""
    if any(phrase in text.lower() for phrase in _SMALL_MEMORY_PHRASES):
        return memory_too_small()
    if _NO_GPUS.search(text):
        return refused("the container cannot be given its GPUs", status, text, service)
    if _KIND_PHRASE in text.lower():
        return errors.RequestError(f"the container cannot be started: {one_line(text)}")
    exit_code = exit_code if status == 400 else podman.exit_code_of_start(text)
    if exit_code in CANNOT_START:
        why = f"command {command!r} cannot be started: {CANNOT_START[exit_code]}"
        return errors.CannotStart(why, exit_code)
    if _is_jobs_fault(status, text):
        return errors.RequestError(f"the container cannot be started: {one_line(text)}")
    return refused("the container cannot be started", status, text, service)


def _is_jobs_fault(status: int | None, text: str) -> bool:
    """Return whether a refusal is about the job itself, so that no other try, here or elsewhere, would go better."""
    if status is None or status < 500:
        return status is not None and status >= 400 and status not in _PASSING_STATUS
    words = text.lower()
    return any(phrase in words for phrase in _JOBS_PHRASES)


def no_command(image: str) -> errors.RequestError:
    """Return the error for a job without a command whose image has none either."""
    return errors.RequestError(f"command: image {image!r} names none; name the command to run")


def ended_before_its_start(text: str) -> bool:
    """Return True if a refused start says that the container's first process had ended before its command began."""
    return any(phrase in text.lower() for phrase in _ENDED_PHRASES)


def memory_too_small() -> errors.RequestError:
    """Return the error for a container that the kernel ends for want of memory before its command begins."""
    return errors.RequestError("the container's memory limit is too small to start it; raise it with -m")


def pull_refused(image: str, status: int | None, text: str, service: str = "docker") -> errors.CeleryDockerError:
    """Return the error that a failed pull stands for; `status` None: it failed inside the stream."""
    words = text.lower()
    busy = status == _BUSY_STATUS or any(phrase in words for phrase in _BUSY_PHRASES)
    if not busy and (status in _REQUEST_STATUS or any(phrase in words for phrase in _REQUEST_PHRASES)):
        is_closed = status in _LOGIN_STATUS or any(phrase in words for phrase in _LOGIN_PHRASES)
        remedy = f"; {_way_in(image, service)}" if is_closed else ""
        return errors.RequestError(
            f"image {image!r} cannot be pulled: {one_line(text)}; check its name and tag{remedy}"
        )
    if _FULL_PHRASE in words:
        return errors.NoSpace(
            f"image {image!r} cannot be pulled now: {one_line(text)}; make room for {service.capitalize()}"
        )
    return errors.HostError(f"image {image!r} cannot be pulled now: {one_line(text)}; check registry and network")


def pull_silent(image: str, silence_s: float) -> errors.HostError:
    """Return the error for a pull of which neither a byte nor a word has come for so long."""
    silence = wording.duration(silence_s)
    return errors.HostError(
        f"image {image!r} cannot be pulled now: nothing of it has come for {silence}; check registry and network"
    )


def _way_in(image: str, service: str) -> str:
    """Return what root has to do so that this host may pull from an image's registry."""
    closed = closed_login()
    if closed is not None:
        return f"root has logged this host in, but the worker may not read that: {open_login(closed)}"
    return f"if the registry is private, root has to log this host in: {login(image, service)}"


def closed_login() -> str | None:
    """Return the file of credentials that the worker may not read, None where there is none, or it may."""
    folder = os.environ.get("DOCKER_CONFIG", "")
    file = f"{folder}/config.json"
    if os.path.isdir(folder) and not os.access(folder, os.X_OK):
        return file
    return file if os.path.exists(file) and not os.access(file, os.R_OK) else None


def open_login(file: str) -> str:
    """Return the commands with which root lets the worker read a file of credentials."""
    folder = os.path.dirname(file)
    return f"chgrp -R celery {folder}; chmod 2750 {folder}; chmod 640 {file}"


def login(image: str, service: str = "docker") -> str:
    """Return the command with which root gives the worker of a host the credentials for an image's registry."""
    first, slash, _ = image.partition("/")
    is_host = bool(slash) and ("." in first or ":" in first or first == "localhost")
    command = {
        "docker": f"docker --config {LOGIN_FOLDER} login",
        "podman": f"podman login --authfile {LOGIN_FOLDER}/config.json",
    }[service]
    return command + (f" {first}" if is_host else "")


def refused(failure: str, status: int | None, text: str, service: str = "docker") -> errors.HostError:
    """Return the error for a refusal that says nothing about the job; `service` keeps the journal that says more."""
    if _FULL_PHRASE in text.lower():
        return errors.NoSpace(f"{failure}: {one_line(text)} (HTTP {status}); make room for {service.capitalize()}")
    return errors.HostError(f"{failure}: {one_line(text)} (HTTP {status}); see journalctl -u {service}")


def unreachable(exc: BaseException, base_url: str, timeout_s: float) -> errors.EngineAway | errors.EngineDenied:
    """Return the error for an answer that did not come, with what the administrator can do about it."""
    number = _errno_of(exc)
    service = podman.service_of(base_url)
    name, (package, unit) = service.capitalize(), _ORIGINS[service]
    if number in (errno.EACCES, errno.EPERM):
        return errors.EngineDenied(_denied(base_url))
    if number == errno.ENOENT:
        why = f"cannot reach {name} at {base_url}: no such file; install {package} or start {unit}"
    elif number == errno.ECONNREFUSED:
        why = f"cannot reach {name} at {base_url}: connection refused; start {unit}"
    elif any(isinstance(cause, TimeoutError) for cause in _causes(exc)):
        why = f"{name} at {base_url} did not answer in {timeout_s:g} s; see systemctl status {service}"
    else:
        why = f"{name} at {base_url} broke the connection ({type(exc).__name__}); see systemctl status {service}"
    return errors.EngineAway(why)


def one_line(text: str) -> str:
    """Return Docker's words as one line of at most 500 characters."""
    line = " ".join(text.split())
    return line if len(line) <= 500 else line[:497] + "..."


def _denied(base_url: str) -> str:
    group, user = "docker", str(os.geteuid())
    with contextlib.suppress(KeyError):
        user = pwd.getpwuid(os.geteuid()).pw_name
    denied = f"the user {user} may not use the socket {base_url}"
    try:
        group = grp.getgrgid(os.stat(_path(base_url)).st_gid).gr_name
    except PermissionError:
        return f"{denied}, which lies in a folder that is closed to it; for Podman's see Podman in the README"
    except (OSError, KeyError):
        pass
    if group != "root":
        return f"{denied}; add it to the group that owns it ('{group}'): usermod -aG {group} {user}, then restart"
    if podman.service_of(base_url) == "docker":
        return f"{denied}, which is of group root; give it to group docker: chgrp docker {_path(base_url)}"
    return f"{denied}, which is of group root; give it to group docker: see Podman in the README"


def _path(base_url: str) -> str:
    return base_url.removeprefix("unix://")


def _errno_of(exc: BaseException) -> int | None:
    numbers = (cause.errno for cause in _causes(exc) if isinstance(cause, OSError))
    return next((number for number in numbers if number is not None), None)


def _causes(exc: BaseException) -> Iterator[BaseException]:
    """Yield an exception and what it was made of; HTTP libraries hide the reason in causes and arguments."""
    waiting, yielded = [exc], set[int]()
    while waiting:
        cause = waiting.pop()
        if id(cause) not in yielded:
            yielded.add(id(cause))
            yield cause
            inside = (cause.__cause__, cause.__context__, *cause.args)
            waiting += [part for part in inside if isinstance(part, BaseException)]
