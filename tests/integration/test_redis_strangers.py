"""URLs that lead to the wrong door: a line says which it is and how the URL should be, and nothing of the protocol."""

from __future__ import annotations

import socketserver
import threading
from collections.abc import Iterator
from contextlib import ExitStack
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from celery_docker.cli import exitcodes
from celery_docker.cli.main import main
from tests import servers
from tests.conftest import require

_BANNER = b"SSH-2.0-OpenSSH_9.2p1\r\n"
_SPEAKS_TLS = "speaks TLS: write rediss:// instead of redis:// in the URL"
_SPEAKS_NO_TLS = "does not speak TLS: write redis:// instead of rediss:// in the URL, or set tls-port there"
_WEB = "a web server; correct host and port in the URL"
_LOGIN = "refuses the login: no such user, or another password; check the user and password in the URL"
_NO_LOGIN = (
    "refuses the login: it wants a password, and the URL has none; "
    "write redis://:PASSWORD@HOST, or redis://USER:PASSWORD@HOST"
)


class _Web(BaseHTTPRequestHandler):
    def log_message(self, *_: object) -> None: ...


class _Ssh(socketserver.BaseRequestHandler):
    def handle(self) -> None:
        self.request.sendall(_BANNER)
        self.request.recv(100)


class _Mute(socketserver.BaseRequestHandler):
    """One that closes the connection, as a Redis that just goes down."""


@pytest.fixture(scope="module")
def ports() -> Iterator[dict[str, int]]:
    """The ports of servers of every kind."""
    require("redis", servers.RedisServer.missing())
    with ExitStack() as stack:
        redis = {
            "plain": servers.RedisServer(),
            "tls": servers.RedisServer(tls=True),
            "locked": servers.RedisServer({"requirepass": "sesame"}),
        }
        others = {
            "web": ThreadingHTTPServer(("127.0.0.1", 0), _Web),
            "ssh": socketserver.ThreadingTCPServer(("127.0.0.1", 0), _Ssh),
            "mute": socketserver.ThreadingTCPServer(("127.0.0.1", 0), _Mute),
        }
        for server in redis.values():
            stack.enter_context(server)
        for other in others.values():
            stack.enter_context(other)
            threading.Thread(target=other.serve_forever, daemon=True).start()
            stack.callback(other.shutdown)
        yield {
            **{name: server.port for name, server in redis.items()},
            **{name: other.server_address[1] for name, other in others.items()},
        }


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("redis://{tls}", f"the server at {{}} {_SPEAKS_TLS}"),
        ("redis://:x@{tls}", f"the server at {{}} {_SPEAKS_TLS}"),
        ("rediss://{plain}", f"Redis at {{}} {_SPEAKS_NO_TLS}"),
        (
            "rediss://{tls}",
            "the certificate of Redis at {} is not trusted: self-signed certificate; "
            "correct the host in the URL, or name the CA with ssl_ca_certs",
        ),
        ("redis://{web}", f"at {{}} answers {_WEB}"),
        ("rediss://{web}", f"at {{}} answers {_WEB}"),
        (
            "redis://{ssh}",
            "at {} answers not Redis but something that says 'SSH-2.0-OpenSSH_9.2p1'; correct host and port in the URL",
        ),
        ("redis://{mute}", "cannot reach Redis at {}: Connection closed by server; start it there, or correct the URL"),
        ("redis://{locked}", f"Redis at {{}} {_NO_LOGIN}"),
        ("redis://:wrong@{locked}", f"Redis at {{}} {_LOGIN}"),
        ("redis://me:sesame@{locked}", f"Redis at {{}} {_LOGIN}"),
    ],
)
def test_what_a_user_reads(ports: dict[str, int], capsys: pytest.CaptureFixture[str], url: str, expected: str) -> None:
    scheme, _, rest = url.partition("://")
    login, _, place = rest.rpartition("@")
    address = f"127.0.0.1:{ports[place.strip('{}')]}/0"
    typed = f"{scheme}://{login}@{address}" if login else f"{scheme}://{address}"
    user = login.partition(":")[0]
    shown = f"{scheme}://{user}:***@{address}" if login else typed
    assert main(["status"], {"CELERY_DOCKER_BROKER_URL": typed}) == exitcodes.NOT_RUN
    out, err = capsys.readouterr()
    assert (out, len(err.splitlines())) == ("", 1)
    assert err.startswith(f"celery-docker: {expected.format(shown)}")
