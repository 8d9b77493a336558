"""The buffer's figures as Prometheus metrics.

    from prometheus_client import REGISTRY
    REGISTRY.register(Collector(app))

They are read from Redis when they are asked for, so they are the buffer's own, whichever
process tells them: one is enough, and the workers need no port.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Literal, NamedTuple

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.registry import Collector as BaseCollector

from celery_segment.buffer import Buffer, Snapshot, buffer_of
from celery_segment.config import Source, settings_of
from celery_segment.errors import SegmentError

__all__ = ["METRICS", "UP", "Collector", "Metric"]

#: Sources that are read at the same time: a Redis that hangs is waited for once, not per source.
TOGETHER = 16

Family = CounterMetricFamily | GaugeMetricFamily


class Metric(NamedTuple):
    """A metric's name, type and meaning, and where its value is found.

    Attributes:
        name: Its name, in Prometheus' conventions.
        kind: "counter" or "gauge".
        help: Its HELP line.
        read: Gives its value of a source: a number, None where there is none, or with a
            ``label`` numbers by that label's values.
        label: The name of its label besides ``source``.
    """

    name: str
    kind: Literal["counter", "gauge"]
    help: str
    read: Callable[[Snapshot, Source], Any]
    label: str | None = None

    def family(self) -> Family:
        """Return an empty family of this metric."""
        made = CounterMetricFamily if self.kind == "counter" else GaugeMetricFamily
        labels = ["source", *([self.label] if self.label else [])]
        return made(self.name, self.help, labels=labels)

    def add(self, family: Family, source: Source, figures: Snapshot) -> None:
        """Add the value, or values, of a source to such a family."""
        value = self.read(figures, source)
        if self.label:
            for label, number in value.items():
                family.add_metric([source.name, label], number)
        elif value is not None:
            family.add_metric([source.name], value)


_GATES = ("open", "probing", "closed", "paused")


def _gate(s: Snapshot) -> dict[str, int]:
    # Why it is closed is for people, and of any number of values: `segment status` tells it.
    state = "paused" if s.closed is None else "closed" if s.closed else s.gate
    return {each: int(each == state) for each in _GATES}


UP = Metric(
    "segment_up",
    "gauge",
    "1 when the source's figures could be read, 0 when its Redis is out of reach.",
    lambda *_: 1,
)
METRICS = (
    Metric(
        "segment_stored_messages",
        "gauge",
        "Messages in Redis, by where they are: buffered (open batch), ready, inflight, dead.",
        lambda s, _: {
            "buffered": s.buffered,
            "ready": s.ready,
            "inflight": s.inflight,
            "dead": s.dead,
        },
        "state",
    ),
    Metric(
        "segment_stored_bytes",
        "gauge",
        "Size of the messages in Redis, as JSON.",
        lambda s, _: {
            "buffered": s.buffered_bytes,
            "ready": s.ready_bytes,
            "inflight": s.inflight_bytes,
            "dead": s.dead_bytes,
        },
        "state",
    ),
    Metric(
        "segment_saved_bytes",
        "gauge",
        "By how much less ready and inflight take in Redis, where they lie packed.",
        lambda s, _: s.saved_bytes,
    ),
    Metric(
        "segment_stored_batches",
        "gauge",
        "Sealed batches in Redis.",
        lambda s, _: {
            "ready": s.ready_batches,
            "inflight": s.inflight_batches,
            "dead": s.dead_batches,
        },
        "state",
    ),
    Metric(
        "segment_uncalled_batches",
        "gauge",
        "Batches that are settled, and whose callbacks have still to be called.",
        lambda s, _: s.uncalled_batches,
    ),
    Metric(
        "segment_oldest_message_age_seconds",
        "gauge",
        "Age of the oldest message that waits for its delivery; 0 when none does.",
        lambda s, _: s.oldest,
    ),
    Metric(
        "segment_last_delivery_timestamp_seconds",
        "gauge",
        "When a batch was last delivered, by Redis' clock; absent before the first.",
        lambda s, _: s.last_delivered,
    ),
    Metric(
        "segment_gate",
        "gauge",
        "1 for the state of the source's gate, else 0: open, probing, closed, paused.",
        lambda s, _: _gate(s),
        "state",
    ),
    Metric(
        "segment_gate_closed_seconds",
        "gauge",
        "Seconds until the gate opens by itself: 0 when it is open, +Inf while paused.",
        lambda s, _: float("inf") if s.closed is None else s.closed,
    ),
    Metric(
        "segment_max_buffer_bytes",
        "gauge",
        "The setting of this name, the bound of what waits; absent where there is none.",
        lambda _, source: source.max_buffer_bytes,
    ),
    Metric(
        "segment_max_dead_bytes",
        "gauge",
        "The setting of this name, the bound of the dead letters.",
        lambda _, source: source.max_dead_bytes,
    ),
    Metric(
        "segment_messages_accepted_total",
        "counter",
        "Messages that were stored.",
        lambda s, _: s.accepted,
    ),
    Metric(
        "segment_messages_delivered_total",
        "counter",
        "Messages that were delivered.",
        lambda s, _: s.delivered,
    ),
    Metric(
        "segment_delivered_bytes_total",
        "counter",
        "Size of the messages that were delivered, as JSON.",
        lambda s, _: s.delivered_bytes,
    ),
    Metric(
        "segment_batches_delivered_total",
        "counter",
        "Batches that were delivered.",
        lambda s, _: s.delivered_batches,
    ),
    Metric(
        "segment_messages_buried_total",
        "counter",
        "Messages that became dead letters, replayed or purged since or not.",
        lambda s, _: s.buried,
    ),
    Metric(
        "segment_messages_purged_total",
        "counter",
        "Dead letters' messages that an operator deleted.",
        lambda s, _: s.purged,
    ),
    Metric(
        "segment_messages_dropped_total",
        "counter",
        "Messages that calls dropped, as segment_on_full or segment_on_unavailable says.",
        lambda s, _: {"full": s.dropped_full, "unavailable": s.dropped_unavailable},
        "reason",
    ),
    Metric(
        "segment_attempts_total",
        "counter",
        "Requests by their answer: an HTTP status, else timeout, tls or network.",
        lambda s, _: s.attempts,
        "status",
    ),
    Metric(
        "segment_retries_total",
        "counter",
        "Attempts after which the batch is tried again.",
        lambda s, _: s.retries,
    ),
    Metric(
        "segment_splits_total",
        "counter",
        "Batches that were refused, and halved to find the bad message.",
        lambda s, _: s.splits,
    ),
    Metric(
        "segment_takeovers_total",
        "counter",
        "Batches that were taken over from a worker whose lease had expired.",
        lambda s, _: s.takeovers,
    ),
)


class Collector(BaseCollector):
    """Gives a prometheus_client registry the figures of an application's sources.

    A source whose Redis is out of reach has ``segment_up`` 0 and no other figure.

    Args:
        app: The Celery application.
        sources: Their names; all that are enabled when left out.

    Raises:
        ConfigurationError: A setting is wrong, there is no such source, or no Redis.
    """

    def __init__(self, app: Any, sources: Sequence[str] = ()) -> None:
        names = sources or [source.name for source in settings_of(app).enabled]
        self._buffers = [buffer_of(app, name) for name in names]

    def collect(self) -> Iterable[Family]:
        """Read the figures, and give them metric by metric."""
        up, families = UP.family(), [metric.family() for metric in METRICS]
        with ThreadPoolExecutor(TOGETHER) as pool:
            found = list(pool.map(_look, self._buffers))
        for buffer, figures in zip(self._buffers, found, strict=True):
            up.add_metric([buffer.source.name], figures is not None)
            if figures is not None:
                for metric, family in zip(METRICS, families, strict=True):
                    metric.add(family, buffer.source, figures)
        return [up, *families]


def _look(buffer: Buffer) -> Snapshot | None:
    try:
        return buffer.snapshot()
    except SegmentError:
        return None
