"""Metrics as text, in the format that Prometheus reads.

The only importer of `prometheus_client`, which takes a tenth of a second: import this when somebody asks.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from prometheus_client import CollectorRegistry, exposition
from prometheus_client.metrics_core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    Metric,
)
from prometheus_client.registry import Collector

from celery_docker.client import metrics
from celery_docker.client.metrics import Family
from celery_docker.core.figures import Histogram

CONTENT_TYPE = exposition.CONTENT_TYPE_PLAIN_0_0_4


@dataclass(eq=False)
class _Collected(Collector):
    families: Iterable[Family]

    def collect(self) -> Iterator[Metric]:
        return map(_metric, self.families)


def text(families: Iterable[Family]) -> bytes:
    """Return metrics as text in UTF-8."""
    registry = CollectorRegistry(auto_describe=False)
    registry.register(_Collected(list(families)))
    return exposition.generate_latest(registry)


def _metric(family: Family) -> Metric:
    metric = family.metric
    if metric.kind == "histogram":
        histogram = HistogramMetricFamily(metric.name, metric.help, labels=metric.labels)
        for labels, value in family.samples.items():
            if isinstance(value, Histogram):
                histogram.add_metric(labels, metrics.cumulative(metric, value), value.sum_s)
        return histogram
    kind = CounterMetricFamily if metric.kind == "counter" else GaugeMetricFamily
    simple = kind(metric.name, metric.help, labels=metric.labels)
    for labels, value in family.samples.items():
        if not isinstance(value, Histogram):
            simple.add_metric(labels, value)
    return simple
