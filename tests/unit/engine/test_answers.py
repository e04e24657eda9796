"""An engine's answers as values, whatever its words are."""

from __future__ import annotations

from typing import Any

import pytest

from celery_docker.core.container import Event, Status
from celery_docker.engine import answers, podman

ENDED, NEVER = "2026-11-26T11:55:20.511944325Z", "0001-01-01T00:00:00Z"


def details(word: str, finished_at: str = NEVER, **state: Any) -> dict[str, Any]:
    facts = {"Status": word, "StartedAt": ENDED, "FinishedAt": finished_at, "Pid": 0, "ExitCode": 3, "OOMKilled": False}
    config = {"Config": {"Labels": None}, "HostConfig": {}}
    return {"Id": "c0", "Name": "/run-x", "Image": "sha256:x", "State": {**facts, **state}, **config}


@pytest.mark.parametrize("status", Status)
def test_the_words_of_docker(status: Status) -> None:
    assert answers.container_of(details(status.value)).status is status


@pytest.mark.parametrize(
    ("word", "expected"),
    [
        ("configured", Status.CREATED),
        ("initialized", Status.CREATED),
        ("stopping", Status.RUNNING),
        ("stopped", Status.EXITED),
    ],
)
def test_the_words_of_podman(word: str, expected: Status) -> None:
    state = answers.container_of(details(word, ENDED))
    assert (state.status, state.exit_code) == (expected, None if expected is Status.RUNNING else 3)


def test_nothing_ends_before_its_start() -> None:
    """As Docker has it of a command that ran for a moment."""
    state = answers.container_of(details("exited", "2026-11-26T11:55:20.509944325Z"))
    assert state.finished_at == state.started_at


@pytest.mark.parametrize(("exit_code", "expected"), [(127, 127), (0, None)], ids=["docker", "podman"])
def test_a_command_that_could_not_be_started(exit_code: int, expected: int | None) -> None:
    """Podman 5 writes the error, and an exit code of 0 that never was."""
    refused = details("created", ExitCode=exit_code, Error="no such file or directory")
    assert answers.container_of(refused).exit_code == expected


@pytest.mark.parametrize(
    ("state", "expected"),
    [
        ({"Running": True}, Status.RUNNING),
        ({"Paused": True}, Status.RUNNING),
        ({"Pid": 7}, Status.RUNNING),
        ({"finished_at": ENDED}, Status.EXITED),
        ({}, Status.CREATED),
    ],
)
def test_an_unknown_word_is_decided_by_the_facts_beside_it(state: dict[str, Any], expected: Status) -> None:
    """A word of the next version of an engine is no mistake of ours, and no job is lost by it."""
    assert answers.container_of(details("hibernating", **state)).status is expected


def test_an_unknown_word_in_a_list_gives_nothing_up() -> None:
    row = {"Id": "c0", "Names": ["/run-x"], "State": "hibernating", "Labels": None, "Created": 0}
    assert answers.listed(row).status is Status.RUNNING


@pytest.mark.parametrize(
    ("policy", "expected"),
    [(None, False), ({}, False), ({"Name": ""}, False), ({"Name": "no"}, False), ({"Name": "always"}, True)],
)
def test_a_restart_policy_of_somebody_else(policy: dict[str, str] | None, expected: bool) -> None:
    inspected = details("running")
    inspected["HostConfig"] = {} if policy is None else {"RestartPolicy": policy}
    assert answers.container_of(inspected).restarts is expected


@pytest.mark.parametrize(
    ("entry", "expected"),
    [
        ({"Action": "start"}, Event.START),
        ({"Action": "die"}, Event.DIE),
        ({"status": "died"}, Event.DIE),
        ({"Action": "stop"}, Event.KILL),
        ({"Action": "kill", "Actor": {"Attributes": {"signal": "15"}}}, Event.KILL),
        ({"Action": "kill"}, Event.KILL),
        # They ask for news only.
        ({"Action": "kill", "Actor": {"Attributes": {"signal": "10"}}}, None),
        ({"Action": "kill", "Actor": {"Attributes": {"signal": "18"}}}, None),
        ({"Action": "exec_create: sh"}, None),
        ({}, None),
    ],
)
def test_the_events_of_a_container(entry: dict[str, Any], expected: Event | None) -> None:
    assert answers.event_of(entry) is expected


@pytest.mark.parametrize(
    ("components", "expected"),
    [
        ([{"Name": "Podman Engine"}, {"Name": "Conmon"}], "Podman 5.4.2"),
        ([{"Name": "Engine"}, {"Name": "containerd"}], "Docker 5.4.2"),
        (None, "Docker 5.4.2"),
    ],
)
def test_an_engine_is_named(components: list[dict[str, str]] | None, expected: str) -> None:
    assert podman.name({"Version": "5.4.2", "Components": components}) == expected
