"""Debian's docker-registry on 127.0.0.1, and a proxy in front of it that counts requests and makes them fail."""

from __future__ import annotations

import base64
import http.client
import http.server
import io
import json
import os
import shutil
import tarfile
import threading
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, Self
from urllib.parse import quote, urlencode

from tests import servers

USER, PASSWORD = "lab", "geheim"
LOGIN = base64.b64encode(f"{USER}:{PASSWORD}".encode()).decode()
# bcrypt, the only form that it takes.
_HTPASSWD = f"{USER}:$2b$04$VgpXt3HV13l/CeluLt9mWegW9wRCgy.sOxcTcsEdZcXHZ9kpcPONG\n"
_CHUNK = 2**16


class RealRegistry(servers._Service):
    """A registry with its data in a folder of its own; `is_private`: it wants `USER` and `PASSWORD`."""

    program = "docker-registry"

    def __init__(self, *, is_private: bool = False) -> None:
        super().__init__()
        self.port = servers.free_port()
        self.address = f"127.0.0.1:{self.port}"
        self.is_private = is_private
        config: dict[str, Any] = {
            "version": 0.1,
            "log": {"level": "warn"},
            "storage": {"filesystem": {"rootdirectory": f"{self.folder}/data"}, "delete": {"enabled": True}},
            "http": {"addr": self.address, "relativeurls": True},
        }
        if is_private:
            (self.folder / "htpasswd").write_text(_HTPASSWD)
            config["auth"] = {"htpasswd": {"realm": "lab", "path": f"{self.folder}/htpasswd"}}
        (self.folder / "config.yml").write_text(json.dumps(config))

    def push(self, dockerd: servers.Dockerd, name: str, *, size: int = 2**16, keep: bool = False) -> str:
        """Push a new image, busybox with that many bytes of chance; return its digest. It stays in Docker if `keep`."""
        repository, _, tag = f"{self.address}/{name}".rpartition(":")
        query = urlencode({"fromSrc": "-", "repo": repository, "tag": tag})
        status, answer = dockerd.request("POST", f"/images/create?{query}", image_tar(size))
        assert status == 200, answer
        assert b'"error"' not in answer, answer
        about = {"username": USER, "password": PASSWORD, "serveraddress": self.address}
        header = base64.urlsafe_b64encode(json.dumps(about).encode()).decode()
        digest = _pushed(dockerd, repository, tag, header)
        if not keep:
            remove_image(dockerd, f"{repository}:{tag}")
        return digest

    def delete(self, name: str, digest: str) -> None:
        """Remove a manifest from the registry, as an administrator's cleaning does."""
        connection = http.client.HTTPConnection(self.address, timeout=60)
        connection.request("DELETE", f"/v2/{name}/manifests/{digest}", headers={"Authorization": f"Basic {LOGIN}"})
        assert connection.getresponse().status == 202
        connection.close()

    def _arguments(self) -> list[str]:
        return ["serve", str(self.folder / "config.yml")]

    def _answers(self) -> bool:
        connection = http.client.HTTPConnection(self.address, timeout=5)
        try:
            connection.request("GET", "/v2/")
            return self._is_alive() and connection.getresponse().status in (200, 401)
        except OSError:
            return not self._is_alive()
        finally:
            connection.close()


def image_tar(size: int) -> bytes:
    """Return a tree with Debian's static busybox, and a file of chance: no two images share a layer."""
    text = io.BytesIO(servers.busybox_tar())
    with tarfile.open(fileobj=text, mode="a") as tar:
        entry = tarfile.TarInfo("chance")
        entry.size = size
        tar.addfile(entry, io.BytesIO(os.urandom(size)))
    return text.getvalue()


def remove_image(dockerd: servers.Dockerd, name: str) -> None:
    status, answer = dockerd.request("DELETE", f"/images/{quote(name)}?force=1")
    assert status in (200, 404), answer


def _pushed(dockerd: servers.Dockerd, repository: str, tag: str, header: str) -> str:
    connection = dockerd.connection(120)
    try:
        connection.request("POST", f"/images/{quote(repository)}/push?tag={tag}", headers={"X-Registry-Auth": header})
        lines = [json.loads(line) for line in connection.getresponse().read().splitlines() if line.strip()]
    finally:
        connection.close()
    digests = [line["aux"]["Digest"] for line in lines if "aux" in line]
    assert digests, lines
    return str(digests[0])


@dataclass
class Proxy:
    """Hands requests on to a registry, at `address`; `requests` has the method and the path of each, in order.

    A key of `failures` is a part of the path: its requests are answered with that status. Layers, which are those blobs
    that are longer than a page, are cut in the middle while `cuts`, and stop in the middle until `flows` is set.
    """

    registry: RealRegistry
    failures: dict[str, int] = field(default_factory=dict)
    requests: list[tuple[str, str]] = field(default_factory=list)
    cuts: bool = False
    # The layers that have stopped, and those of which Docker wanted no more. It says that of one that has stopped only
    # once it flows again, and is larger than what the kernel holds back for it.
    stopped: int = 0
    given_up: int = 0
    flows: threading.Event = field(default_factory=threading.Event)

    def __post_init__(self) -> None:
        self.flows.set()
        self._server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        self.address = f"127.0.0.1:{self._server.server_address[1]}"

    def count(self, part: str) -> int:
        """Return how many requests for something had that in their paths; a look at its head counts for nothing."""
        return sum(method == "GET" and part in path for method, path in list(self.requests))

    @property
    def layers(self) -> list[str]:
        """The paths of the blobs that were asked for, each as often as it was."""
        return [path for method, path in list(self.requests) if method == "GET" and "/blobs/" in path]

    def __enter__(self) -> Self:
        threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.flows.set()
        self._server.shutdown()
        self._server.server_close()

    def _handler(self) -> type[http.server.BaseHTTPRequestHandler]:
        proxy = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                proxy.requests.append((self.command, self.path))
                status = next((status for part, status in proxy.failures.items() if part in self.path), 0)
                if status:
                    self._refuse(status)
                else:
                    self._hand_on()

            do_HEAD = do_GET

            def _refuse(self, status: int) -> None:
                codes = {429: "TOOMANYREQUESTS", 403: "DENIED", 404: "MANIFEST_UNKNOWN", 401: "UNAUTHORIZED"}
                code = codes.get(status, "UNKNOWN")
                body = json.dumps({"errors": [{"code": code, "message": code.lower()}]}).encode()
                self.send_response(status)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                if self.command == "GET":
                    self.wfile.write(body)

            def _hand_on(self) -> None:
                connection = http.client.HTTPConnection(proxy.registry.address, timeout=60)
                connection.putrequest(self.command, self.path, skip_host=True, skip_accept_encoding=True)
                # One line for each form that Docker takes: without them it would get that of ten years ago.
                for name, value in self.headers.items():
                    if name.lower() != "connection":
                        connection.putheader(name, value)
                connection.endheaders()
                answer = connection.getresponse()
                self.send_response(answer.status)
                for name, value in answer.getheaders():
                    if name.lower() not in ("connection", "date", "server"):
                        self.send_header(name, value)
                self.end_headers()
                try:
                    self._copy(answer)
                except OSError:
                    self.close_connection = True
                    proxy.given_up += 1
                finally:
                    connection.close()

            def _copy(self, answer: http.client.HTTPResponse) -> None:
                length = answer.length or 0
                is_layer = self.command == "GET" and "/blobs/" in self.path and length > _CHUNK
                if is_layer:
                    self.wfile.write(answer.read(length // 2))
                    if proxy.cuts:
                        self.close_connection = True
                        return
                    self.wfile.flush()
                    proxy.stopped += 1
                    proxy.flows.wait(120)
                shutil.copyfileobj(answer, self.wfile)

            def log_message(self, format: str, *args: Any) -> None:
                pass

        return Handler
