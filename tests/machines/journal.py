"""The life of a job in the journal of a booted machine: its lines, their fields, and what the catalogue has on them."""

from __future__ import annotations

import json

from celery_docker.core.journal import JournalEvent
from celery_docker.core.lifecycle import State
from tests.machines.installed import Installed
from tests.waiting import eventually

_FOLDER = "/srv/life"
_HIDDEN = "s3cret"
_COMMAND = "[ -e /output/once ] || { touch /output/once; exit 3; }; sleep 1000"


def tells_a_life(installed: Installed) -> None:
    """A job fails, is tried again, hangs, and is cancelled: the journal has and explains it, without its password.

    The worker logs at INFO, and tries again at once.
    """
    debian = installed.debian
    debian.run("install", "-d", "-m", "777", _FOLDER)
    submit = ("celery-docker", "submit", "--retries", "1", "--stop-timeout", "0", "--env", f"PASSWORD={_HIDDEN}")
    sent = debian.run(*submit, "-o", _FOLDER, "busybox", "sh", "-c", _COMMAND).stdout.strip()
    query = ("journalctl", "--unit=celery-worker", "--quiet", "--no-pager", f"CELERY_DOCKER_JOB={sent}")
    eventually(lambda: "attempt 2 runs" in debian.run(*query).stdout, 60, "the second attempt")
    debian.run("celery-docker", "cancel", "--reason", "a wrong input\nPRIORITY=0", sent)
    debian.run("celery-docker", "wait", sent, check=False)
    debian.run("rm", "-r", _FOLDER)
    text = debian.run(*query, "--output=json").stdout
    entries = [json.loads(line) for line in text.splitlines()]
    events = [
        (JournalEvent(one["MESSAGE_ID"]).name, *(one.get(f"CELERY_DOCKER_{name}") for name in ("ATTEMPT", "STATE")))
        for one in entries
    ]
    assert events == [
        ("JOB_STARTED", "1", "running"),
        ("JOB_RETRIED", "1", "queued"),
        ("JOB_STARTED", "2", "running"),
        ("JOB_STOPPED", "2", "running"),
        ("JOB_CANCELLED", "2", "cancelled"),
    ]
    assert entries[1]["CELERY_DOCKER_EXIT_CODE"] == "3"
    assert {(one["CELERY_DOCKER_IMAGE"], one["CELERY_DOCKER_QUEUE"], one["PRIORITY"]) for one in entries} == {
        ("busybox", "celery", "6")
    }
    assert _HIDDEN not in text
    explained = debian.run(*query, "--catalog").stdout
    assert f"Subject: Job {sent} has started" in explained
    assert f"celery-docker logs {sent}" in explained
    assert "Subject: Jobs were cancelled" in explained
    assert explained.count("Defined-By: celery-docker") == 5
    of_state = debian.run(*query[:-1], f"CELERY_DOCKER_STATE={State.CANCELLED}", "--output=cat").stdout
    assert sent in of_state
