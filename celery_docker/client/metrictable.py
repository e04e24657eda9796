"""The table of metrics: what each is called, what it means and what its labels are. Pure."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

from celery_docker.core import figures

Labels = tuple[str, ...]


@dataclass(frozen=True)
class Metric:
    """A metric: `labels` are the names of its labels, `kind` is gauge, counter or histogram.

    A counter's name has no `_total`, which its samples have. `merge` makes one value of those of hosts or queues that
    have no name here.
    """

    name: str
    kind: str
    help: str
    labels: Labels = ()
    merge: Callable[[Iterable[float]], float] = sum
    bounds: tuple[int, ...] = ()

    @property
    def sample_name(self) -> str:
        """The name under which Prometheus has it; a histogram has three, which begin with it."""
        return f"{self.name}_total" if self.kind == "counter" else self.name


_HOST, _QUEUE, _TASK = ("host",), ("queue",), ("name", "queue_name")
UP = Metric("celery_docker_redis_up", "gauge", "1 if Redis answers; all other metrics come from it")
JOBS = Metric("celery_docker_waiting_jobs", "gauge", "Jobs in no queue: delayed to a time, or blocked", ("reason",))
ENDED_JOBS = Metric("celery_docker_ended_jobs", "gauge", "Jobs that have ended and have a record yet", ("state",))
QUEUE_JOBS = Metric(
    "celery_docker_queue_jobs",
    "gauge",
    "Jobs of a queue: listed in it, parked until a host has room, held_back by their share, in_slots of hosts",
    ("queue", "state"),
)
OLDEST = Metric(
    "celery_docker_queue_oldest_seconds", "gauge", "How long the next job of a queue has waited; 0: none", _QUEUE, max
)
QUEUE_HOSTS = Metric("celery_docker_queue_hosts", "gauge", "Hosts that take jobs of a queue now", _QUEUE)
QUEUE_SLOTS = Metric("celery_docker_queue_slots", "gauge", "Slots of the hosts that take jobs of a queue now", _QUEUE)
STARTED = Metric("celery_docker_jobs_started", "counter", "Starts of jobs, those of retries too", _QUEUE)
RETRIED = Metric("celery_docker_jobs_retried", "counter", "Retries of jobs", _QUEUE)
ENDED = Metric(
    "celery_docker_jobs_ended", "counter", "Ends of jobs by their state, or out_of_memory", ("queue", "class")
)
WAITED = Metric(
    "celery_docker_job_queue_seconds",
    "histogram",
    "Seconds between the submission of jobs and their first start",
    _QUEUE,
    bounds=figures.QUEUE_S_BOUNDS,
)
RAN = Metric(
    "celery_docker_job_run_seconds",
    "histogram",
    "Seconds that the last container of jobs ran",
    _QUEUE,
    bounds=figures.RUN_S_BOUNDS,
)
HOST_UP = Metric("celery_docker_host_up", "gauge", "1 if a host's worker sends heartbeats", _HOST, min)
HEARTBEAT = Metric(
    "celery_docker_host_last_heartbeat_timestamp_seconds", "gauge", "Time of a host's last heartbeat", _HOST, min
)
ACCEPTING = Metric("celery_docker_host_accepting", "gauge", "1 if a host takes jobs now", _HOST, min)
DRAINED = Metric("celery_docker_host_drained", "gauge", "1 if somebody has drained a host", _HOST, max)
DOCKER_UP = Metric("celery_docker_host_docker_up", "gauge", "1 if Docker answers its host's worker", _HOST, min)
DISK_UP = Metric("celery_docker_host_disk_up", "gauge", "1 if a host's disks answer and have room", _HOST, min)
HOST_JOBS = Metric("celery_docker_host_jobs", "gauge", "Jobs that a host owns, those that it still reports too", _HOST)
SLOTS = Metric("celery_docker_host_slots", "gauge", "Slots of a host", _HOST)
SLOTS_USED = Metric("celery_docker_host_slots_in_use", "gauge", "Slots of a host that have a job", _HOST)
CPUS = Metric("celery_docker_host_cpus_offered", "gauge", "CPUs that a host offers to jobs", _HOST)
CPUS_USED = Metric("celery_docker_host_cpus_in_use", "gauge", "CPUs of these that jobs have", _HOST)
MEMORY = Metric("celery_docker_host_memory_bytes_offered", "gauge", "Memory that a host offers to jobs", _HOST)
MEMORY_USED = Metric("celery_docker_host_memory_bytes_in_use", "gauge", "Memory of this that jobs have", _HOST)
GPUS = Metric("celery_docker_host_gpus_offered", "gauge", "GPUs that a host offers to jobs", _HOST)
GPUS_USED = Metric("celery_docker_host_gpus_in_use", "gauge", "GPUs of these that jobs have", _HOST)
UNKNOWN = Metric("celery_docker_host_unknown_containers", "gauge", "Running containers of no known job", _HOST)
PULLS = Metric(
    "celery_docker_host_pulls", "counter", "Pulls of images since a worker's start: done, failed", ("host", "result")
)
# The names that dashboards for celery-exporter ask for, as far as the figures are known. Its label `hostname` of
# counters is left out: nobody counts by queue and host.
WORKER_UP = Metric("celery_worker_up", "gauge", "As celery_docker_host_up, for dashboards", ("hostname",), min)
ACTIVE = Metric(
    "celery_worker_tasks_active", "gauge", "As celery_docker_host_slots_in_use, for dashboards", ("hostname",)
)
LENGTH = Metric("celery_queue_length", "gauge", "Jobs that wait in a queue, in it or before it", ("queue_name",))
WORKERS = Metric("celery_active_worker_count", "gauge", "As celery_docker_queue_hosts, for dashboards", ("queue_name",))
PROCESSES = Metric(
    "celery_active_process_count", "gauge", "As celery_docker_queue_slots, for dashboards", ("queue_name",)
)
TASK_RECEIVED = Metric("celery_task_received", "counter", "As celery_docker_jobs_started, for dashboards", _TASK)
TASK_STARTED = Metric("celery_task_started", "counter", "As celery_docker_jobs_started, for dashboards", _TASK)
TASK_RETRIED = Metric("celery_task_retried", "counter", "As celery_docker_jobs_retried, for dashboards", _TASK)
TASK_SUCCEEDED = Metric("celery_task_succeeded", "counter", "Jobs that have succeeded, for dashboards", _TASK)
TASK_REVOKED = Metric("celery_task_revoked", "counter", "Jobs that were cancelled, for dashboards", _TASK)
TASK_FAILED = Metric(
    "celery_task_failed", "counter", "Jobs that ended otherwise, for dashboards", ("name", "exception", "queue_name")
)
TASK_RUNTIME = Metric(
    "celery_task_runtime",
    "histogram",
    "As celery_docker_job_run_seconds, for dashboards",
    _TASK,
    bounds=figures.RUN_S_BOUNDS,
)
ALL = tuple(value for value in list(globals().values()) if isinstance(value, Metric))
