"""The commands that submit one job: `submit` and `run`."""

from __future__ import annotations

import json
import signal
import time
from collections.abc import Mapping
from dataclasses import asdict
from typing import TYPE_CHECKING, Any, Self

from celery_docker.cli import dryrun, exitcodes, jobargs, lastid
from celery_docker.cli.call import Call
from celery_docker.cli.operands import whole_ids
from celery_docker.cli.syntax.grammar import PROGRAM
from celery_docker.client.outages import Outages
from celery_docker.core import jobspec, lifecycle, wording
from celery_docker.core.container import Stream
from celery_docker.store import listing

if TYPE_CHECKING:
    from celery_docker.client.client import Client
    from celery_docker.store import livelog

_PAUSE_S = 0.2


def submit(call: Call) -> int:
    """Queue the job that was typed, and print its id."""
    spec, submission = _described(call)
    if call.has("--dry-run"):
        return _preview(call, spec, submission)
    job_id = _queue(call, spec, submission)
    if call.wants_json:
        call.screen.json({"id": job_id, "name": spec.name, "state": lifecycle.State.QUEUED.value})
    else:
        call.screen.data(job_id)
    return 0


def run(call: Call) -> int:
    """Queue the job that was typed, show its output, and return the container's code. Ctrl-C cancels it."""
    spec, submission = _described(call)
    if call.has("--dry-run"):
        return _preview(call, spec, submission)
    with _Interrupt(call) as interrupt:
        job_id = _queue(call, spec, submission)
        interrupt.job_id = job_id
        outages = call.outages()
        with call.client() as client:
            with outages:
                missing = listing.nobody_takes(client.queries.hosts.rows(), submission.queue)
                if missing:
                    call.screen.note(f"{PROGRAM}: {missing}: the job waits; see {PROGRAM} doctor")
            receipt = _followed(call, client, job_id, interrupt, outages)
    if call.wants_json:
        call.screen.json(receipt)
    problem = exitcodes.explain(receipt)
    if problem:
        call.screen.note(f"{PROGRAM}: {problem}")
    return exitcodes.exit_status(receipt)


class _Interrupt:
    """Ctrl-C while a job is shown: the first is only noted, so that no piece of output is torn; the second leaves."""

    def __init__(self, call: Call) -> None:
        self._screen = call.screen
        self._is_marked = False
        self.has_come = False
        self.job_id = ""

    def cancel(self, client: Client) -> None:
        """Cancel the job if somebody wished it, once."""
        if self.has_come and not self._is_marked:
            client.cancel(self.job_id, reason=f"cancelled by {jobargs.login()} with Ctrl-C")
            self._is_marked = True
            self._screen.note(f"\n{PROGRAM}: cancelling {self.job_id}; Ctrl-C again leaves at once")

    def __enter__(self) -> Self:
        self._before = signal.signal(signal.SIGINT, self._come)
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        signal.signal(signal.SIGINT, self._before)
        if kind is KeyboardInterrupt and self.job_id:
            remedy = "status" if self._is_marked else "cancel"
            what = "see what becomes of it" if self._is_marked else "it is not cancelled; do that"
            self._screen.note(f"\n{what} with: {PROGRAM} {remedy} {self.job_id}")

    def _come(self, *_: object) -> None:
        self.has_come = True
        signal.signal(signal.SIGINT, signal.default_int_handler)


def _followed(call: Call, client: Client, job_id: str, interrupt: _Interrupt, outages: Outages) -> Mapping[str, Any]:
    """Show a job's output as it comes and return its receipt."""
    reader, shown = client.logs_of(job_id), _Output(call)
    while True:
        with outages:
            interrupt.cancel(client)
            # Before the output: after an end there is nothing more to come.
            receipt = client.queries.jobs.receipt(job_id)
            for said in reader.so_far():
                shown.show(said)
            if receipt is not None:
                shown.end(receipt)
                return receipt
        time.sleep(_PAUSE_S)


class _Output:
    """A job's output on the caller's own streams, and in a note what of it is not there."""

    def __init__(self, call: Call) -> None:
        self._screen = call.screen
        self._is_hidden = call.wants_json
        self._attempt = 1
        self._shown_bytes = 0

    def show(self, said: livelog.Said) -> None:
        """Show a piece. Where another attempt begins, say so."""
        if self._is_hidden:
            return
        if said.attempt > self._attempt:
            self._screen.note(f"{PROGRAM}: attempt {said.attempt}")
            self._attempt, self._shown_bytes = said.attempt, 0
        self._shown_bytes += len(said.data)
        self._screen.raw(said.data, to_err=said.stream is Stream.STDERR)

    def end(self, receipt: Mapping[str, Any]) -> None:
        """Say how much of the last attempt was not shown: Redis keeps the end of what a fast job prints."""
        missing = (receipt["stdout_bytes"] or 0) + (receipt["stderr_bytes"] or 0) - self._shown_bytes
        if missing > 0 and not self._is_hidden:
            said = f"{wording.size(missing)} of the output could not be shown; --log-file keeps all of it"
            self._screen.note(f"{PROGRAM}: {said}")


def _described(call: Call) -> tuple[jobspec.JobSpec, jobspec.Submission]:
    caller = jobargs.of_process(call.environ)
    return jobspec.parse_document(jobargs.document(call.words, caller, call.config.queue))


def _queue(call: Call, spec: jobspec.JobSpec, submission: jobspec.Submission) -> str:
    with call.client() as client:
        options = {name: value for name, value in asdict(submission).items() if value}
        if submission.after:
            options["after"] = whole_ids(client.queries, submission.after)
        job = client.submit(spec, **options)
    lastid.remember(call.environ, job.id)
    return job.id


def _preview(call: Call, spec: jobspec.JobSpec, submission: jobspec.Submission) -> int:
    found: dict[str, Any] = dryrun.preview(spec, submission)
    if call.wants_json:
        call.screen.json(found)
        return 0
    call.screen.data(json.dumps(found["job"], ensure_ascii=False, indent=2))
    call.screen.data(found["docker_run"])
    call.screen.note(found["policy"]["text"])
    return 0
