"""Request a page from several threads, each as soon as its last request is answered."""

from __future__ import annotations

import socket
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from benchmarks.pacing import percentile

REQUEST = b"GET / HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n\r\n"


def setup(threads: int) -> Callable[[list[Any]], dict[str, float]]:
    """Return a function that takes a port, and the seconds to request the page for."""
    executor = ThreadPoolExecutor(threads)

    def run(spec: list[Any]) -> dict[str, float]:
        port, seconds = spec
        began = time.perf_counter()
        deadline = began + seconds
        found = [executor.submit(requests, port, deadline) for _ in range(threads)]
        took = [each for future in found for each in future.result()]
        wall = time.perf_counter() - began
        p50, p99 = percentile(took, 50), percentile(took, 99)
        return {"requests": len(took), "rate": len(took) / wall, "p50": p50, "p99": p99}

    return run


def requests(port: int, deadline: float) -> list[float]:
    """Request the page until a time; return the milliseconds that each took."""
    took = []
    while (before := time.perf_counter()) < deadline:
        # gunicorn's synchronous workers end each connection.
        with socket.create_connection(("127.0.0.1", port)) as sock:
            sock.sendall(REQUEST)
            answer = b""
            while data := sock.recv(65_536):
                answer += data
        took.append((time.perf_counter() - before) * 1000)
        if not answer.startswith(b"HTTP/1.1 200"):
            raise RuntimeError(answer.decode())
    return took
