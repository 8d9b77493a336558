"""Live traffic: a Redis, an endpoint, a worker with the default settings, and who calls."""

from __future__ import annotations

import json
from collections.abc import Mapping
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

from benchmarks.children import Contestant
from benchmarks.ours import application
from benchmarks.workers import DEFAULT, Worker
from celery_segment import Analytics
from celery_segment.testing import EmbeddedRedis, SegmentServer

if TYPE_CHECKING:
    from typing_extensions import Self

__all__ = ["Stage"]

#: Events of a warm-up, and the greatest number of warm-ups.
WARM_UP, WARM_UPS = 2_000, 10
#: CPU seconds of a process of the pool that has loaded what a delivery needs.
WARM = 0.05


class Stage(ExitStack):
    """A Redis, an endpoint and a default worker, which run during a ``with`` block.

    Args:
        settings: Further Celery settings of the worker and the contestants.
        own_broker: Whether the broker has a Redis of its own.

    Attributes:
        redis: The Redis of the buffer.
        server: The endpoint.
        environ: The environment of the worker and the contestants.
        worker: The worker.
    """

    def __init__(
        self, settings: Mapping[str, Any] | None = None, *, own_broker: bool = False
    ) -> None:
        super().__init__()
        self._settings = settings or {}
        self._own_broker = own_broker

    def __enter__(self) -> Self:
        self.redis = self.enter_context(EmbeddedRedis(appendonly=False))
        broker = EmbeddedRedis(appendonly=False) if self._own_broker else None
        self.broker = self.enter_context(broker) if broker else self.redis
        self.server = self.enter_context(SegmentServer(record="ids"))
        self.environ = {
            "SEGMENT_BENCH_REDIS": self.redis.url,
            "SEGMENT_BENCH_BROKER": self.broker.url,
            "SEGMENT_BENCH_HOST": self.server.url,
            "SEGMENT_BENCH_SETTINGS": json.dumps(self._settings),
        }
        self._app = application(
            self.broker.url,
            segment_redis_url=self.redis.url,
            segment_host=self.server.url,
            segment_write_key="key",
            **self._settings,
        )
        self.analytics = Analytics(app=self._app)
        self.worker = self.enter_context(Worker("benchmarks.workerapp", self.environ, DEFAULT))
        self.worker.wait_until_idle()
        self._warm_up()
        return self

    def contestant(self, name: str, kind: str, **environ: str) -> Contestant:
        """Start a contestant of ``benchmarks.live``, with changes of its environment."""
        environ = {**self.environ, **environ}
        made = Contestant(name, "benchmarks.live", {"kind": kind}, environ=environ)
        return self.enter_context(made)

    def peer(self, name: str, module: str, **settings: Any) -> Contestant:
        """Start a contestant in the peers' environment."""
        made = Contestant(name, f"benchmarks.peers.{module}", settings, peer=True)
        return self.enter_context(made)

    def drain(self, seconds: float = 60) -> None:
        """Wait until all that is stored is delivered."""
        if self.analytics.flush(seconds):
            raise RuntimeError("not all was delivered")

    def _warm_up(self) -> None:
        """Deliver until each process of the pool that delivers has loaded the HTTP client."""
        for _ in range(WARM_UPS):
            with self.analytics.batch():
                for _ in range(WARM_UP):
                    self.analytics.track("warm-up", "Warm-up")
            self.drain()
            if min(self.worker.pool_cpu()) > WARM:
                break
        self.worker.wait_until_idle()
        self.server.clear()
