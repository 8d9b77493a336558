"""A TCP proxy in front of Redis that can lose replies to commands which were carried out."""

from __future__ import annotations

import asyncio
import threading


class Proxy:
    """Passes connections on to a port of this machine, and loses replies when it is told to.

    Attributes:
        port: Where it listens.
        lost: How many replies it has lost.
        connections: How many connections it has accepted.
    """

    def __init__(self, target: int) -> None:
        self.port = 0
        self.lost = 0
        self.connections = 0
        self._target = target
        self._manner = ""
        self._left = 0
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

    def cut(self, replies: int) -> None:
        """Lose the next replies, and close their connections."""
        self._loop.call_soon_threadsafe(self._arm, "cut", replies)

    def mute(self, replies: int) -> None:
        """Lose the next replies, and leave their connections open and silent."""
        self._loop.call_soon_threadsafe(self._arm, "mute", replies)

    def heal(self) -> None:
        self._loop.call_soon_threadsafe(self._arm, "", 0)

    def _arm(self, manner, replies):
        self._manner, self._left = manner, replies

    async def _main(self):
        tasks = set()

        async def accept(reader, writer):
            task = asyncio.current_task()
            tasks.add(task)
            self.connections += 1
            try:
                await self._serve(reader, writer)
            except asyncio.CancelledError:  # asyncio's streams report a cancelled task
                pass
            finally:
                tasks.discard(task)

        server = await asyncio.start_server(accept, "127.0.0.1", 0)
        self.port = server.sockets[0].getsockname()[1]
        self._listening.set()
        await self._stopping.wait()
        server.close()
        serving = [*tasks]
        for task in serving:
            task.cancel()
        await asyncio.gather(*serving, return_exceptions=True)

    async def _serve(self, reader, writer):
        writers = [writer]
        try:
            from_redis, to_redis = await asyncio.open_connection("127.0.0.1", self._target)
            writers.append(to_redis)
            pumps = [
                asyncio.ensure_future(_pump(reader, to_redis)),
                asyncio.ensure_future(self._answer(from_redis, writer)),
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

    async def _answer(self, from_redis, writer):
        while data := await from_redis.read(1 << 16):
            if self._left:
                self._left -= 1
                self.lost += 1
                if self._manner == "mute":
                    # What follows on this connection would answer the wrong command.
                    while await from_redis.read(1 << 16):
                        pass
                return
            writer.write(data)
            await writer.drain()


async def _pump(reader, writer):
    while data := await reader.read(1 << 16):
        writer.write(data)
        await writer.drain()
