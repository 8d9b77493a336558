"""Requests and how a SegmentServer took them, without a server: for tests of the debugger."""

from __future__ import annotations

import time

from celery_segment.testing.protocol import Request
from celery_segment.testing.server import Received
from posting import encode

KEY = "wr1t3k3y"


def exchange(*contents, status=200, violations=(), key=KEY, retry_count=0):
    """Return a request with these messages, and how the server took it."""
    shared = {
        "at": time.monotonic(),
        "method": "POST",
        "path": f"/v1/{KEY}/batch?key={KEY}",
        "headers": {"User-Agent": "test", "Cookie": KEY},
        "scheme": "basic",
        "write_key": key,
        "message_ids": tuple(content.get("messageId", "") for content in contents),
        "retry_count": retry_count,
        "sent_at": "2026-11-23T07:00:09.456Z",
    }
    raws = tuple(map(encode, contents))
    request = Request(size=sum(map(len, raws)), problems=(), raw_messages=raws, **shared)
    received = Received(
        status=status,
        reply="ok" if status == 200 else "error",
        bytes=request.size,
        messages=(),
        accepted=status == 200,
        violations=tuple(violations),
        **shared,
    )
    return request, received
