"""What a page shows of what takes longer to read than a page may take."""

from __future__ import annotations

import threading
import time
from concurrent.futures import wait

import pytest

from celery_segment.web.panel.background import Background
from support import wait_until


@pytest.fixture
def clock(monkeypatch):
    """Have it be a time that the test chooses."""
    now = [1_000.0]
    monkeypatch.setattr("celery_segment.web.panel.background.time.monotonic", lambda: now[0])
    return now


def test_no_page_waits_for_it():
    may_end = threading.Event()
    background = Background(lambda: may_end.wait(20), 60)
    began = time.perf_counter()
    assert [background.latest() for _ in range(3)] == [None] * 3
    assert time.perf_counter() - began < 1
    may_end.set()
    assert wait_until(background.latest) is True


def test_it_is_read_again_once_it_is_old(clock):
    reads = iter("abc")
    background = Background(lambda: next(reads), 5)
    assert background.latest() is None
    assert wait_until_done(background) == "a"
    clock[0] += 4.9
    assert background.latest() == background.latest() == "a"
    clock[0] += 0.1
    assert background.latest() == "a"  # and starts to read
    assert wait_until_done(background) == "b"


def wait_until_done(background):
    """Wait for the reading that is under way, and return what was read."""
    wait([background._reading], 20)
    return background.latest()


def test_an_error_is_told_once_and_read_again(clock):
    results = iter([ValueError("no broker"), "found"])

    def read():
        found = next(results)
        if isinstance(found, Exception):
            raise found
        return found

    background = Background(read, 5)
    background.latest()
    with pytest.raises(ValueError, match="no broker"):
        wait_until_done(background)
    assert background.latest() is None
    clock[0] += 5
    background.latest()
    assert wait_until_done(background) == "found"
