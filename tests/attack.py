"""Attacks the gateway with schemathesis, by the document that it gives of itself: thousands of requests of all kinds.

It is not among the tests: it brings 30 packages, and takes minutes. By hand, after a change of routes or bodies:

    python3 -m venv build/venv-attack && build/venv-attack/bin/pip install schemathesis==4.32.5
    build/venv/bin/python -m tests.attack build/venv-attack/bin/schemathesis --max-time 300

What follows the program is for it. The exit status is 0 if it found nothing and the service has logged no mistake.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from pathlib import Path

from tests import servers
from tests.gateways import Gateway

_CAROL = 31003
_CHECKS = (
    *("not_a_server_error", "response_schema_conformance", "unsupported_method", "content_type_conformance"),
    *("response_headers_conformance", "status_code_conformance", "ignored_auth", "allow_header_conformance"),
)
# Many requests then name a job that is there.
_CONFIGURATION = '[parameters]\n"path.id" = ["{job}", "{batch}", "nobody"]\n'


def main() -> int:
    """Attack over TCP with the token of an administrator; return 0 if nothing was found."""
    program, *options = str(Path(sys.argv[1]).absolute()), *sys.argv[2:]
    with tempfile.TemporaryDirectory() as folder, servers.RedisServer() as redis, Gateway(redis.url) as gateway:
        gateway.users(carol=_CAROL)
        batch = {"jobs": [{"image": "busybox", "command": "true"}] * 20, "batch": {"name": "mine"}}
        made = gateway.ask("POST", "/api/v1/jobs", batch)[1]
        names = {"job": made["jobs"][0]["id"], "batch": made["batch"]["id"]}
        configuration = Path(folder, "schemathesis.toml")
        configuration.write_text(_CONFIGURATION.format(**names))
        words = [program, "--config-file", str(configuration), "run", f"{gateway.tcp_url}/api/v1/openapi.json"]
        words += ["-H", f"Authorization: Bearer {gateway.token('carol', 'admin')}", "--checks", ",".join(_CHECKS)]
        status = subprocess.run([*words, *options], cwd=folder, check=False).returncode
        mistakes = gateway.log.count("Traceback")
        print(f"schemathesis: status {status}; tracebacks in the service's log: {mistakes}; its end: {gateway.end()}")
        return int(status != 0 or mistakes > 0)


if __name__ == "__main__":
    sys.exit(main())
