"""Have real workers deliver a backlog to the stub endpoint, and measure how fast they are."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from benchmarks.children import Contestant
from benchmarks.events import EVENT, PROPERTIES, USER
from benchmarks.machine import Usage
from benchmarks.network import Host
from benchmarks.ours import application
from benchmarks.workers import ONE_PROCESS, Worker
from celery_segment import Analytics
from celery_segment.runtime import runtime_of
from celery_segment.testing import EmbeddedRedis

if TYPE_CHECKING:
    from typing_extensions import Self

__all__ = ["Site", "Workers"]

#: Workers that only deliver may use all of their processes for it.
SETTINGS = {"segment_worker_share": 1.0, "segment_allow_http": True}


@dataclass(frozen=True)
class Workers:
    """The workers that deliver.

    Attributes:
        processes: The processes of each worker's pool.
        hosts: The number of hosts, each with one worker; 0 for one worker on this host.
        redis: The round trip from a host to Redis (the buffer and the broker), in seconds.
        segment: The round trip from a host to the endpoint, in seconds.
        settings: Further Celery settings.
    """

    processes: int
    hosts: int = 0
    redis: float = 0.0
    segment: float = 0.0
    settings: Mapping[str, Any] | None = None


class Site(ExitStack):
    """A Redis for the buffer, one for the broker, and the endpoint, during a ``with`` block."""

    def __enter__(self) -> Self:
        every = {"bind": "0.0.0.0", "protected-mode": False}  # noqa: S104 - for the other hosts
        self._redis, self._broker = (
            self.enter_context(EmbeddedRedis(appendonly=False, config=every)) for _ in range(2)
        )
        self._client: Any = self.enter_context(self._redis.client())
        self._endpoint = self.enter_context(
            Contestant("endpoint", "benchmarks.endpoint", {"host": "0.0.0.0"})  # noqa: S104
        )
        self._port = self._endpoint.round({"port": None})
        return self

    @contextmanager
    def delivering(self, workers: Workers) -> Iterator[Delivering]:
        """Run workers during a block, which have delivered before."""
        with ExitStack() as stack:
            pids = {
                "redis": [self._redis.pid],
                "broker": [self._broker.pid],
                "endpoint": [self._endpoint.process.pid],
                "worker": [],
                "link": [],
            }
            options = [*ONE_PROCESS, "--concurrency", str(workers.processes)]
            started = []
            for _ in range(max(workers.hosts, 1)):
                prefix, environ = (), self._environ("127.0.0.1", "127.0.0.1", workers)
                if workers.hosts:
                    host = stack.enter_context(Host())
                    links = host.link(workers.redis), host.link(workers.segment)
                    prefix, environ = (
                        host.prefix,
                        self._environ(*(link.here for link in links), workers),
                    )
                    pids["link"] += [link.pid for link in links]
                worker = Worker("benchmarks.workerapp", environ, options, prefix=prefix)
                started.append(stack.enter_context(worker))
            for worker in started:
                worker.wait_until_idle()
            pids["worker"] = [worker.pid for worker in started]
            app = application(
                self._broker.url,
                segment_redis_url=self._redis.url,
                **{**SETTINGS, **(workers.settings or {})},
            )
            stack.callback(app.close)
            delivering = Delivering(app, self._client, self._endpoint, pids)
            for _ in range(2):  # the first delivery of a process loads the HTTP client
                delivering.backlog(5_000 * workers.processes * max(workers.hosts, 1), 0.05)
            yield delivering

    def _environ(self, redis: str, segment: str, workers: Workers) -> dict[str, str]:
        return {
            "SEGMENT_BENCH_REDIS": f"redis://{redis}:{self._redis.port}/0",
            "SEGMENT_BENCH_BROKER": f"redis://{redis}:{self._broker.port}/0",
            "SEGMENT_BENCH_HOST": f"http://{segment}:{self._port}",
            "SEGMENT_BENCH_SETTINGS": json.dumps({**SETTINGS, **(workers.settings or {})}),
        }


class Delivering:
    """Workers that are ready to deliver."""

    def __init__(
        self, app: Any, client: Any, endpoint: Contestant, pids: dict[str, list[int]]
    ) -> None:
        self._app, self._client, self._endpoint, self._pids = app, client, endpoint, pids

    def backlog(self, events: int, answer_after: float) -> dict[str, float]:
        """Deliver a backlog; the endpoint answers each request after some seconds.

        Returns:
            ``rate``, events per second between the first request and the last; ``requests``, how
            many they took; the CPU seconds of each kind of process in all; ``others``, the
            cores that others used.
        """
        self._client.flushall()
        self._endpoint.round({"answer_after": answer_after})
        analytics = Analytics(app=self._app)
        analytics.pause()
        for _ in range(events // 1_000):
            with analytics.batch():
                for _ in range(1_000):
                    analytics.track(USER, EVENT, PROPERTIES)
        runtime_of(self._app).buffer("default").admin.mark()
        usage = Usage(self._pids)
        analytics.resume()
        done = self._endpoint.round({"await": events})
        if analytics.flush(30):
            raise RuntimeError("not all was settled")
        return {**done, **usage.end()}
