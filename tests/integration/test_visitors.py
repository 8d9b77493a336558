"""The visitor of a call is that of the place where it is made: a block, a thread, no worker."""

from __future__ import annotations

import threading
from contextvars import copy_context
from types import SimpleNamespace

from celery_segment import Analytics, identify, track
from celery_segment.visitor import acting, current_visitor
from support import stored

VISITOR = SimpleNamespace(
    user_id=7, anonymous_id="a1", context={"ip": "192.0.2.1", "locale": "de", "app": "visitor's"}
)


def test_a_batch_keeps_each_calls_visitor(make_app, redis):
    make_app()
    with Analytics().batch():
        with acting(VISITOR):
            track.delay(event="A")
        track.delay("u", "B")
    a, b = stored(redis)
    assert a["userId"] == "7"
    assert list(b["context"]) == ["library"]


def test_threads_have_none_but_in_a_copied_context(make_app, redis):
    make_app()

    def run(target):
        thread = threading.Thread(target=target)
        thread.start()
        thread.join()

    with acting(VISITOR):
        run(lambda: track.delay("u", "alone"))
        context = copy_context()
        run(lambda: context.run(track.delay, event="copied"))
    alone, copied = stored(redis)
    assert "ip" not in alone["context"]
    assert (copied["userId"], copied["context"]["ip"]) == ("7", "192.0.2.1")


def test_what_travels_through_the_broker_has_what_the_call_had(make_app, server, workers):
    app = make_app(segment_flush_interval=0.3)
    workers.start(app)
    with acting(VISITOR):
        track.apply_async((), {"event": "E"}, countdown=0.1)
        identify.apply_async(("other", {"a": 1}), countdown=0.1)
    assert server.wait_for_messages(2, timeout=15)
    by_type = {m["type"]: m for m in server.messages}
    assert by_type["track"]["context"]["ip"] == "192.0.2.1"
    assert (by_type["track"]["userId"], by_type["track"]["anonymousId"]) == ("7", "a1")
    assert list(by_type["identify"]["context"]) == ["library"]


def redact(message):
    del message["context"]["ip"]
    return message


def test_an_eager_task_adds_nothing_to_what_the_hook_left(make_app, server):
    make_app(task_always_eager=True, segment_before_send=redact)
    with acting(VISITOR):
        track.delay(event="E")
    (message,) = server.messages
    assert "ip" not in message["context"]
    assert message["context"]["locale"] == "de"


def test_the_block_within_a_block():
    with acting(VISITOR):
        with acting(None):
            assert current_visitor() is None
        assert current_visitor() is VISITOR
    assert current_visitor() is None
