"""The connection to Redis: timeouts, scripts, and its errors in our words.

The only importer of `redis`. A call that Redis does not answer in time raises `StoreAway`; nothing is tried again here
but for one connection that had gone stale.
"""

from __future__ import annotations

import hashlib
import re
import socket
import ssl
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from functools import cache
from importlib import resources
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, urlsplit

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from celery_docker import errors
from celery_docker.core import redisurl
from celery_docker.store import relatives

# The longest a call may take before Redis counts as away; the default of the library is to wait for ever.
CALL_TIMEOUT_S = 15
CONNECT_TIMEOUT_S = 5
HEALTH_CHECK_S = 10
# A server that has never answered is looked at for so long, to say what it is.
_PROBE_S = 2
_PROBE_BYTES = 60
_TLS_ALERT = b"\x15\x03"
_IN_PIPELINE = " of pipeline caused error: "
_IN_SCRIPT = re.compile(r" script: [0-9a-f]{40}, on @\w+:\d+\.")
# The line in the first comment of a script that names another, which it takes in.
_INCLUDES = re.compile(r"^-- Includes (\w+)\.lua\.\n", re.MULTILINE)
# Redis does not know a script by its digest: it was restarted, or told to forget all scripts.
UnknownScript = redis.exceptions.NoScriptError
_NETWORK: dict[str, Any] = {"socket_connect_timeout": CONNECT_TIMEOUT_S, "socket_keepalive": True}
_TLS_FILES = ("ssl_ca_certs", "ssl_certfile", "ssl_keyfile")


@dataclass(frozen=True)
class Link:
    """A pool of connections to one Redis, for any number of threads."""

    # Typed loosely: the library's annotations cannot tell a decoding client from one that answers in bytes.
    client: Any
    url: str
    _scripts: dict[str, Callable[..., Any]] = field(default_factory=dict)
    # Set once a call has succeeded, or where nobody waits to hear what else the server is.
    is_known: threading.Event = field(default_factory=threading.Event)

    def check(self) -> None:
        """Check that Redis answers, and can hold the queue. Raises `StoreAway` or `StoreRefused`."""
        with self.translated():
            self.client.ping()
            try:
                info = self.client.info()
            except redis.ResponseError:  # this user may not ask; the first call that the server cannot do says so too
                return
        problem = relatives.of_info(info, redisurl.masked(self.url))
        if problem is not None:
            raise problem

    def call(self, name: str, keys: Sequence[str], args: Sequence[Any]) -> Any:
        """Run the script `lua/<name>.lua` and return its answer. Raises `StoreAway` or `StoreRefused`."""
        with self.translated():
            script = self._scripts.get(name)
            if script is None:
                script = self._scripts[name] = self.client.register_script(source(name))
            return script(keys=keys, args=args)

    def call_many(self, name: str, calls: Sequence[tuple[Sequence[str], Sequence[Any]]]) -> list[Any]:
        """Run a script once for each pair of keys and arguments, in one round trip; return the answers.

        Raises `StoreAway` or `StoreRefused`, at the first call that was not answered.
        """
        if len(calls) == 1:
            ((touched, args),) = calls
            return [self.call(name, touched, args)]
        with self.translated(), self.client.pipeline(transaction=False) as pipeline:
            pipeline.script_load(source(name))
            for touched, args in calls:
                pipeline.evalsha(digest(name), len(touched), *touched, *args)
            answers: list[Any] = pipeline.execute()
        return answers[1:]

    @contextmanager
    def translated(self) -> Iterator[None]:
        """Turn what `redis` raises into `StoreAway` or `StoreRefused`; an error of a file is no error of Redis."""
        try:
            yield
            self.is_known.set()
        except redis.exceptions.NoPermissionError as exc:
            raise errors.StoreRefused(f"Redis at {self._where} refuses: {exc}; it lacks a right, see README") from exc
        except redis.AuthenticationError as exc:
            raise relatives.of_login(self._where, has_password=_has_password(self.url)) from exc
        except (redis.ConnectionError, redis.TimeoutError, redis.exceptions.InvalidResponse, OSError) as exc:
            if isinstance(exc, OSError) and exc.filename is not None:
                raise
            # One that has answered is away; another may be a server of another kind.
            stranger = None if self.is_known.is_set() else relatives.of_answer(*_answer(self.url), self._where)
            raise stranger or _of_connection(exc, self.url) from exc
        except TypeError as exc:  # an option of the URL that the library does not know shows at the first connection
            raise errors.StoreRefused(f"cannot use {self._where}: {exc}; check the options in the URL") from exc
        except redis.RedisError as exc:
            raise _of_response(exc, self.url) from exc

    def close(self) -> None:
        """Close every connection."""
        self.client.close()

    @property
    def _where(self) -> str:
        return redisurl.masked(self.url)


def connect(url: str, *, connections: int | None = None, text: bool = True, timeout_s: float = CALL_TIMEOUT_S) -> Link:
    """Return a link for a Redis URL, with every script read; nothing is sent yet.

    `connections` bounds the pool, None: no bound. Without `text` it answers in bytes. With a `timeout_s` of its own it
    is for who cannot wait: a call that takes longer is not tried again, nor is it found out what else the server is.

    Raises `StoreRefused` for an option in the URL that Redis clients do not know.
    """
    _sources()
    try:
        client = redis.Redis.from_url(
            url,
            decode_responses=text,
            # Anybody may have written bytes that are no text; they are shown as such, and name nothing.
            encoding_errors="replace",
            **_waits(url, timeout_s),
            health_check_interval=HEALTH_CHECK_S,
            max_connections=connections,
        )
    except TypeError as exc:
        raise errors.StoreRefused(f"cannot use {redisurl.masked(url)}: {exc}") from exc
    except ValueError as exc:
        # What the library says may be a part of the password.
        raise errors.StoreRefused(
            f"cannot use {redisurl.masked(url)}: it is not redis://[USER:PASSWORD@]HOST:PORT/NUMBER; "
            "write '@', ':' and '/' in a password as %40, %3A and %2F"
        ) from exc
    link = Link(client, url)
    if timeout_s != CALL_TIMEOUT_S:
        link.is_known.set()
    return link


def _waits(url: str, timeout_s: float) -> dict[str, Any]:
    """Return how long to wait for the server of a URL, and what to try again."""
    # A socket is there at once, or not at all.
    network = {} if url.startswith(f"{redisurl.SOCKET_SCHEME}:") else dict(_NETWORK)
    if network:
        network["socket_connect_timeout"] = min(CONNECT_TIMEOUT_S, timeout_s)
    stale = (redis.ConnectionError, redis.TimeoutError) if timeout_s == CALL_TIMEOUT_S else (redis.ConnectionError,)
    # Whoever calls decides about another try.
    return {**network, "socket_timeout": timeout_s, "retry": Retry(NoBackoff(), 1, stale)}


def _answer(url: str) -> tuple[bool, bytes]:
    """Return whether the server at a URL speaks TLS, and else the beginning of its answer; no login is sent."""
    parts = urlsplit(url)
    if parts.scheme == "unix":
        return False, b""
    place = (parts.hostname or "localhost", parts.port or 6379)
    answer = b""
    with suppress(OSError), socket.create_connection(place, _PROBE_S) as connection:
        connection.sendall(b"PING\r\n")
        answer = connection.recv(_PROBE_BYTES)
    if answer and not answer.startswith(_TLS_ALERT):
        return False, answer
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    with (
        suppress(OSError),
        socket.create_connection(place, _PROBE_S) as connection,
        context.wrap_socket(connection, server_hostname=parts.hostname),
    ):
        return True, b""
    return False, b""


def _has_password(url: str) -> bool:
    parts = urlsplit(url)
    return bool(parts.password or dict(parse_qsl(parts.query)).get("password"))


def answers(pipeline: Any, empty: Any = None) -> list[Any]:
    """Send the questions of a pipeline and return the answers; `empty` for a key that holds something else."""
    replies = pipeline.execute(raise_on_error=False)
    for reply in replies:
        if isinstance(reply, Exception) and not str(reply).startswith("WRONGTYPE"):
            raise reply
    return [empty if isinstance(reply, Exception) else reply for reply in replies]


def in_list(client: Any, key: str, first: int, last: int) -> list[str]:
    """Return a part of a list; nothing of a key that holds something else, as a damaged record may name one."""
    with client.pipeline(transaction=False) as pipeline:
        pipeline.lrange(key, first, last)
        texts: list[str]
        (texts,) = answers(pipeline, [])
    return texts


def source(name: str) -> str:
    """Return the text of the script `lua/<name>.lua`."""
    return _sources()[name]


@cache
def digest(name: str) -> str:
    """Return Redis' own name for the script `lua/<name>.lua`."""
    return hashlib.sha1(source(name).encode()).hexdigest()  # noqa: S324  # Redis' choice


@cache
def _sources() -> dict[str, str]:
    """Read every script, once: an upgrade may take the files away under a process that lives on until its reload."""
    files = (resources.files("celery_docker.store") / "lua").iterdir()
    texts = {file.name.removesuffix(".lua"): file.read_text() for file in files if file.name.endswith(".lua")}
    return {name: _INCLUDES.sub(lambda line: line[0] + texts[line[1]], text) for name, text in texts.items()}


def _of_connection(exc: Exception, url: str) -> errors.CeleryDockerError:
    where = redisurl.masked(url)
    problem = relatives.of_text(str(exc), where)
    if problem is not None:
        return problem
    unreadable = _unreadable_file(url)
    if unreadable:
        return errors.StoreAway(f"cannot connect to Redis at {where}: {unreadable}; correct the URL, or the file")
    why = str(exc).rstrip(".")
    return errors.StoreAway(f"cannot reach Redis at {where}: {why}; start it there, or correct the URL")


def _unreadable_file(url: str) -> str:
    """Return the first TLS option of a URL whose file cannot be read, and why; empty if there is none.

    The library says neither which file it was nor that it was a file.
    """
    for option, path in parse_qsl(urlsplit(url).query):
        if option in _TLS_FILES:
            try:
                Path(path).open("rb").close()
            except (OSError, ValueError) as exc:
                return f"{option} {path!r}: {exc.strerror if isinstance(exc, OSError) else exc}"
    return ""


def _own_words(text: str) -> str:
    """Return what Redis itself says: without the command that the library names, and the place in a script of ours."""
    return _IN_SCRIPT.sub("", text.partition(_IN_PIPELINE)[2] or text)


def _of_response(exc: redis.RedisError, url: str) -> errors.CeleryDockerError:
    text, where = _own_words(str(exc)), redisurl.masked(url)
    if text.startswith(("NOAUTH", "WRONGPASS")):
        return relatives.of_login(where, has_password=_has_password(url))
    # The last is what a script says that may not do what it does.
    if text.startswith(("NOPERM", "The user executing the script")):
        return errors.StoreRefused(f"Redis at {where} refuses: {text}; check the user and password in the URL")
    return relatives.of_text(text, where) or errors.StoreAway(f"Redis at {where} cannot do it now: {text}")
