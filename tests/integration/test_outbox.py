"""The outbox of a test: what comes there, what it asserts, and how it tells a failure."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from decimal import Decimal
from types import MappingProxyType
from uuid import UUID

import celery
import pytest
from prometheus_client import CollectorRegistry

from celery_segment import (
    Analytics,
    ConfigurationError,
    Gate,
    ValidationError,
    alias,
    analytics,
    group,
    identify,
    page,
    screen,
    track,
)
from celery_segment.buffer import Latency
from celery_segment.contrib.prometheus import Collector
from celery_segment.operations.admin import admin_of
from celery_segment.runtime import runtime_of
from celery_segment.testing import Outbox
from celery_segment.visitor import acting
from support import PYTEST, drops, free_port, new_app, stored


@pytest.fixture
def nowhere():
    """An application whose broker and Redis are not there."""
    url = f"redis://127.0.0.1:{free_port()}/0"
    app = new_app({"broker_url": url, "broker_connection_retry": False})
    app.set_current()
    app.set_default()
    yield app
    app.close()


@pytest.mark.usefixtures("nowhere")
class TestWithoutRedisAndBroker:
    def test_every_way_of_calling(self, segment_outbox, caplog):
        track.delay("u", "delay")
        track("u", "call")
        track.apply_async(("u", "apply_async"), link=track.s("u", "link"))
        track.apply_async(("u", "countdown"), countdown=3_600)
        track.apply_async(("u", "queue"), queue="slow", expires=5)
        track.apply(("u", "apply"))
        track.s("u", "signature").delay()
        celery.group(track.s("u", f"group{n}") for n in range(2)).delay()
        Analytics().track.delay("u", "bound")
        with Analytics().batch():
            track.delay("u", "batch")
            segment_outbox.assert_tracked("batch")
        analytics.Client(source="default").track("u", "drop-in")
        thread = threading.Thread(target=track.delay, args=("u", "thread"))
        thread.start()
        thread.join()
        assert [m["event"] for m in segment_outbox] == [
            *("delay", "call", "apply_async", "countdown", "queue", "apply", "signature"),
            *("group0", "group1", "bound", "batch", "drop-in", "thread"),
        ]
        assert not caplog.records, "a worker was to be woken"

    def test_a_call_returns_as_ever(self, segment_outbox):
        result = track.delay("u", "E")
        later = track.apply_async(("u", "E"), countdown=60)
        assert [result.id, later.id] == [m["messageId"] for m in segment_outbox]
        assert result.get(timeout=5) == result.id
        later.revoke()

    def test_a_receipt_and_a_flush_are_done_at_once(self, nowhere, segment_outbox):
        receipt = track.apply_async(("u", "E"), ignore_result=False)
        assert receipt.get(timeout=5) == segment_outbox[0]["messageId"]
        started = time.monotonic()
        assert Analytics(app=nowhere).flush(timeout=5) == 0
        assert time.monotonic() - started < 1

    def test_a_source_is_empty_and_no_operation_reaches_redis(self, nowhere, segment_outbox):
        shop = Analytics(app=nowhere)
        track.delay("u", "E")
        assert shop.stats().waiting == shop.stats().accepted == 0
        assert (shop.stats().dropped, shop.stats().gate) == (drops(), Gate())
        assert (shop.pause(), shop.resume(), shop.deliver(timeout=5)) == (True, 0.0, 0)
        assert shop.move_from("old") == 0
        assert shop.stats().latency == Latency()
        assert admin_of(runtime_of(nowhere), "default").history(24) == []
        letters = shop.dead_letters
        assert ("1" in letters, list(letters), letters.messages("1")) == (False, [], [])
        assert (letters.replay(), letters.purge(["1"])) == (0, 0)
        registry = CollectorRegistry()
        registry.register(Collector(nowhere))
        assert registry.get_sample_value("segment_up", {"source": "default"}) == 1
        segment_outbox.assert_tracked("E")

    def test_what_is_refused_is_refused(self, segment_outbox):
        with pytest.raises(ValidationError, match="event: is required"):
            track.delay("u")
        with pytest.raises(ConfigurationError, match="'nope'"):
            track.delay("u", "E", source="nope")
        segment_outbox.assert_nothing()

    def test_an_outbox_within_an_outbox(self, segment_outbox):
        track.delay("u", "A")
        with Outbox() as inner:
            track.delay("u", "B")
        track.delay("u", "C")
        assert [m["event"] for m in inner] == ["B"]
        assert [m["event"] for m in segment_outbox] == ["A", "C"]


class Nobody:
    """A visitor of whom nothing is known."""

    user_id = anonymous_id = None
    context = MappingProxyType({})

    def new_anonymous_id(self):
        return None


class TestDroppedCalls:
    @pytest.fixture
    def dropping(self, nowhere):
        nowhere.conf.update(
            segment_on_invalid="log",
            segment_before_send=lambda m: None if m["event"] == "Dropped" else m,
        )

    def test_they_are_hinted_at(self, dropping, segment_outbox):  # noqa: ARG002
        with acting(Nobody()):
            track.delay(event="E", properties={"secret": "s3cr3t"})
        for _ in range(2):  # logged once
            track.delay("u")
        track.delay("u", "Dropped")
        with pytest.raises(AssertionError, match="there is no track 'E'") as caught:
            segment_outbox.assert_tracked("E")
        text = str(caught.value)
        assert repr(segment_outbox).startswith("<Outbox: nothing\n4 calls are dropped:\n")
        assert text.partition(":\n    ")[0].endswith(
            "messages of this test: nothing\n4 calls are dropped"
        )
        identity, once, again, hook = text.splitlines()[-4:]
        assert identity.startswith(f"    track at {__file__}:")
        assert identity.endswith("is dropped: the visitor has no id: see segment_set_anonymous_id")
        assert "is dropped: event: is required by track" in once
        assert once == again
        assert hook == "    track is dropped: segment_before_send returned None"
        assert "s3cr3t" not in text
        segment_outbox.clear()
        assert repr(segment_outbox) == "<Outbox: nothing>"

    def test_a_test_that_has_what_it_expects_is_not_bothered(self, dropping, segment_outbox):  # noqa: ARG002
        track.delay("u")
        segment_outbox.assert_nothing()
        track.delay("u", "E")
        segment_outbox.assert_tracked("E")

    def test_those_of_an_outer_outbox_are_its_own(self, dropping, segment_outbox):  # noqa: ARG002
        with Outbox() as inner:
            track.delay("u")
        assert "1 call is dropped:" in repr(inner)
        assert "dropped" not in repr(segment_outbox)


class TestConfigurations:
    def test_defaults_and_hook_are_applied(self, nowhere, segment_outbox):
        nowhere.conf.update(
            segment_context={"app": "shop"},
            segment_before_send=lambda m: None if m["event"] == "Dropped" else m,
            segment_sources={"b": {"context": {"app": "other"}}},
        )
        track.delay("u", "A")
        track.delay("u", "Dropped")
        track.delay("u", "B", source="b")
        assert [(m["event"], m.source, m["context"]["app"]) for m in segment_outbox] == [
            ("A", "default", "shop"),
            ("B", "b", "other"),
        ]

    @pytest.mark.parametrize(
        "conf",
        [
            {"segment_enabled": False},
            {"task_always_eager": True},
            {"broker_url": "amqp://127.0.0.1:1//"},
        ],
    )
    def test_whatever_the_configuration_is(self, nowhere, segment_outbox, conf):
        nowhere.conf.update(conf)
        track.delay("u", "A")
        track.apply_async(("u", "B"), countdown=60)
        track.apply(("u", "C"))
        assert [m["event"] for m in segment_outbox] == ["A", "B", "C"]

    def test_a_chain_goes_on_where_celery_is_eager(self, nowhere, segment_outbox):
        nowhere.conf.task_always_eager = True
        (track.s("u", "first") | identify.si("u", {"a": 1})).delay()
        assert [m["type"] for m in segment_outbox] == ["track", "identify"]

    def test_after_it_messages_are_stored_again(self, make_app, redis):
        make_app()
        with Outbox():
            track.delay("u", "A")
        track.delay("u", "B")
        assert [m["event"] for m in stored(redis)] == ["B"]


@pytest.mark.usefixtures("nowhere")
class TestAssertions:
    @pytest.fixture
    def outbox(self, segment_outbox):
        identify.delay(7, {"plan": "free", "address": {"city": "Bern"}})
        track.delay(7, "Order Completed", {"total": Decimal("39.95"), "items": [1, 2]})
        track.delay(7, "Order Completed", {"total": 5, "coupon": None}, {"ip": "192.0.2.1"})
        track.delay(anonymous_id=UUID(int=1), event="Item Viewed")
        page.delay(7, "Docs", "Start")
        screen.delay(7, name="Home")
        group.delay(7, UUID(int=2), {"name": "Initech"})
        alias.delay("old", 7)
        return segment_outbox

    def test_what_is_there(self, outbox):
        assert len(outbox) == 8
        assert len(outbox.tracked()) == 3
        assert [m["properties"]["total"] for m in outbox.tracked("Order Completed")] == [39.95, 5]
        assert outbox.tracked("Order Refunded") == []
        assert outbox.identified(7) == outbox.identified() == [outbox[0]]
        assert outbox.identified(8) == []
        assert [m["name"] for m in outbox.of_type("page")] == ["Start"]
        outbox.clear()
        outbox.assert_nothing()
        assert list(outbox) == []

    @pytest.mark.parametrize(
        ("type_", "expected", "place"),
        [
            ("track", {"event": "Order Completed"}, 1),
            ("track", {"event": "Order Completed", "properties": {"total": Decimal("39.95")}}, 1),
            ("track", {"properties": {"items": (1, 2)}}, 1),
            ("track", {"properties": {"total": 5, "coupon": None}}, 2),
            ("track", {"context": {"ip": "192.0.2.1"}}, 2),
            ("track", {"anonymous_id": UUID(int=1)}, 3),
            ("track", {"user_id": None, "source": "default"}, 3),
            ("identify", {"user_id": 7, "traits": {"address": {"city": "Bern"}}}, 0),
            ("page", {"category": "Docs"}, 4),
            ("screen", {"name": "Home"}, 5),
            ("group", {"group_id": UUID(int=2)}, 6),
            ("alias", {"previous_id": "old", "user_id": "7"}, 7),
        ],
    )
    def test_what_is_as_expected(self, outbox, type_, expected, place):
        assert outbox.assert_sent(type_, **expected) is outbox[place]

    def test_by_name(self, outbox):
        assert outbox.assert_tracked("Order Completed", properties={"total": 5}) is outbox[2]
        assert outbox.assert_identified(7, traits={"plan": "free"}) is outbox[0]

    @pytest.mark.parametrize(
        ("type_", "expected", "lines"),
        [
            (
                "track",
                {"event": "Order Completed", "properties": {"total": 40}},
                [
                    "no track 'Order Completed' matches; the closest one differs:",
                    "    properties.total: expected 40, was 39.95",
                ],
            ),
            (
                "track",
                {"event": "Order Completed", "user_id": 7, "properties": {"coupon": "X"}},
                [
                    "no track 'Order Completed' matches; the closest one differs:",
                    "    properties.coupon: expected 'X', was not given",
                ],
            ),
            (
                "identify",
                {"user_id": 8, "traits": {"plan": "free", "address": {"city": "Genf"}}},
                [
                    "no identify matches; the closest one differs:",
                    "    user_id: expected '8', was '7'",
                    "    traits.address.city: expected 'Genf', was 'Bern'",
                ],
            ),
            (
                "track",
                {"event": "Order Complete"},
                ["there is no track 'Order Complete'; did you mean 'Order Completed'?"],
            ),
            ("track", {"event": "Signed Up"}, ["there is no track 'Signed Up'"]),
        ],
    )
    def test_what_is_not_is_told_with_the_nearest(self, outbox, type_, expected, lines):
        with pytest.raises(AssertionError) as caught:
            outbox.assert_sent(type_, **expected)
        told = str(caught.value).splitlines()
        assert told[: len(lines)] == lines
        assert told[len(lines) :] == [
            "messages of this test:",
            "    1. identify userId='7' {'plan': 'free', 'address': {'city': 'Bern'}}",
            "    2. track 'Order Completed' userId='7' {'total': 39.95, 'items': [1, 2]}",
            "    3. track 'Order Completed' userId='7' {'total': 5, 'coupon': None}",
            "    4. track 'Item Viewed' anonymousId='00000000-0000-0000-0000-000000000001'",
            "    5. page 'Docs' 'Start' userId='7'",
            "    6. screen 'Home' userId='7'",
            "    7. group '00000000-0000-0000-0000-000000000002' userId='7' {'name': 'Initech'}",
            "    8. alias 'old' userId='7'",
        ]

    def test_a_long_list_is_cut(self, segment_outbox):
        for number in range(30):
            track.delay("u", f"E{number}", {"text": "x" * 300})
        with pytest.raises(AssertionError) as caught:
            segment_outbox.assert_nothing()
        lines = str(caught.value).splitlines()
        assert lines[0] == "expected no messages, but there are:"
        assert lines[-1] == "    and 10 more"
        assert max(map(len, lines)) < 200

    def test_a_misspelt_argument_is_no_expectation(self, outbox):
        with pytest.raises(
            TypeError,
            match=r"'propertes' is not an argument of track; its arguments are .*, source",
        ):
            outbox.assert_tracked("Order Completed", propertes={})


TESTS_OF_A_USER = """
from celery_segment import track

def test_right(segment_outbox):
    track.delay("u", "Order Completed", {"total": 5})
    segment_outbox.assert_tracked("Order Completed", properties={"total": 5})

def test_wrong(segment_outbox):
    segment_outbox.assert_nothing()
    track.delay("u", "Order Complete")
    segment_outbox.assert_tracked("Order Completed")
"""
#: Its application has no Redis: a call that is stored fails.
CAPTURED = """
import os, subprocess, sys
import pytest
from celery import Celery

app = Celery("shop", broker="redis://127.0.0.1:1/0")
app.set_default()
CALL = "from celery_segment import track; track.delay('u', 'E')"

def test_captured():
    exec(CALL)

@pytest.mark.segment_buffer
def test_marked():
    from celery_segment import BufferUnavailable
    with pytest.raises(BufferUnavailable):
        exec(CALL)
    assert child() != 0

def test_captured_again():
    exec(CALL)
    assert child() == 0

@pytest.fixture(scope="session")
def outbox_of_all():
    from celery_segment.testing import Outbox
    with Outbox() as outbox:
        yield outbox

@pytest.mark.segment_buffer
def test_an_outbox_wins(outbox_of_all):
    exec(CALL)
    assert len(outbox_of_all) == 1

def child():
    program = "from celery import Celery; Celery('shop', broker='redis://127.0.0.1:1/0'); "
    return subprocess.run([sys.executable, "-c", program + CALL], stderr=-3).returncode
"""
#: Fails where the collection, or the test without the fixture, has loaded Celery.
LIGHT = """
import sys

loaded = {"celery", "celery_segment"} & set(sys.modules)

def test_light():
    assert not loaded | {"celery", "celery_segment"} & set(sys.modules)
"""


def run_pytest(folder, text):
    (folder / "test_it.py").write_text(text)
    command = [*PYTEST, "-q", str(folder)]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False).stdout


#: Two calls of an application that has no Redis, in a program, and in a test of unittest.
PROGRAM = """
from celery import Celery
from celery_segment import track

app = Celery("shop", broker="redis://127.0.0.1:1/0")
app.set_default()

def call():
    track.delay("u", "E")
    track.delay("u", "E")
"""
IN_A_THREAD = """
import threading, unittest

class TestShop(unittest.TestCase):
    def test_it(self):
        from program import call
        thread = threading.Thread(target=call)
        thread.start()
        thread.join()

if __name__ == "__main__":
    unittest.main()
"""


class TestOutsideOfPytest:
    @pytest.fixture
    def run(self, tmp_path):
        """Run a program that has the two calls, as if no test of pytest's did."""
        (tmp_path / "program.py").write_text(PROGRAM)
        (tmp_path / "test_shop.py").write_text(IN_A_THREAD)

        def run(*command, **environ):
            plain = {
                k: v for k, v in os.environ.items() if not k.startswith(("PYTEST_", "SEGMENT_"))
            }
            command, env = [sys.executable, *command], {**plain, **environ}
            return subprocess.run(
                command, env=env, cwd=tmp_path, stderr=subprocess.PIPE, text=True, check=False
            )

        return run

    def test_a_process_that_captures_for_no_test_says_so_once(self, run):
        done = run("-c", "import program; program.call()", SEGMENT_CAPTURE="1")
        assert done.returncode == 0
        assert done.stderr == (
            "SEGMENT_CAPTURE is 1, and no tests run: calls are captured as in tests, and never"
            " delivered; remove it from the environment\n"
        )

    def test_a_test_says_nothing(self, run):
        done = run("test_shop.py", SEGMENT_CAPTURE="1")
        assert done.stderr.endswith("OK\n")
        assert "SEGMENT_CAPTURE" not in done.stderr

    def test_unittest_captures_by_itself(self, run):
        done = run("-m", "unittest", "-q")
        assert done.stderr.endswith("OK\n")
        assert "SEGMENT_CAPTURE" not in done.stderr
        # A call that is stored fails in its thread, for there is no Redis.
        assert "BufferUnavailable" in run("-m", "unittest", SEGMENT_CAPTURE="0").stderr


class TestThePlugin:
    def test_the_fixture_is_there_and_a_failure_points_at_the_tests_line(self, tmp_path):
        output = run_pytest(tmp_path, TESTS_OF_A_USER)
        assert "1 failed, 1 passed" in output
        assert "AssertionError: there is no track 'Order Completed'; did you mean" in output
        assert '>       segment_outbox.assert_tracked("Order Completed")' in output
        assert "testing/outbox.py" not in output

    def test_calls_are_captured_but_in_tests_that_are_marked(self, tmp_path):
        assert "4 passed" in run_pytest(tmp_path, CAPTURED)

    def test_it_loads_nothing_before_the_fixture_is_used(self, tmp_path):
        assert "1 passed" in run_pytest(tmp_path, LIGHT)
