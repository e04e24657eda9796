"""Snakemake's jobs in the queue of celery-docker: `snakemake --executor celery-docker`.

A rule with `shell:` and a `container:` runs in that image as it is, without Snakemake in it; any other runs Snakemake's
job script, with the environment of this Snakemake mounted. Found through PYTHONPATH. Invariants: the id of a job is
chosen here and kept before it is sent, so that no lost answer makes a second job, and no cancel forgets one.
"""

# Snakemake reads the types of the settings, which would be strings under `from __future__ import annotations`.
import os
import sys
import time
import uuid
from collections.abc import AsyncGenerator, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from snakemake_interface_common.exceptions import WorkflowError
from snakemake_interface_executor_plugins.executors.base import SubmittedJobInfo
from snakemake_interface_executor_plugins.executors.remote import RemoteExecutor
from snakemake_interface_executor_plugins.settings import (
    CommonSettings,
    DeploymentMethod,
    ExecutorSettingsBase,
    SharedFSUsage,
)

from . import document, gateway
from .document import Folder
from .gateway import Away, Refused

# All states are one request: it costs little to ask often.
_POLL_S = 2
_CANCEL_S = 30.0
# While no job has run for so long, it is asked for what they wait.
_IDLE_S = 10.0
_PAUSES_S = (1, 2, 5, 10)
# So often a job may be missing: Redis may have been restored from an older copy, and learns of the job again.
_MOST_MISSING = 30


@dataclass
class ExecutorSettings(ExecutorSettingsBase):  # type: ignore[misc]  # Snakemake has no types here
    """The settings of the command line, as --celery-docker-NAME."""

    url: str | None = field(
        default=None,
        metadata={
            "help": "The service: https://HOST, or http+unix:///run/celery-docker/api.sock, which is the default "
            "unless ~/.config/celery-docker/client.conf or CELERY_DOCKER_BROKER_URL names another",
            "type": str,
        },
    )
    queue: str | None = field(default=None, metadata={"help": "The queue of the jobs; default: celery", "type": str})
    image: str | None = field(
        default=None,
        metadata={"help": "The image with a glibc for rules that have no container or no shell command", "type": str},
    )
    mounts: list[str] = field(
        default_factory=list,
        metadata={
            "help": "Further folders of the hosts that all jobs see, as PATH, or HOST:CONTAINER[:ro]",
            "nargs": "+",
        },
    )


common_settings = CommonSettings(
    non_local_exec=True,
    implies_no_shared_fs=False,
    job_deploy_sources=False,
    # In the job's environment, not in the script's text.
    pass_envvar_declarations_to_cmd=False,
    auto_deploy_default_storage_provider=False,
    init_seconds_before_status_checks=1,
)


class Executor(RemoteExecutor):  # type: ignore[misc]
    """The executor. Jobs are submitted in Snakemake's main thread, and asked about in a thread of their own."""

    def __post_init__(self) -> None:
        if SharedFSUsage.INPUT_OUTPUT not in self.workflow.storage_settings.shared_fs_usage:
            raise WorkflowError("celery-docker mounts the workflow's folder: leave out --shared-fs-usage")
        # Those that may not have ended, with the document until the service has confirmed it.
        self._own: dict[str, dict[str, Any] | None] = {}
        self._missing: dict[str, int] = {}
        self._is_away = self._is_cancelling = False
        self._ran_at_s, self._kind_of_wait = time.monotonic(), ""
        try:
            self._gateway = gateway.of(os.environ, self.workflow.executor_settings.url)
            who = self._gateway.ask("GET", "identity")
        except (ValueError, Refused) as exc:
            raise WorkflowError(f"celery-docker: {exc}") from exc
        except Away as exc:
            remedy = "systemctl enable --now celery-docker-api.socket turns it on"
            raise WorkflowError(f"celery-docker-api does not answer: {exc}; {remedy}") from exc
        if not who["may_submit"]:
            raise WorkflowError(f"celery-docker: {who['name']} may not submit jobs; run Snakemake as a user who may")
        self.logger.info(f"Jobs run as {who['name']} ({who['uid']}) by celery-docker at {self._gateway.url}.")
        given_s = self.workflow.remote_execution_settings.seconds_between_status_checks
        self.next_seconds_between_status_checks = min(_POLL_S, given_s)

    def run_job(self, job: Any) -> None:
        """Submit a job, or go on with the one that an earlier Snakemake has left."""
        earlier = self._earlier(job)
        info = SubmittedJobInfo(job, external_jobid=earlier or str(uuid.uuid4()))
        if earlier is None:
            try:
                self._submit(info.external_jobid, self._document(job))
            except (ValueError, OSError, WorkflowError, Refused) as exc:
                self._own.pop(info.external_jobid, None)
                self.report_job_error(info, msg=f"celery-docker: {exc}")
                return
        self.report_job_submission(info)

    def _earlier(self, job: Any) -> str | None:
        """Return the id of the job that a Snakemake which was killed has left, unless it has failed.

        With --rerun-incomplete it is ended first: two would write the same files.
        """
        job_ids = self.workflow.persistence.external_jobids(job)
        resumed = self.dag.incomplete_external_jobid(job)
        try:
            states = self._patiently(lambda: self._gateway.states(job_ids))
        except Refused:
            return None  # They are of another executor.
        if resumed is not None and states[resumed] in (*gateway.UNENDED, gateway.SUCCEEDED):
            self.logger.info(f"Job {job.jobid} is there from before: {resumed} ({states[resumed]}).")
            self._own[resumed] = None
            return str(resumed)
        left = [job_id for job_id, state in states.items() if state in gateway.UNENDED]
        while left and any(state in gateway.UNENDED for state in self._cancelled(left)):
            time.sleep(0.5)
        return None

    def _cancelled(self, job_ids: list[str]) -> list[str]:
        """Cancel jobs, so that they can run anew; return the state that each was in."""
        states = self._patiently(lambda: self._gateway.cancel(job_ids, "Snakemake runs it anew"))
        return list(states.values())

    def _submit(self, job_id: str, table: dict[str, Any]) -> None:
        self._own[job_id] = table
        self._patiently(lambda: self._gateway.submit(job_id, table))
        self._own[job_id] = None

    def _patiently(self, ask: Any) -> Any:
        """Return what a request is answered with; while the service is away, wait and send it again."""
        pauses_s = iter(_PAUSES_S)
        while True:
            try:
                answer = ask()
                self._say_away(None)
                return answer
            except Away as exc:
                self._say_away(exc)
            time.sleep(next(pauses_s, _PAUSES_S[-1]))

    def _say_away(self, exc: Exception | None) -> None:
        if exc is not None and not self._is_away:
            self.logger.warning(f"celery-docker-api does not answer now, and is waited for: {exc}")
        elif exc is None and self._is_away:
            self.logger.info("celery-docker-api answers again.")
        self._is_away = exc is not None

    def _document(self, job: Any) -> dict[str, Any]:
        settings = self.workflow.executor_settings
        folders = [Folder(os.getcwd()), Folder(os.path.dirname(os.path.abspath(self.snakefile)))]
        image = self._plain_image(job)
        if image is None:
            table, environment = self._job_script(job)
            folders += environment
        else:
            table = self._shell_command(job, image)
        return {
            **table,
            **document.limits(job.threads, job.resources),
            "mounts": document.mounts(folders, settings.mounts),
            "name": document.name_of(job.name, () if job.is_group() else job.wildcards_dict.values()),
            # HOME and TMPDIR are there.
            "scratch": True,
            # Snakemake has retries of its own.
            "retries": 0,
            **({"queue": settings.queue} if settings.queue else {}),
        }

    def _plain_image(self, job: Any) -> str | None:
        """Return the image of a job that is a shell command and nothing else, None for any other."""
        if job.is_group() or not job.is_shell or not job.container_img_url or job.benchmark or job.is_template_engine:
            return None
        methods = self.workflow.deployment_settings.deployment_method
        if DeploymentMethod.CONDA in methods and job.conda_env_spec:
            return None
        return document.image_of(job.container_img_url, job.rule.name)

    def _shell_command(self, job: Any, image: str) -> dict[str, Any]:
        # Outputs of before go, and folders of new ones are made; as its own local executor does.
        self.workflow.async_run(job.prepare())
        if not job.resources.get("tmpdir"):
            # Snakemake leaves it to the place where the job runs.
            job.resources.tmpdir = document.SCRATCH
        return {
            "image": image,
            "script": document.script_of(job.shellcmd, *_affixes()),
            "env": document.variables(job.threads, self.envvars()),
            "workdir": os.path.abspath(job.shadow_dir or os.getcwd()),
        }

    def _job_script(self, job: Any) -> tuple[dict[str, Any], list[Folder]]:
        url = None if job.is_group() else job.container_img_url
        image = document.image_of(url, job.rule.name) if url else self.workflow.executor_settings.image
        if not image:
            raise ValueError(
                f"{job.name} is no shell command with a container; name an image with a glibc for Snakemake's "
                "job script, as --celery-docker-image debian:stable-slim"
            )
        script = self.get_jobscript(job)
        self.write_jobscript(job, script)
        path = f"{sys.prefix}/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
        table = {
            "image": image,
            "entrypoint": ["/bin/sh", script],
            "env": {"PATH": path, **document.variables(job.threads, self.envvars())},
            "workdir": os.getcwd(),
        }
        return table, list(self._environment())

    def _environment(self) -> Iterator[Folder]:
        """Yield the folders that this Snakemake needs; what is in /usr is the image's."""
        cache = self.workflow.sourcecache
        writable = [cache.cache_path, cache.runtime_cache_path]
        yield from (Folder(str(path)) for path in writable if path and os.path.isdir(path))
        for path in dict.fromkeys((sys.prefix, sys.base_prefix)):
            if path not in ("/usr", "/usr/local"):
                yield Folder(path, is_read_only=True)

    async def check_active_jobs(self, active_jobs: Sequence[Any]) -> AsyncGenerator[Any, None]:
        """Report the jobs that have ended, and yield the others."""
        if not active_jobs or self._is_cancelling:
            return
        try:
            states = self._gateway.states([info.external_jobid for info in active_jobs])
            ended = [job_id for job_id, state in states.items() if state not in (*gateway.UNENDED, None)]
            # One of a newer service may be in a state that is no end.
            receipts = self._gateway.receipts([job_id for job_id in ended if states[job_id] != gateway.SUCCEEDED])
            self._say_away(None)
            self._say_wait(states)
        except (Away, Refused) as exc:
            self._say_away(exc)
            states, receipts = {}, {}
        for info in active_jobs:
            if not self._report(info, states, receipts):
                yield info

    def _say_wait(self, states: dict[str, str | None]) -> None:
        """Say for what the jobs wait where none has run for a while."""
        now_s = time.monotonic()
        if any(state != "queued" for state in states.values()):
            self._ran_at_s, self._kind_of_wait = now_s, ""
        elif now_s > self._ran_at_s + _IDLE_S:
            self._ran_at_s = now_s
            kind, reason = self._gateway.wait_of(next(iter(states)))
            if kind != self._kind_of_wait:
                self.logger.info(f"Jobs wait in the queue: {reason}")
            self._kind_of_wait = kind

    def _report(self, info: Any, states: dict[str, str | None], receipts: dict[str, Any]) -> bool:
        """Report a job if it has ended; return whether it has."""
        job_id = info.external_jobid
        if job_id in states and states[job_id] is None:
            self._missing[job_id] = self._missing.get(job_id, 0) + 1
        if states.get(job_id) == gateway.SUCCEEDED:
            self._own.pop(job_id, None)
            self.report_job_success(info)
        elif job_id in receipts:
            self._own.pop(job_id, None)
            self.report_job_error(info, msg=self._failure(job_id, receipts[job_id]))
        elif self._missing.get(job_id, 0) > _MOST_MISSING:
            self._own.pop(job_id, None)
            self.report_job_error(info, msg=f"celery-docker does not know the job {job_id} any more; run it again")
        else:
            return False
        return True

    def _failure(self, job_id: str, receipt: dict[str, Any]) -> str:
        try:
            text = self._gateway.complaint(job_id)
        except (Away, Refused):
            text = str(receipt.get("last_stderr_line") or "")
        return document.failure(job_id, receipt, document.last_lines(text))

    def print_job_error(self, job_info: Any, msg: str | None = None, **about: Any) -> None:
        """Say why a job has failed, and nothing of the logs of clusters."""
        job_info.job.log_error(msg, external_jobid=job_info.external_jobid, **about)

    def cancel_jobs(self, active_jobs: Sequence[Any]) -> None:
        """Cancel all jobs that may not have ended, whoever holds them just now, and wait until their containers end."""
        self._is_cancelling = True
        deadline_s = time.monotonic() + _CANCEL_S
        while time.monotonic() < deadline_s:
            try:
                if self._cancel():
                    return
            except (Away, Refused) as exc:
                self._say_away(exc)
            time.sleep(0.5)
        ids = " ".join(self._own)
        self.logger.warning(f"These jobs may still run: celery-docker cancel {ids}")

    def _cancel(self) -> bool:
        """Cancel what has not ended; return whether all has."""
        job_ids = list(self._own)
        states = self._gateway.cancel(job_ids, "Snakemake was interrupted")
        for job_id, state in states.items():
            table = self._own.get(job_id)
            if state == "unknown" and table is not None:
                # It was just being sent, and may still come: what is there by then is cancelled, too.
                self._gateway.submit(job_id, table)
            elif state not in gateway.UNENDED:
                self._own.pop(job_id, None)
        return not self._own


def _affixes() -> tuple[str | None, str]:
    """Return what the workflow has set with shell.prefix and shell.suffix."""
    shell = getattr(sys.modules.get("snakemake.shell"), "shell", None)
    prefix: str | None = getattr(shell, "_process_prefix", None)
    return prefix, str(getattr(shell, "_process_suffix", ""))
