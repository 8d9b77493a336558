"""The buffer's figures as Prometheus metrics.

They are read from Redis at each scrape, so every process serves the same figures: one
such process is enough, and the workers need no port.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import Any

from prometheus_client.registry import Collector as BaseCollector

from celery_segment.buffer import Snapshot
from celery_segment.config import DEFAULT_SOURCE, Source
from celery_segment.errors import ConfigurationError, SegmentError
from celery_segment.operations.admin import admin_of
from celery_segment.operations.metric import Family, Metric
from celery_segment.operations.reading import read_figures
from celery_segment.operations.unconfigured import noted_unconfigured
from celery_segment.runtime import runtime_of

__all__ = ["METRICS", "UNCONFIGURED", "UP", "Collector"]

logger = logging.getLogger("celery_segment")

#: Sources that are read at the same time, so that a hanging Redis delays a scrape only once.
TOGETHER = 16

_GATES = ("open", "probing", "closed", "paused")


def _gate(s: Snapshot) -> dict[str, int]:
    # The reason is no label, since it may have any number of values: `segment status` shows it.
    return {state: int(state == s.gate.state) for state in _GATES}


def _amounts(s: Snapshot, unit: str, *names: str) -> dict[str, int]:
    return {name: getattr(getattr(s, name), unit) for name in names}


UP = Metric(
    "segment_up",
    "gauge",
    "1 when the source's figures could be read, 0 when its Redis is unreachable.",
    lambda *_: 1,
)
UNCONFIGURED = Metric(
    "segment_unconfigured_messages",
    "gauge",
    "Messages in Redis of sources that are not configured any more, by state: waiting, dead.",
    lambda s, _: {"waiting": s.waiting, "dead": s.dead.messages},
    "state",
)
METRICS = (
    Metric(
        "segment_stored_messages",
        "gauge",
        "Messages in Redis by state: buffered (open batch), ready, inflight, dead.",
        lambda s, _: _amounts(s, "messages", "buffered", "ready", "inflight", "dead"),
        "state",
    ),
    Metric(
        "segment_stored_bytes",
        "gauge",
        "Size of the messages in Redis, as JSON, by state.",
        lambda s, _: _amounts(s, "bytes", "buffered", "ready", "inflight", "dead"),
        "state",
    ),
    Metric(
        "segment_saved_bytes",
        "gauge",
        "Bytes saved in Redis by compressing ready and in-flight batches.",
        lambda s, _: s.saved_bytes,
    ),
    Metric(
        "segment_stored_batches",
        "gauge",
        "Sealed batches in Redis, by state.",
        lambda s, _: _amounts(s, "batches", "ready", "inflight", "dead"),
        "state",
    ),
    Metric(
        "segment_uncalled_batches",
        "gauge",
        "Settled batches whose callbacks have not been called yet.",
        lambda s, _: s.uncalled_batches,
    ),
    Metric(
        "segment_oldest_message_age_seconds",
        "gauge",
        "Age of the oldest waiting message; 0 when none waits.",
        lambda s, _: s.oldest,
    ),
    Metric(
        "segment_last_delivery_timestamp_seconds",
        "gauge",
        "Time of the last delivery by the clock of Redis; absent before the first.",
        lambda s, _: s.last_delivered,
    ),
    Metric(
        "segment_gate",
        "gauge",
        "1 for the current state of the gate, 0 for the others: open, probing, closed, paused.",
        lambda s, _: _gate(s),
        "state",
    ),
    Metric(
        "segment_gate_closed_seconds",
        "gauge",
        "Seconds until the gate opens by itself; 0 when open, +Inf while paused.",
        lambda s, _: float("inf") if s.gate.seconds is None else s.gate.seconds,
    ),
    Metric(
        "segment_concurrency_limit",
        "gauge",
        "Number of requests that may be under way at the same time, as the endpoint allows.",
        lambda s, _: s.concurrency,
    ),
    Metric(
        "segment_redis_memory_share",
        "gauge",
        "Share of its maxmemory that Redis uses, from 0 to 1; absent where it is not known.",
        lambda s, _: s.memory,
    ),
    Metric(
        "segment_max_memory_share",
        "gauge",
        "Limit of segment_redis_memory_share, above which calls are refused.",
        lambda _, source: source.max_memory_share,
    ),
    Metric(
        "segment_calls_refused",
        "gauge",
        "1 while calls are refused because Redis uses more than segment_max_memory_share, else 0.",
        lambda s, _: int(s.refusing),
    ),
    Metric(
        "segment_max_buffer_bytes",
        "gauge",
        "Limit of the waiting messages; absent if not set.",
        lambda _, source: source.max_buffer_bytes,
    ),
    Metric(
        "segment_max_dead_bytes",
        "gauge",
        "Limit of the dead letters.",
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
        lambda s, _: s.delivered.messages,
    ),
    Metric(
        "segment_delivered_bytes_total",
        "counter",
        "Size of the messages that were delivered, as JSON.",
        lambda s, _: s.delivered.bytes,
    ),
    Metric(
        "segment_batches_delivered_total",
        "counter",
        "Batches that were delivered.",
        lambda s, _: s.delivered.batches,
    ),
    Metric(
        "segment_delivery_latency_seconds",
        "histogram",
        "Time from the call to the delivery of each delivered message, estimated for each batch.",
        lambda s, _: s.latency,
        "le",
    ),
    Metric(
        "segment_messages_buried_total",
        "counter",
        "Messages that became dead letters, including those replayed or purged since.",
        lambda s, _: s.buried,
    ),
    Metric(
        "segment_messages_purged_total",
        "counter",
        "Messages that were deleted: by purge or forget, or after segment_dead_retention.",
        lambda s, _: s.purged,
    ),
    Metric(
        "segment_messages_damaged_total",
        "counter",
        "Messages lost with batches whose content in Redis was evicted, deleted or cut off.",
        lambda s, _: s.damaged,
    ),
    Metric(
        "segment_callbacks_refused_total",
        "counter",
        "Callbacks that were not run, since they are neither signed nor allowed by name.",
        lambda s, _: s.refused_callbacks,
    ),
    Metric(
        "segment_messages_dropped_total",
        "counter",
        "Messages dropped by calls: full, unavailable, unknown, invalid, unidentified.",
        lambda s, _: s.dropped,
        "reason",
    ),
    Metric(
        "segment_plan_violations_total",
        "counter",
        "Messages that violated the tracking plan, by rule: a JSON Schema keyword, or unplanned.",
        lambda s, _: s.violations,
        "rule",
    ),
    Metric(
        "segment_attempts_total",
        "counter",
        "Requests by HTTP status, or timeout, tls or network without a response.",
        lambda s, _: s.attempts,
        "status",
    ),
    Metric(
        "segment_retries_total",
        "counter",
        "Attempts that failed and whose batch is tried again.",
        lambda s, _: s.retries,
    ),
    Metric(
        "segment_splits_total",
        "counter",
        "Rejected batches that were split to find the bad message.",
        lambda s, _: s.splits,
    ),
    Metric(
        "segment_takeovers_total",
        "counter",
        "Batches taken over after their lease had expired.",
        lambda s, _: s.takeovers,
    ),
)


class Collector(BaseCollector):
    """Collector of an application's figures, for a prometheus_client registry.

    A source whose Redis is unreachable, or that a newer release stores in a format which this
    one does not read, has ``segment_up`` 0 and no other figures; the log tells the latter. Of
    sources that are not configured, those are found for which a worker was ever started: no
    scrape searches the database.

    Args:
        app: The Celery application.
        sources: The names of the sources; by default all that are enabled.

    Raises:
        ConfigurationError: A setting is wrong or missing, or a source is not configured.
    """

    def __init__(self, app: Any, sources: Sequence[str] = ()) -> None:
        runtime = runtime_of(app)
        names = sources or [source.name for source in runtime.settings.enabled]
        self._runtime, self._application = runtime, app.main or ""
        self._refused: set[str] = set()
        self._sources = [runtime.settings.source(name) for name in names]
        for source in self._sources:
            admin_of(runtime, source.name)  # which needs a Redis

    def collect(self) -> Iterable[Family]:
        """Read the figures; return the metrics with their values."""
        up, families = UP.family(), [metric.family() for metric in METRICS]
        with ThreadPoolExecutor(TOGETHER) as pool:
            found = list(pool.map(self._look, self._sources))
        for source, figures in zip(self._sources, found, strict=True):
            UP.put(up, source, int(figures is not None))
            if figures is not None:
                for metric, family in zip(METRICS, families, strict=True):
                    metric.add(family, source, figures)
        return [up, *families, self._unconfigured()]

    def _unconfigured(self) -> Family:
        runtime, family = self._runtime, UNCONFIGURED.family()
        if runtime.captures:
            return family
        settings = runtime.settings
        with suppress(SegmentError):
            found = noted_unconfigured(runtime.topology, settings, self._application)
            for name, figures in found.items():
                source = settings.source(DEFAULT_SOURCE).stored_as(name)
                UNCONFIGURED.add(family, source, figures)
        return family

    def _look(self, source: Source) -> Snapshot | None:
        try:
            figures = read_figures(admin_of(self._runtime, source.name), source.name)
        except ConfigurationError as error:
            if source.name not in self._refused:
                logger.warning("%s: no figures: %s", source.name, error)
            self._refused.add(source.name)
            return None
        except SegmentError:
            return None
        self._refused.discard(source.name)
        return figures
