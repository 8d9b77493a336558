"""The state of this library for one Celery application: one runtime, with one lock.

It owns the settings, the connections to Redis, and a buffer and a producer for
each source; ``runtime_of`` is the one place where they are looked up. Each is made once,
by whichever thread needs it first.
"""

from __future__ import annotations

import logging
import os
import weakref
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from threading import RLock
from typing import TYPE_CHECKING, Any, TypeVar

from celery_segment.aio.waits import BLOCKING, Waits
from celery_segment.buffer import Buffer, Pace, Topology, connect
from celery_segment.config import Eager, Settings, Source, load, no_redis, redis_of
from celery_segment.errors import ConfigurationError
from celery_segment.frames import hidden_locals
from celery_segment.producer import (
    DRAIN,
    ByUser,
    Discard,
    Fallback,
    InTurn,
    PartStore,
    Plans,
    Producer,
    RecordingProducer,
    Sender,
    Spill,
    Store,
    Waker,
    recording,
)
from celery_segment.trust import Trust

if TYPE_CHECKING:
    from celery_segment.aio.loops import Loops

__all__ = ["Runtime", "runtime_of"]

logger = logging.getLogger("celery_segment")

T = TypeVar("T")

#: Seconds for which a Redis that did not answer in time is not asked again, by calls and the
#: worker's transitions. The worker's tick has connections, and a rest, of its own.
REST = 1.0
#: The share of a lease that this may take: an outcome is to be recorded before its lease ends.
REST_SHARE = 1 / 8
#: Where an application keeps its runtime: it lives and dies with the application.
_ATTRIBUTE = "_segment_runtime"


def runtime_of(app: Any) -> Runtime:
    """Return the runtime of a Celery application, or of a proxy for one."""
    try:
        return app.__dict__[_ATTRIBUTE]  # type: ignore[no-any-return]
    except KeyError:
        app = getattr(app, "_get_current_object", lambda: app)()
        # Atomic: of two threads that come here, both get the first one's.
        return app.__dict__.setdefault(_ATTRIBUTE, Runtime(app))  # type: ignore[no-any-return]


class Runtime:
    """The settings, connections, buffers and producers of one Celery application.

    Its methods raise ``ConfigurationError`` where a setting is wrong, there is no source of
    that name, or no Redis is configured for the buffer.

    Args:
        app: The Celery application.
        waits: How the callers wait.
        base: The application's runtime for callers that may block, where ``waits`` are those of
            an event loop. They share what has no connections.

    Attributes:
        waits: How the callers wait.
        waker: Wakes the application's workers.
        eager: True where the application runs its tasks at once, in the calling process.
    """

    def __init__(self, app: Any, waits: Waits = BLOCKING, base: Runtime | None = None) -> None:
        self._app, self.waits, self._base = app, waits, base
        self._pid, self._own_lock = os.getpid(), RLock()
        self._settings: Settings | None = base.settings if base else None
        self._loops: Loops[Runtime] | None = None
        self._topology: Topology | None = None
        self._pace: Pace | None = None
        self._trust: Trust | None = base.trust if base else None
        self._spill: Spill | None = base.spill if base else None
        self._buffers: dict[str, Buffer] = {}
        self._fallbacks: dict[str, Fallback] = {}
        self._producers: dict[str, Producer] = {}
        self.plans: Plans = base.plans if base else Plans()
        self.waker: Waker = base.waker if base else Waker(app)
        self.sender: Sender = base.sender if base else Sender(app)
        self.eager: Eager = base.eager if base else Eager(app)

    def on_loop(self) -> Runtime:
        """Return the runtime of the running event loop, for functions that ``run`` runs.

        Its connections are those of the loop, and are closed at the loop's end.
        """
        if self._loops is None:
            from celery_segment.aio.loops import Loops

            with self._lock:
                if self._loops is None:
                    self._loops = Loops(
                        lambda waits: Runtime(self._app, waits, self), Runtime._close
                    )
        return self._loops.here()

    async def begin(self) -> None:
        """Wait until a call may begin on this runtime's loop."""
        await self.waits.begin()  # type: ignore[attr-defined]  # those of a loop

    def _close(self) -> None:
        if self._topology is not None:
            self._topology.close()

    @property
    def settings(self) -> Settings:
        """The application's settings, read and checked once."""
        if self._settings is None:
            with self._lock:
                if self._settings is None:
                    with hidden_locals():  # the environment, and passwords
                        self._settings = load(self._app.conf, os.environ)
        return self._settings

    def buffer(self, shard: str) -> Buffer:
        """Return the buffer of a source's shard, given its name: the first has the source's."""
        if shard not in self._buffers:
            name = self.settings.shard(shard).shard_name
            return self._made(self._buffers, name, self._make_buffer)
        return self._buffers[shard]

    def shards(self, source: str) -> list[Buffer]:
        """Return the buffers of a source's shards: of most sources one."""
        return [self.buffer(each.shard_name) for each in self.settings.source(source).split()]

    def shares(
        self, source: str, messages: Sequence[bytes]
    ) -> Iterator[tuple[PartStore, Sequence[bytes]]]:
        """Return where a source's messages are to be stored, whatever is set for a full buffer."""
        buffers, settings = self.shards(source), self.settings
        if settings.source(source).ordered:
            yield from ByUser(buffers).split(messages)
        else:
            yield InTurn(buffers, settings.redis_timeout), messages

    def producer(self, source: str) -> Producer:
        """Return the producer of a source: one that records, while tests do so."""
        if (
            recording.record is not None or (recording.detect is not None and recording.detect())
        ) and (record := self._record) is not None:
            if record is recording.discard:
                recording.warn_once()
            given = (self.settings.source(source), record, recording.awaiting)
            return RecordingProducer(*given, self.plans.step(given[0]))
        try:
            return self._producers[source]
        except (KeyError, TypeError):
            name = self.settings.source(source).name
            return self._made(self._producers, name, self._make_producer)

    @property
    def captures(self) -> bool:
        """Whether a test keeps the calls, and all else, from Redis and the broker."""
        return self._record is not None

    @property
    def loses_calls(self) -> bool:
        """Whether the environment has calls captured, and so lost, although no tests run."""
        return self._record is recording.discard and not recording.is_test_run()

    @property
    def _record(self) -> Callable[[str, bytes], None] | None:
        record = recording.current_record()
        if record is recording.discard and not self.settings.capture_tests:
            return None
        return record

    @property
    def trust(self) -> Trust:
        """Which callbacks that are stored in the buffer may run."""
        if self._trust is None:
            with self._lock:
                if self._trust is None:
                    self._trust = Trust(self.settings)
        return self._trust

    @property
    def topology(self) -> Topology:
        """The servers of the buffer, and the connections to them that all sources share."""
        with self._lock:
            if self._topology is None:
                leases = [source.lease for source in self.settings.enabled]
                rest = min([REST, *(lease * REST_SHARE for lease in leases)])
                self._topology = self.connect(self.settings.redis_timeout, rest=rest)
            return self._topology

    @property
    def pace(self) -> Pace:
        """The rate of requests that all workers keep to together."""
        with self._lock:
            if self._pace is None:
                self._pace = Pace(
                    self.topology, self.settings.max_requests_per_second, self.settings.namespace
                )
            return self._pace

    @property
    def spill(self) -> Spill | None:
        """The file of this host's spilled messages; None where none is configured."""
        settings = self.settings
        with self._lock:
            if self._spill is None and settings.spill_path is not None:
                limits = (settings.max_spill_bytes, settings.redis_timeout)
                self._spill = Spill(settings.spill_path, *limits)
            return self._spill

    def connect(self, timeout: float, *, rest: float = 0.0) -> Topology:
        """Return the servers of the buffer with connections, and a timeout, of their own."""
        settings = self.settings
        if not settings.redis_url:
            raise no_redis(self._app)
        with hidden_locals():  # the URL's password
            return self._connect(settings.redis_url, settings.redis_options, timeout, rest)

    def connect_to(self, url: str, name: str) -> Topology:
        """Return the servers of another buffer.

        Args:
            url: Their URL, in the form of ``segment_redis_url``.
            name: What the URL is called in an error.
        """
        try:
            with hidden_locals():  # the URL's password
                found = redis_of(url, self._app.conf, name)
                return self._connect(*found, self.settings.redis_timeout, 0.0)
        except ConfigurationError as error:
            problem = error.problem.replace("segment_redis_url", name)
            raise ConfigurationError(problem, hint=error.hint) from None

    def _connect(
        self, url: str, options: Mapping[str, Any], timeout: float, rest: float
    ) -> Topology:
        limit = self.settings.redis_max_connections
        topology = connect(
            url, timeout, options, max_connections=limit, rest=rest, waits=self.waits
        )
        if self._base is None:  # a loop closes its own
            # Otherwise the garbage collector finds open sockets, and warns.
            weakref.finalize(self._app, topology.close).atexit = False
        return topology

    def fallbacks(self) -> list[Fallback]:
        """Return the fallbacks of the sources, or shards, that drop or spill."""
        for source in self.settings.enabled:
            self.producer(source.name)
        return list(self._fallbacks.values())

    def wake(self, source: str) -> None:
        """Have workers drain a source at once, rather than at their next tick."""
        for shard in self.settings.source(source).split():
            self.wake_shard(shard.shard_name)

    def wake_shard(self, shard: str) -> None:
        """Have a worker drain a shard of a source at once, rather than at its next tick."""
        if self.captures:
            return
        if self.eager:
            self.waits.call(self._deliver_at_once, shard)
            return
        self.waits.call(self.waker.wake, shard, self.settings.queue)

    def _deliver_at_once(self, shard: str) -> None:
        # The messages are stored: whatever becomes of their delivery, no call fails for it.
        result = self._app.tasks[DRAIN].apply(kwargs={"source": shard}, throw=False)
        if result.failed():
            text = "%s: not delivered, and kept where it is no dead letter: %s"
            logger.warning(text, shard, result.result)

    # ------------------------------------------------------------ making each once

    @property
    def _lock(self) -> RLock:
        # Another thread may hold it while this process is forked, and is not there to
        # release it in the child.
        if self._pid != os.getpid():
            self._pid, self._own_lock = os.getpid(), RLock()
        return self._own_lock

    def _made(self, made: dict[str, T], name: str, make: Callable[[str], T]) -> T:
        if name not in made:
            with self._lock:
                if name not in made:
                    made[name] = make(name)
        return made[name]

    def _make_buffer(self, name: str) -> Buffer:
        return Buffer(self.topology, self.settings.shard(name))

    def _make_producer(self, name: str) -> Producer:
        source = self.settings.source(name)
        plan = self.plans.step(source)
        if not source.enabled:
            return Producer(source, Discard(), _nothing, self.eager, delivers=False, plan=plan)
        store, wake = self._make_store(source), partial(self.wake, name)
        given = (source, store, wake, self.eager)
        if self._base is not None:
            return Producer(*given, held_as=self._base.producer(name), plan=plan)
        return Producer(*given, on_loop=partial(self._on_loop, name), plan=plan)

    def _on_loop(self, source: str) -> Producer:
        return self.on_loop().producer(source)

    def _make_store(self, source: Source) -> Store:
        shards = self.shards(source.name)
        first, *others = shards
        if source.ordered:
            stores = [self._with_fallback(each.source, each) for each in shards]
            return ByUser(stores, self.waits) if others else stores[0]
        names = [each.source.shard_name for each in others]
        store = InTurn(shards, self.settings.redis_timeout) if others else first
        return self._with_fallback(source, store, *names)

    def _with_fallback(self, source: Source, store: PartStore, *others: str) -> Store:
        """Return a store that drops or spills what it cannot store, where the settings say so."""
        if source.on_full == source.on_unavailable == "raise":
            return store
        spill = self.spill if source.on_unavailable == "spill" else None
        returns = None
        if spill is not None and self._base is not None:
            self._base.producer(source.name)
            returns = self._base._fallbacks[source.shard_name]  # noqa: SLF001 - another runtime
        fallback = Fallback(source, store, spill, others, waits=self.waits, returns=returns)
        self._fallbacks[fallback.source] = fallback
        return fallback


def _nothing() -> None:
    """Wake no worker: nothing was stored."""
