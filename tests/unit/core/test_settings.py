"""The settings of a worker: what each variable may be, and what is said to an administrator who got one wrong."""

from __future__ import annotations

from pathlib import Path

import pytest

from celery_docker import errors
from celery_docker.core import settings
from celery_docker.core.settings import Settings

SHIPPED = Path(__file__).parents[3] / "etc" / "default" / "celery-worker"
DEFAULTS = Settings(
    worker="",
    broker_url="redis://127.0.0.1:6379/0",
    log_level="DEBUG",
    concurrency=0,
    opts=(),
    max_retries=3,
    retry_delay_s=10,
    store_tasks_hours=384,
    systemd_timeout_s=7200,
    lost_after_s=600,
    cpus=None,
    memory_bytes=None,
    reserve_after_s=300,
    docker_host="unix:///var/run/docker.sock",
    image_budget_bytes=0,
    image_free_bytes=0,
    pull_silence_s=600,
    policy_file="/etc/celery-docker/policy.toml",
    key_file="/etc/celery-docker/key",
    gpus="",
    api_hosts=(),
)


def refusal(**values: str) -> str:
    with pytest.raises(errors.SettingsError) as caught:
        settings.parse({settings.PREFIX + name.upper(): value for name, value in values.items()})
    assert len(str(caught.value).splitlines()) == 1
    return str(caught.value)


def test_the_defaults() -> None:
    assert settings.parse({}) == DEFAULTS


@pytest.mark.parametrize("empty", ["", " ", "\t"], ids=repr)
def test_an_empty_value_counts_as_unset(empty: str) -> None:
    assert settings.parse({setting.variable: empty for setting in settings.SETTINGS}) == DEFAULTS


def test_other_variables_are_none_of_our_business() -> None:
    assert settings.parse({"PATH": "/bin", "BROKER_URL": "x", "celery_docker_concurrency": "9"}) == DEFAULTS


@pytest.mark.parametrize(
    ("name", "text", "expected"),
    [
        ("broker_url", "redis://redis.example.org", "redis://redis.example.org"),
        ("broker_url", "redis://:pass@10.0.0.1:6380/3", "redis://:pass@10.0.0.1:6380/3"),
        ("broker_url", "redis://user:p%40ss@h/0", "redis://user:p%40ss@h/0"),
        ("broker_url", "unix://:p%40ss@/run/x.sock?db=1", "unix://:p%40ss@/run/x.sock?db=1"),
        ("broker_url", "redis://[::1]:6379/0", "redis://[::1]:6379/0"),
        (
            "broker_url",
            "rediss://:x@h:6379/0?ssl_ca_certs=/etc/ca.pem",
            "rediss://:x@h:6379/0?ssl_ca_certs=/etc/ca.pem",
        ),
        ("log_level", "info", "INFO"),
        ("log_level", "WARNING", "WARNING"),
        ("concurrency", "0", 0),
        ("concurrency", "500", 500),
        ("concurrency", " 4 ", 4),
        ("opts", "-Ofair -Q 'a b',c", ("-Ofair", "-Q", "a b,c")),
        ("max_retries", "0", 0),
        ("retry_delay", "0", 0),
        ("retry_delay", "86400", 86400),
        ("store_tasks_hours", "1", 1),
        ("systemd_timeout", "31536000", 31_536_000),
        ("lost_after", "10", 10),
        ("lost_after", "86400", 86400),
        ("cpus", "detected", None),
        ("cpus", "2", 2.0),
        ("cpus", "0.5", 0.5),
        ("cpus", "8192", 8192.0),
        ("memory", "detected", None),
        ("memory", "6m", 6 * 2**20),
        ("memory", "1.5g", 3 * 2**29),
        ("memory", "64GiB", 2**36),
        ("memory", "8589934592", 2**33),
        ("reserve_after", "1", 1),
        ("reserve_after", "86400", 86400),
        ("docker_host", "unix:///run/other.sock", "unix:///run/other.sock"),
        ("policy", "/etc/p.toml", "/etc/p.toml"),
        *(("gpus", text, text) for text in ("0", "2", "all", "device=0", "0,1", "v.com/gpu=0,v.com/gpu=1", "GPU-8f6d")),
    ],
)
def test_a_good_value(name: str, text: str, expected: object) -> None:
    (field,) = (setting.field for setting in settings.SETTINGS if setting.variable == settings.PREFIX + name.upper())
    assert getattr(settings.parse({settings.PREFIX + name.upper(): text}), field) == expected


URL = "must look like redis://:PASSWORD@HOST:6379/0, rediss:// for TLS, or unix:///PATH for a socket"
CPUS = "must be a number of CPUs from 0.01 to 8192, like 2 or 0.5"
SOCKET = "a socket must look like unix:///PATH or unix://:PASSWORD@/PATH, with ?db=1 for a database"


@pytest.mark.parametrize(
    ("field", "text", "allowed"),
    [
        # Typing errors in the broker's URL
        ("broker_url", "127.0.0.1", URL),
        ("broker_url", "redis:/127.0.0.1:6379/0", URL),
        ("broker_url", "redis//127.0.0.1:6379/0", URL),
        ("broker_url", "reddis://127.0.0.1:6379/0", URL),
        ("broker_url", "amqp://127.0.0.1", URL),
        ("broker_url", "redis://", URL),
        ("broker_url", "redis:///0", URL),
        ("broker_url", "redis://127.0.0.1:port/0", URL),
        ("broker_url", "redis://127.0.0.1:99999/0", URL),
        ("broker_url", "redis://[::1/0", URL),
        ("broker_url", "redis://127.0.0.1:6379/O", f"the database after the host must be a number; the URL {URL}"),
        ("broker_url", "redis://127.0.0.1:6379/0/1", f"the database after the host must be a number; the URL {URL}"),
        ("broker_url", "redis://127.0.0.1:6379/-1", f"the database after the host must be a number; the URL {URL}"),
        ("broker_url", "unix://", SOCKET),
        ("broker_url", "unix:///", SOCKET),
        ("broker_url", "unix://host/run/x.sock", SOCKET),
        ("broker_url", "unix:///run/x.sock?ssl_cert_reqs=none", SOCKET),
        ("broker_url", "unix:///run/x.sock?db=one", "the database of a socket must be a number"),
        # Numbers
        ("concurrency", "four", "must be a whole number from 0 to 500"),
        ("concurrency", "-1", "must be a whole number from 0 to 500"),
        ("concurrency", "501", "must be a whole number from 0 to 500"),
        ("concurrency", "1.5", "must be a whole number from 0 to 500"),
        ("concurrency", "²", "must be a whole number from 0 to 500"),
        ("concurrency", "1_0", "must be a whole number from 0 to 500"),
        ("max_retries", "1001", "must be a whole number from 0 to 1000"),
        ("retry_delay", "10s", "must be a whole number from 0 to 86400"),
        ("store_tasks_hours", "0", "must be a whole number from 1 to 87600"),
        ("systemd_timeout", "0", "must be a whole number from 1 to 31536000"),
        ("lost_after", "9", "must be a whole number from 10 to 86400"),
        ("lost_after", "86401", "must be a whole number from 10 to 86400"),
        ("cpus", "0", f"{CPUS}, or 'detected'"),
        ("cpus", "-1", f"{CPUS}, or 'detected'"),
        ("cpus", "nan", f"{CPUS}, or 'detected'"),
        ("cpus", "1e3", f"{CPUS}, or 'detected'"),
        ("cpus", "8193", f"{CPUS}, or 'detected'"),
        ("cpus", "Detected", f"{CPUS}, or 'detected'"),
        ("cpus", "٤", f"{CPUS}, or 'detected'"),
        ("cpus", "9" * 99, f"{CPUS}, or 'detected'"),
        ("memory", "0", "must be at least 6m, the least that Docker accepts, or 'detected'"),
        ("memory", "8 GB", "must be a number of bytes, or one with k, m, g or t, like '512m', or 'detected'"),
        ("memory", "50%", "must be a number of bytes, or one with k, m, g or t, like '512m', or 'detected'"),
        ("memory", "-1", "must be a number of bytes, or one with k, m, g or t, like '512m', or 'detected'"),
        ("memory", "٤g", "must be a number of bytes, or one with k, m, g or t, like '512m', or 'detected'"),
        ("memory", "1025t", "must be at most 1024t, or 'detected'"),
        ("reserve_after", "0", "must be a whole number from 1 to 86400"),
        ("reserve_after", "detected", "must be a whole number from 1 to 86400"),
        ("reserve_after", "5m", "must be a whole number from 1 to 86400"),
        # Words and paths
        ("log_level", "LOUD", "must be one of DEBUG, INFO, WARNING, ERROR, CRITICAL"),
        ("opts", "-Q 'a", "must be words as a shell splits them (No closing quotation)"),
        ("docker_host", "tcp://10.0.0.1:2375", "must be a local socket, unix:///PATH: "),
        ("docker_host", "/var/run/docker.sock", "must be a local socket, unix:///PATH: "),
        ("policy", "policy.toml", "must be an absolute path"),
        ("key", "key", "must be an absolute path"),
    ],
)
def test_a_bad_value_is_named_with_what_is_allowed(field: str, text: str, allowed: str) -> None:
    assert refusal(**{field: text}).startswith(f"CELERY_DOCKER_{field.upper()}={text!r}: {allowed}")


@pytest.mark.parametrize(
    ("opts", "expected"),
    [
        ("-P prefork", "must not have -P: jobs run in the worker's own pool of threads"),
        ("--pool=solo", "must not have --pool: jobs run in the worker's own pool of threads"),
        ("-c4", "must not have -c: set CELERY_DOCKER_CONCURRENCY"),
        ("--concurrency 4", "must not have --concurrency: set CELERY_DOCKER_CONCURRENCY"),
        ("--autoscale=4,1", "must not have --autoscale: set CELERY_DOCKER_CONCURRENCY"),
        ("-l INFO", "must not have -l: set CELERY_DOCKER_LOG_LEVEL"),
        ("-D", "must not have -D: systemd runs the worker and keeps its log"),
    ],
)
def test_options_that_something_else_decides(opts: str, expected: str) -> None:
    assert refusal(opts=opts) == f"CELERY_DOCKER_OPTS={opts!r}: {expected}"


def test_every_bad_variable_is_named_at_once() -> None:
    problem = refusal(concurrency="x", retry_delay="y")
    assert "CELERY_DOCKER_CONCURRENCY='x'" in problem
    assert "CELERY_DOCKER_RETRY_DELAY='y'" in problem


@pytest.mark.parametrize(
    "url",
    [
        "redis://:geheim@127.0.0.1:port/0",
        "reddis://user:geheim@127.0.0.1/0",
        "redis://:ge@heim@127.0.0.1:6379/x",
        "redis://:geheim/heim@127.0.0.1:6379/0",
        "redis://:geheim?heim@127.0.0.1:port/0",
        "redis://:geheim#heim@127.0.0.1:port/0",
        "redis//:geheim@127.0.0.1/0",
    ],
)
def test_a_password_is_not_in_the_complaint(url: str) -> None:
    """An unescaped / or @ in a password is just the mistake that leads to the complaint."""
    assert "heim" not in refusal(broker_url=url)


def test_describe_shows_every_setting_with_secrets_masked() -> None:
    parsed = settings.parse(
        {"CELERY_DOCKER_BROKER_URL": "redis://:geheim@h:6379/0", "CELERY_DOCKER_OPTS": "-Q 'a b' -b redis://:geheim@h"}
    )
    assert settings.describe(parsed) == [
        ("CELERY_DOCKER_BROKER_URL", "redis://:***@h:6379/0"),
        ("CELERY_DOCKER_LOG_LEVEL", "DEBUG"),
        ("CELERY_DOCKER_CONCURRENCY", "0"),
        ("CELERY_DOCKER_OPTS", "-Q 'a b' -b redis://:***@h"),
        ("CELERY_DOCKER_MAX_RETRIES", "3"),
        ("CELERY_DOCKER_RETRY_DELAY", "10"),
        ("CELERY_DOCKER_STORE_TASKS_HOURS", "384"),
        ("CELERY_DOCKER_SYSTEMD_TIMEOUT", "7200"),
        ("CELERY_DOCKER_LOST_AFTER", "600"),
        ("CELERY_DOCKER_CPUS", "detected"),
        ("CELERY_DOCKER_MEMORY", "detected"),
        ("CELERY_DOCKER_RESERVE_AFTER", "300"),
        ("CELERY_DOCKER_DOCKER_HOST", "unix:///var/run/docker.sock"),
        ("CELERY_DOCKER_PULL_SILENCE", "600"),
        ("CELERY_DOCKER_IMAGE_BUDGET", "0"),
        ("CELERY_DOCKER_IMAGE_FREE", "0"),
        ("CELERY_DOCKER_POLICY", "/etc/celery-docker/policy.toml"),
        ("CELERY_DOCKER_KEY", "/etc/celery-docker/key"),
        ("CELERY_DOCKER_GPUS", ""),
        ("CELERY_DOCKER_API_HOSTS", ""),
    ]


@pytest.mark.parametrize(
    ("concurrency", "cpus", "expected"), [("0", 8, 8), ("0", 0, 1), ("0", 1024, 500), ("3", 8, 3), ("500", 1, 500)]
)
def test_slots(concurrency: str, cpus: int, expected: int) -> None:
    assert settings.parse({"CELERY_DOCKER_CONCURRENCY": concurrency}).slots(cpus) == expected


def test_retention() -> None:
    assert settings.parse({"CELERY_DOCKER_STORE_TASKS_HOURS": "2"}).retention_s == 7200


# The name of the worker


@pytest.mark.parametrize("name", ["a b", "a,b", "a%h", "-a", "a@b", "ä", "a/b", "x" * 64])
def test_a_name_that_no_further_worker_can_have(name: str) -> None:
    with pytest.raises(errors.SettingsError, match=r"^the name .* of celery-worker@NAME: must be up to 63 letters"):
        settings.parse({settings.WORKER: name})


# The file /etc/default/celery-worker


def test_read_assignments_as_systemd_does() -> None:
    text = """
# a comment
; another
A=1
  B = two words  
C="quoted # value"
D='single'
E=
F=a=b
#G=off
no assignment
H="
"""
    assert settings.read_assignments(text) == {
        "A": "1",
        "B": "two words",
        "C": "quoted # value",
        "D": "single",
        "E": "",
        "F": "a=b",
        "H": '"',
    }


def test_the_shipped_file_changes_nothing_as_it_is() -> None:
    assert settings.parse(settings.read_assignments(SHIPPED.read_text())) == DEFAULTS


def test_the_shipped_file_shows_every_setting_with_its_default() -> None:
    lines = [line.removeprefix("#") for line in SHIPPED.read_text().splitlines() if line.startswith("#CELERY_DOCKER_")]
    assert lines == [f"{setting.variable}={setting.default}" for setting in settings.SETTINGS]


def test_names_that_only_look_like_settings() -> None:
    names = ["CELERY_DOCKER_QUEUE", "CELERY_DOCKER_CONCURRENCY", "CELERY_DOCKER_OPT", "PATH", "CELERY_DOCKER_A"]
    assert settings.unknown(names) == ["CELERY_DOCKER_A", "CELERY_DOCKER_OPT"]
