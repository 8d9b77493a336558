"""What the panel's pages show of what Redis holds."""

from __future__ import annotations

import pytest

from celery_segment import Analytics
from celery_segment.buffer import OTHERS, Violations, keys
from celery_segment.testing import EmbeddedRedis
from operating import SOURCES, store
from panels import bury, visitor_of
from support import buffer_of, new_app, wait_until


@pytest.fixture
def visitor(app):
    return visitor_of(app)


def figures(page):
    """Return the row of a source on the first page, without what changes with time."""
    names = ("Delivery", "Waiting", "In flight", "Stored", "Delivered", "Dead", "Dropped")
    return {name: page[name] for name in names}


def test_the_sources(make_app):
    app = make_app(segment_sources=SOURCES)
    bury(app, "A", "B")
    store(app, "C", "D", "E")
    store(app, "F", source="marketing")
    Analytics("marketing", app=app).pause()
    page = visitor_of(app).open("/")
    assert page.status == 200
    shown = figures(page.row("default"))
    stored, delivered = shown.pop("Stored"), shown.pop("Delivered")
    assert stored.endswith("/s")
    assert delivered == "0/s"
    assert shown == {
        "Delivery": "open", "Waiting": "3", "In flight": "0", "Dead": "2", "Dropped": "0"
    }  # fmt: skip
    assert page.row("marketing")["Delivery"] == "paused"
    assert page.links["2"] == "/sources/default/dead"


def test_a_source_that_is_stored_and_not_configured(make_app):
    old = make_app(segment_sources=SOURCES)
    store(old, "A", "B", source="marketing")
    visitor = visitor_of(make_app())
    page = wait_until(lambda: (p := visitor.open("/")) and "not configured" in p.text and p)
    assert "marketing: not configured, so nobody delivers 2 messages waiting" in page.text
    assert "`celery segment rename marketing NEW` moves them" in page.text


def test_a_source_of_a_newer_release_leaves_the_others_shown(make_app, redis):
    app = make_app(segment_sources=SOURCES)
    store(app, "A")
    store(app, "B", source="marketing")
    redis.hset(f"{keys.prefix('marketing')}:state", "format", 99)
    visitor = visitor_of(app)
    page = visitor.open("/")
    assert page.status == 200
    assert page.row("default")["Waiting"] == "1"
    assert "format 99" in page.text
    for path in ("", "/dead", "/dead/1"):
        answer = visitor.open(f"/sources/marketing{path}")
        assert (answer.status, "format 99" in answer.text) == (503, True)
    for action in ("replay", "purge"):
        assert visitor.post(f"/sources/marketing/{action}", all="1").status_code == 503


def test_the_violations_of_a_plan(app, visitor):
    assert "tracking plan" not in visitor.open("/sources/default").text
    found = Violations.of("track", "<b>E", "properties.a[1].b", "type")
    buffer_of(app).count_violations([found, found, OTHERS._replace(rule="type", messages=1)])
    page = visitor.open("/sources/default")
    row = page.row("track <b>E")
    assert [row[name] for name in ("Path", "Rule", "Messages")] == ["properties.a[].b", "type", "2"]
    assert page.row("others")["Messages"] == "1"


def test_a_source(app, visitor):
    store(app, *"ABC")
    buffer = buffer_of(app)
    (batch,) = buffer.claim(1)
    buffer.ack(buffer.begin(batch.id, "token"))
    bury(app, "D")
    store(app, "E", "F")
    page = visitor.open("/sources/default")
    assert page.status == 200
    for text in ("Waiting 2", "Delivered", "Dead letters 1", "Accepted 6", "Given up 1"):
        assert text in page.text, page.text
    (newest, *_) = (row for row in page.rows if "Given up" in row)
    assert (newest["Stored"], newest["Delivered"], newest["Given up"]) == ("4", "3", "1")
    assert newest["P50"].endswith("ms")
    assert "accepted 4, delivered 3, given up 1" in page.source
    assert "Shards" not in page.text


@pytest.mark.parametrize(
    ("hours", "rows"), [("1", 12), ("24", 24), ("7", 12), ("x", 12), ("²", 12), (None, 12)]
)
def test_a_history_of_some_hours(visitor, hours, rows):
    page = visitor.open("/sources/default" + (f"?hours={hours}" if hours else ""))
    shown = [row for row in page.rows if "Given up" in row]
    assert rows <= len(shown) <= rows + 1  # the first and the last hour may not be whole
    assert all(row["Stored"] == "0" and row["P99"] == "-" for row in shown)


def test_the_shards_of_a_source(make_app):
    app = make_app(segment_shards=3)
    store(app, "A")
    page = visitor_of(app).open("/sources/default")
    assert [page.row(name)["Delivery"] for name in ("default/1", "default/2")] == ["open"] * 2
    assert sum(int(row["Waiting"]) for row in page.rows if row.get("") in SHARDS) == 1


SHARDS = {"default", "default/1", "default/2"}


def test_the_dead_letters(app, visitor):
    first = bury(app, "A", "A", "B", words="bad timestamp")
    second = bury(app, "C", reason="HTTP 413 Payload Too Large")
    page = visitor.open("/sources/default/dead")
    assert "4 messages in 2 batches" in page.text
    groups = [row for row in page.rows if "Kind" in row]
    assert groups[0]["Kind"] == "track 'A'"  # most messages first
    assert sorted((g["Messages"], g["Batches"], g["Kind"], g["Reason"]) for g in groups) == [
        ("1", "1", "track 'B'", "HTTP 400 Bad Request"),
        ("1", "1", "track 'C'", "HTTP 413 Payload Too Large"),
        ("2", "1", "track 'A'", "HTTP 400 Bad Request"),
    ]
    letters = [row for row in page.rows if "Holds" in row]
    assert [letter[""] for letter in letters] == [second, first]
    assert letters[1]["Reason"] == "HTTP 400 Bad Request: bad timestamp"
    assert letters[1]["Holds"] == "track 'A' and 1 more"


def test_a_dead_letter(app, visitor):
    batch = bury(app, *[f"Event {n}" for n in range(60)], words="no")
    page = visitor.open(visitor.open("/sources/default/dead").links[batch])
    assert page.status == 200
    assert "HTTP 400 Bad Request: no" in page.text
    assert page.text.count('"event": "Event') == 50
    assert "These are the first 50 of 60 messages." in page.text


def test_a_dead_letter_that_is_damaged(app, visitor, redis):
    batch = bury(app, "A")
    redis.set(f"{keys.prefix('default')}:batch:{batch}", b"\x00damaged")
    page = visitor.open(f"/sources/default/dead/{batch}")
    assert page.status == 200
    assert "is damaged in Redis: purge it" in page.text


def test_a_dead_letter_of_a_shard(make_app):
    app = make_app(segment_shards=2)
    store(app, "A")
    store(app, "B")
    buffer = buffer_of(app, "default/1")
    (batch,) = buffer.claim(1)
    buffer.bury(buffer.begin(batch.id, "token"), "HTTP 400", answered=True)
    visitor = visitor_of(app)
    page = visitor.open(visitor.open("/sources/default/dead").links[f"1/{batch.id}"])
    assert page.status == 200
    assert f"Dead letter 1/{batch.id}" in page.text
    assert '"event":' in page.text


@pytest.mark.parametrize(
    "path",
    [
        "/sources/other", "/sources/other/dead", "/sources/other/forget", "/sources/default/dead/7",
        "/sources/default/dead/1/7", "/sources/default/dead/9/7", "/sources/default/dead/%00",
    ],
)  # fmt: skip
def test_what_is_not_there(visitor, path):
    page = visitor.open(path)
    assert (page.status, "There is no" in page.text) == (404, True)


def test_pages_of_dead_letters(app, visitor):
    ids = [bury(app, "A") for _ in range(120)]
    found, path = [], "/sources/default/dead"
    while path:
        page = visitor.open(path)
        found += [row[""] for row in page.rows if row.get("Holds")]
        path = page.links.get("Older")
    assert sorted(found, key=int) == ids  # those of one millisecond are in the order of their bytes
    assert found[0] == ids[-1]
    assert visitor.open("/sources/default/dead?after=nonsense").status == 400


def test_filters_of_dead_letters(app, visitor):
    bury(app, "A", words="bad TIMESTAMP")
    other = bury(app, "B", reason="HTTP 413 Payload Too Large")

    def shown(**fill):
        page = visitor.press(visitor.open("/sources/default/dead"), "Filter", fill=fill)
        assert page.status_code == 200, page.text
        return page.text

    assert "bad TIMESTAMP" in shown(reason="timestamp")
    assert f'value="{other}"' not in shown(reason="timestamp")
    assert "None matches" in shown(until="1h")
    assert f'value="{other}"' in shown(since="1h", reason="413")
    assert 'value="413"' in shown(reason="413")
    page = visitor.open("/sources/default/dead?since=yesterday")
    assert (page.status, "neither a time such as" in page.text) == (400, True)


def test_many_groups_are_shown_when_they_are_asked_for(app, visitor):
    for n in range(25):
        bury(app, f"Event {n}")
    page = visitor.open("/sources/default/dead")
    assert len([row for row in page.rows if "Kind" in row]) == 20
    page = visitor.open(page.links["All 25 groups"])
    assert len([row for row in page.rows if "Kind" in row]) == 25


def test_while_calls_are_captured(app, segment_outbox):  # noqa: ARG001 - it captures them
    visitor = visitor_of(app)
    store(app, "A")
    assert visitor.open("/").row("default")["Waiting"] == "0"
    assert "Shards" not in visitor.open("/sources/default").text
    assert "There is none." in visitor.open("/sources/default/dead").text


def test_no_redis_at_all():
    app = new_app({"broker_url": "redis://127.0.0.1:1/0", "segment_host": "http://127.0.0.1:1"})
    visitor = visitor_of(app)
    for path in ("/", "/sources/default", "/sources/default/dead", "/sources/default/dead/1"):
        page = visitor.open(path)
        assert page.status == 503
        assert "Redis" in page.text
        assert "Traceback" not in page.source
        assert 'id="unavailable" data-live' in page.source
    for action in ("pause", "resume", "flush", "replay", "purge"):
        assert visitor.post(f"/sources/default/{action}", all="1").status_code == 503
    assert visitor.open("/workers").status == 200


def test_redis_goes_and_comes_back():
    with EmbeddedRedis() as server:
        app = new_app({"broker_url": server.url, "segment_host": "http://127.0.0.1:1"})
        visitor = visitor_of(app)
        assert visitor.open("/").status == 200
        server.stop()
        assert visitor.open("/").status == 503
        server.start()
        assert wait_until(lambda: visitor.open("/").status == 200)
