"""Receivers of notices: a web server, and a folder with programs that write down what they got."""

from __future__ import annotations

import http.server
import json
import threading
from dataclasses import dataclass, field
from email import message_from_string, policy
from pathlib import Path
from typing import Any

from celery_docker.host.messenger import Messenger

# What nobody but the receiver may read.
HOOK = "T0KEN"


@dataclass
class Web:
    """A web server that answers each POST with a status, and keeps what was posted."""

    status: int = 200
    posts: list[tuple[str, dict[str, str], Any]] = field(default_factory=list)

    def __enter__(self) -> Web:
        outer = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                outer.posts.append((self.path, dict(self.headers), json.loads(body)))
                self.send_response(outer.status)
                self.send_header("Location", "/elsewhere")
                self.end_headers()

            def log_message(self, *_: Any) -> None:
                pass

        self._server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=self._server.serve_forever, daemon=True).start()
        return self

    def __exit__(self, *_: Any) -> None:
        self._server.shutdown()
        self._server.server_close()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._server.server_port}/hook/{HOOK}?a=b"


@dataclass
class Place:
    """A folder with the file of targets and programs that write down what they got."""

    folder: Path

    def target(self, **targets: str | list[str]) -> None:
        lines = [f"{name.replace('_', '-')} = {json.dumps(value)}\n" for name, value in targets.items()]
        (self.folder / "notify.toml").write_text("".join(lines))

    def program(self, name: str, script: str) -> str:
        path = self.folder / name
        path.write_text(f"#!/bin/sh\ncd {self.folder}\n{script}\n")
        path.chmod(0o755)
        return str(path)

    @property
    def messenger(self) -> Messenger:
        return Messenger(str(self.folder / "notify.toml"), str(self.folder / "no.sock"), str(self.folder / "sendmail"))

    def mails(self) -> list[Any]:
        texts = [path.read_text() for path in sorted(self.folder.glob("mail.*"))]
        return [message_from_string(text, policy=policy.default) for text in texts]
