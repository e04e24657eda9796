"""Decisions after an attempt: every rule of success, failure and retry as a row of a table."""

from __future__ import annotations

import pytest

from celery_docker.core import lifecycle
from celery_docker.core.lifecycle import (
    Budget,
    Cause,
    DockerProcess,
    EndRequest,
    Finish,
    MemoryLimit,
    Outcome,
    Retry,
    State,
    Tally,
)

FOUR_RUNS = Budget(max_retries=3, retry_delay_s=10)
NO_RETRY = Budget(max_retries=0, retry_delay_s=10)
ONLY_75 = Budget(max_retries=3, retry_delay_s=10, retry_on=(75,))
ONLY_127 = Budget(max_retries=3, retry_delay_s=10, retry_on=(127,))
NEVER = Budget(max_retries=3, retry_delay_s=10, retry_on=())
AT_ONCE = Budget(max_retries=3, retry_delay_s=0)
ASKED = MemoryLimit(512 * 2**20, is_fixed=False)


def exited(code: int) -> Outcome:
    return Outcome(Cause.EXIT, f"exit code {code}", code)


OUT_OF_MEMORY = Outcome(Cause.OUT_OF_MEMORY, "out of memory", 137, oom_killed=True)
HOST_ILL = Outcome(Cause.HOST, "Docker does not answer")
REFUSED = Outcome(Cause.REQUEST, "image: is missing")
NOT_FOUND = Outcome(Cause.REQUEST, "command 'x' cannot be started", 127)
BROKEN = Outcome(Cause.ERROR, "cannot write the log")


@pytest.mark.parametrize(
    ("outcome", "tally", "budget", "draw", "expected"),
    [
        # Success ends a job, whatever happened to it before.
        pytest.param(exited(0), Tally(), FOUR_RUNS, 3.0, Finish(State.SUCCEEDED), id="exit 0"),
        pytest.param(exited(0), Tally(3, 9), NO_RETRY, 3.0, Finish(State.SUCCEEDED), id="exit 0 at last"),
        # The rule of the original role, int(uniform(2, 4) ** n * retry_delay): the first retry waits retry_delay...
        pytest.param(exited(1), Tally(0), FOUR_RUNS, 2.0, Retry(10, Tally(1)), id="1st retry, shortest"),
        pytest.param(exited(1), Tally(0), FOUR_RUNS, 4.0, Retry(10, Tally(1)), id="1st retry, longest"),
        # ...each later one 2 to 4 times as long as the one before...
        pytest.param(exited(1), Tally(1), FOUR_RUNS, 2.0, Retry(20, Tally(2)), id="2nd retry, shortest"),
        pytest.param(exited(1), Tally(1), FOUR_RUNS, 4.0, Retry(40, Tally(2)), id="2nd retry, longest"),
        pytest.param(exited(1), Tally(2), FOUR_RUNS, 2.0, Retry(40, Tally(3)), id="3rd retry, shortest"),
        pytest.param(exited(1), Tally(2), FOUR_RUNS, 4.0, Retry(160, Tally(3)), id="3rd retry, longest"),
        # ...cut off to whole seconds, not rounded.
        pytest.param(exited(1), Tally(1), FOUR_RUNS, 2.599, Retry(25, Tally(2)), id="whole seconds"),
        # Four runs in all with the default settings.
        pytest.param(exited(1), Tally(3), FOUR_RUNS, 3.0, Finish(State.FAILED), id="4th run was the last"),
        pytest.param(exited(1), Tally(), NO_RETRY, 3.0, Finish(State.FAILED), id="no retries wanted"),
        pytest.param(exited(1), Tally(), AT_ONCE, 3.0, Retry(0, Tally(1)), id="retries without a pause"),
        # A signal, 255 and Docker's own 125 are exits like any other.
        pytest.param(exited(143), Tally(), FOUR_RUNS, 3.0, Retry(10, Tally(1)), id="ended by a signal"),
        pytest.param(exited(255), Tally(), FOUR_RUNS, 3.0, Retry(10, Tally(1)), id="exit 255"),
        pytest.param(exited(125), Tally(), FOUR_RUNS, 3.0, Retry(10, Tally(1)), id="exit 125"),
        # A command that is not there or not executable does not appear by trying again...
        pytest.param(exited(126), Tally(), FOUR_RUNS, 3.0, Finish(State.FAILED), id="126 is hopeless"),
        pytest.param(exited(127), Tally(), FOUR_RUNS, 3.0, Finish(State.FAILED), id="127 is hopeless"),
        # ...unless the job says so itself.
        pytest.param(exited(127), Tally(), ONLY_127, 3.0, Retry(10, Tally(1)), id="127 asked for"),
        # retry_on: these exit codes and no others; an empty list means none.
        pytest.param(exited(75), Tally(), ONLY_75, 3.0, Retry(10, Tally(1)), id="listed in retry_on"),
        pytest.param(exited(1), Tally(), ONLY_75, 3.0, Finish(State.FAILED), id="not in retry_on"),
        pytest.param(exited(75), Tally(3), ONLY_75, 3.0, Finish(State.FAILED), id="retry_on has the same budget"),
        pytest.param(exited(1), Tally(), NEVER, 3.0, Finish(State.FAILED), id="empty retry_on"),
        # Out of memory is retried like an exit.
        pytest.param(OUT_OF_MEMORY, Tally(), FOUR_RUNS, 3.0, Retry(10, Tally(1)), id="out of memory"),
        pytest.param(OUT_OF_MEMORY, Tally(3), FOUR_RUNS, 3.0, Finish(State.FAILED), id="out of memory, last run"),
        # The host's fault: its own count, its own delays, the job's budget untouched; growing to ten minutes.
        pytest.param(HOST_ILL, Tally(2, 0), NO_RETRY, 3.0, Retry(10, Tally(2, 1)), id="host, 1st"),
        pytest.param(HOST_ILL, Tally(0, 1), FOUR_RUNS, 3.0, Retry(20, Tally(0, 2)), id="host, 2nd"),
        pytest.param(HOST_ILL, Tally(0, 5), FOUR_RUNS, 3.0, Retry(320, Tally(0, 6)), id="host, 6th"),
        pytest.param(HOST_ILL, Tally(0, 9), FOUR_RUNS, 3.0, Retry(600, Tally(0, 10)), id="host, 10th"),
        pytest.param(HOST_ILL, Tally(0, 10), FOUR_RUNS, 3.0, Finish(State.ERROR), id="host, for too long"),
        pytest.param(HOST_ILL, Tally(), AT_ONCE, 3.0, Retry(1, Tally(0, 1)), id="host, never without a pause"),
        pytest.param(HOST_ILL, Tally(), ONLY_75, 3.0, Retry(10, Tally(0, 1)), id="host, retry_on is not about it"),
        # The request's fault and our own: never again.
        pytest.param(REFUSED, Tally(), FOUR_RUNS, 3.0, Finish(State.REJECTED), id="request refused"),
        pytest.param(NOT_FOUND, Tally(), ONLY_127, 3.0, Finish(State.REJECTED), id="Docker found no command"),
        # Over before it began, or with its host.
        pytest.param(Outcome(Cause.EXPIRED, "late"), Tally(), FOUR_RUNS, 3.0, Finish(State.EXPIRED), id="expired"),
        pytest.param(Outcome(Cause.LOST, "silent"), Tally(), FOUR_RUNS, 3.0, Finish(State.LOST), id="host lost"),
        pytest.param(BROKEN, Tally(), FOUR_RUNS, 3.0, Finish(State.ERROR), id="log broken"),
    ],
)
def test_decide(outcome: Outcome, tally: Tally, budget: Budget, draw: float, expected: Retry | Finish) -> None:
    assert lifecycle.decide(outcome, tally, budget, draw) == expected


def test_a_job_that_always_fails_runs_four_times_by_default() -> None:
    """Three delays by the rule, then the end."""
    tally, delays = Tally(), []
    while isinstance(decision := lifecycle.decide(exited(1), tally, FOUR_RUNS, 3.0), Retry):
        delays.append(decision.delay_s)
        tally = decision.tally
    assert delays == [10, 30, 90]
    assert decision == Finish(State.FAILED)


def test_host_faults_end_after_ten_retries_in_about_an_hour() -> None:
    tally, delays = Tally(), []
    while isinstance(decision := lifecycle.decide(HOST_ILL, tally, FOUR_RUNS, 3.0), Retry):
        delays.append(decision.delay_s)
        tally = decision.tally
    assert delays == [10, 20, 40, 80, 160, 320, 600, 600, 600, 600]
    assert decision == Finish(State.ERROR)


@pytest.mark.parametrize(
    ("exit_code", "oom_killed", "limit", "expected"),
    [
        pytest.param(0, False, None, Outcome(Cause.EXIT, "", 0, False), id="success"),
        pytest.param(0, None, None, Outcome(Cause.EXIT, "", 0, None), id="success, memory unknown"),
        # Some process inside was killed, but the job itself coped with it.
        pytest.param(0, True, ASKED, Outcome(Cause.EXIT, "", 0, True), id="a child was killed, the job went on"),
        pytest.param(3, False, ASKED, Outcome(Cause.EXIT, "exit code 3", 3, False), id="failure"),
        pytest.param(
            137,
            True,
            ASKED,
            Outcome(Cause.OUT_OF_MEMORY, "out of memory: limit 512m, raise it with -m", 137, True),
            id="over its own limit",
        ),
        pytest.param(
            137,
            True,
            MemoryLimit(2**31, is_fixed=True),
            Outcome(Cause.OUT_OF_MEMORY, "out of memory: limit 2g, set by this host's policy", 137, True),
            id="over the host's limit",
        ),
        pytest.param(
            1,
            True,
            MemoryLimit(10**7, is_fixed=False),
            Outcome(Cause.OUT_OF_MEMORY, "out of memory: limit 10000000 bytes, raise it with -m", 1, True),
            id="a limit that is no round number",
        ),
        pytest.param(
            137,
            True,
            None,
            Outcome(Cause.OUT_OF_MEMORY, "out of memory: the host had no memory left", 137, True),
            id="the host ran out",
        ),
        # 137 alone may have been anybody's kill.
        pytest.param(137, False, None, Outcome(Cause.EXIT, "exit code 137, ended by SIGKILL", 137, False), id="killed"),
        # Docker does not always hear of the kernel's kill.
        pytest.param(
            137,
            False,
            ASKED,
            Outcome(
                Cause.EXIT,
                "exit code 137, ended by SIGKILL, perhaps out of memory: limit 512m, raise it with -m",
                137,
                False,
            ),
            id="killed under a limit",
        ),
    ],
)
def test_outcome_of_exit(exit_code: int, oom_killed: bool | None, limit: MemoryLimit | None, expected: Outcome) -> None:
    assert (
        lifecycle.outcome_of_exit(
            exit_code, oom_killed, limit, docker=DockerProcess.STAYED, outlives_docker=False, engine="Docker"
        )
        == expected
    )


def test_a_kill_by_hand_has_nothing_to_do_with_memory() -> None:
    outcome = lifecycle.outcome_of_exit(
        137, False, ASKED, docker=DockerProcess.STAYED, outlives_docker=False, engine="Docker", was_signalled=True
    )
    assert outcome.reason == "exit code 137, ended by SIGKILL"


@pytest.mark.parametrize(
    ("exit_code", "oom_killed", "docker", "cause"),
    [
        (255, False, DockerProcess.UNKNOWN, Cause.HOST),  # moby's mark on a container that it found dead
        (137, False, DockerProcess.UNKNOWN, Cause.HOST),  # killed with Docker
        (143, False, DockerProcess.UNKNOWN, Cause.HOST),  # stopped with Docker
        (137, True, DockerProcess.UNKNOWN, Cause.OUT_OF_MEMORY),  # the kernel's verdict stands
        (1, False, DockerProcess.UNKNOWN, Cause.EXIT),  # most likely the job's own
        (0, False, DockerProcess.UNKNOWN, Cause.EXIT),
        (255, False, DockerProcess.WENT, Cause.HOST),
        (137, True, DockerProcess.WENT, Cause.OUT_OF_MEMORY),
        (1, False, DockerProcess.WENT, Cause.HOST),  # its answer to the signal of a Docker that goes down
        (0, False, DockerProcess.WENT, Cause.EXIT),  # it says that it is done
        (255, False, DockerProcess.STAYED, Cause.EXIT),  # ssh, among others, says 255
        (137, False, DockerProcess.STAYED, Cause.EXIT),  # it was killed by somebody who meant it
        (1, False, DockerProcess.STAYED, Cause.EXIT),
    ],
)
def test_an_end_that_a_restart_of_docker_or_the_host_brought_about(
    exit_code: int, oom_killed: bool, docker: DockerProcess, cause: Cause
) -> None:
    outcome = lifecycle.outcome_of_exit(
        exit_code, oom_killed, None, docker=docker, outlives_docker=False, engine="Docker"
    )
    assert outcome.cause is cause


@pytest.mark.parametrize("docker", [DockerProcess.WENT, DockerProcess.UNKNOWN])
@pytest.mark.parametrize(
    ("exit_code", "cause"),
    [
        (255, Cause.ERROR),  # it has ended by itself: running it again would be a second run
        (143, Cause.HOST),  # Docker was set to spare containers only afterwards
        (3, Cause.EXIT),  # Docker has learned how it ended
        (0, Cause.EXIT),
    ],
)
def test_an_end_that_docker_did_not_see_where_it_ends_no_container(
    exit_code: int, docker: DockerProcess, cause: Cause
) -> None:
    outcome = lifecycle.outcome_of_exit(exit_code, False, None, docker=docker, outlives_docker=True, engine="Podman")
    assert outcome.cause is cause
    assert outcome.exit_code == (None if cause is Cause.ERROR else exit_code), "unknown is None"
    assert "Podman" in outcome.reason or cause is Cause.EXIT


@pytest.mark.parametrize("cause", [Cause.INTERRUPTED, Cause.CANCELLED, Cause.TIMEOUT])
def test_the_state_after_an_end_request(cause: Cause) -> None:
    """An interrupted job is queued at once with its retries untouched; the other causes end it."""
    tally = Tally(exits=2, host_faults=1)
    decision = lifecycle.decide(Outcome(cause, "so be it", 143), tally, Budget(0, 10), 3.0)
    if cause is Cause.INTERRUPTED:
        assert decision == Retry(0, tally)
    else:
        assert isinstance(decision, Finish)
        assert decision.state is {Cause.CANCELLED: State.CANCELLED, Cause.TIMEOUT: State.TIMED_OUT}[cause]


@pytest.mark.parametrize("cause", [Cause.INTERRUPTED, Cause.CANCELLED, Cause.TIMEOUT])
@pytest.mark.parametrize("exit_code", [0, 3, 137, 143])
def test_the_outcome_of_an_end_on_request(cause: Cause, exit_code: int) -> None:
    """A job that was only interrupted, and says that it is done, is; whoever cancels or limits one means it."""
    outcome = lifecycle.outcome_of_end_request(exited(exit_code), EndRequest(cause, "so be it"))
    if cause is Cause.INTERRUPTED and exit_code == 0:
        assert outcome == exited(0)
    else:
        assert (outcome.cause, outcome.reason, outcome.exit_code) == (cause, "so be it", exit_code)


@pytest.mark.parametrize(
    ("outcome", "expected"),
    [
        pytest.param(exited(0), True, id="exit 0"),
        pytest.param(exited(1), False, id="exit 1"),
        pytest.param(Outcome(Cause.ERROR, "no end seen", None), False, id="unknown is not 0"),
        pytest.param(Outcome(Cause.OUT_OF_MEMORY, "", 0), False, id="out of memory"),
    ],
)
def test_only_exit_0_is_a_success(outcome: Outcome, expected: bool) -> None:
    assert outcome.succeeded is expected


@pytest.mark.parametrize(
    ("exit_code", "expected"),
    [
        (0, ""),
        (1, "exit code 1"),
        (126, "exit code 126, the command cannot be executed"),
        (127, "exit code 127, the command was not found in the image"),
        (128, "exit code 128"),
        (130, "exit code 130, ended by SIGINT"),
        (137, "exit code 137, ended by SIGKILL"),
        (139, "exit code 139, ended by SIGSEGV"),
        (143, "exit code 143, ended by SIGTERM"),
        (255, "exit code 255"),
    ],
)
def test_exit_sentence(exit_code: int, expected: str) -> None:
    assert lifecycle.exit_sentence(exit_code) == expected


@pytest.mark.parametrize(
    ("exit_code", "expected"),
    [
        (None, None),
        (0, None),
        (9, None),
        (128, None),
        (129, 1),
        (137, 9),
        (143, 15),
        (160, None),
        (170, None),
        (255, None),
    ],
)
def test_signal_of(exit_code: int | None, expected: int | None) -> None:
    assert lifecycle.signal_of(exit_code) == expected


@pytest.mark.parametrize("exit_code", range(256))
def test_every_exit_code_has_words(exit_code: int) -> None:
    """Whatever a container ends with, the sentence is one line and names the number."""
    sentence = lifecycle.exit_sentence(exit_code)
    assert len(sentence.splitlines()) <= 1
    assert str(exit_code) in sentence or exit_code == 0


@pytest.mark.parametrize("state", State)
def test_only_a_job_that_is_not_over_can_change(state: State) -> None:
    assert state.is_final is (state.value not in {"queued", "starting", "running"})
