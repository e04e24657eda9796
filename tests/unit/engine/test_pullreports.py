"""Docker's reports about a pull, line by line."""

from __future__ import annotations

import json
from typing import Any

import pytest

from celery_docker import errors
from celery_docker.engine.pullreports import PullReports


def line(status: str, layer: str | None = "1a", **progress: int) -> bytes:
    report: dict[str, Any] = {"status": status, "progressDetail": progress}
    return json.dumps(report if layer is None else {**report, "id": layer}).encode() + b"\r\n"


@pytest.mark.parametrize(
    ("lines", "expected"),
    [
        ([], (0, 0)),
        ([line("Pulling from library/busybox", "latest"), line("Pulling fs layer")], (0, 0)),
        ([line("Downloading", current=3, total=10)], (3, 10)),
        ([line("Downloading", current=3, total=10), line("Downloading", current=7, total=10)], (7, 10)),
        ([line("Downloading", current=3, total=10), line("Downloading", "2b", current=1, total=5)], (4, 15)),
        ([line("Downloading", current=3, total=10), line("Verifying Checksum")], (10, 10)),
        # Its bytes are those of the unpacked layer.
        ([line("Downloading", current=10, total=10), line("Extracting", current=1, total=90)], (10, 10)),
        ([line("Already exists", "3c"), line("Download complete", "4d")], (0, 0)),
        # Of a registry that does not say how much is to come.
        ([line("Downloading", current=3, total=-1), line("Status: Downloaded newer image", None)], (0, 0)),
        ([b"\r\n", b"no JSON", b"[]", b"7"], (0, 0)),
    ],
)
def test_the_bytes_of_a_pull(lines: list[bytes], expected: tuple[int, int]) -> None:
    reports = PullReports("tool:1")
    for text in lines:
        reports.add(text)
    assert (reports.pulled_bytes, reports.size_bytes) == expected


def test_a_pull_that_fails_in_its_stream() -> None:
    with pytest.raises(errors.HostError, match="image 'tool:1' cannot be pulled now: connection refused"):
        PullReports("tool:1").add(b'{"errorDetail": {"message": "connection refused"}, "error": "connection refused"}')
