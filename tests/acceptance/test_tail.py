"""`segment tail` beside real workers: what it shows is what was stored, once each."""

from __future__ import annotations

import json
import re
import signal
import subprocess
from contextlib import contextmanager

import pytest

import forking
from celery_segment import Analytics, identify, page, track
from commands import Terminal, command, environ
from support import WRITE_KEY, wait_until

EVIL = "\x1b[31mred\x1b]0;t\x07\x9b2J\r\nforged\u2028line\u202e<b>&bold</b>"


def arguments(*args):
    return ("-A", "workerapp", "segment", "tail", *args)


def settings(app):
    return {
        name: value
        for name, value in app.conf.changes.items()
        if name == "broker_url" or name.startswith("segment_")
    }


@contextmanager
def following(app, redis, tmp_path, *args):
    """Run the command; yield what ends it, and returns what it printed and said."""
    out, said = tmp_path / "out", tmp_path / "said"
    with out.open("w") as stdout, said.open("w") as stderr:
        environment = environ(**settings(app))
        process = forking.start(arguments(*args), environment, tmp_path, stdout, stderr)

    def end(until):
        wait_until(lambda: until in out.read_text(), message=said.read_text())
        process.send_signal(signal.SIGINT)
        assert process.wait(20) == 0
        return out.read_text(), said.read_text()

    try:
        wait_until(lambda: "following" in said.read_text(), message="it does not follow")
        assert redis.keys("*:tail")
        yield end
    finally:
        if process.poll() is None:
            process.kill()
        process.wait()


LAST = "the last one"


def last(source="default"):
    track.delay("u", LAST, message_id=LAST, source=source)


@pytest.mark.parametrize(
    "conf",
    [
        {},
        {"segment_shards": 3, "segment_namespace": "shop"},
        {"segment_max_batch_messages": 20},
    ],
    ids=["one", "shards in a namespace", "compressed"],
)
def test_each_message_that_is_delivered_is_shown_once(
    make_app, redis, server, workers, tmp_path, conf
):
    app = make_app(segment_flush_interval=0.2, segment_flush_at=1, **conf)
    before = track.delay("u", "E").id
    workers.start(app)
    analytics, ids = Analytics(app=app), set()
    with following(app, redis, tmp_path, "--json") as end:
        if "segment_max_batch_messages" in conf:
            analytics.pause()  # more than fifty batches that wait are compressed
            with analytics.batch():
                ids |= {track.delay("u", "Early", {"same": "s" * 99}).id for _ in range(1_200)}
            wait_until(lambda: analytics.stats().saved_bytes)
            analytics.resume()
        for n in range(20):
            ids |= {track.delay(f"u{n}", "Single").id for _ in range(50)}
            with analytics.batch():
                ids |= {track.delay(f"u{n}", "Several").id for _ in range(150)}
        assert analytics.flush(60) == 0
        last()
        out, said = end(LAST)
    shown = [json.loads(line) for line in out.splitlines()]
    assert said == "following default; Ctrl-C ends it\n"
    names = [each["messageId"] for each in shown if each["messageId"] != LAST]
    assert len(names) == len(set(names)) == len(ids) >= 4_000
    assert set(names) == ids
    assert analytics.flush(30) == 0
    assert {*server.received} == {*ids, LAST, before}
    assert all(0 < redis.pttl(key) <= 10_000 for key in redis.keys("*:tail*"))


class TestTexts:
    def test_lines_have_what_is_asked_for_and_no_payload(self, make_app, redis, tmp_path):
        app = make_app()
        with following(app, redis, tmp_path) as end:
            track.delay("u1", "Order Completed", {"card": "secret"}, message_id="m1")
            identify.delay(anonymous_id="a1", traits={"email": "secret"}, message_id="m2")
            page.delay("u2", name="Home", properties={"url": "secret"}, message_id="m3")
            last()
            out, said = end(LAST)
        rows = [re.split(r" {2,}", line) for line in out.splitlines()]
        assert [row[1:] for row in rows] == [
            ["default", "track", "Order Completed", "u1", "m1"],
            ["default", "identify", "-", "a1", "m2"],
            ["default", "page", "Home", "u2", "m3"],
            ["default", "track", LAST, "u", LAST],
        ]
        assert all(re.fullmatch(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d\.\d{3}", row[0]) for row in rows)
        assert "secret" not in out + said
        assert WRITE_KEY not in out + said

    @pytest.mark.parametrize("options", [(), ("--json",), ("--payload",), ("--json", "--payload")])
    def test_no_text_controls_a_terminal(self, make_app, redis, tmp_path, options):
        app = make_app()
        with following(app, redis, tmp_path, *options) as end:
            track.delay(EVIL, EVIL, {EVIL: EVIL}, message_id="m1")
            last()
            out, _ = end(LAST)
        assert all(line.isprintable() for line in out.splitlines()), ascii(out)
        if "--json" in options:
            first = json.loads(out.splitlines()[0])
            assert (first["event"], first["userId"]) == (EVIL, EVIL)
            if "--payload" in options:
                assert first["message"]["properties"] == {EVIL: EVIL}
        else:
            assert "<b>&bold</b>" in out
            assert ("properties" in out) == ("--payload" in options)

    def test_filters_and_sources(self, make_app, redis, tmp_path):
        app = make_app(segment_sources={"marketing": {"write_key": "k"}})
        options = ("--source", "marketing", "--type", "track", "--event", LAST, "--event", "A")
        with following(app, redis, tmp_path, *options, "--user", "u") as end:
            for source in ("default", "marketing"):
                for event in "AB":
                    for user in "uv":
                        track.delay(user, event, source=source)
            last("marketing")
            out, said = end(LAST)
        rows = [re.split(r" {2,}", line)[1:5] for line in out.splitlines()]
        assert rows == [
            ["marketing", "track", "A", "u"],
            ["marketing", "track", LAST, "u"],
        ]
        assert said == "following marketing; Ctrl-C ends it\n"

    def test_a_terminal_has_colours(self, make_app, tmp_path):
        app = make_app()
        with Terminal(arguments(), environ(**settings(app)), tmp_path) as terminal:
            terminal.read("Ctrl-C ends it")
            track.delay("u1", "Order Completed")
            assert "\x1b[1mOrder Completed" in terminal.read("u1")
            terminal.process.send_signal(signal.SIGINT)
            assert terminal.process.wait(20) == 0

    def test_what_it_is_piped_into_may_end(self, make_app, redis, tmp_path):
        app = make_app()
        process = subprocess.Popen(
            command(*arguments()),
            env=environ(**settings(app)),
            cwd=tmp_path,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        with process:
            wait_until(lambda: redis.keys("*:tail"))
            process.stdout.close()
            track.delay("u1", "E")
            _, said = process.communicate(timeout=20)
        assert "Traceback" not in said
