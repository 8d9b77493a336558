"""A TCP proxy in front of Redis: an address that stays, and what may happen on the way."""

from __future__ import annotations

import asyncio
import threading


class Proxy:
    """Passes connections on to a port of this machine, and harms them when it is told to.

    Attributes:
        port: Where it listens.
        target: The port to which further connections go; None while they are closed.
        lost: How many replies it has lost.
        forgotten: How many connections it has forgotten.
        connections: How many connections it has accepted.
    """

    def __init__(self, target: int) -> None:
        self.port = 0
        self.target: int | None = target
        self.lost = 0
        self.forgotten = 0
        self.connections = 0
        self._manner = ""
        self._left = 0
        self._longest_idle = 0.0
        self._serving: set[asyncio.Task] = set()
        self._loop = asyncio.new_event_loop()
        self._stopping = asyncio.Event()
        self._listening = threading.Event()
        self._thread = threading.Thread(target=self._loop.run_until_complete, args=[self._main()])

    def __enter__(self):
        self._thread.start()
        self._listening.wait()
        return self

    def __exit__(self, *_):
        self._loop.call_soon_threadsafe(self._stopping.set)
        self._thread.join()
        self._loop.close()

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self.port}/0"

    def cut(self, replies: int) -> None:
        """Lose the next replies, and close their connections."""
        self._loop.call_soon_threadsafe(self._arm, "cut", replies)

    def mute(self, replies: int) -> None:
        """Lose the next replies, and leave their connections open and silent."""
        self._loop.call_soon_threadsafe(self._arm, "mute", replies)

    def forget_idle(self, seconds: float) -> None:
        """Forget connections that were idle for so long: swallow all, and tell neither end.

        As a balancer does, and a firewall that tracks connections.
        """
        self._loop.call_soon_threadsafe(self._arm, "", 0, seconds)

    def heal(self) -> None:
        """Harm nothing any more. What is silent, or forgotten, stays so."""
        self._loop.call_soon_threadsafe(self._arm, "", 0)

    def close(self) -> None:
        """Close the present connections, and further ones at once, until it is opened."""
        self.target = None
        self._loop.call_soon_threadsafe(self._cancel)

    def open(self, target: int) -> None:
        """Pass further connections on to a port; the present ones stay where they are."""
        self.target = target

    def _arm(self, manner, replies, longest_idle=0.0):
        self._manner, self._left, self._longest_idle = manner, replies, longest_idle

    def _cancel(self):
        for task in self._serving:
            task.cancel()

    async def _main(self):
        async def accept(reader, writer):
            task = asyncio.current_task()
            self._serving.add(task)
            self.connections += 1
            try:
                await self._serve(reader, writer)
            except asyncio.CancelledError:  # asyncio's streams report a cancelled task
                pass
            finally:
                self._serving.discard(task)

        server = await asyncio.start_server(accept, "127.0.0.1", 0)
        self.port = server.sockets[0].getsockname()[1]
        self._listening.set()
        await self._stopping.wait()
        server.close()
        serving = [*self._serving]
        self._cancel()
        await asyncio.gather(*serving, return_exceptions=True)

    async def _serve(self, reader, writer):
        writers = [writer]
        try:
            if self.target is None:
                return
            from_redis, to_redis = await asyncio.open_connection("127.0.0.1", self.target)
            writers.append(to_redis)
            flow = _Flow(self._loop.time())
            pumps = [
                asyncio.ensure_future(self._ask(reader, to_redis, flow)),
                asyncio.ensure_future(self._answer(from_redis, writer, flow)),
            ]
            try:
                await asyncio.wait(pumps, return_when=asyncio.FIRST_COMPLETED)
            finally:
                for pump in pumps:
                    pump.cancel()
                await asyncio.gather(*pumps, return_exceptions=True)
        except OSError:  # Redis is down: the client finds its connection closed
            pass
        finally:
            for each in writers:
                each.transport.abort()

    async def _ask(self, reader, to_redis, flow):
        while data := await reader.read(1 << 16):
            if self._passes(flow):
                to_redis.write(data)
                await to_redis.drain()

    async def _answer(self, from_redis, writer, flow):
        while data := await from_redis.read(1 << 16):
            if self._left:
                self._left -= 1
                self.lost += 1
                if self._manner == "mute":
                    # What follows on this connection would answer the wrong command.
                    while await from_redis.read(1 << 16):
                        pass
                return
            if self._passes(flow):
                writer.write(data)
                await writer.drain()
        if flow.is_forgotten:  # nor is the client told that Redis has closed it
            await self._stopping.wait()

    def _passes(self, flow):
        """Return whether the proxy still knows a connection on which something comes."""
        now = self._loop.time()
        if not flow.is_forgotten and 0 < self._longest_idle < now - flow.used_at:
            flow.is_forgotten = True
            self.forgotten += 1
        flow.used_at = now
        return not flow.is_forgotten


class _Flow:
    """What a proxy knows of a connection: when something came, and whether it is forgotten."""

    def __init__(self, now: float) -> None:
        self.used_at = now
        self.is_forgotten = False
