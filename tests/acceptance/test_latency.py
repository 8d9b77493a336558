"""The percentiles of the latency are those that a real endpoint sees of a real worker."""

from __future__ import annotations

import time
from bisect import bisect_left
from statistics import quantiles

import pytest

from celery_segment import Analytics, track
from celery_segment.buffer import BUCKETS, Latency
from celery_segment.testing import Reply
from celery_segment.worker.bootsteps import PERIOD


def steadily(seconds):
    """Track a message each 5 ms."""
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        call()
        time.sleep(0.005)


def in_bursts(seconds):
    """Track 50 messages at once each 0.4 s."""
    for _ in range(round(seconds / 0.4)):
        for _ in range(50):
            call()
        time.sleep(0.4)


def call():
    track.delay("u", "Called", {"at": time.monotonic()})


def seen(server):
    """Return how long each message took from its call to its arrival, in seconds."""
    requests = (request for request in server.requests if request.accepted)
    return [r.at - message["properties"]["at"] for r in requests for message in r.messages]


def width_of(seconds):
    """Return how wide the bucket of a latency is."""
    number = bisect_left(BUCKETS, seconds)
    return BUCKETS[number] - (BUCKETS[number - 1] if number else 0)


def test_percentiles_agree_with_what_the_endpoint_saw(make_app, workers, server):
    app = make_app()
    workers.start(app, processes=2)
    found = Latency()
    for produce, replies in (
        (steadily, []),
        (in_bursts, []),
        (steadily, [Reply.status(429, retry_after=2)]),
    ):
        server.clear()
        for reply in replies:
            server.reply(reply)
        produce(2.0)
        assert Analytics(app=app).flush(20) == 0
        latency, before = Analytics(app=app).stats().latency, found
        found, phase, exact = latency, latency - before, seen(server)
        assert phase.count == len(exact) > 100
        assert phase.sum / phase.count == pytest.approx(sum(exact) / len(exact), abs=PERIOD)
        cuts = quantiles(exact, n=100)
        for percent in (50, 95, 99):
            expected = cuts[percent - 1]
            near = pytest.approx(expected, abs=width_of(expected) + PERIOD)
            assert phase.quantile(percent / 100) == near, (produce, percent)
