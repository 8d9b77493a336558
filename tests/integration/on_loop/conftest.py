"""Event loops of asyncio and of uvloop."""

from __future__ import annotations

import asyncio
import gc

import pytest
import uvloop

LOOPS = {"asyncio": asyncio.new_event_loop, "uvloop": uvloop.new_event_loop}


@pytest.fixture(params=LOOPS)
def run(request):
    """Run a coroutine function as ``asyncio.run`` does; what it leaves open fails the test."""

    def run(main, *args):
        loop = LOOPS[request.param]()
        asyncio.set_event_loop(loop)
        try:
            return loop.run_until_complete(main(*args))
        finally:
            for task in asyncio.all_tasks(loop):
                task.cancel()
            loop.run_until_complete(loop.shutdown_asyncgens())
            loop.run_until_complete(loop.shutdown_default_executor())
            asyncio.set_event_loop(None)
            loop.close()
            gc.collect()

    return run
