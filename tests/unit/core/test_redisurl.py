"""The URL of a Redis without its password; what it may be is in the tests of the settings."""

from __future__ import annotations

import pytest

from celery_docker.core import redisurl


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("redis://127.0.0.1:6379/0", "redis://127.0.0.1:6379/0"),
        ("redis://h", "redis://h"),
        ("redis://:geheim@h:6379/0", "redis://:***@h:6379/0"),
        ("redis://user:geheim@h/0", "redis://user:***@h/0"),
        # A name alone may be a password in the wrong place.
        ("redis://geheim@h/0", "redis://:***@h/0"),
        ("redis://:ge@heim@h/0", "redis://:***@h/0"),
        ("redis://user:ge:heim@h/0", "redis://user:***@h/0"),
        ("redis://:@h/0", "redis://:***@h/0"),
        ("redis://:ge/heim@h/0", "redis://:***@h/0"),
        ("rediss://:geheim@h:6379/0?ssl_ca_certs=/ca.pem", "rediss://:***@h:6379/0?ssl_ca_certs=/ca.pem"),
        ("rediss://h/0?ssl_ca_certs=/ca.pem", "rediss://h/0?ssl_ca_certs=/ca.pem"),
        ("plain text", "plain text"),
        ("someone@example.org", "someone@example.org"),
        ("", ""),
    ],
)
def test_masked(text: str, expected: str) -> None:
    assert redisurl.masked(text) == expected


@pytest.mark.parametrize(
    "text",
    [
        # redis-py and kombu take a password here too.
        "redis://127.0.0.1:6379/0?password=geheim",
        "redis://127.0.0.1:6379/0?db=1&password=geheim&x=1",
        "-b redis://:geheim@h/0",
        "--broker redis://:geheim@h/0 --result-backend redis://:geheim@h/1",
    ],
)
def test_no_password_survives_masking(text: str) -> None:
    assert "geheim" not in redisurl.masked(text)
