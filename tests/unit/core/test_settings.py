"""The settings of a worker: what each variable may be, and what is said to an administrator who got one wrong."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import pytest
from celery.utils import nodenames

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
    docker_host="unix:///var/run/docker.sock",
    policy_file="/etc/celery-docker/policy.toml",
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
        ("docker_host", "unix:///run/other.sock", "unix:///run/other.sock"),
        ("policy", "/etc/p.toml", "/etc/p.toml"),
    ],
)
def test_a_good_value(name: str, text: str, expected: object) -> None:
    (field,) = (setting.field for setting in settings.SETTINGS if setting.variable == settings.PREFIX + name.upper())
    assert getattr(settings.parse({settings.PREFIX + name.upper(): text}), field) == expected


URL = "must look like redis://:PASSWORD@HOST:6379/0, rediss:// for TLS, or unix:///PATH for a socket"
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
        # Words and paths
        ("log_level", "LOUD", "must be one of DEBUG, INFO, WARNING, ERROR, CRITICAL"),
        ("opts", "-Q 'a", "must be words as a shell splits them (No closing quotation)"),
        ("docker_host", "tcp://10.0.0.1:2375", "must be a local socket, unix:///PATH: "),
        ("docker_host", "/var/run/docker.sock", "must be a local socket, unix:///PATH: "),
        ("policy", "policy.toml", "must be an absolute path"),
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
    assert settings.masked(text) == expected


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
    assert "geheim" not in settings.masked(text)


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
        ("CELERY_DOCKER_DOCKER_HOST", "unix:///var/run/docker.sock"),
        ("CELERY_DOCKER_POLICY", "/etc/celery-docker/policy.toml"),
    ]


@pytest.mark.parametrize(
    ("concurrency", "cpus", "expected"), [("0", 8, 8), ("0", 0, 1), ("0", 1024, 500), ("3", 8, 3), ("500", 1, 500)]
)
def test_slots(concurrency: str, cpus: int, expected: int) -> None:
    assert settings.parse({"CELERY_DOCKER_CONCURRENCY": concurrency}).slots(cpus) == expected


def test_retention() -> None:
    assert settings.parse({"CELERY_DOCKER_STORE_TASKS_HOURS": "2"}).retention_s == 7200


# The name of the worker


@pytest.mark.parametrize(
    ("opts", "expected"),
    [
        # Without a name of its own a worker is its machine.
        ((), "node1.example.org"),
        (("-Ofair", "-Q", "a,b"), "node1.example.org"),
        (("-n", "w2@%h"), "w2@node1.example.org"),
        (("-nw2@%n",), "w2@node1"),
        (("--hostname", "w2@%d"), "w2@example.org"),
        (("--hostname=w2@there",), "w2@there"),
        (("--hostname=w2",), "celery@w2"),
        (("-n", "%n-%h"), "celery@node1-node1.example.org"),
        (("-n", "w%i%I@%h"), "w0@node1.example.org"),
        (("-n", "one@h", "-Ofair", "-n", "two@h"), "two@h"),
    ],
)
def test_identity(opts: tuple[str, ...], expected: str) -> None:
    assert settings.identity(_with_opts(*opts), "node1.example.org") == expected


def _with_opts(*opts: str) -> settings.Settings:
    return replace(settings.parse({}), opts=opts)


@pytest.mark.parametrize(
    ("opts", "name", "queues"),
    [
        ("", "gpu@node1", ["gpu"]),
        ("-Ofair", "gpu@node1", ["gpu"]),
        ("-Q a,b -n w2@%h", "w2@node1", ["gpu", "a,b"]),
    ],
)
def test_a_further_worker_has_a_name_and_a_queue_of_its_own(opts: str, name: str, queues: list[str]) -> None:
    """Unless its options say otherwise: of two, Celery takes the last."""
    worker = settings.parse({settings.WORKER: "gpu", "CELERY_DOCKER_OPTS": opts})
    assert settings.identity(worker, "node1") == name
    assert [word for flag, word in pairwise(worker.words) if flag == "-Q"] == queues
    assert (worker.unit, worker.file) == ("celery-worker@gpu", "/etc/default/celery-worker-gpu")


@pytest.mark.parametrize("name", ["a b", "a,b", "a%h", "-a", "a@b", "ä", "a/b", "x" * 64])
def test_a_name_that_no_further_worker_can_have(name: str) -> None:
    with pytest.raises(errors.SettingsError, match=r"^the name .* of celery-worker@NAME: must be up to 63 letters"):
        settings.parse({settings.WORKER: name})


@pytest.mark.parametrize("name", ["w2@%h", "w2", "%n", "a@b@%d", "%h-x@%h", "w%i@%n"])
def test_a_worker_has_the_name_that_celery_gives_it(name: str) -> None:
    theirs = nodenames.host_format(nodenames.default_nodename(name), host="node1.example.org", i="0", I="")
    assert settings.identity(_with_opts("-n", name), "node1.example.org") == theirs


@pytest.mark.parametrize(
    "name", ["", "a b", "a\tb", "a\nb", "ä", "a:b", "a/b", "a%x", "@h", "x" * 129, "\x7f"], ids=repr
)
def test_a_name_that_no_key_can_hold(name: str) -> None:
    with pytest.raises(errors.SettingsError, match=r"the worker's name .* give it another with -n NAME") as caught:
        settings.identity(_with_opts(), name)
    assert len(str(caught.value).splitlines()) == 1


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


FIXED = {
    "another Redis": (
        {"BROKER_URL": "redis://b/0"},
        "CELERY_DOCKER_BROKER_URL cannot change from a:6379/0 to b:6379/0",
    ),
    "another database": ({"BROKER_URL": "redis://a/1"}, "from a:6379/0 to a:6379/1 in a reload"),
    "a socket": ({"BROKER_URL": "unix://:new@/run/x.sock?db=2"}, "from a:6379/0 to /run/x.sock?db=2 in a reload"),
    "another Docker": ({"DOCKER_HOST": "unix:///d"}, "CELERY_DOCKER_DOCKER_HOST cannot change"),
    "another name": ({"OPTS": "-n two@%h"}, "the worker's name cannot change from node1 to two@node1 in a reload"),
}


@pytest.mark.parametrize(("change", "expected"), FIXED.values(), ids=FIXED)
def test_a_reload_that_would_leave_the_running_jobs_behind_is_refused(change: dict[str, str], expected: str) -> None:
    before = settings.parse({"CELERY_DOCKER_BROKER_URL": "redis://:old@a"})
    after = {
        "CELERY_DOCKER_BROKER_URL": "redis://a",
        **{f"CELERY_DOCKER_{name}": text for name, text in change.items()},
    }
    with pytest.raises(errors.SettingsError, match="systemctl restart celery-worker waits for them") as raised:
        settings.check_reload(before, settings.parse(after), "node1")
    assert expected in str(raised.value)


def test_a_reload_may_change_the_login_and_everything_else() -> None:
    before = settings.parse({"CELERY_DOCKER_BROKER_URL": "redis://:old@a"})
    after = {"BROKER_URL": "redis://me:new@a:6379/0", "CONCURRENCY": "9", "OPTS": "-Q night", "LOST_AFTER": "60"}
    settings.check_reload(
        before, settings.parse({f"CELERY_DOCKER_{name}": text for name, text in after.items()}), "node1"
    )


def test_names_that_only_look_like_settings() -> None:
    names = ["CELERY_DOCKER_QUEUE", "CELERY_DOCKER_CONCURRENCY", "CELERY_DOCKER_OPT", "PATH", "CELERY_DOCKER_A"]
    assert settings.unknown(names) == ["CELERY_DOCKER_A", "CELERY_DOCKER_OPT"]
