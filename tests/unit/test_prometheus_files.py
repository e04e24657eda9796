"""The alerts and the dashboard that are shipped: each metric in them is there, and so is each value of a label."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from celery_docker.client import metrictable
from celery_docker.core import figures

FOLDER = Path(__file__).parents[2] / "docs" / "prometheus"
ALERTS, DASHBOARD = (FOLDER / "alerts.yml").read_text(), (FOLDER / "dashboard.json").read_text()
RECORDED = set(re.findall(r"^ *- record: (\S+)$", ALERTS, re.MULTILINE))
NAMES = {metric.sample_name for metric in metrictable.ALL if metric.kind != "histogram"} | {
    f"{metric.name}_{part}"
    for metric in metrictable.ALL
    if metric.kind == "histogram"
    for part in ("bucket", "sum", "count")
}
VALUES = {
    "class": {*figures.CLASSES, figures.OTHER},
    "state": {"listed", "parked", "held_back", "in_slots"},
    "result": {"done", "failed"},
    "reason": {"delayed", "blocked"},
}


def expressions() -> list[str]:
    """Return all expressions of both files."""
    alerts = re.findall(r"^ +expr: (?:\|\n((?: {10}.*\n)+)|(.*))$", ALERTS, re.MULTILINE)
    panels: list[dict[str, Any]] = json.loads(DASHBOARD)["panels"]
    return [several or one for several, one in alerts] + [row["expr"] for line in panels for row in line["targets"]]


def test_every_metric_of_alerts_and_dashboard_is_there() -> None:
    texts = [*expressions(), *re.findall(r"label_values\((\w+),", DASHBOARD)]
    used = {name for text in texts for name in re.findall(r"celery_[a-z_:]+", text)}
    assert len(texts) > 40
    assert used - NAMES - RECORDED == set()
    assert {"celery_docker_redis_up", "celery_docker_host_up", "celery_docker_queue_oldest_seconds"} <= used


@pytest.mark.parametrize("label", VALUES)
def test_every_value_of_a_label_is_there(label: str) -> None:
    used = {
        word
        for text in expressions()
        for words in re.findall(rf'[{{,]{label}(?:=|!=|=~|!~)"([^"]*)"', text)
        for word in words.split("|")
    }
    assert used
    assert used <= VALUES[label]


def test_every_alert_says_what_it_is_and_what_to_do() -> None:
    names = re.findall(r"- alert: (\w+)", ALERTS)
    assert len(names) == len(set(names)) > 10
    for name, text in zip(names, ALERTS.split("- alert: ")[1:], strict=True):
        assert re.search(r"severity: (critical|warning|info)}", text), name
        assert re.search(r"summary: .+\n +description: .+", text), name


def test_a_dashboard_has_no_source_and_no_place_twice() -> None:
    panels = json.loads(DASHBOARD)["panels"]
    assert {json.dumps(target["datasource"]) for panel in panels for target in panel["targets"]} == {
        '{"type": "prometheus", "uid": "${datasource}"}'
    }
    places = [
        (column, row)
        for panel in panels
        for column in range(panel["gridPos"]["x"], panel["gridPos"]["x"] + panel["gridPos"]["w"])
        for row in range(panel["gridPos"]["y"], panel["gridPos"]["y"] + panel["gridPos"]["h"])
    ]
    assert len(places) == len(set(places))
    assert {column for column, _ in places} == set(range(24))
    assert len({panel["id"] for panel in panels}) == len(panels)
