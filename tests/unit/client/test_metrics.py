"""Metrics: what the figures of Redis become, for whoever scrapes them."""

from __future__ import annotations

import re
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from prometheus_client.parser import text_string_to_metric_families

import celery_docker
from celery_docker.client import exposition, metrics, metrictable
from celery_docker.core import figures
from celery_docker.core.figures import Histogram, QueueCounts
from celery_docker.store.figurequeries import Figures, QueueLoad
from celery_docker.store.listing import WorkerRow

NOW = 2_000_000_000.0
REPORT: dict[str, Any] = {
    "phase": "serving",
    "accepting": True,
    "queues": ["celery"],
    "slots": 4,
    "running": 3,
    "running_by_queue": {"celery": 2, "night": 1},
    "offer": {"cpus": 8, "memory": 2**34, "gpus": ["0", "1"]},
    "free": {"cpus": 2.5, "memory": 2**33, "gpus": 2},
    "sick": [],
    "unknown_containers": 0,
    "pulls": {"done": 7, "failed": 1},
}
COUNTS = QueueCounts(
    started=9,
    retried=2,
    ended=Counter(succeeded=4, failed=2, out_of_memory=1, cancelled=1),
    queue_s=Histogram(Counter({1.0: 2, 60.0: 1}), 35.5),
    run_s=Histogram(Counter({10.0: 3, float("inf"): 1}), 1e6),
)
METRICS_PAGE = Path(celery_docker.__file__).parents[1] / "docs" / "METRICS.md"


def host(
    name: str = "node1", *, heard_s: float = 2.0, drained: str | None = None, lost: bool = False, **report: Any
) -> WorkerRow:
    return WorkerRow(name, heard_s, 0.0, 5, {**REPORT, **report}, drained, lost)


def read(*hosts: WorkerRow, **changed: Any) -> Figures:
    load = {"celery": QueueLoad(listed=6, parked=2, held=1, oldest_at=NOW - 90)}
    values: dict[str, Any] = {"queues": load, "delayed": 3, "blocked": 4, "counts": {"celery": COUNTS}}
    values |= {"ended": {"failed": 12}, **changed}
    return Figures(NOW, hosts, **values)


def samples(of: Figures | None) -> dict[str, float]:
    """Return what Prometheus would have, by name and labels, as its own parser reads it."""
    text = exposition.text(metrics.of(of)).decode()
    return {
        f"{sample.name}{{{','.join(f'{key}={value}' for key, value in sorted(sample.labels.items()))}}}": sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def test_of_a_redis_that_is_away_there_is_only_that() -> None:
    assert samples(None) == {"celery_docker_redis_up{}": 0}


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("celery_docker_redis_up{}", 1),
        ("celery_docker_waiting_jobs{reason=delayed}", 3),
        ("celery_docker_waiting_jobs{reason=blocked}", 4),
        ("celery_docker_ended_jobs{state=failed}", 12),
        ("celery_docker_queue_jobs{queue=celery,state=listed}", 6),
        ("celery_docker_queue_jobs{queue=celery,state=parked}", 2),
        ("celery_docker_queue_jobs{queue=celery,state=held_back}", 1),
        ("celery_docker_queue_jobs{queue=celery,state=in_slots}", 2),
        ("celery_docker_queue_oldest_seconds{queue=celery}", 90),
        ("celery_docker_queue_hosts{queue=celery}", 1),
        ("celery_docker_queue_slots{queue=celery}", 4),
        ("celery_docker_jobs_started_total{queue=celery}", 9),
        ("celery_docker_jobs_retried_total{queue=celery}", 2),
        ("celery_docker_jobs_ended_total{class=out_of_memory,queue=celery}", 1),
        ("celery_docker_jobs_ended_total{class=lost,queue=celery}", 0),
        ("celery_docker_job_queue_seconds_bucket{le=1.0,queue=celery}", 2),
        ("celery_docker_job_queue_seconds_bucket{le=15.0,queue=celery}", 2),
        ("celery_docker_job_queue_seconds_bucket{le=60.0,queue=celery}", 3),
        ("celery_docker_job_queue_seconds_count{queue=celery}", 3),
        ("celery_docker_job_queue_seconds_sum{queue=celery}", 35.5),
        ("celery_docker_job_run_seconds_bucket{le=604800.0,queue=celery}", 3),
        ("celery_docker_job_run_seconds_bucket{le=+Inf,queue=celery}", 4),
        ("celery_docker_host_up{host=node1}", 1),
        ("celery_docker_host_last_heartbeat_timestamp_seconds{host=node1}", NOW - 2),
        ("celery_docker_host_accepting{host=node1}", 1),
        ("celery_docker_host_drained{host=node1}", 0),
        ("celery_docker_host_docker_up{host=node1}", 1),
        ("celery_docker_host_disk_up{host=node1}", 1),
        ("celery_docker_host_jobs{host=node1}", 5),
        ("celery_docker_host_slots{host=node1}", 4),
        ("celery_docker_host_slots_in_use{host=node1}", 3),
        ("celery_docker_host_cpus_offered{host=node1}", 8),
        ("celery_docker_host_cpus_in_use{host=node1}", 5.5),
        ("celery_docker_host_memory_bytes_offered{host=node1}", 2**34),
        ("celery_docker_host_memory_bytes_in_use{host=node1}", 2**33),
        ("celery_docker_host_gpus_offered{host=node1}", 2),
        ("celery_docker_host_gpus_in_use{host=node1}", 0),
        ("celery_docker_host_unknown_containers{host=node1}", 0),
        ("celery_docker_host_pulls_total{host=node1,result=failed}", 1),
        ("celery_worker_up{hostname=node1}", 1),
        ("celery_worker_tasks_active{hostname=node1}", 3),
        ("celery_queue_length{queue_name=celery}", 9),
        ("celery_active_worker_count{queue_name=celery}", 1),
        ("celery_active_process_count{queue_name=celery}", 4),
        ("celery_task_received_total{name=tasks.run_docker,queue_name=celery}", 9),
        ("celery_task_started_total{name=tasks.run_docker,queue_name=celery}", 9),
        ("celery_task_retried_total{name=tasks.run_docker,queue_name=celery}", 2),
        ("celery_task_succeeded_total{name=tasks.run_docker,queue_name=celery}", 4),
        ("celery_task_revoked_total{name=tasks.run_docker,queue_name=celery}", 1),
        ("celery_task_failed_total{exception=JobFailed,name=tasks.run_docker,queue_name=celery}", 3),
        ("celery_task_runtime_count{name=tasks.run_docker,queue_name=celery}", 4),
        ("celery_task_runtime_sum{name=tasks.run_docker,queue_name=celery}", 1e6),
    ],
)
def test_a_metric_and_its_value(name: str, value: float) -> None:
    assert samples(read(host()))[name] == value


def test_every_metric_of_the_table_has_a_sample() -> None:
    there = samples(read(host()))
    names = {name.partition("{")[0] for name in there}
    for metric in metrictable.ALL:
        assert metric.sample_name in names or f"{metric.name}_bucket" in names, metric.name


@pytest.mark.parametrize(
    ("row", "changed"),
    [
        (host(accepting=False, sick=["docker"]), {"accepting": 0, "docker_up": 0}),
        (host(accepting=False, sick=["disk"]), {"accepting": 0, "disk_up": 0}),
        (host(drained="root: disk"), {"accepting": 0, "drained": 1}),
        (host(unknown_containers=2), {"unknown_containers": 2}),
        (host(phase="stopping"), {"accepting": 0}),
    ],
    ids=["docker", "disk", "drained", "orphans", "stopping"],
)
def test_what_is_wrong_with_a_host(row: WorkerRow, changed: dict[str, float]) -> None:
    well, ill = samples(read(host())), samples(read(row))
    of_hosts = {name for name in well if name.startswith("celery_docker_host_")}
    differ = {name: ill[name] for name in of_hosts if ill[name] != well[name]}
    assert differ == {f"celery_docker_host_{name}{{host=node1}}": value for name, value in changed.items()}


@pytest.mark.parametrize("row", [host(heard_s=31), host(lost=True)], ids=["silent", "lost"])
def test_of_a_host_that_is_silent_only_that_is_known(row: WorkerRow) -> None:
    there = samples(read(row))
    names = {name.partition("{")[0].removeprefix("celery_docker_host_") for name in there if "host=node1" in name}
    assert names == {"up", "last_heartbeat_timestamp_seconds", "accepting", "drained", "jobs", "pulls_total"}
    assert (there["celery_docker_host_up{host=node1}"], there["celery_worker_up{hostname=node1}"]) == (0, 0)
    assert there["celery_docker_queue_hosts{queue=celery}"] == 0
    assert there["celery_docker_queue_jobs{queue=celery,state=in_slots}"] == 0


def test_a_worker_of_an_older_version_says_less() -> None:
    old = {"status": "1 job running", "queues": ["celery"], "slots": 2, "running": 1}
    there = samples(read(WorkerRow("node1", 1.0, 0.0, 1, old, None, False)))
    assert there["celery_docker_host_up{host=node1}"] == 1
    assert not [name for name in there if re.match(r"celery_docker_host_(docker_up|cpus|pulls|unknown)", name)]


def test_so_many_hosts_have_a_name_and_those_that_are_there_come_first() -> None:
    gone = [host(f"a{number:03}", lost=True) for number in range(20)]
    here = [host(f"b{number:03}", heard_s=1 + number / 100) for number in range(250)]
    there = samples(read(*gone, *here))
    names = {name for name in there if name.startswith("celery_docker_host_up")}
    assert len(names) == metrics.MOST_HOSTS + 1
    assert all(f"celery_docker_host_up{{host={row.host}}}" in names for row in here)
    assert there["celery_docker_host_up{host=other}"] == 0
    assert there["celery_docker_host_jobs{host=other}"] == 14 * 5
    many = samples(read(*(host(f"h{number:03}", sick=["docker"] * (number == 299)) for number in range(300))))
    assert many["celery_docker_host_slots{host=other}"] == 44 * 4, "a sum"
    assert many["celery_docker_host_docker_up{host=other}"] == 0, "the worst of them"


def test_so_many_queues_have_a_name_and_those_that_are_served_come_first() -> None:
    names = [f"q{number:02}" for number in range(60)]
    counts = {name: QueueCounts(started=1, run_s=Histogram(Counter({1.0: 1}), 0.5)) for name in names}
    there = samples(read(host(queues=["zz"]), counts=counts, queues=dict.fromkeys(names, QueueLoad(listed=1))))
    shown = {name for name in there if name.startswith("celery_docker_jobs_started_total")}
    assert len(shown) == figures.MOST_QUEUES
    assert there["celery_docker_queue_hosts{queue=zz}"] == 1
    assert there["celery_docker_jobs_started_total{queue=other}"] == 11
    assert there["celery_docker_job_run_seconds_bucket{le=1.0,queue=other}"] == 11
    assert there["celery_docker_queue_jobs{queue=other,state=listed}"] == 11


def test_the_figures_of_other_queues_are_among_them() -> None:
    there = samples(read(host(), counts={"other": QueueCounts(started=3)}))
    assert there["celery_docker_jobs_started_total{queue=other}"] == 3


def test_no_label_but_those_of_the_table() -> None:
    known = {"host", "queue", "state", "reason", "class", "le", "result", "hostname", "queue_name", "name", "exception"}
    assert {label for name in samples(read(host())) for label in re.findall(r"[{,](\w+)=", name)} <= known


@settings(max_examples=50)
@given(name=st.text(min_size=1), number=st.integers(0, 2**62))
def test_names_that_others_chose_stay_one_label(name: str, number: int) -> None:
    row = host(name, running=number, queues=[name])
    text = exposition.text(metrics.of(read(row, counts={name: COUNTS}, queues={name: QueueLoad(listed=number)})))
    families = {family.name: family for family in text_string_to_metric_families(text.decode())}
    assert [sample.labels for sample in families["celery_docker_host_up"].samples] == [{"host": name}]
    assert {sample.labels["queue"] for sample in families["celery_docker_queue_jobs"].samples} >= {name}


def test_the_page_has_the_whole_table() -> None:
    rows = re.findall(r"^\| `(\w+)` \| ([^|]*) \| (\w+) \| (.*) \|$", METRICS_PAGE.read_text(), re.MULTILINE)
    assert rows == [
        (metric.sample_name, ", ".join(f"`{label}`" for label in metric.labels), metric.kind, metric.help)
        for metric in metrictable.ALL
    ]
