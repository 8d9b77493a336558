"""What is called once a message or a batch is settled, by real workers."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys

import pytest
from celery.exceptions import TimeoutError as CeleryTimeoutError

import callbacktasks
from celery_segment import (
    Analytics,
    ConfigurationError,
    DeliveryFailed,
    SettledBatch,
    ValidationError,
    track,
)
from celery_segment.delivery.attempt import attempt_delivery
from celery_segment.signals import (
    batch_delivered,
    batch_failed,
    batch_retried,
    messages_dropped,
)
from celery_segment.testing import EmbeddedRedis, Reply, SegmentServer
from celery_segment.worker import callbacks
from support import DEFAULTS, TESTS, buffer_of, wait_until

FAST = {"segment_flush_interval": 0.3, "imports": ["celery_segment", "callbacktasks"]}
LINK = {"link": callbacktasks.delivered.s(), "link_error": callbacktasks.failed.s()}
SHORT = {**FAST, "segment_lease": 2.0, "segment_timeout": 1.0}


def bad(message):
    return message["event"] == "bad"


@pytest.fixture
def noted(redis):
    def noted(name):
        return [entry.decode() for entry in redis.lrange(name, 0, -1)]

    return noted


class TestPerMessage:
    def test_link_is_called_after_the_delivery_and_not_before(self, make_app, workers, noted):
        app = make_app(**FAST)
        Analytics().pause()
        workers.start(app)
        result = track.apply_async(("u", "E"), **LINK)
        track.delay("u", "another")
        assert Analytics().flush(1) == 2
        assert noted("delivered") == []
        Analytics().resume()
        wait_until(lambda: noted("delivered"))
        assert Analytics().flush(5) == 0
        assert noted("delivered") == [result.id]
        assert noted("failed") == []

    def test_link_error_is_called_when_it_is_given_up_and_link_after_a_replay(
        self, make_app, server, workers, noted
    ):
        server.fail_messages(bad)
        workers.start(make_app(**FAST))
        errbacks = [callbacktasks.failed.s(), callbacktasks.failed_inline.s()]
        with Analytics().batch():
            good = track.apply_async(("u", "good"), **{**LINK, "link_error": errbacks})
            doomed = track.apply_async(("u", "bad"), **{**LINK, "link_error": errbacks})
        wait_until(lambda: noted("failed") and noted("failed_inline") and noted("delivered"))
        assert noted("failed") == [doomed.id]
        (inline,) = noted("failed_inline")
        assert inline == f"{doomed.id} DeliveryFailed 400 Bad Request"
        assert noted("delivered") == [good.id]
        server.restore()
        assert Analytics().dead_letters.replay() == 1
        wait_until(lambda: len(noted("delivered")) == 2)
        assert noted("delivered") == [good.id, doomed.id]

    @pytest.mark.parametrize("way", ["countdown", "signature", "batch", "source"])
    def test_however_the_call_is_made(self, make_app, workers, noted, way):
        app = make_app(**FAST, segment_sources={"second": {"write_key": "k2"}})
        workers.start(app)
        if way == "countdown":
            result = track.apply_async(("u", "E"), **LINK, countdown=0.5)
        elif way == "signature":
            result = track.s("u", "E").set(**LINK).apply_async()
        elif way == "source":
            result = Analytics("second").track.apply_async(("u", "E"), **LINK)
        else:
            with Analytics().batch():
                track.delay("u", "before")
                result = track.apply_async(("u", "E"), **LINK)
        wait_until(lambda: noted("delivered"))
        assert noted("delivered") == [result.id]

    def test_a_message_that_was_spilled_keeps_its_callbacks(
        self, make_app, redis_server, workers, tmp_path
    ):
        with EmbeddedRedis() as own:
            app = make_app(
                **FAST,
                broker_url=redis_server.url,
                segment_redis_url=own.url,
                segment_signing_key="k" * 32,
                segment_on_unavailable="spill",
                segment_spill_path=str(tmp_path / "spill"),
            )
            own.kill()
            result = track.apply_async(("u", "E"), **LINK)
            own.restart()
            workers.start(app)
            client = own.client()
            wait_until(lambda: client.llen("delivered"))
            assert client.lrange("delivered", 0, -1) == [result.id.encode()]
            client.close()

    def test_a_callback_that_fails_changes_nothing(self, make_app, server, workers, noted):
        worker = workers.start(
            make_app(**FAST, segment_on_delivered=callbacktasks.__name__ + ".hear_and_break")
        )
        breaks = callbacktasks.breaks.s()
        track.apply_async(("u", "E"), link=[breaks, callbacktasks.delivered.s()])
        wait_until(lambda: noted("delivered") and noted("heard") and noted("breaks"))
        assert Analytics().flush(5) == 0
        assert Analytics().stats().delivered.messages == 1
        assert server.duplicates == 0
        assert "a callback failed; the delivery stands" in worker.output

    def test_callbacks_that_a_killed_worker_left_are_called_by_another(
        self, make_app, server, workers, noted, redis
    ):
        app = make_app(**SHORT)
        result = track.apply_async(("u", "E"), **LINK)
        run_until_called(app)
        assert noted("delivered") == []
        assert Analytics().stats().delivered.messages == 1
        workers.start(app)
        wait_until(lambda: noted("delivered"), SHORT["segment_lease"] + 10)
        assert noted("delivered") == [result.id]
        assert len(server.requests) == 1
        wait_until(lambda: not redis.keys("{segment:default}:settled*"))

    def test_callbacks_wait_for_a_broker_that_is_away(
        self, make_app, server, redis, redis_server, workers, noted
    ):
        with EmbeddedRedis() as broker:
            app = make_app(
                **SHORT,
                broker_url=broker.url,
                segment_redis_url=redis_server.url,
                segment_allowed_callbacks=["tests.delivered", "tests.failed"],
            )
            result = track.apply_async(("u", "E"), **LINK)
            buffer = buffer_of(app)
            (batch,) = buffer.claim(1)
            broker.kill()
            app.conf.task_publish_retry = False
            report = attempt_delivery(buffer, batch.id)
            callbacks.run(app, buffer, report.settled)
            assert redis.zcard("{segment:default}:settled") == 1
            broker.restart()
            app.conf.task_publish_retry = True
            workers.start(app)
            wait_until(lambda: noted("delivered"))
            assert noted("delivered") == [result.id]
            assert len(server.requests) == 1

    def test_a_result_backend_that_is_away_loses_no_receipt_and_calls_nothing_twice(
        self, make_app, server, workers, noted
    ):
        with EmbeddedRedis() as backend:
            app = make_app(
                **{**SHORT, "segment_on_failed": "callbacktasks.hear"},
                result_backend=backend.url,
                result_backend_transport_options={"retry_policy": {"max_retries": 0}},
            )
            server.fail_messages(bad)
            results = [
                track.apply_async(("u", "bad"), ignore_result=False, **LINK) for _ in range(3)
            ]
            backend.kill()
            workers.start(app)
            wait_until(lambda: len(noted("failed")) == 3 and len(noted("heard")) == 3, 30)
            backend.restart()
            for result in results:
                with pytest.raises(DeliveryFailed):
                    result.get(timeout=20)
            assert sorted(noted("failed")) == sorted(result.id for result in results)
            assert len(noted("heard")) == 3

    def test_one_that_does_not_decode_is_dropped_alone(
        self, make_app, redis, workers, noted, caplog
    ):
        app = make_app(**SHORT)
        buffer = buffer_of(app)
        with Analytics().batch():
            for number in range(3):
                track.apply_async(("u", f"E{number}"), **LINK)
        redis.hset("{segment:default}:callbacks", "2", "s3cr3t no JSON")
        (batch,) = buffer.claim(1)
        settled = attempt_delivery(buffer, batch.id).settled
        callbacks.run(app, buffer, settled)
        assert redis.keys("{segment:default}:settled*") == []
        assert "cannot be decoded" in caplog.text
        assert "s3cr3t" not in caplog.text
        workers.start(app)
        wait_until(lambda: len(noted("delivered")) == 2)

    def test_a_signature_that_has_no_json_form_is_refused(self, make_app):
        make_app(**FAST)
        with pytest.raises(ValidationError, match="link: an argument of a callback"):
            track.apply_async(("u", "E"), link=callbacktasks.delivered.s(object()))
        assert Analytics().stats().accepted == 0

    def test_under_task_always_eager(self, make_app, server, noted):
        make_app(**FAST, task_always_eager=True)
        server.fail_messages(bad)
        good = track.apply_async(("u", "good"), **LINK)
        doomed = track.apply_async(("u", "bad"), **LINK)
        assert noted("delivered") == [good.id]
        assert noted("failed") == [doomed.id]


class TestPerBatch:
    @pytest.mark.parametrize(
        ("hook", "name", "delivered", "dead"),
        [
            ("tests.told", "told", "default 1.1 1 True None", "default 1.2 1 True 400 Bad Request"),
            ("callbacktasks.hear", "heard", "default 1 None good", "default 1 400 Bad Request bad"),
        ],
    )
    def test_a_task_or_a_callable_is_told_of_each(
        self, make_app, server, workers, noted, hook, name, delivered, dead
    ):
        server.fail_messages(bad)
        workers.start(make_app(**FAST, segment_on_delivered=hook, segment_on_failed=hook))
        with Analytics().batch():
            track.delay("u", "good")
            track.delay("u", "bad")
        wait_until(lambda: len(noted(name)) == 2)
        assert sorted(noted(name), key=len) == sorted([delivered, dead], key=len)

    def test_a_source_may_have_its_own(self, make_app, workers, noted):
        sources = {"loud": {"write_key": "k", "on_delivered": "callbacktasks.hear"}}
        workers.start(make_app(**FAST, segment_sources=sources))
        track.delay("u", "quiet")
        Analytics("loud").track("u", "loud")
        wait_until(lambda: noted("heard"))
        assert Analytics().flush(5) == 0
        assert noted("heard") == ["loud 1 None loud"]

    def test_what_is_told_shows_no_payload(self):
        batch = SettledBatch("default", "7", 2, 99, None, b'{"event":"secret"},')
        assert "secret" not in repr(batch)
        assert batch.contents() == [{"event": "secret"}]

    def test_another_is_told_when_the_worker_was_killed(self, make_app, workers, noted):
        app = make_app(**SHORT, segment_on_delivered="callbacktasks.hear")
        track.delay("u", "E")
        run_until_called(app)
        workers.start(app)
        wait_until(lambda: noted("heard"), SHORT["segment_lease"] + 10)
        assert noted("heard") == ["default 1 None E"]

    def test_a_name_that_is_neither_stops_a_worker_at_its_start(self, make_app, workers):
        with pytest.raises(AssertionError, match="neither a registered task nor"):
            workers.start(make_app(**FAST), segment_on_failed="tests.nobody")


class TestReceipts:
    @pytest.fixture
    def app(self, make_app, redis_server):
        return make_app(**FAST, result_backend=redis_server.url)

    def test_a_receipt_waits_for_the_delivery(self, app, workers):
        Analytics().pause()
        workers.start(app)
        result = track.apply_async(("u", "E"), ignore_result=False)
        with pytest.raises(CeleryTimeoutError):
            result.get(timeout=1)
        Analytics().resume()
        assert result.get(timeout=10) == result.id
        assert Analytics().stats().delivered.messages == 1

    def test_a_receipt_raises_when_the_message_is_given_up(self, app, server, workers):
        server.fail_messages(bad)
        workers.start(app)
        result = track.apply_async(("u", "bad"), ignore_result=False)
        with pytest.raises(DeliveryFailed, match="400 Bad Request"):
            result.get(timeout=10)

    def test_a_receipt_raises_when_the_person_is_forgotten(self, app, workers, noted):
        Analytics().pause()
        result = track.apply_async(("u", "E"), ignore_result=False, **LINK)
        other = track.apply_async(("another", "E"), ignore_result=False)
        assert Analytics().forget(user_id="u").waiting == 1
        workers.start(app)
        with pytest.raises(DeliveryFailed, match="forgotten: an operator deleted the messages"):
            result.get(timeout=20)
        wait_until(lambda: noted("failed") == [result.id])
        Analytics().resume()
        assert other.get(timeout=20) == other.id
        assert noted("delivered") == []

    def test_a_call_through_the_broker_has_one_too(self, app, workers):
        workers.start(app)
        result = track.apply_async(("u", "E"), ignore_result=False, countdown=0.2)
        assert result.get(timeout=10) == result.id
        assert Analytics().stats().delivered.messages == 1

    def test_without_a_backend_it_is_refused(self, make_app):
        make_app(**FAST)
        with pytest.raises(ConfigurationError, match="set result_backend"):
            track.apply_async(("u", "E"), ignore_result=False)
        assert Analytics().stats().accepted == 0

    def test_other_calls_leave_nothing_in_the_backend(self, app, redis, workers):
        workers.start(app)
        track.delay("u", "E")
        track.apply_async(("u", "E"), countdown=0.1)
        wait_until(lambda: Analytics().stats().delivered.messages == 2)
        assert redis.keys("celery-task-meta-*") == []


def test_signals_tell_what_happened(make_app, server):
    app = make_app(segment_on_full="drop", segment_max_buffer_bytes=100_000)
    heard = []

    def hear(signal, **told):
        told.pop("seconds", None)
        heard.append((signal.name, told))

    signals = (batch_delivered, batch_retried, batch_failed, messages_dropped)
    for each in signals:
        each.connect(hear, weak=False, sender="default")
        each.connect(hear, weak=False, sender="another")
    try:
        track.delay("u", "E")
        server.reply(Reply.status(500))
        buffer = buffer_of(app)
        (batch,) = buffer.claim(1)
        attempt_delivery(buffer, batch.id)
        attempt_delivery(buffer, batch.id)
        server.fail_messages(lambda _: True)
        track.delay("u", "E")
        (batch2,) = buffer.claim(1)
        attempt_delivery(buffer, batch2.id)
        for _ in range(4):
            track.delay("u", "E", {"x": "y" * 30_000})
    finally:
        for each in signals:
            each.disconnect(sender="default", receiver=hear)
            each.disconnect(sender="another", receiver=hear)
    about = {"sender": "default", "batch": "1", "messages": 1, "bytes": batch.size}
    assert heard == [
        ("batch_retried", {**about, "cause": "500 Internal Server Error", "wait": 0.0}),
        ("batch_delivered", {**about, "status": 200}),
        (
            "batch_failed",
            {**about, "batch": "2", "bytes": batch2.size, "cause": "400 Bad Request"},
        ),
        ("messages_dropped", {"sender": "default", "reason": "full", "messages": 1}),
    ]


#: Delivers all that waits, and is killed where the callbacks would be called.
DOOMED = """
import json, os
from support import buffer_of, new_app
from celery_segment.delivery.attempt import attempt_delivery
from celery_segment.worker import callbacks
app = new_app(json.loads(os.environ["TESTS_CONF"]))
buffer = buffer_of(app)
for batch in buffer.claim(32):
    report = attempt_delivery(buffer, batch.id)
    callbacks._Runner.tries = lambda *_: os.kill(os.getpid(), 9)
    callbacks.run(app, buffer, report.settled)
"""


def run_until_called(app):
    conf = {k: v for k, v in app.conf.changes.items() if k.startswith(("segment_", "broker_"))}
    environ = {**os.environ, "PYTHONPATH": str(TESTS)}
    environ["TESTS_CONF"] = json.dumps({**DEFAULTS, **conf})
    done = subprocess.run([sys.executable, "-c", DOOMED], env=environ, check=False)
    assert done.returncode == -signal.SIGKILL


def test_callbacks_through_failures_and_kills(make_app, workers, noted, redis):
    """10,000 with SEGMENT_TEST_CALLBACKS."""
    number = int(os.environ.get("SEGMENT_TEST_CALLBACKS", "1000"))
    with SegmentServer() as server:
        app = make_app(**SHORT, segment_host=server.url, segment_max_batch_messages=100)
        server.fail_messages(bad)
        # What is called is Celery's: in the queue of a worker that nobody kills.
        link = {name: signature.clone().set(queue="callbacks") for name, signature in LINK.items()}
        workers.start(app, "-Q", "callbacks")
        running = [workers.start(app, "-Q", "celery") for _ in range(2)]
        events = {}
        for at in range(0, number, 100):
            with Analytics().batch():
                for n in range(at, at + 100):
                    event = "bad" if n % 250 == 7 else "good"
                    events[track.apply_async(("u", event), **link).id] = event
            if at % 500 == 200:
                server.reply(Reply.status(503), times=3)
                server.reply(Reply.accept_then_close())
                running.pop(0).kill()
                running.append(workers.start(app, "-Q", "celery"))
        good = {message_id for message_id, event in events.items() if event == "good"}

        def all_called():
            called = redis.llen("delivered") >= len(good) and set(noted("delivered")) >= good
            return called and events.keys() - good <= set(noted("failed"))

        wait_until(all_called, 120)
        assert Analytics().flush(20) == 0
        # At least once, and none for a message that was not settled so.
        assert set(noted("delivered")) == good
        assert set(noted("failed")) == events.keys() - good
        # One that the endpoint took without an answer may be among those it refused after.
        assert good <= set(server.received)
