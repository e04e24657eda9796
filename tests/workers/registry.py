"""A registry of one image on 127.0.0.1, and every way in which a registry can fail."""

from __future__ import annotations

import gzip
import hashlib
import http.server
import json
import threading
from types import TracebackType
from typing import Any, Self

from tests import servers

_MANIFEST = "application/vnd.docker.distribution.manifest.v2+json"
_CONFIG = "application/vnd.docker.container.image.v1+json"
_LAYER = "application/vnd.docker.image.rootfs.diff.tar.gzip"


def _digest(data: bytes) -> str:
    return "sha256:" + hashlib.sha256(data).hexdigest()


class Registry:
    """Serves one image under every name, but what ends in a key of `failures` (status, error code).

    `password`: what a client has to send, base64 of `user:password`; empty for a registry open to all.
    """

    def __init__(self) -> None:
        self.failures: dict[str, tuple[int, str]] = {}
        self.password = ""
        # Cleared: it takes every request and says nothing.
        self.speaks = threading.Event()
        self.speaks.set()
        tar = servers.busybox_tar()
        layer = gzip.compress(tar, 1)
        root = {"type": "layers", "diff_ids": [_digest(tar)]}
        config = json.dumps({"architecture": "amd64", "os": "linux", "config": {}, "rootfs": root}).encode()
        self.blobs = {_digest(data): data for data in (config, layer)}
        entries = [
            {"mediaType": kind, "size": len(data), "digest": _digest(data)}
            for kind, data in ((_CONFIG, config), (_LAYER, layer))
        ]
        self.manifest = json.dumps(
            {"schemaVersion": 2, "mediaType": _MANIFEST, "config": entries[0], "layers": entries[1:]}
        ).encode()
        self.config_digest = _digest(config)
        self._server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        self.address = f"127.0.0.1:{self._server.server_address[1]}"

    def answer(self, path: str) -> tuple[int, str, bytes]:
        """Return status, content type and body for a path."""
        for end, (status, code) in self.failures.items():
            if path.endswith(end):
                return status, "application/json", json.dumps({"errors": [{"code": code, "message": code}]}).encode()
        name = path.rpartition("/")[2]
        if "/manifests/" in path:
            return 200, _MANIFEST, self.manifest
        return 200, "application/octet-stream", self.blobs.get(name, b"{}")

    def __enter__(self) -> Self:
        threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.shutdown()
        self._server.server_close()

    def _handler(self) -> type[http.server.BaseHTTPRequestHandler]:
        registry = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                registry.speaks.wait(120)
                status, kind, body = registry.answer(self.path)
                if registry.password and self.headers["Authorization"] != f"Basic {registry.password}":
                    status = 401
                self.send_response(status)
                if status == 401:
                    self.send_header("WWW-Authenticate", 'Basic realm="test"')
                self.send_header("Docker-Distribution-Api-Version", "registry/2.0")
                self.send_header("Docker-Content-Digest", _digest(body))
                self.send_header("Content-Type", kind)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                if self.command == "GET":
                    self.wfile.write(body)

            do_HEAD = do_GET

            def log_message(self, format: str, *args: Any) -> None:
                pass

        return Handler
