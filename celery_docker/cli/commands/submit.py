"""The commands that submit one job: `submit` and `run`."""

from __future__ import annotations

import json
import signal
import time
from collections.abc import Mapping
from dataclasses import asdict
from typing import TYPE_CHECKING, Any, Self

from celery_docker.cli import dryrun, exitcodes, jobargs, lastid, localfiles, operands
from celery_docker.cli.context import Context
from celery_docker.cli.syntax.grammar import PROGRAM
from celery_docker.cli.waitlines import WaitLines
from celery_docker.client.outages import Outages
from celery_docker.core import jobspec, lifecycle, wording
from celery_docker.core.container import Stream
from celery_docker.core.receipt import Receipt

if TYPE_CHECKING:
    from celery_docker.client.client import Client
    from celery_docker.store import livelog

_PAUSE_S = 0.2


def submit(context: Context) -> int:
    """Queue the job that was typed, and print its id."""
    spec, submission = _parsed_job(context)
    if context.has("--dry-run"):
        return _preview(context, spec, submission)
    job_id = _queue(context, spec, submission)
    if context.wants_json:
        context.screen.json({"id": job_id, "name": spec.name, "state": lifecycle.State.QUEUED.value})
    else:
        context.screen.data(job_id)
    return 0


def run(context: Context) -> int:
    """Queue the job that was typed, show its output, and return the container's code. Ctrl-C cancels it."""
    spec, submission = _parsed_job(context)
    if context.has("--dry-run"):
        return _preview(context, spec, submission)
    with _Interrupt(context) as interrupt:
        job_id = _queue(context, spec, submission)
        interrupt.job_id = job_id
        outages = context.outages()
        with context.client() as client:
            stored = _followed(context, client, job_id, interrupt, outages)
    if context.wants_json:
        context.screen.json(stored)
    receipt = Receipt.from_dict(stored)
    problem = exitcodes.explain(receipt)
    if problem:
        context.screen.note(f"{PROGRAM}: {problem}")
    return exitcodes.exit_status(receipt)


class _Interrupt:
    """Ctrl-C while a job is shown: the first is only noted, so that no piece of output is torn; the second leaves."""

    def __init__(self, context: Context) -> None:
        self._screen = context.screen
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
            purpose = "see its state" if self._is_marked else "the job is not cancelled; cancel it"
            self._screen.note(f"\n{purpose} with: {PROGRAM} {remedy} {self.job_id}")

    def _come(self, *_: object) -> None:
        self.has_come = True
        signal.signal(signal.SIGINT, signal.default_int_handler)


def _followed(
    context: Context, client: Client, job_id: str, interrupt: _Interrupt, outages: Outages
) -> Mapping[str, Any]:
    """Show a job's output as it comes and return its receipt."""
    reader, output = client.logs_of(job_id), _Output(context)
    wait_lines = WaitLines(client.queries, job_id, context.screen.note)
    while True:
        with outages:
            interrupt.cancel(client)
            # Before the output: after an end there is nothing more to come.
            receipt = client.queries.jobs.receipt(job_id)
            for piece in reader.so_far():
                output.show(piece)
            if receipt is None:
                wait_lines.look()
            else:
                wait_lines.end(Receipt.from_dict(receipt))
                output.end(Receipt.from_dict(receipt))
                return receipt
        time.sleep(_PAUSE_S)


class _Output:
    """A job's output on the command's own streams, with a note on missing bytes."""

    def __init__(self, context: Context) -> None:
        self._screen = context.screen
        self._is_hidden = context.wants_json
        self._attempt = 1
        self._shown_bytes = 0

    def show(self, piece: livelog.Output) -> None:
        """Show a piece. Where another attempt begins, say so."""
        if self._is_hidden:
            return
        if piece.attempt > self._attempt:
            self._screen.note(f"{PROGRAM}: attempt {piece.attempt}")
            self._attempt, self._shown_bytes = piece.attempt, 0
        self._shown_bytes += len(piece.data)
        self._screen.raw(piece.data, to_err=piece.stream is Stream.STDERR)

    def end(self, receipt: Receipt) -> None:
        """Say how much of the last attempt was not shown: Redis keeps the end of what a fast job prints."""
        missing = (receipt.stdout_bytes or 0) + (receipt.stderr_bytes or 0) - self._shown_bytes
        if missing > 0 and not self._is_hidden:
            sentence = f"{wording.size(missing)} of the output could not be shown; --log-file keeps all of it"
            self._screen.note(f"{PROGRAM}: {sentence}")


def _parsed_job(context: Context) -> tuple[jobspec.JobSpec, jobspec.Submission]:
    local_user = jobargs.of_process(context.environ)
    localfiles.check_image(context.arguments)
    spec, submission = jobspec.parse_document(jobargs.document(context.arguments, local_user, context.config.queue))
    localfiles.check_outputs([spec.to_kwargs()])
    hint = localfiles.missing_input(context.arguments, spec.inputpath)
    if hint:
        context.screen.note(f"{PROGRAM}: {hint}")
    return spec, submission


def _queue(context: Context, spec: jobspec.JobSpec, submission: jobspec.Submission) -> str:
    with context.client() as client:
        localfiles.make_outputs([spec.to_kwargs()], jobargs.of_process(context.environ).user)
        options = {name: value for name, value in asdict(submission).items() if value}
        if submission.after:
            options["after"] = operands.job_ids(client.queries, submission.after)
        job = client.submit(spec, **options)
    lastid.remember(context.environ, job.id)
    return job.id


def _preview(context: Context, spec: jobspec.JobSpec, submission: jobspec.Submission) -> int:
    preview: dict[str, Any] = dryrun.preview(spec, submission)
    if context.wants_json:
        context.screen.json(preview)
        return 0
    context.screen.data(json.dumps(preview["job"], ensure_ascii=False, indent=2))
    context.screen.data(preview["docker_run"])
    context.screen.note(preview["policy"]["text"])
    return 0
