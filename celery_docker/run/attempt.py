"""One attempt at a job: find or make its container, follow it to its end, and say what it came to.

Owns what is done about containers. Invariants: a container that may have started is never given up, whatever Docker
answers or does not answer; one that never ran is removed again; Docker's name decides that there is only one.
"""

from __future__ import annotations

import logging
import time
from dataclasses import dataclass
from datetime import UTC, datetime

from celery_docker import errors
from celery_docker.core import container, devices, gpus, incoming, joblogs, jobspec, lifecycle, plan, timelimits
from celery_docker.core.container import Container, Step
from celery_docker.core.found import OpenLog
from celery_docker.core.joblogs import JobLogs
from celery_docker.core.jobrecord import Verdict
from celery_docker.core.lifecycle import Cause, EndRequest, Outcome
from celery_docker.core.policy import Policy, violations
from celery_docker.host import resolver
from celery_docker.host.keyfile import KeyFile
from celery_docker.run import authority, jobevents
from celery_docker.run.ending import Endings
from celery_docker.run.following import Following
from celery_docker.run.imagepins import ImagePins
from celery_docker.run.imagesupply import ImageSupply
from celery_docker.run.job import Job, grace_s
from celery_docker.run.lookup import Lookup
from celery_docker.run.outputreader import OutputReader
from celery_docker.run.ports import Announcer, Broadcaster, Engine, Logs, LogStream, Opener, Records
from celery_docker.run.retrying import Retrying
from celery_docker.run.unseen import Unseen

log = logging.getLogger(__name__)

_LOOK_S = 0.2


class _EndRequested(Exception):
    """The job is to end before it has begun."""

    def __init__(self, request: EndRequest) -> None:
        self.request = request


@dataclass
class Attempts:
    """Makes attempts on one host, from any thread."""

    engine: Engine
    records: Records
    logs: Logs
    policy: Policy
    key_file: KeyFile
    docker_host: str
    host: str
    boot_id: str
    retrying: Retrying
    broadcast: Broadcaster
    opener: Opener

    def run(self, job: Job, announcer: Announcer) -> tuple[jobspec.JobSpec | None, Outcome]:
        """Bring a claimed job's attempt to its outcome; the spec is None where it could not be read.

        Raises `Fenced` if the job has another owner meanwhile, and nothing else.
        """
        spec = None
        try:
            if job.claim.verdict is Verdict.RUN:
                _check_end_request(job)
            if job.delivery.refusal:
                raise errors.SpecError(job.delivery.refusal)
            if job.claim.verdict is Verdict.RUN:
                self.authority.rules_for(job)
            jobspec.check_job_id(job.job_id)
            spec = job.delivery.spec
            spec = job.spec = timelimits.limited(spec, job.delivery.limits)
            if job.claim.verdict is Verdict.ADOPT:
                return spec, self._continue(job, spec, self._lookup.of_this_attempt(job), announcer)
            self._lookup.remove_renamed(job)
            return spec, self._begin(job, spec, announcer)
        except errors.CannotStart as exc:
            return spec, Outcome(Cause.REQUEST, str(exc), exit_code=exc.exit_code)
        except (errors.SpecError, errors.PolicyError, errors.RequestError) as exc:
            return spec, Outcome(Cause.REQUEST, str(exc))
        except errors.HostError as exc:
            self.retrying.on_host_fault(exc)
            return spec, Outcome(Cause.HOST, str(exc))
        except errors.EndUnseen as exc:
            return spec, _outcome_of_unseen(job, exc)
        except errors.ContainerGone:
            return spec, self._endings.outcome_when_gone(job)
        except _EndRequested as exc:
            return spec, Outcome(exc.request.cause, exc.request.reason)
        except errors.Fenced:
            raise
        except Exception as exc:
            log.exception("a mistake of ours", extra={"job": job.job_id})
            return spec, Outcome(Cause.ERROR, f"internal error: {exc!r}")
        finally:
            if job.attempt.container_id is not None:
                job.attempt.usage = self.engine.usage(job.attempt.container_id)
            self.broadcast.last_words(job)
            # Before anybody hears of the end: what is mounted below an input may be unmounted then.
            if spec is not None and spec.host_mounts:
                self.opener.release(job.job_id)

    @property
    def authority(self) -> authority.Authority:
        """The trust of this host in messages."""
        return authority.Authority(self.policy, self.key_file)

    @property
    def pins(self) -> ImagePins:
        """The pins of the images that jobs run here."""
        return ImagePins(self.records, self.key_file, self.retrying)

    @property
    def _supply(self) -> ImageSupply:
        return ImageSupply(self.engine, self.records, self.pins, self.host)

    @property
    def _endings(self) -> Endings:
        return Endings(self.engine, self.policy, self.boot_id, self.retrying)

    @property
    def _unseen(self) -> Unseen:
        return Unseen(self.engine, self.retrying)

    @property
    def _lookup(self) -> Lookup:
        return Lookup(self.engine, self.host, self.retrying)

    @property
    def _reading(self) -> OutputReader:
        return OutputReader(self.engine, self.retrying, self.broadcast)

    @property
    def _following(self) -> Following:
        return Following(self.engine, self._reading, self._endings, self.retrying)

    def stop(self, job: Job) -> None:
        """Stop the container of a job that is to end, if it has one that runs; one that has ended keeps its own end."""
        container_id = job.attempt.container_id
        if container_id is None:
            return
        existing = self.retrying.until_answered(lambda: self.engine.inspect(container_id))
        if existing is not None and existing.status in container.ALIVE:
            with job.lock:
                is_first, job.stopped = not job.stopped, True
            if is_first:
                jobevents.stopped(job)
            self.retrying.until_answered(lambda: self.engine.stop(container_id, grace_s=grace_s(job)))

    def note_image(self, job: Job) -> None:
        """Have a running job's record say which image its container was made of, unless it does already."""
        container_id = job.attempt.container_id
        if job.image_id or container_id is None or job.started_by is None:
            return
        existing = self.engine.inspect(container_id)
        if existing is not None:
            self.pins.note(job, self.engine.digest(existing.image_id, job.spec.image if job.spec else ""))
            job.image_id = existing.image_id

    def own(self, job: Job, container_id: str) -> str | None:
        """Return the id of a container that a record names, if it is one of this job; None for any other."""
        return self._lookup.own(job, container_id)

    def discard(self, job: Job) -> None:
        """Remove what this host still has of an attempt that has been reported."""
        container_id = job.attempt.container_id
        if container_id is not None:
            self.retrying.until_answered(lambda: self.engine.remove(container_id))
        if job.claim.receipt is not None:
            # An earlier process has ended it, and may have died before it let go of its pins.
            self.opener.release(job.job_id)
        try:
            self.logs.forget(jobspec.check_job_id(job.job_id))
        except errors.SpecError:
            return
        except OSError as exc:  # nobody reads it any more
            log.warning("the note of its log stays: %s", exc, extra={"job": job.job_id})

    def _continue(self, job: Job, spec: jobspec.JobSpec, existing: Container | None, announcer: Announcer) -> Outcome:
        if existing is not None and existing.labels.get(container.LABEL_JOB) != job.job_id:
            raise errors.RequestError(f"a container named {existing.name} exists that is not this job's; remove it")
        step = self._unseen.step(existing, job)
        if existing is not None and step is Step.AWAIT:
            return self._await(job, spec, existing, announcer)
        if existing is None or step is Step.CREATE:
            return self._begin(job, spec, announcer)
        if step is Step.REPLACE:
            # Whoever comes next must not take the container for one that ran and was removed by somebody else.
            self.retrying.until_stored(
                lambda: self.records.update(job.holding, {"state": lifecycle.State.STARTING.value})
            )
            self.engine.remove(existing.container_id)
            self._wait_for_name(job, existing.container_id)
            return self._begin(job, spec, announcer)
        if step in (Step.REPEAT, Step.GIVE_UP):
            job.attempt.container_id = existing.container_id
            if step is Step.GIVE_UP:
                raise errors.ContainerGone
            _check_end_request(job)
            return Outcome(Cause.HOST, f"{self.engine.name} or the host went down as it was started")
        return self._adopt(job, spec, existing, announcer, is_over=step is Step.HARVEST)

    def _wait_for_name(self, job: Job, container_id: str) -> None:
        """Wait while the removal of a container, which lasts on a slow disk, is under way: it has its name yet."""
        while (left := self.retrying.until_answered(lambda: self.engine.inspect(container_id))) is not None:
            if left.status is not container.Status.REMOVING:
                return
            _check_end_request(job)
            self.retrying.sleep(_LOOK_S)

    def _adopt(
        self, job: Job, spec: jobspec.JobSpec, existing: Container, announcer: Announcer, *, is_over: bool
    ) -> Outcome:
        authority.check_made_of(job, existing)
        jobevents.adopted(job, existing)
        job.docker_life = job.log_life = self.retrying.until_answered(self.engine.life)
        job.attempt.container_id = existing.container_id
        job.started_by = existing.started_at
        events = self.retrying.until_answered(lambda: self.engine.remembered(existing.container_id))
        job.was_signalled = container.was_signalled(events)
        if job.end_request is not None:
            self.stop(job)
        if not is_over:
            self.engine.watch_usage(existing.container_id)
            _bound(job, ran_s=self.engine.age_s(existing) or 0)
        # A container has the labels of its image, too, which would choose what root writes for a job without log files.
        logs = (joblogs.of_labels(existing.labels) if spec.log_files else None) or resolver.own_logs(spec)
        try:
            resumed = self.retrying.until_answered(
                lambda: self.logs.resume(job.job_id, job.attempt.number, *self._opened_by(logs))
            )
        except errors.RequestError as exc:
            return self._following.give_up(job, existing.container_id, errors.LogError(str(exc)), watched=False)
        with resumed as files, self._reading.replay(job, existing.container_id, files) as stream:
            self._announce(job, existing.container_id, announcer)
            return self._following.follow(
                job, existing.container_id, stream, files, watched=not is_over, complete=is_over
            )

    def _await(self, job: Job, spec: jobspec.JobSpec, existing: Container, announcer: Announcer) -> Outcome:
        """Wait for a container that Docker does not know to run; one of an earlier attempt makes room then."""
        is_earlier = existing.labels.get(container.LABEL_ATTEMPT) != str(job.attempt.number)
        if not is_earlier:
            job.attempt.container_id = existing.container_id
        self._unseen.wait(job, existing.container_id)
        if not is_earlier:
            raise errors.EndUnseen
        _check_end_request(job)
        return self._continue(job, spec, existing, announcer)

    def _begin(self, job: Job, spec: jobspec.JobSpec, announcer: Announcer) -> Outcome:
        rules = self.authority.rules_for(job)
        user = resolver.identity(spec.user, rules, job.submitter)
        found = self.opener.pin(job.job_id, spec, rules, user)
        look = self.opener.look([path for path in spec.device_paths if devices.allows(rules.devices, path)])
        resolved, request = resolver.resolve(spec, self.docker_host, rules, job.submitter, found.follow, look)
        problems = violations(rules, request)
        if spec.gpus is not None and (lack := gpus.problem(spec.gpus, job.gpus, self.host)):
            problems.append(f"gpus: {lack}")
        if problems:
            raise errors.PolicyError("; ".join(problems))
        logs = JobLogs(resolved.logoutfile, resolved.logerrfile, user)
        container_plan = plan.plan(
            spec,
            job_id=job.job_id,
            attempt=job.attempt.number,
            host=self.host,
            resolved=found.pinned(resolved),
            policy=rules,
            boot=self.boot_id,
            digest=incoming.digest(job.delivery),
            logs=logs,
            given=job.gpus,
            needs=job.needs,
        )
        _check_end_request(job)
        try:
            container_id = self._supply.create(job, container_plan, lambda: _check_end_request(job))
        except errors.NameTaken:
            existing = self.retrying.until_answered(lambda: self.engine.inspect(container_plan.name))
            return self._continue(job, spec, existing, announcer)
        return self._start(job, container_id, logs, announcer)

    def _start(self, job: Job, container_id: str, logs: JobLogs, announcer: Announcer) -> Outcome:
        """Start a container that was made for this attempt; it is removed again if it never ran."""
        job.attempt.container_id = container_id
        try:
            with (
                self.logs.open(job.job_id, job.attempt.number, *self._opened_by(logs)) as files,
                self._attached(container_id) as stream,
            ):
                self._announce(job, container_id, announcer)
                job.docker_life = job.log_life = self.engine.life()
                try:
                    with job.lock:
                        _check_end_request(job)
                        self._unseen.start(container_id)
                        # Before anybody who waits for the lock stops it, and says so.
                        jobevents.started(job, container_id)
                except errors.EndUnseen:
                    self._unseen.wait(job, container_id)
                    raise
                self.engine.watch_usage(container_id)
                job.started_by = datetime.now(UTC)
                _bound(job, ran_s=0)
                return self._following.follow(job, container_id, stream, files, watched=True, complete=True)
        except (errors.RequestError, errors.HostError, _EndRequested):
            self._remove_quietly(container_id)
            raise

    def _opened_by(self, logs: JobLogs) -> tuple[str | None, str | None, OpenLog]:
        return logs.out, logs.err, lambda path: self.opener.open_log(path, logs.user)

    def _attached(self, container_id: str) -> LogStream:
        try:
            return self.engine.attach(container_id)
        except errors.ContainerGone as exc:
            raise errors.HostError("somebody else removed its container before it was started") from exc

    def _remove_quietly(self, container_id: str) -> None:
        try:
            self.engine.remove(container_id)
        except errors.HostError as exc:
            log.warning("container %s is left behind: %s", container_id[:12], exc)

    def _announce(self, job: Job, container_id: str, announcer: Announcer) -> None:
        job.attempt.container_id = container_id
        values: dict[str, str | int | float] = {
            "state": lifecycle.State.RUNNING.value,
            "container_id": container_id,
            "attempt": job.attempt.number,
        }
        # A plain client's job has nothing else to be listed by.
        if job.spec is not None:
            values |= {"image": job.spec.image} | ({"name": job.spec.name} if job.spec.name else {})
        pin = self.pins.text(job)
        if pin:
            values |= {"image_pin": pin}
        self.retrying.until_stored(lambda: self.records.update(job.holding, values))
        announcer.started({"host": self.host, "container": container_id, "attempt": job.attempt.number})
        self.broadcast.begin(job)


def _outcome_of_unseen(job: Job, exc: errors.EndUnseen) -> Outcome:
    # The next attempt of a job that was interrupted would be a second run.
    if job.end_request is None or job.end_request.cause is Cause.INTERRUPTED:
        return Outcome(Cause.ERROR, str(exc))
    return Outcome(job.end_request.cause, job.end_request.reason)


def _bound(job: Job, *, ran_s: float) -> None:
    if job.spec is not None and job.spec.timeout is not None:
        job.deadline_s = time.monotonic() + job.spec.timeout - ran_s


def _check_end_request(job: Job) -> None:
    if job.end_request is not None:
        raise _EndRequested(job.end_request)
