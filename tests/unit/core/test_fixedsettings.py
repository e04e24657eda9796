"""The settings that stay while jobs run: the name of a worker, and what a reload may not change."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

import pytest
from celery.utils import nodenames

from celery_docker import errors
from celery_docker.core import fixedsettings, settings


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
    assert fixedsettings.identity(_with_opts(*opts), "node1.example.org") == expected


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
    assert fixedsettings.identity(worker, "node1") == name
    assert [word for flag, word in pairwise(worker.words) if flag == "-Q"] == queues
    assert (worker.unit, worker.file) == ("celery-worker@gpu", "/etc/default/celery-worker-gpu")


@pytest.mark.parametrize("name", ["w2@%h", "w2", "%n", "a@b@%d", "%h-x@%h", "w%i@%n"])
def test_a_worker_has_the_name_that_celery_gives_it(name: str) -> None:
    theirs = nodenames.host_format(nodenames.default_nodename(name), host="node1.example.org", i="0", I="")
    assert fixedsettings.identity(_with_opts("-n", name), "node1.example.org") == theirs


@pytest.mark.parametrize(
    "name", ["", "a b", "a\tb", "a\nb", "ä", "a:b", "a/b", "a%x", "@h", "x" * 129, "\x7f"], ids=repr
)
def test_a_name_that_no_key_can_hold(name: str) -> None:
    with pytest.raises(errors.SettingsError, match=r"the worker's name .* give it another with -n NAME") as caught:
        fixedsettings.identity(_with_opts(), name)
    assert len(str(caught.value).splitlines()) == 1


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
        fixedsettings.check_reload(before, settings.parse(after), "node1")
    assert expected in str(raised.value)


def test_a_reload_may_change_the_login_and_everything_else() -> None:
    before = settings.parse({"CELERY_DOCKER_BROKER_URL": "redis://:old@a"})
    after = {"BROKER_URL": "redis://me:new@a:6379/0", "CONCURRENCY": "9", "OPTS": "-Q night", "LOST_AFTER": "60"}
    fixedsettings.check_reload(
        before, settings.parse({f"CELERY_DOCKER_{name}": text for name, text in after.items()}), "node1"
    )
