"""The command `setup-redis`: makes a Redis of our own for this queue, and undoes that again.

Each step is left out where it is done already, so that a second run, or one after an interruption, does the rest.
"""

from __future__ import annotations

import grp
import os
import pwd
import secrets
import shutil
import socket
import stat
import subprocess
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from celery_docker import errors
from celery_docker.cli.context import Context
from celery_docker.cli.syntax import flagtable
from celery_docker.client import configlayers
from celery_docker.core import ownredis, redisurl, settings, textinput, wording
from celery_docker.core.ownredis import Server

_UNIT_FOLDERS = ("/usr/lib/systemd/system", "/lib/systemd/system")
_OF_BROKER = (
    *("celery-worker.service", "celery-worker@*.service"),
    *("celery-docker-api.service", "celery-docker-api-tcp.service"),
)
# A Redis that reads a large file before it is ready, and a worker that ends its last claim.
_TIMEOUT_S = 600
_LEAVE = "--leave-jobs"


@dataclass(frozen=True)
class Step:
    """One change to this machine: what it is, for somebody who decides, and the act."""

    says: str
    act: Callable[[], object]


def setup_redis(context: Context) -> int:
    """Say what is to be changed on this machine, and change it if the administrator agrees."""
    if os.geteuid() != 0:
        raise errors.UsageError("setup-redis changes this machine: run it with sudo")
    removes = context.has("--remove")
    steps = _removal(context) if removes else _setup(context)
    if not steps:
        context.screen.note("nothing to do: " + ("there is no Redis of setup-redis" if removes else "all is set up"))
        return 0
    for step in steps:
        context.screen.data(step.says)
    if context.has("--dry-run"):
        return 0
    if not context.has(flagtable.YES.key) and not context.screen.confirmed("Do this?"):
        context.screen.note("nothing was changed")
        return 0
    for step in steps:
        step.act()
    if removes:
        return 0
    context.screen.note(
        "done; members of group celery may submit, and are as good as root; other users do it through "
        "celery-docker-api(8); what is left to do: sudo celery-docker doctor"
    )
    return 0


def _setup(context: Context) -> list[Step]:
    server = _installed_server()
    config = _text(server.config_file)
    steps: list[Step] = []
    port = int(context.text("--port") or ownredis.DEFAULT_PORT)
    if not config:
        _check_port(port)
        config = server.config(port, secrets.token_urlsafe(24))
        says = f"write {server.config_file}: port {port} of this host only, a password, every change on disk at once"
        steps.append(Step(says, lambda: _write_config(server, config)))
    elif context.text("--port"):
        raise errors.UsageError(f"{server.config_file} is there already: change the port in it")
    url = ownredis.broker_url(config)
    if not url:
        raise errors.UsageError(f"{server.config_file} has no port or no requirepass: mend it, or remove it")
    if not Path(server.data_folder).is_dir():
        steps.append(Step(f"make {server.data_folder} for its data", lambda: _make_data_folder(server)))
    if steps or not (_holds("is-enabled", server.unit) and _holds("is-active", server.unit)):
        steps.append(Step(f"start {server.unit}, now and at each boot", lambda: _start(server)))
    return steps + _switch(context, url)


def _removal(context: Context) -> list[Step]:
    server = next((server for server in ownredis.SERVERS if Path(server.config_file).exists()), None)
    if server is None:
        return []
    steps = _switch(context, "")
    if not steps:
        _check_no_jobs(context, ownredis.broker_url(_text(server.config_file)), may_be_away=False)
    steps.append(Step(f"stop {server.unit}", lambda: _systemctl("disable", "--now", server.unit)))
    if context.has("--delete-data"):
        says = f"remove {server.data_folder} with all jobs and results"
        steps.append(Step(says, lambda: shutil.rmtree(server.data_folder, ignore_errors=True)))
    elif Path(server.data_folder).exists():
        context.screen.note(f"{server.data_folder} keeps its jobs and results, for the next setup-redis")
    return [*steps, Step(f"remove {server.config_file}", Path(server.config_file).unlink)]


def _switch(context: Context, url: str) -> list[Step]:
    """Return the steps that bring workers and submitters to a broker; an empty URL is the one before."""
    steps: list[Step] = []
    before, after = _edited(settings.FILE, url)
    if before != after:
        _check_no_jobs(context, _broker_url(before), may_be_away=bool(url))
        says = f"{_set(url)} in {settings.FILE}, for root and group celery"
        steps.append(Step(says, lambda: _write_over(settings.FILE, after, is_private=True)))
        if services := _services():
            steps.append(Step(f"restart {' '.join(services)}", lambda: _systemctl("restart", "--no-block", *services)))
    # Who may not read the former would submit to the usual Redis, where no worker is.
    public = ownredis.without_login(url)
    said, to_say = _edited(configlayers.SYSTEM_FILE, public)
    if said != to_say:
        says = f"{_set(public)} in {configlayers.SYSTEM_FILE}, for everybody"
        steps.append(Step(says, lambda: _write_over(configlayers.SYSTEM_FILE, to_say, is_private=False)))
    return steps


def _edited(path: str, url: str) -> tuple[str, str]:
    """Return a file of settings as it is, and as it is to be."""
    text = _text(path)
    return text, ownredis.with_broker(text, url) if url else ownredis.without_broker(text)


def _set(url: str) -> str:
    return f"set CELERY_DOCKER_BROKER_URL={redisurl.masked(url)}" if url else "set back CELERY_DOCKER_BROKER_URL"


def _broker_url(text: str) -> str:
    """Return the broker of a file of settings. Raises `SettingsError` where it names none that can be used."""
    return settings.parse(settings.read_assignments(text)).broker_url


def _check_no_jobs(context: Context, url: str, *, may_be_away: bool) -> None:
    """Check that no job is left behind in a Redis. Raises `UsageError`."""
    from celery_docker.client.client import Client

    if context.has(_LEAVE):
        return
    client = Client(url)
    try:
        load = client.queries.jobs.load()
    except errors.StoreAway as exc:
        if may_be_away:
            context.screen.note(f"jobs that it holds stay there: {exc}")
            return
        raise errors.UsageError(f"{exc}; so its jobs cannot be counted, and {_LEAVE} leaves them there") from exc
    finally:
        client.close()
    jobs = load.in_hand + load.queued + load.delayed + load.blocked
    if jobs:
        raise errors.UsageError(
            f"the Redis at {redisurl.masked(url)} has {wording.counted(jobs, 'job')} to run, and would have no worker: "
            f"wait for the end, or cancel; {_LEAVE} leaves all of it there"
        )


def _installed_server() -> Server:
    """Return the server that is in use, else one that can be. Raises `UsageError` where none is installed."""
    for server in ownredis.SERVERS:
        if Path(server.config_file).exists():
            return server
    for server in ownredis.SERVERS:
        if any(Path(folder, server.template).exists() for folder in _UNIT_FOLDERS):
            return server
    raise errors.UsageError("there is no Redis on this machine: apt install redis-server, or valkey-server")


def _check_port(port: int) -> None:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError as exc:
            raise errors.UsageError(f"port {port} is in use ({exc.strerror}): choose another one with --port") from exc


def _services() -> list[str]:
    """Return the services with the broker's URL in their settings that run, or are to."""
    listed = _asked("list-units", "--all", "--full", "--plain", "--no-legend", *_OF_BROKER)
    rows = [line.split() for line in listed.splitlines()]
    return [row[0].removesuffix(".service") for row in rows if len(row) > 2 and row[2] != "inactive"]


def _make_data_folder(server: Server) -> None:
    folder = Path(server.data_folder)
    folder.mkdir(mode=0o750, exist_ok=True)
    shutil.chown(folder, server.name, server.name)


def _start(server: Server) -> None:
    try:
        _systemctl("enable", "--now", server.unit)
    except errors.HostError as exc:
        raise errors.HostError(f"{exc}; see: journalctl -u {server.unit}") from exc


def _write_config(server: Server, text: str) -> None:
    owner = pwd.getpwnam(server.name)
    _write(server.config_file, text, owner.pw_uid, owner.pw_gid, 0o640)


def _write_over(path: str, text: str, *, is_private: bool) -> None:
    """Write a file of settings; one with a password may be read by nobody but root and group celery."""
    uid, gid, mode = 0, grp.getgrnam("celery").gr_gid if is_private else 0, 0o640 if is_private else 0o644
    try:
        before = os.stat(path)
    except FileNotFoundError:
        pass
    else:
        if not (is_private and before.st_mode & stat.S_IROTH):
            uid, gid, mode = before.st_uid, before.st_gid, stat.S_IMODE(before.st_mode)
    _write(path, text, uid, gid, mode)


def _write(path: str, text: str, uid: int, gid: int, mode: int) -> None:
    """Write a file so that it is there whole or not at all, whatever happens meanwhile."""
    part = f"{path}.part"
    with open(os.open(part, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        os.fchown(file.fileno(), uid, gid)
        os.fchmod(file.fileno(), mode)
        os.fsync(file.fileno())
    os.rename(part, path)


def _text(path: str) -> str:
    try:
        return textinput.text(Path(path).read_bytes())
    except FileNotFoundError:
        return ""
    except (OSError, ValueError) as exc:
        raise errors.UsageError(f"cannot read {path}: {exc}") from exc


def _holds(question: str, unit: str) -> bool:
    return _run(question, "--quiet", unit).returncode == 0


def _asked(*words: str) -> str:
    return _run(*words).stdout


def _systemctl(*words: str) -> None:
    process = _run(*words)
    if process.returncode != 0:
        complaint = (process.stderr.strip().splitlines() or ["no reason was given"])[0]
        raise errors.HostError(f"systemctl {' '.join(words)} failed: {complaint}")


def _run(*words: str) -> subprocess.CompletedProcess[str]:
    try:
        return subprocess.run(  # noqa: S603  # our own words
            ["/usr/bin/systemctl", *words],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=_TIMEOUT_S,
            check=False,
        )
    except OSError as exc:
        raise errors.HostError(f"cannot run systemctl: {exc.strerror}; setup-redis needs systemd") from exc
    except subprocess.TimeoutExpired as exc:
        raise errors.HostError(f"systemctl {' '.join(words)} has not ended after {_TIMEOUT_S} s") from exc
