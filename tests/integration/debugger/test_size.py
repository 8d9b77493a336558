"""A hundred thousand messages: how soon the debugger answers, and what memory it takes."""

from __future__ import annotations

import subprocess
import sys
import time

import pytest

from celery_segment.web.debugger import Debugger
from celery_segment.web.debugger.store import MAX_MESSAGES
from exchanges import KEY, exchange
from posting import message
from support import TESTS

#: The longest that an answer may take, in seconds.
SOON = 0.3


def some(start, count):
    return (
        message(
            f"0197-{n:06d}",
            event=f"Event {n % 40}",
            userId=f"user{n % 5_000}",
            properties={"order": f"o-{n:06d}", "note": "x" * 300},
        )
        for n in range(start, start + count)
    )


@pytest.fixture(scope="module")
def full():
    """A debugger that is full."""
    debugger = Debugger(sources={KEY: "default"})
    with debugger.server:
        for start in range(0, MAX_MESSAGES, 2_500):
            debugger.store.add(*exchange(*some(start, 2_500)))
        yield debugger


@pytest.mark.parametrize(
    ("path", "shown"),
    [
        ("/", "100,000 messages"),
        ("/?open=50000", "Message 50000"),
        ("/?before=50000", "before message 50000"),
        ("/?event=Event+7", "2,500 of 100,000 messages"),
        ("/?event=*+1*", "27,500 of 100,000 messages"),
        ("/?user=user7", "20 of 100,000 messages"),
        ("/?text=o-07123", "10 of 100,000 messages"),
        ("/?text=no+such+text", "No message matches."),
        ("/?violations=yes", "No message matches."),
        ("/?accepted=no", "No message matches."),
        ("/messages/1", "0197-000000"),
        ("/requests", 'href="/requests/40"'),
        ("/requests/1", "2,300 more are not listed"),
        ("/failures", "Rejected message"),
        ("/api/messages?limit=1000", '"total":100000'),
        ("/api/messages?event=Event+8&after=99000", '"total":2500'),
        ("/api/messages?text=o-08765", '"total":10'),
        ("/api/requests", '"after":40'),
    ],
)
def test_it_answers_soon(full, session, path, shown):
    seconds = []
    while not seconds or (len(seconds) < 5 and min(seconds) > SOON):
        full.search.forget()  # as if nobody had asked before
        # Of this process, which asks and answers: what others do on the machine does not matter.
        start = time.process_time()
        answer = session.get(full.server.url + path, timeout=30)
        seconds.append(time.process_time() - start)
        assert shown in answer.text
    assert min(seconds) <= SOON, seconds


#: Twice what is kept; prints what the process has grown by, in bytes.
FILL = """
import resource
import sys

sys.path.insert(0, {tests!r})
from celery_segment.web.debugger.keys import KeyNames
from celery_segment.web.debugger.search import Filter, Search
from celery_segment.web.debugger.store import Store
from exchanges import exchange
from posting import message

PAD = "x" * 300

def resident():
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * resource.getpagesize()

store = Store(KeyNames(None), max_bytes=20_000_000)
search = Search(store)
before = resident()
for start in range(0, 40_000, 500):
    numbers = range(start, start + 500)
    store.add(*exchange(*(message(n, userId=f"u{{n}}", event=f"E{{n}}", pad=PAD) for n in numbers)))
    search.oldest(Filter(text=str(start)))
assert store.count > 10_000
print(resident() - before)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_its_memory_is_bounded():
    program = FILL.format(tests=str(TESTS))
    ran = subprocess.run([sys.executable, "-c", program], capture_output=True, check=True)
    assert int(ran.stdout) < 40_000_000
