"""Reload, upgrade, stop and reboot of a machine under running jobs, and a power cut: nothing lost, doubled or left."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from tests.faults import demanding
from tests.faults.booted import LOGS, OUTPUT, REDIS, Booted, booted
from tests.faults.counting import FINAL
from tests.faults.ledger import FULL, HELD, SETTLE_S, Entry, Ledger, in_words
from tests.faults.single_host import DOCKER_WENT_DOWN, STOPPED, Conclude
from tests.machines import machine
from tests.machines.installed import SETTINGS, Installed
from tests.waiting import eventually

_STEADY = "i=0; until [ -e /output/go ]; do i=$((i+1)); echo line $i; sleep 0.05; done; echo $i >$F.lines"
_TALKS = "i=0; while :; do i=$((i+1)); printf '%08192d\\n' $i; sleep 0.05; done"
_APT_S = 15
_UPGRADE = "apt-get install --yes --reinstall /root/celery-docker_*.deb"


@pytest.fixture(scope="module")
def host(package: Path) -> Iterator[Booted]:
    """A machine for all tests here, with the package installed."""
    with machine.Machine.boot("faults", machine.ready_image()) as debian:
        machine.import_busybox(debian)
        installed = Installed(debian)
        installed.install(package)
        with booted(installed) as prepared:
            demanding.prepare(prepared)
            yield prepared
    assert machine.leftovers() == []


def test_reload_under_a_running_job(host: Booted, conclude: Conclude) -> None:
    """Over two minutes, in full: one container from start to end, and its log is complete."""
    times, apart_s = (10, 8) if FULL else (1, 0)
    with host.ledger() as ledger:
        entry = _steady_job(ledger)
        container = eventually(host.docker.running, 10, "Docker to list the container")
        for _ in range(times):
            ledger.pause(apart_s, apart_s)
            unattended = ledger.unattended()
            host.new_worker("systemctl", "reload", "celery-worker")
            ledger.adopted(unattended)
            assert host.docker.running() == container
            assert _are_pinned(host, [entry])
        _let_it_end(ledger, entry)
        row = ledger.settle(f"systemctl reload, {in_words(times)}, under a job with steady output")
        _log_is_complete(entry)
    conclude(row)


def test_upgrade_under_running_jobs(host: Booted, conclude: Conclude) -> None:
    """apt returns although a job runs until then, the new process takes over what runs, and the settings are kept."""
    with host.ledger() as ledger:
        entry = _steady_job(ledger)
        ledger.submit(20 if FULL else 3, 2, 6 if FULL else 4)
        ledger.under_load()
        unattended = ledger.unattended()
        took_s = host.new_worker("sh", "-c", _UPGRADE)
        ledger.adopted(unattended)
        assert "CONCURRENCY=4" in host.debian.read(SETTINGS)
        _let_it_end(ledger, entry)
        row = ledger.settle(f"package upgrade, apt returned after {took_s:.0f} s")
        _log_is_complete(entry)
    conclude(row)
    # In short this may run on a machine that is busy with other things.
    assert took_s <= _APT_S or not FULL


def test_upgrade_with_parked_jobs_and_leased_gpus(host: Booted, conclude: Conclude) -> None:
    """After a reload and an upgrade the same jobs have the same room, the others wait for it, and all run once."""
    times = 3 if FULL else 1
    with host.ledger(**demanding.OFFER) as ledger, demanding.watched(host) as watch:
        entries = demanding.held(ledger, watch)
        parked, leased, in_use = ledger.parked(), watch.leases.now(), watch.room.in_use()
        for command in (("systemctl", "reload", "celery-worker"), ("sh", "-c", _UPGRADE)) * times:
            unattended = ledger.unattended()
            host.new_worker(*command)
            ledger.adopted(unattended)
            ledger.submit(1, 0, 0)
            ledger.recover_to(lambda: ledger.status(ledger.entries[-1]) == "SUCCESS")
            assert (ledger.parked(), watch.leases.now(), watch.room.in_use()) == (parked, leased, in_use)
            assert _are_pinned(host, _with_container(host, entries))
        ledger.let_go()
        row = ledger.settle(f"systemctl reload, package upgrade, {in_words(times)}, with GPUs and parked jobs")
        assert {len(ledger.receipt(entry)["attempts"]) for entry in ledger.entries} == {1}
    watch.check()
    conclude(row)


def test_kill_of_the_worker_under_systemd(host: Booted, conclude: Conclude) -> None:
    """systemd starts it again in two seconds, and it takes over what ran on."""
    times = 5 if FULL else 1
    with host.ledger() as ledger:
        ledger.submit(60 if FULL else 4, 1, 5 if FULL else 4)
        for _ in range(times):
            ledger.under_load()
            ledger.pause(0, 1)
            unattended = ledger.unattended()
            host.new_worker("systemctl", "kill", "-s", "KILL", "celery-worker")
            ledger.adopted(unattended)
            ledger.recover()
        conclude(ledger.settle(f"systemctl kill -s KILL celery-worker, {in_words(times)}"))


def test_restart_of_redis_under_systemd(host: Booted, conclude: Conclude) -> None:
    times = 3 if FULL else 1
    with host.ledger() as ledger:
        ledger.submit(40 if FULL else 4, 0, 3)
        for _ in range(times):
            ledger.under_load()
            host.restart_redis()
            ledger.recover()
        conclude(ledger.settle(f"systemctl restart redis-server (AOF), {in_words(times)}"))


def test_stop_of_redis_while_jobs_end(host: Booted, conclude: Conclude) -> None:
    """No dependency of its unit stops the worker; what ran ends meanwhile, and its end is told afterwards."""
    seconds = 120 if FULL else 6
    with host.ledger() as ledger:
        ledger.submit(30 if FULL else 6, 1, 3 if FULL else 2)
        ledger.under_load()
        with host.untouched("celery-worker"):
            with host.stopped(REDIS):
                ledger.pause(seconds, seconds)
                eventually(lambda: not host.docker.running(), 30, "the end of what ran")
            ledger.recover()
        conclude(ledger.settle(f"systemctl stop redis-server (AOF) for {seconds} s while jobs end"))


def test_redis_hangs_under_systemd(host: Booted, conclude: Conclude) -> None:
    """In full for longer than a call may take; nobody's watchdog or timeout ends anything."""
    seconds = 30 if FULL else 3
    with host.ledger() as ledger:
        ledger.submit(30 if FULL else 6)
        ledger.under_load()
        with host.untouched("celery-worker", REDIS):
            with host.frozen(REDIS):
                ledger.pause(seconds, seconds)
            ledger.recover()
        conclude(ledger.settle(f"systemctl kill -s STOP redis-server, CONT after {seconds} s"))


def test_docker_hangs_under_systemd(host: Booted, conclude: Conclude) -> None:
    seconds = 60 if FULL else 3
    with host.ledger() as ledger:
        ledger.submit(30 if FULL else 6, retries=0)
        ledger.under_load()
        with host.untouched("celery-worker", "docker"):
            with host.frozen("docker"):
                ledger.pause(seconds, seconds)
            ledger.recover()
        conclude(ledger.settle(f"systemctl kill -s STOP docker, CONT after {seconds} s"))


def test_stop_of_docker_under_systemd(host: Booted, conclude: Conclude) -> None:
    """Its socket too, which would start it again. What ran runs again, and no job is taken meanwhile.

    One slot is free: the job that it takes finds out.
    """
    seconds = 60 if FULL else 3
    with host.ledger() as ledger:
        _held_jobs(ledger, 3)
        ledger.under_load(3)
        with host.untouched("celery-worker"):
            with host.stopped("docker.socket", "docker.service"):
                ledger.let_go()
                ledger.submit(1, retries=0)
                _takes_no_jobs(host, ledger, "cannot reach Docker", seconds)
            ledger.recover()
        row = ledger.settle(f"systemctl stop docker.socket docker for {seconds} s", due=DOCKER_WENT_DOWN)
        assert {ledger.status(entry) for entry in ledger.entries} == {"SUCCESS"}
        assert [entry.lines() for entry in ledger.entries[:3]] == [["start", "start", "end"]] * 3
    conclude(row)


def test_restart_of_docker_under_systemd(host: Booted, conclude: Conclude) -> None:
    """As Debian ships it, without live-restore: what ran runs again, and nothing else does."""
    times = 3 if FULL else 1
    with host.ledger() as ledger:
        ledger.submit(*((40, 0, 4) if FULL else (4, 2, 3)), retries=0)
        for _ in range(times):
            ledger.under_load()
            ledger.pause(0, 1)
            host.restart_docker()
            ledger.recover()
        conclude(ledger.settle(f"systemctl restart docker, {in_words(times)}", due=DOCKER_WENT_DOWN))


def test_kill_of_docker_and_worker_at_once(host: Booted, conclude: Conclude) -> None:
    """Containers outlive both, and end by the hand of the next Docker, which remembers that: they run again.

    None is just being started: a Docker that is killed there has forgotten it (docs/RELIABILITY.md).
    """
    times = 3 if FULL else 1
    with host.ledger() as ledger:
        _held_jobs(ledger, 4)
        held = tuple(ledger.entries)
        ledger.submit(20 if FULL else 2, 0, 3, retries=0)
        for before in range(times):
            eventually(lambda runs=before + 1: _all_run(held, runs), 60, "all slots to be taken")  # type: ignore[misc]
            ledger.pause(0.5, 1.5)
            host.kill_docker_and_worker()
            ledger.recover_to(lambda runs=before + 2: _all_run(held, runs))  # type: ignore[misc]
            assert _are_pinned(host, held)
        ledger.let_go()
        row = ledger.settle(
            f"systemctl kill -s KILL docker celery-worker, {in_words(times)}", due=(*DOCKER_WENT_DOWN, *STOPPED)
        )
        assert {ledger.status(entry) for entry in ledger.entries} == {"SUCCESS"}
    conclude(row)


def test_restart_of_docker_with_live_restore(host: Booted, conclude: Conclude) -> None:
    """Jobs that run go on, those that end meanwhile have ended: nothing runs again, and a log has every line."""
    times = 3 if FULL else 1
    with host.live_restore(), host.ledger() as ledger:
        entry = _steady_job(ledger)
        ledger.submit(*((40, 0, 4) if FULL else (6, 1, 3)), retries=0)
        for _ in range(times):
            ledger.under_load()
            ledger.pause(0, 1)
            host.restart_docker()
            ledger.recover()
        _let_it_end(ledger, entry)
        row = ledger.settle(f"systemctl restart docker with live-restore, {in_words(times)}")
        _log_is_complete(entry)
    conclude(row)


def test_systemctl_stop_waits_for_jobs(host: Booted, conclude: Conclude) -> None:
    """Those that end in time end; what is queued runs after the next start."""
    with host.ledger() as ledger:
        ledger.submit(20 if FULL else 5, 1, 4 if FULL else 2)
        ledger.under_load()
        host.debian.run("systemctl", "stop", "celery-worker")
        assert host.docker.containers() == []
        assert 0 < ledger.ended() == ledger.started()
        host.debian.run("systemctl", "start", "celery-worker")
        ledger.recover()
        row = ledger.settle("systemctl stop that waits for its jobs")
        assert {len(ledger.receipt(entry)["attempts"]) for entry in ledger.entries} == {1}
    conclude(row)


def test_reboot_under_running_jobs(host: Booted, conclude: Conclude) -> None:
    """Nobody waits two hours: the containers are stopped and their jobs run again, retries untouched."""
    with host.ledger() as ledger:
        _held_jobs(ledger, 2)
        held = tuple(ledger.entries)
        ledger.submit(*((20, 4, 7) if FULL else (2, 1, 2)), retries=0)
        eventually(lambda: _all_run(held, 1), 60, "the jobs to run")
        assert _are_pinned(host, held)
        host.reboot()
        ledger.recover()
        _run_pinned(host, held)
        ledger.let_go()
        ledger.recover()
        row = ledger.settle("reboot of the machine", due=STOPPED)
        _retries_are_untouched(ledger)
    conclude(row)


def test_power_cut_under_running_jobs(host: Booted, conclude: Conclude) -> None:
    """Every process dies at once; Redis writes each change down before it answers.

    Docker may not have written down the end of a container that was just ending: it says 255, and its job runs again.
    """
    times = 3 if FULL else 1
    with host.ledger() as ledger:
        _held_jobs(ledger, 1)
        held = tuple(ledger.entries)
        ledger.submit(*((100, 1, 4) if FULL else (3, 2, 4)), retries=0)
        eventually(lambda: _all_run(held, 1), 60, "the held job to run")
        for _ in range(times):
            ledger.under_load()
            ledger.pause(0, 2)
            host.lose_power()
            ledger.recover()
        _run_pinned(host, held)
        ledger.let_go()
        conclude(
            ledger.settle(
                f"power cut of the machine, {in_words(times)}", due=DOCKER_WENT_DOWN, unseen=("(exit code 255)",)
            )
        )


@pytest.mark.parametrize("fault", ["reboot", "power cut"])
def test_reboot_and_power_cut_under_jobs_with_all_they_can_have(host: Booted, conclude: Conclude, fault: str) -> None:
    """GPUs, further mounts, script, standard input, scratch folders, and parked jobs; some are just being made."""
    times = 3 if FULL else 1
    with host.ledger(**demanding.OFFER) as ledger, demanding.watched(host) as watch:
        for _ in range(times):
            entries = demanding.held(ledger, watch)
            demanding.add(ledger, 16 if FULL else 4, "sleep 0.2")
            ledger.submit(4, 0, 0.3)
            ledger.pause(0, 2)
            assert ledger.parked() > 0
            (host.reboot if fault == "reboot" else host.lose_power)()
            # After a reboot others than before may have the room: those that were stopped are queued again.
            demanding.full(ledger, watch)
            assert _are_pinned(host, _with_container(host, entries))
            ledger.let_go()
            ledger.recover_to(lambda: ledger.ended() == len(ledger.entries))
        due, unseen = (STOPPED, ()) if fault == "reboot" else (DOCKER_WENT_DOWN, ("(exit code 255)",))
        named = f"{fault} of the machine, {in_words(times)}, under jobs with GPUs, mounts, scripts and scratch folders"
        row = ledger.settle(named, due=due, unseen=unseen)
    watch.check()
    conclude(row)


def test_the_log_disk_is_full_in_mid_job(host: Booted, conclude: Conclude) -> None:
    """Somebody fills it. What logs there ends as an error, the rest goes on; no job is taken until there is room."""
    with host.small_log_disk(), host.ledger() as ledger:
        logs = [f"{LOGS}/{number}.log" for number in range(2)]
        cut_short = [ledger.add(_TALKS, ends=False, logoutfile=log) for log in logs]
        ledger.submit(20 if FULL else 4, 1, 3)
        eventually(lambda: all(host.log_size_bytes(log) for log in logs), 60, "both to log")
        host.debian.shell(f"! head -c 32M /dev/zero >{LOGS}/ballast")
        ledger.recover_to(lambda: all(ledger.status(entry) in FINAL for entry in cut_short))
        _takes_no_jobs(host, ledger, f"the disk of {LOGS} is full", 1)
        host.debian.run("rm", f"{LOGS}/ballast")
        row = ledger.settle("log disk of the machine full in mid-job")
        for entry, log in zip(cut_short, logs, strict=True):
            receipt = ledger.receipt(entry)
            assert (receipt["state"], receipt["reason"]) == ("error", "cannot write the log: No space left on device")
            assert len(receipt["attempts"]) == 1
            _log_is_a_beginning(host.debian.read(log))
        assert {ledger.status(entry) for entry in ledger.entries[2:]} == {"SUCCESS"}
    conclude(row)


def test_cancel_while_the_worker_restarts(host: Booted, conclude: Conclude) -> None:
    """Of jobs that outlast the deadline: at any moment of its stop, and once it is gone. The others run again."""
    times = 5 if FULL else 1
    with host.ledger(SYSTEMD_TIMEOUT=1) as ledger:
        for _ in range(times):
            _cancel_in_a_restart(host, ledger)
        row = ledger.settle(f"cancel during systemctl restart celery-worker, {in_words(times)}", due=STOPPED)
        _retries_are_untouched(ledger)
    conclude(row)


@pytest.mark.only_in_full
def test_systemctl_stop_at_its_deadline(host: Booted, conclude: Conclude) -> None:
    """A job that outlasts it is queued again, retries untouched."""
    with host.ledger(SYSTEMD_TIMEOUT=1) as ledger:
        _held_jobs(ledger, 1)
        ledger.submit(20, 3, 4, retries=0)
        ledger.under_load()
        host.debian.run("systemctl", "stop", "celery-worker")
        assert host.docker.containers() == []
        ledger.let_go()
        host.debian.run("systemctl", "start", "celery-worker")
        ledger.recover()
        row = ledger.settle("systemctl stop with a deadline of 1 s", due=STOPPED)
        _retries_are_untouched(ledger)
    conclude(row)


def _takes_no_jobs(host: Booted, ledger: Ledger, why: str, seconds: float) -> None:
    """The status says so, and what is submitted then stays in the queue."""

    def says_so() -> bool:
        status = host.installed.status
        return status.startswith("Takes no jobs: ") and why in status

    eventually(says_so, 30, f"the status to say: {why}")
    ledger.submit(20 if FULL else 2, retries=0)
    waiting = ledger.waiting()
    ledger.pause(seconds, seconds)
    assert waiting
    assert waiting <= ledger.waiting()
    assert says_so(), host.installed.status


def _cancel_in_a_restart(host: Booted, ledger: Ledger) -> None:
    called_off = [ledger.add("sleep 600", ends=False, retries=0) for _ in range(2)]
    _held_jobs(ledger, 2)
    eventually(lambda: all(entry.lines() for entry in ledger.entries), 60, "all jobs to run")
    before = host.installed.show("MainPID")
    host.debian.run("systemctl", "restart", "--no-block", "celery-worker")
    ledger.pause(0, 3)
    ledger.cancel(called_off[0])
    eventually(lambda: host.installed.show("MainPID") != before, 60, "the end of the worker")
    ledger.cancel(called_off[1])
    host.installed.wait_until_ready()
    ledger.recover_to(lambda: all(ledger.status(entry) == "REVOKED" for entry in called_off))
    ledger.let_go()
    names = {f"run-{entry.job_id}" for entry in called_off}
    eventually(lambda: not names & set(host.docker.containers()), 30, "the end of the cancelled jobs' containers")
    eventually(lambda: ledger.ended() == len(ledger.entries), 60, "the end of the others")


def _held_jobs(ledger: Ledger, number: int) -> None:
    """Queue jobs that surely run when the fault comes."""
    ledger.hold()
    for _ in range(number):
        ledger.add(HELD, retries=0)


def _all_run(held: Sequence[Entry], runs: int) -> bool:
    """Return whether each of these has been started so many times, and not ended."""
    return all(entry.lines() == ["start"] * runs for entry in held)


def _run_pinned(host: Booted, held: Sequence[Entry]) -> None:
    """Wait until these jobs run again, behind all that was in the queue; they have to be pinned again."""

    def run() -> bool:
        running = host.docker.running()
        return all(entry.lines().count("start") > 1 and f"run-{entry.job_id}" in running for entry in held)

    eventually(run, SETTLE_S, "the held jobs to run again")
    assert _are_pinned(host, held)


def _with_container(host: Booted, entries: Sequence[Entry]) -> list[Entry]:
    """Return those of the jobs that run now; there are some."""
    running = host.docker.running()
    found = [entry for entry in entries if f"run-{entry.job_id}" in running]
    assert found
    return found


def _are_pinned(host: Booted, entries: Sequence[Entry]) -> bool:
    """Return whether the paths of each of these jobs are mounted where Docker was given them."""
    return all(any(f"/{entry.job_id}/" in place for place in host.pins) for entry in entries)


def _steady_job(ledger: Ledger) -> Entry:
    ledger.hold()
    entry = ledger.add(_STEADY, logoutfile=f"{OUTPUT}/steady.log", retries=0)
    ledger.under_load(1)
    return entry


def _let_it_end(ledger: Ledger, entry: Entry) -> None:
    assert entry.lines() == ["start"]
    ledger.let_go()


def _log_is_complete(entry: Entry) -> None:
    """The log has every line from the first to the one that the job itself counted last."""
    last = int(entry.file.with_suffix(".lines").read_text())
    lines = (entry.file.parent / "steady.log").read_text().splitlines()
    assert lines == [f"line {number}" for number in range(1, last + 1)]


def _log_is_a_beginning(text: str) -> None:
    """The log has no hole: it is the beginning of what the job said."""
    output = "".join(f"{number:08192}\n" for number in range(1, len(text) // 8192 + 2))
    assert text
    assert output.startswith(text)


def _retries_are_untouched(ledger: Ledger) -> None:
    again = [entry for entry in ledger.entries if len(ledger.receipt(entry)["attempts"]) > 1]
    assert again
    for record in map(ledger.record, again):
        assert (record["exits"], record["host_faults"]) == ("0", "0")
