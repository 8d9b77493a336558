"""The worker processes."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import time
from pathlib import Path

from chaos.servers import Servers
from chaos.settings import PROCESSES, WARM, WORKERS
from support import Worker, wait_until

#: Seconds for which a worker may write where it hangs, before it is killed.
CRY = 1.0


class Hand:
    """A worker process and what is known of it.

    Attributes:
        state: starting, ready, stopped (SIGSTOP), leaving (warm stop) or gone.
        is_guest: Whether it is there beside those that deliver, and not replaced.
    """

    def __init__(self, worker: Worker, *, is_guest: bool = False) -> None:
        self.worker = worker
        self.is_guest = is_guest
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

    def tell_where_it_hangs(self) -> None:
        """Have Celery write the stacks of its threads into the log, and each child its own."""
        self.worker.process.send_signal(signal.SIGUSR1)
        for child in self.children():
            os.kill(child, signal.SIGABRT)  # PYTHONFAULTHANDLER
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.worker.process.wait(CRY)

    def leave(self) -> None:
        """Begin a warm stop."""
        self.worker.process.terminate()
        self.state = "leaving"
        self.leave_by = time.monotonic() + WARM


class Crew:
    """The workers, of which there are as many as there should be.

    Args:
        folder: Where their logs and books are.
        servers: The store and the broker.
        conf: Their configuration, but for the addresses of Redis.
        notes: Gets what happened that nobody ordered.

    Attributes:
        hands: Every worker there ever was.
        changes: What the latest redeploy has changed in their configuration.
        deaths: How many ended by themselves.
    """

    def __init__(self, folder: Path, servers: Servers, conf: dict, notes: list[str]) -> None:
        self.hands: list[Hand] = []
        self.changes: dict = {}
        self.deaths = 0
        self._folder, self._servers, self._conf, self._notes = folder, servers, conf, notes

    def start(self) -> None:
        for _ in range(WORKERS):
            self.add()
        wait_until(self._all_ready, 60, "the workers are not ready")

    def add(self) -> Hand:
        """Start a worker in the place of one that is gone, or leaves."""
        return self._start(self.changes)

    def invite(self, changes: dict) -> Hand:
        """Start a guest: a worker with a configuration of its own, beside the others."""
        return self._start({**self.changes, **changes}, is_guest=True)

    @property
    def deliveries(self) -> int:
        """How many deliveries may be under way at once."""
        return PROCESSES * self.present

    @property
    def present(self) -> int:
        return sum(hand.state != "gone" for hand in self.hands)

    def ready(self) -> list[Hand]:
        """Return those that can be harmed: guests are left alone."""
        return [hand for hand in self.hands if hand.state == "ready" and not hand.is_guest]

    def look(self) -> None:
        """Notice what became of the workers; replace one that ended by itself."""
        for hand in [*self.hands]:
            name = hand.worker.name
            if hand.state == "leaving" and not hand.ended() and time.monotonic() > hand.leave_by:
                self._notes.append(f"{name} did not end within {WARM:.0f} s of SIGTERM")
                self.deaths += 1  # it loses what one that is killed loses
                hand.tell_where_it_hangs()
                hand.kill()
            elif hand.state == "leaving" and hand.ended():
                hand.state = "gone"
                if hand.worker.process.returncode:
                    code = hand.worker.process.returncode
                    self._notes.append(f"{name} ended with {code} after SIGTERM")
            elif hand.state in ("starting", "ready") and hand.ended():
                self._replace(hand)
            elif hand.state == "starting" and f"{name} ready." in hand.worker.output:
                hand.state = "ready"

    def stop(self) -> None:
        """Stop all workers warmly, so that their logs are complete."""
        for hand in self.hands:
            if hand.state not in ("gone", "leaving"):
                hand.leave()

        def gone():
            self.look()
            return not self.present

        wait_until(gone, WARM + 10)

    def kill(self) -> None:
        for hand in self.hands:
            if not hand.ended():
                hand.resume()
                hand.kill()

    def logs(self) -> str:
        return "".join(hand.worker.output for hand in self.hands)

    def _start(self, changes, *, is_guest=False):
        number = len(self.hands)
        urls = {
            "broker_url": self._servers.broker.broker_addresses.worker(number),
            "segment_redis_url": self._servers.store.store_addresses.worker(number),
        }
        queue = changes.get("segment_queue")
        options = (
            *("--pool", "prefork", "--concurrency", str(PROCESSES), "--loglevel", "INFO"),
            *(("-Q", f"celery,{queue}") if queue else ()),
        )
        conf = {**self._conf, **urls, **changes}
        name, more = f"w{number + 1}", {"PYTHONFAULTHANDLER": "1"}
        worker = Worker(self._folder, conf, name, options, more)
        self.hands.append(Hand(worker, is_guest=is_guest))
        return self.hands[-1]

    def _replace(self, hand):
        hand.bury()
        self.deaths += 1
        last = hand.worker.output.rstrip().splitlines()[-1:]
        self._notes.append(f"{hand.worker.name} ended by itself, see its log: {last}")
        if not hand.is_guest:
            self.add()

    def _all_ready(self):
        self.look()
        return len(self.ready()) == WORKERS
