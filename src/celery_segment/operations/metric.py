"""One Prometheus metric: its name and meaning, and how its values are read from the figures."""

from __future__ import annotations

from collections.abc import Callable
from itertools import accumulate
from typing import Any, Literal, NamedTuple

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily
from prometheus_client.utils import floatToGoString

from celery_segment.buffer import BUCKETS, Snapshot
from celery_segment.config import Source

__all__ = ["Family", "Metric"]

Family = CounterMetricFamily | GaugeMetricFamily | HistogramMetricFamily

_FAMILIES: dict[str, type[CounterMetricFamily | GaugeMetricFamily]] = {
    "counter": CounterMetricFamily,
    "gauge": GaugeMetricFamily,
}


class Metric(NamedTuple):
    """A metric: its name, type and meaning, and how its value is read.

    Attributes:
        name: Its name, following Prometheus' conventions.
        kind: "counter", "gauge" or "histogram".
        help: Its HELP line.
        read: Function that returns the value for a source: a number, None if there is no
            value, or for a metric with a ``label`` a dict of numbers by label value; for a
            histogram the ``Latency``.
        label: The name of a label in addition to ``source``; a histogram's is "le".
    """

    name: str
    kind: Literal["counter", "gauge", "histogram"]
    help: str
    read: Callable[[Snapshot, Source], Any]
    label: str | None = None

    def family(self) -> Family:
        """Return an empty family of this metric."""
        if self.kind == "histogram":
            return HistogramMetricFamily(self.name, self.help, labels=["source"])
        labels = ["source", *([self.label] if self.label else [])]
        return _FAMILIES[self.kind](self.name, self.help, labels=labels)

    def add(self, family: Family, source: Source, figures: Snapshot) -> None:
        """Add the value, or values, of a source to a family of this metric."""
        self.put(family, source, self.read(figures, source))

    def put(self, family: Family, source: Source, value: Any) -> None:
        """Add what ``read`` returns for a source to a family of this metric."""
        if isinstance(family, HistogramMetricFamily):
            bounds = map(floatToGoString, BUCKETS)
            buckets = list(zip(bounds, accumulate(value.counts), strict=True))
            family.add_metric([source.name], buckets, value.sum)
        elif self.label:
            for label, number in value.items():
                family.add_metric([source.name, label], number)
        elif value is not None:
            family.add_metric([source.name], value)
