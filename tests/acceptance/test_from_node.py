"""docs/how-to/from-node.md, block by block: each is run as the file that its first line names."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from collections import defaultdict

import pytest

from celery_segment import Analytics, DeliveryFailed, track
from celery_segment.delivery.attempt import attempt_delivery
from celery_segment.runtime import runtime_of
from celery_segment.testing import SegmentServer
from support import TESTS, buffer_of, wait_until

PAGE = (TESTS.parent / "docs/how-to/from-node.md").read_text("utf-8")

#: The headings of Segment's page, and how many examples of code each has there.
ORIGINAL = {
    "Getting started": 2,
    "Regional configuration": 1,
    "Identify": 2,
    "Track": 2,
    "Page": 1,
    "Group": 1,
    "Alias": 2,
    "Configuration": 1,
    "Error handling": 1,
    "Development": 1,
    "Selecting destinations": 1,
    "Historical import": 0,
    "Batching": 3,
    "Long running process": 1,
    "Short-lived process": 1,
    "Multiple clients": 1,
    "Troubleshooting": 0,
    "No events in my debugger": 0,
    "Other common errors": 0,
}


def blocks():
    """Return each heading's blocks of code, as pairs of a file's name and its text."""
    found, heading = defaultdict(list), ""
    for part in re.finditer(r"^#+ ([^\n]+)$|^```(\w+)\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL):
        if part[1]:
            heading = part[1]
            found[heading]  # one without code is a heading as well
        else:
            name = re.match(r"# (\S+\.py)\n", part[3])
            found[heading].append((name[1] if name else part[2], part[3]))
    return found


BLOCKS = blocks()
HERE = [heading for heading in ORIGINAL if BLOCKS[heading]]


def files(heading, name):
    return [text for file, text in BLOCKS[heading] if file == name]


def run(text, namespace=None):
    exec(compile(text, "from-node.md", "exec"), {} if namespace is None else namespace)  # noqa: S102 - our own page


def configuration(heading):
    """Return what a heading's celeryconfig.py says."""
    said = {}
    for text in files(heading, "celeryconfig.py"):
        namespace = {}
        run(text, namespace)
        said |= {k: v for k, v in namespace.items() if k.startswith("segment_")}
    return said


def test_the_page_has_the_headings_of_the_original_in_their_order():
    assert [heading for heading in BLOCKS if heading in ORIGINAL] == [*ORIGINAL]


@pytest.mark.parametrize("heading", ORIGINAL)
def test_each_example_of_the_original_has_a_counterpart(heading):
    assert len(BLOCKS[heading]) >= ORIGINAL[heading]


def test_every_file_of_the_page_is_run_here():
    names = {name for found in BLOCKS.values() for name, _ in found}
    assert names == {
        *("celeryconfig.py", "views.py", "tasks.py", "service.py", "function.py"),
        "console",  # pip install
    }


@pytest.fixture
def deliver(make_app, server, monkeypatch):
    """Run a heading's configuration and views, deliver, and return what arrived."""
    monkeypatch.setenv("SEGMENT_WRITE_KEY", "a-key")

    def deliver(heading, **conf):
        app = make_app(**{**configuration(heading), "segment_host": server.url, **conf})
        run("".join(files(heading, "views.py")))
        for name in runtime_of(app).settings.sources:
            buffer = buffer_of(app, name)
            while claimed := buffer.claim(32):
                for batch in claimed:
                    attempt_delivery(buffer, batch.id)
        return [
            {k: v for k, v in m.items() if k not in ("messageId", "context")}
            for m in server.messages
        ]

    return deliver


MICHAEL = {
    "name": "Michael Bolton",
    "email": "mbolton@example.com",
    "plan": "Enterprise",
    "friends": 42,
}
PURCHASE = {"revenue": 39.95, "shippingMethod": "2-day"}
ANONYMOUS = "48d213bb-95c3-4f8d-af97-86b2b404dcfe"
INTEGRATIONS = {"All": False, "Vero": True, "Google Analytics": False}


@pytest.mark.parametrize(
    ("heading", "expected"),
    [
        (
            "Getting started",
            [{"type": "track", "userId": "019mr8mf4r", "event": "Signed Up"}],
        ),
        (
            "Identify",
            [
                {"type": "identify", "anonymousId": ANONYMOUS, "traits": {"friends": 42}},
                {"type": "identify", "userId": "019mr8mf4r", "traits": MICHAEL},
            ],
        ),
        (
            "Track",
            [
                {"type": "track", who: whose, "event": "Item Purchased", "properties": PURCHASE}
                for who, whose in (("anonymousId", ANONYMOUS), ("userId", "019mr8mf4r"))
            ],
        ),
        (
            "Page",
            [
                {
                    "type": "page",
                    "userId": "019mr8mf4r",
                    "category": "Docs",
                    "name": "Python Library",
                    "properties": {
                        "url": "https://example.com/docs/python",
                        "path": "/docs/python",
                        "title": "Python Library",
                        "referrer": "https://example.com/docs",
                    },
                }
            ],
        ),
        (
            "Group",
            [
                {
                    "type": "group",
                    "userId": "019mr8mf4r",
                    "groupId": "56",
                    "traits": {"name": "Initech", "description": "Accounting Software"},
                }
            ],
        ),
        (
            "Alias",
            [
                {"type": "alias", "previousId": "old_id", "userId": "new_id"},
                {"type": "track", "userId": "anonymous_user", "event": "Anonymous Event"},
                {
                    "type": "alias",
                    "previousId": "anonymous_user",
                    "userId": "identified@example.com",
                },
                {
                    "type": "identify",
                    "userId": "identified@example.com",
                    "traits": {"plan": "Free"},
                },
                {
                    "type": "track",
                    "userId": "identified@example.com",
                    "event": "Identified Action",
                },
            ],
        ),
        (
            "Selecting destinations",
            [
                {
                    "type": "track",
                    "userId": "97234974",
                    "event": "Membership Upgraded",
                    "integrations": {**INTEGRATIONS, "Salesforce": False},
                }
            ],
        ),
        (
            "Historical import",
            [
                {
                    "type": "track",
                    "userId": "019mr8mf4r",
                    "event": "Item Purchased",
                    "timestamp": "2019-03-14T15:09:26.000Z",
                }
            ],
        ),
    ],
)
def test_calls(deliver, heading, expected):
    arrived = deliver(heading)
    if heading != "Historical import":
        assert all(message.pop("timestamp") for message in arrived)
    assert arrived == expected


def test_the_region(make_app):
    app = make_app(**configuration("Regional configuration"))
    assert runtime_of(app).settings.source("default").host == "https://events.eu1.segmentapis.com"


def test_configuration(make_app, redis):
    app = make_app(**configuration("Configuration"))
    source = runtime_of(app).settings.source("default")
    assert (source.flush_at, source.flush_interval, source.enabled) == (20, 10.0, False)
    assert track.delay("u", "E").id
    assert redis.keys("*") == []


def test_error_handling(make_app, server, caplog):
    conf = configuration("Error handling")
    make_app(**conf, task_always_eager=True)
    server.fail_messages(lambda _: True)
    track.delay(user_id="user id", event="event name")
    assert "segment: gave up a batch of 1: 400 Bad Request" in caplog.text


@pytest.mark.parametrize(
    ("heading", "expected"),
    [
        ("Development", {"segment_flush_at": 1}),
        ("Batching", {"segment_max_batch_messages": 1}),
    ],
)
def test_every_message_is_sent_at_once(make_app, server, workers, heading, expected):
    conf = configuration(heading)
    assert conf == expected
    app = make_app(**conf)
    workers.start(app)
    for number in range(3):
        track.delay("u", f"E{number}")
        # Well before flush_interval, which is 10 seconds.
        assert server.wait_for_messages(number + 1, timeout=4)


def test_callbacks_receipts_and_flush(
    make_app, redis_server, server, workers, tmp_path, monkeypatch, capsys
):
    (text,) = files("Batching", "tasks.py")
    (tmp_path / "tasks.py").write_text(text)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "tasks", raising=False)
    app = make_app(
        imports=["celery_segment", "tasks"],
        segment_flush_interval=0.3,
        result_backend=redis_server.url,
    )
    worker = workers.start(app)
    callbacks, receipt, flush = files("Batching", "views.py")
    run(callbacks)
    wait_until(lambda: "delivered:" in worker.output)
    run(receipt)
    assert len(server.received) == 2
    server.fail_messages(lambda _: True)
    run(callbacks)
    wait_until(lambda: "given up:" in worker.output)
    with pytest.raises(DeliveryFailed):
        run(receipt)
    run(flush)
    assert "Flushed, and now this program can exit!" in capsys.readouterr().out


@pytest.fixture
def start(make_app, tmp_path):
    """Start a file of the page as a process, with a celeryconfig.py beside it."""
    started = []

    def start(heading, name, **conf):
        app = make_app(**conf)
        said = {k: v for k, v in app.conf.changes.items() if k.startswith(("segment_", "broker_"))}
        said |= {"imports": ["celery_segment"]}
        lines = "".join(f"{name} = {value!r}\n" for name, value in said.items())
        (tmp_path / "celeryconfig.py").write_text(lines)
        (text,) = files(heading, name)
        (tmp_path / name).write_text(text)
        process = subprocess.Popen(
            [sys.executable, name],
            cwd=tmp_path,
            env={**os.environ, "PYTHONPATH": str(tmp_path)},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        started.append(process)
        return app, process

    yield start
    for process in started:
        process.kill()
        process.communicate()


@pytest.mark.parametrize("end", [signal.SIGTERM, signal.SIGINT, signal.SIGKILL, signal.SIGSEGV])
def test_whatever_ends_a_long_running_process_ends_no_message(start, server, workers, end):
    app, process = start("Long running process", "service.py", segment_flush_interval=0.3)
    assert process.stdout.readline() == "Infinite Loop Test n: 0\n"
    process.send_signal(end)
    process.wait(10)
    assert Analytics(app=app).stats().buffered.messages == 1
    workers.start(app)
    assert server.wait_for_messages(1, timeout=10)
    assert server.messages[0]["properties"]["name"] == "Test event"


def test_a_short_lived_process_flushes_and_ends(start, server, workers, make_app):
    workers.start(make_app(segment_flush_interval=0.3))
    _, process = start("Short-lived process", "function.py", segment_flush_interval=0.3)
    output, _ = process.communicate(timeout=20)
    assert (process.returncode, output) == (0, "Flushed, and now this program can exit!\n")
    assert len(server.received) == 1


def test_a_short_lived_process_that_cannot_flush_says_so(start):
    app, process = start("Short-lived process", "function.py")
    output, _ = process.communicate(timeout=30)
    assert (process.returncode, "not delivered yet" in output) == (1, True)
    assert Analytics(app=app).stats().ready.messages == 1


def test_multiple_clients(make_app, monkeypatch, workers):
    monkeypatch.setenv("MARKETING_WRITE_KEY", "marketing-key")
    monkeypatch.setenv("APP_WRITE_KEY", "app-key")
    with SegmentServer() as server:
        app = make_app(
            **configuration("Multiple clients"),
            segment_host=server.url,
            segment_flush_interval=0.3,
        )
        assert runtime_of(app).settings.source("marketing").flush_at == 100
        workers.start(app)
        run(*files("Multiple clients", "views.py"))
        assert server.wait_for_messages(2, timeout=10)
        by_key = {request.write_key: request.messages[0]["event"] for request in server.requests}
        assert by_key == {"marketing-key": "Campaign Opened", "app-key": "Song Played"}
