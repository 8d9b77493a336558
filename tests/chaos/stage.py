"""The processes that faults are done to: Redis, the endpoint, workers and producers."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import asdict, dataclass
from pathlib import Path

import redis
from kombu import pools

from celery_segment import Analytics
from celery_segment.errors import SegmentBufferError
from celery_segment.testing import EmbeddedRedis, SegmentServer
from chaos.proxy import Proxy
from support import DEFAULTS, TESTS, Worker, buffer_of, new_app, wait_until

LEASE, TIMEOUT, INTERVAL = 4.0, 2.0, 0.5
TICK = 0.25
CONF = {
    **DEFAULTS,
    "imports": [*DEFAULTS["imports"], "chaos.application"],
    "segment_lease": LEASE,
    "segment_timeout": TIMEOUT,
    "segment_flush_interval": INTERVAL,
    "segment_redis_timeout": 1,
}
WORKERS, PROCESSES, PRODUCERS = 2, 2, 2
#: How many of the application's tasks a worker holds at the most: what it fetches ahead for
#: each process by default, and the one that Redis is sending to it.
HELD = 4 * PROCESSES + 1
#: A producer whose reply from the broker was lost publishes again after so many seconds.
PUBLISHING = 2.0
#: Seconds that a warm stop may take.
WARM = 30.0


@dataclass(frozen=True)
class Load:
    """What the producers do.

    Attributes:
        rate: Messages per second and producer.
        together: How many messages a ``batch()`` has.
        every: A round is a ``batch()`` so often, else one call.
        batch: The greatest number of messages in a request.
        tasks: The application's own tasks per second and producer.
        memory: The ``maxmemory`` of Redis, in MB; 0 for none. Above what idle processes use,
            it has room for the backlog of any volley but one that is to fill it.
    """

    rate: float
    together: int
    every: int
    batch: int
    tasks: float = 5.0
    memory: int = 0


STEADY = Load(rate=250.0, together=10, every=25, batch=40, memory=32)
MANY = Load(rate=6_000.0, together=250, every=1, batch=2_500)


class Hand:
    """A worker process and what is known of it.

    ``state`` is starting, ready, stopped (SIGSTOP), leaving (warm stop) or gone.
    """

    def __init__(self, worker: Worker) -> None:
        self.worker = worker
        self.state = "starting"
        self.leave_by = 0.0

    @property
    def pid(self) -> int:
        return self.worker.process.pid

    def children(self) -> list[int]:
        path = Path(f"/proc/{self.pid}/task/{self.pid}/children")
        return [int(pid) for pid in path.read_text().split()]

    def ended(self) -> bool:
        return self.worker.process.poll() is not None

    def kill(self) -> None:
        self.worker.kill()
        self.state = "gone"

    def bury(self) -> None:
        """End the children of a worker that has just ended by itself, as a supervisor does."""
        self.state = "gone"
        with contextlib.suppress(ProcessLookupError):
            self.worker.signal(signal.SIGKILL)

    def stop(self) -> None:
        self.worker.signal(signal.SIGSTOP)
        self.state = "stopped"

    def resume(self) -> None:
        self.worker.signal(signal.SIGCONT)
        if self.state == "stopped":
            self.state = "ready"

    def leave(self) -> None:
        """Begin a warm stop."""
        self.worker.process.terminate()
        self.state = "leaving"
        self.leave_by = time.monotonic() + WARM


class Stage:
    """Everything that runs.

    Attributes:
        load: What the producers do, until they are stopped or have tracked ``messages``.
        redis: The server, the buffer's and the broker's. It syncs its append-only file before
            each reply, and evicts nothing.
        server: The endpoint.
        producers_link: The proxy through which the producers reach Redis.
        workers_link: That through which the workers reach the buffer.
        broker_link: That through which every other worker reaches the broker.
        hands: Every worker there ever was.
        notes: What happened that nobody ordered.
        deaths: How many workers ended by themselves.
        redis_is_away: Whether a fault has Redis down or frozen.
        endpoint_fails: Whether a fault has the endpoint failing.
    """

    def __init__(self, folder: Path, load: Load, messages: int = 0) -> None:
        self.folder = folder
        self.load = load
        self._messages = messages
        config = {"appendfsync": "always", "maxmemory": f"{load.memory}mb"}
        if load.memory:
            # Redis 6.2 takes 10 MB more while it rewrites its file: the calm is for that.
            config["auto-aof-rewrite-percentage"] = 0
        self.redis = EmbeddedRedis(folder / "redis", config=config)
        self.server = SegmentServer(record="ids", in_flight_grace=0.25)
        self.hands: list[Hand] = []
        self.notes: list[str] = []
        self.deaths = 0
        self.redis_is_away = False
        self.endpoint_fails = False
        self._producers: list[subprocess.Popen] = []
        self._stack = contextlib.ExitStack()

    def __enter__(self):
        with contextlib.ExitStack() as stack:
            stack.enter_context(self.redis)
            stack.enter_context(self.server)
            links = [stack.enter_context(Proxy(self.redis.port)) for _ in range(3)]
            self.producers_link, self.workers_link, self.broker_link = links
            self.client = stack.enter_context(contextlib.closing(self.redis.client()))
            self.app = new_app(self._conf(_url(self.redis), _url(self.redis)))
            stack.callback(self._close_app)
            self.buffer = buffer_of(self.app)
            self.analytics = Analytics(app=self.app)
            stack.callback(self._kill_all)
            for _ in range(WORKERS):
                self.add_worker()
            wait_until(self._all_ready, 60, "the workers are not ready")
            self._start_producers()
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *_):
        self._stack.close()

    # ------------------------------------------------------------ workers

    def add_worker(self) -> Hand:
        broker = self.broker_link if len(self.hands) % 2 else self.redis
        conf = self._conf(_url(broker), _url(self.workers_link))
        options = ("--pool", "prefork", "--concurrency", str(PROCESSES), "--loglevel", "INFO")
        hand = Hand(Worker(self.folder, conf, f"w{len(self.hands) + 1}", options))
        self.hands.append(hand)
        return hand

    @property
    def deliveries(self) -> int:
        """How many deliveries may be under way at once."""
        return PROCESSES * sum(hand.state != "gone" for hand in self.hands)

    def ready(self) -> list[Hand]:
        return [hand for hand in self.hands if hand.state == "ready"]

    def look_after_workers(self) -> None:
        """Notice what became of the workers; replace one that ended by itself."""
        for hand in [*self.hands]:
            name = hand.worker.name
            if hand.state == "leaving" and not hand.ended() and time.monotonic() > hand.leave_by:
                self.notes.append(f"{name} did not end within {WARM:.0f} s of SIGTERM")
                hand.kill()
            elif hand.state == "leaving" and hand.ended():
                hand.state = "gone"
                if hand.worker.process.returncode:
                    code = hand.worker.process.returncode
                    self.notes.append(f"{name} ended with {code} after SIGTERM")
            elif hand.state in ("starting", "ready") and hand.ended():
                hand.bury()
                self.deaths += 1
                last = hand.worker.output.rstrip().splitlines()[-1:]
                self.notes.append(f"{name} ended by itself, see its log: {last}")
                self.add_worker()
            elif hand.state == "starting" and f"{name} ready." in hand.worker.output:
                hand.state = "ready"

    def stop_workers(self) -> None:
        """Stop all workers warmly, so that their logs are complete."""
        for hand in self.hands:
            if hand.state not in ("gone", "leaving"):
                hand.leave()

        def gone():
            self.look_after_workers()
            return all(hand.state == "gone" for hand in self.hands)

        wait_until(gone, WARM + 10)

    def worker_logs(self) -> str:
        return "".join(hand.worker.output for hand in self.hands)

    def _all_ready(self):
        self.look_after_workers()
        return len(self.ready()) == WORKERS

    # ------------------------------------------------------------ producers

    def _start_producers(self) -> None:
        url = _url(self.producers_link)
        options = {"broker_transport_options": {"socket_timeout": PUBLISHING}}
        conf = json.dumps({**self._conf(url, url), **options})
        environ = {**os.environ, "TESTS_CONF": conf, "PYTHONPATH": str(TESTS)}
        for number in range(1, PRODUCERS + 1):
            load, share = self.load, -(-self._messages // PRODUCERS)
            arguments = [str(number), str(self.folder), json.dumps(asdict(load)), str(share)]
            with (self.folder / f"producer-{number}.log").open("wb") as log:
                process = subprocess.Popen(
                    [sys.executable, "-m", "chaos.producer", *arguments],
                    env=environ,
                    cwd=self.folder,
                    stdout=log,
                    stderr=subprocess.STDOUT,
                    start_new_session=True,
                )
            self._producers.append(process)
        wait_until(self._producers_publish, 60, "the producers do not publish")

    def _producers_publish(self):
        return len([*self.folder.glob("application-*.book")]) == PRODUCERS

    def producers_run(self) -> bool:
        return any(process.poll() is None for process in self._producers)

    def fill(self) -> None:
        """Have the producers call with large messages, each until a call of it is refused."""
        self._signal_producers(signal.SIGUSR1)

    def stop_filling(self) -> None:
        self._signal_producers(signal.SIGUSR2)

    def _signal_producers(self, number):
        for process in self._producers:
            process.send_signal(number)

    def refusals(self) -> int:
        """Return a number that grows with each call that is refused for want of room."""
        return sum(path.stat().st_size for path in self.folder.glob("producer-*-refused.book"))

    def stop_producers(self) -> None:
        """End the producers once each has its last call accepted."""
        for process in self._producers:
            process.terminate()
        for number, process in enumerate(self._producers, 1):
            if process.wait(30):
                log = (self.folder / f"producer-{number}.log").read_text()
                self.notes.append(f"producer {number} failed: {log[-400:]!r}")

    # ------------------------------------------------------------ Redis

    def heal_links(self) -> None:
        for link in (self.producers_link, self.workers_link, self.broker_link):
            link.heal()

    def stray_keys(self) -> list[bytes]:
        """Return keys of batches that should be gone when nothing waits."""
        return [
            *self.client.scan_iter(r"{segment:*}:batch:*"),
            *self.client.scan_iter(r"{segment:*}:meta:*"),
        ]

    def rewrite_file(self) -> None:
        """Have Redis rewrite its append-only file, so that it starts quickly."""
        with contextlib.suppress(redis.RedisError):  # it is being rewritten, say
            self.client.bgrewriteaof()

    def tasks_left(self) -> set[str]:
        """Return the ids of the tasks that the broker still has, queued or with a worker."""
        queued = [json.loads(message) for message in self.client.lrange("celery", 0, -1)]
        unacked = [json.loads(entry)[0] for entry in self.client.hvals("unacked")]
        return {message["headers"]["id"] for message in queued + unacked}

    def snapshot(self):
        """Return the buffer's figures, or None while Redis is unreachable."""
        if self.redis_is_away:
            return None
        try:
            return self.buffer.admin.snapshot()
        except SegmentBufferError:
            return None

    # ------------------------------------------------------------ ends

    def _conf(self, broker: str, buffer: str) -> dict:
        conf = {"broker_url": broker, "segment_redis_url": buffer}
        conf["segment_max_batch_messages"] = self.load.batch
        return {**CONF, **conf, "segment_host": self.server.url}

    def _kill_all(self) -> None:
        for hand in self.hands:
            if not hand.ended():
                hand.resume()
                hand.kill()
        for process in self._producers:
            if process.poll() is None:
                process.kill()
                process.wait()

    def _close_app(self) -> None:
        self.app.close()
        pools.reset()


def _url(server) -> str:
    return f"redis://127.0.0.1:{server.port}/0"
