"""Credentials for a registry: what `docker login` has left for it in a file of this host.

A part of the engine; the only importer of docker, which knows the file's forms and the helpers that it may name.
Invariant: what is wrong with the file becomes one line that names it.
"""

from __future__ import annotations

import contextlib
import json
import os
from pathlib import Path
from typing import Any

from celery_docker import errors
from celery_docker.engine import faults

HEADER = "X-Registry-Auth"
# Whatever a file says instead of a table or of base64 ends there in one of these.
_UNUSABLE = (OSError, ValueError, LookupError, TypeError, AttributeError, RecursionError)


def pull_arguments(image: str, service: str) -> tuple[str, str, dict[str, str]]:
    """Return name, tag or digest, and the header with the credentials for the image's registry.

    Raises `RequestError` for what is no image name, `HostError` for a file that cannot be used, or while the package is
    being replaced.
    """
    try:  # here: it costs 7 MiB and 0.2 s, and hosts that have their images never need it
        import docker.auth
        import docker.errors
        import docker.utils
        import docker.utils.config
    except ImportError as exc:  # dpkg has unpacked that of another Python, and does not configure it for minutes
        says = f"the worker's package is not whole, as in the middle of its upgrade: {exc}"
        raise errors.HostError(f"{says}; see dpkg --audit") from exc

    name, tag = docker.utils.parse_repository_tag(image)
    path = _file(docker.utils.config)
    try:
        registry, _ = docker.auth.resolve_repository_name(name)
        _check(path)
        login = docker.auth.resolve_authconfig(docker.auth.load_config(path), registry)
        header = {HEADER: docker.auth.encode_header(login).decode()} if login else {}
    except docker.errors.InvalidRepository as exc:
        raise errors.RequestError(f"image {image!r} is not an image name: {faults.one_line(str(exc))}") from exc
    except (docker.errors.DockerException, *_UNUSABLE) as exc:
        is_closed = isinstance(exc, PermissionError)
        anew = f"write them anew: {faults.login(image, service)}"
        remedy = f"let the worker read them: {faults.open_login(path or '')}" if is_closed else anew
        raise errors.HostError(
            f"the credentials for {registry} in {path} cannot be read: {faults.one_line(str(exc))}; {remedy}"
        ) from exc
    return name, tag or "latest", header


def registries(path: str) -> tuple[str, ...]:
    """Return the registries that a file of credentials has a login for; helpers that it names are not started.

    Raises `OSError`, and `ValueError` in one line for a file that cannot be used.
    """
    import docker.auth
    import docker.errors

    try:
        _check(path)
        logins = docker.auth.load_config(path).auths
        for login in logins.values():
            docker.auth.encode_header(login)
    except OSError:
        raise
    except (docker.errors.DockerException, *_UNUSABLE) as exc:
        raise ValueError(f"cannot be used: {faults.one_line(str(exc))}") from exc
    return tuple(sorted(logins))


def _file(config: Any) -> str | None:
    """Return the file of the credentials: the host's own, unless it says nothing, then that of the worker's home."""
    own = Path(os.environ.get("DOCKER_CONFIG", "/nonexistent"), "config.json")
    with contextlib.suppress(OSError, ValueError, RecursionError):
        if json.loads(own.read_bytes()) == {}:
            home = Path(config.home_dir() or "/nonexistent", ".docker", "config.json")
            return str(home if home.exists() else own)
    path: str | None = config.find_config_file()
    return path


def _check(path: str | None) -> None:
    """Raise an error for a file of today's form that cannot be read: docker would go on without it."""
    if path is not None and path.endswith(".json"):
        json.loads(Path(path).read_bytes())
