"""One call to Docker: the API version that both sides speak, a timeout, and our own error where no answer comes.

A part of the engine: knows the API as such, and nothing of containers and images. Must not import docker.
"""

from __future__ import annotations

import contextlib
import http.client
import time
from collections.abc import Iterator, Mapping
from typing import Any

from celery_docker import errors
from celery_docker.engine import faults, podman, unixhttp

_LEAST_API = (1, 41)
# An answer's date is a whole second, and the answer takes its time.
_SAME_CLOCK_S = 2.0


class Calls:
    """Calls to the Docker at `base_url` (unix:///PATH), from any thread; nothing is asked before the first of them.

    `timeout_s` is for every call that names none of its own, infinity bears any silence. Each raises `EngineAway` where
    no answer comes, `EngineDenied` where this user may not ask, and `HostError` where Docker is too old.
    """

    def __init__(self, base_url: str, *, timeout_s: float, connections: int) -> None:
        self.base_url = base_url
        self.timeout_s = timeout_s
        self.http = unixhttp.Http(self._path, keep=connections)
        self._lifeline = unixhttp.Lifeline(self._path, "/_ping")
        self._api: str | None = None
        self._is_podman = False

    def ask(
        self,
        method: str,
        path: str,
        *,
        body: Mapping[str, Any] | bytes | None = None,
        timeout_s: float | None = None,
    ) -> unixhttp.Answer:
        """Return Docker's answer, whatever it says. A `body` of bytes is a tar archive."""
        timeout_s = timeout_s or self.timeout_s
        with self.reaching(timeout_s):
            answer = self.http.call(method, self._versioned(path), body=body, timeout_s=timeout_s)
        if answer.status == 400 and "client version" in answer.text:
            self._api = None
            raise errors.EngineAway(f"{self._where} was replaced by another version; ask again")
        return answer

    def is_podman(self) -> bool:
        """Return whether the one that answers is Podman."""
        with self.reaching():
            self._versioned("")
        return self._is_podman

    @property
    def service(self) -> str:
        """The systemd service of the one that answers."""
        return "podman" if self._is_podman else podman.service_of(self.base_url)

    @property
    def name(self) -> str:
        """The name of the one that answers, for people: Docker, or Podman."""
        return self.service.capitalize()

    @property
    def _where(self) -> str:
        return f"{self.name} at {self.base_url}"

    def refused(self, failure: str, answer: unixhttp.Answer) -> errors.HostError:
        """Return the error for a refusal that says nothing about a job."""
        return faults.refused(failure, answer.status, answer.text, self.service)

    def about(self, path: str) -> dict[str, Any]:
        """Return what Docker says about itself; raises `HostError` where it refuses to."""
        answer = self.ask("GET", path)
        self._check(answer)
        about: dict[str, Any] = self.parsed(answer)
        return about

    def ask_anew(self, path: str, timeout_s: float) -> unixhttp.Answer:
        """Return the answer to a GET over a new connection: a Docker that goes down answers the old ones only."""
        with self.reaching(timeout_s):
            answer = unixhttp.Http(self._path, keep=0).call("GET", path, timeout_s=timeout_s)
        self._check(answer)
        return answer

    def clock(self, timeout_s: float) -> float:
        """Return the time by Docker's clock: this process's own where they agree, else up to a second ahead of it."""
        date = self.ask_anew("/_ping", timeout_s).date
        now = time.time()
        return now if date is None or abs(now - date) < _SAME_CLOCK_S else date + 1

    def life(self, timeout_s: float) -> int:
        """Return the number of the process that answers now; the next one has another."""
        with self.reaching(timeout_s):
            return self._lifeline.number(timeout_s=timeout_s)

    def end_of_life(self, life: int) -> float | None:
        """Return when the process of that number went, by the wall clock; None while it is there."""
        return self._lifeline.end(life)

    def open(
        self,
        method: str,
        path: str,
        headers: Mapping[str, str] | None = None,
        *,
        timeout_s: float | None = None,
        cut: unixhttp.Cut | None = None,
    ) -> unixhttp.Opened:
        """Return an answer as soon as it begins; `timeout_s` bounds each silence in it, and `cut` can end it."""
        timeout_s = timeout_s or self.timeout_s
        with self.reaching(timeout_s):
            return self.http.open(method, self._versioned(path), headers=headers, timeout_s=timeout_s, cut=cut)

    def read(self, opened: unixhttp.Opened) -> unixhttp.Answer:
        """Return the whole of an answer that was opened, and close it."""
        with contextlib.closing(opened), self.reaching(opened.connection.timeout):
            return unixhttp.Answer(opened.response.status, opened.response.read())

    def parsed(self, answer: unixhttp.Answer) -> Any:
        """Return what an answer's JSON says."""
        with self.reaching():
            return answer.json()

    @contextlib.contextmanager
    def reaching(self, timeout_s: float | None = None) -> Iterator[None]:
        """Turn whatever keeps an answer from coming into `EngineAway` or `EngineDenied`."""
        try:
            yield
        except (OSError, http.client.HTTPException) as exc:
            self._api = None  # whoever answers next may be another version
            raise faults.unreachable(exc, self.base_url, timeout_s or self.timeout_s) from exc

    def close(self) -> None:
        """Close the idle connections; the next call makes new ones."""
        self.http.close()
        self._lifeline.close()

    @property
    def _path(self) -> str:
        return self.base_url.removeprefix("unix://")

    def _check(self, answer: unixhttp.Answer) -> None:
        if not answer.ok:
            raise self.refused(f"{self._where} does not work", answer)

    def _versioned(self, path: str) -> str:
        """Return the path in the oldest API that both sides speak: the same answers from every Docker."""
        api = self._api
        if api is None:
            answer = self.http.call("GET", "/version", timeout_s=self.timeout_s)
            self._check(answer)
            server = answer.json()
            if not isinstance(server, dict) or "ApiVersion" not in server:
                raise http.client.HTTPException(f"an answer without a version: {answer.body[:80]!r}")
            self._is_podman = podman.is_podman(server)
            if _numbers(server["ApiVersion"]) < _LEAST_API:
                raise errors.HostError(
                    f"{self._where} is too old: it speaks API {server['ApiVersion']}, "
                    f"and 1.41 is the least; install {podman.LEAST[self.service]} or later"
                )
            least = max(_LEAST_API, _numbers(server.get("MinAPIVersion", "1.41")))
            api = self._api = ".".join(map(str, least))
        return f"/v{api}{path}"


def _numbers(api: str) -> tuple[int, ...]:
    return tuple(int(part) for part in api.split("."))
