"""Settings and base classes of a project that would change this library's tasks."""

from __future__ import annotations

import pytest

import hostapp
from celery_segment import Analytics, track
from celery_segment.operations.health import check_all
from celery_segment.runtime import runtime_of
from celery_segment.testing import Reply
from support import wait_until
from taskevents import listening

#: Seconds that the endpoint takes for a request; above every limit below.
SLOW = 3.0
ANNOTATIONS = {
    name: value
    for name, value in vars(hostapp.Base).items()
    if not name.startswith("_") and name not in ("autoretry_for", "throws", "app", "run")
}
#: Ways to give each task of a project such options.
WAYS = {
    "settings": ({"task_time_limit": 1, "task_soft_time_limit": 1}, ()),
    "annotations": ({"task_annotations": {"*": {"time_limit": 1, "soft_time_limit": 1}}}, ()),
    "command line": ({}, ("--time-limit", "1", "--soft-time-limit", "1")),
}


@pytest.mark.parametrize("accepted", ["pickle", "msgpack"])
def test_a_worker_that_accepts_no_json_says_which_setting_to_change(make_app, workers, accepted):
    app = make_app(accept_content=[accepted], task_serializer=accepted)
    with pytest.raises(AssertionError, match="add 'json' to accept_content"):
        workers.start(app, environ={"C_FORCE_ROOT": "1"})


def test_check_says_so_as_well(make_app):
    app = make_app(accept_content=["pickle"])
    sources = list(runtime_of(app).settings.enabled)
    found = {each.check: each for each in check_all(app, sources, ask_endpoints=False)}
    assert found["tasks"].state == "fail"
    assert "add 'json' to accept_content" in found["tasks"].hint


def test_a_worker_that_accepts_json_too_delivers(make_app, workers):
    app = make_app(accept_content=["pickle", "application/json"], task_serializer="pickle")
    workers.start(app, environ={"C_FORCE_ROOT": "1"})
    track.delay("u", "E")
    track.apply_async(("u", "later"), countdown=0.1, serializer="pickle")
    wait_until(lambda: Analytics().stats().delivered.messages == 2)


@pytest.mark.parametrize("way", WAYS)
def test_no_time_limit_ends_an_attempt(make_app, server, workers, way):
    conf, options = WAYS[way]
    app = make_app(**conf, segment_timeout=6.0, segment_lease=7.0)
    worker = workers.start(app, *options)
    server.always(Reply.slow(SLOW))
    track.delay("u", "E")
    wait_until(lambda: Analytics().stats().delivered.messages == 1)
    assert Analytics().stats().attempts == {"200": 1}
    assert "time limit" not in worker.output.partition("ready.")[2].lower()


@pytest.mark.parametrize("how", ["base class", "annotations"])
def test_a_dead_letter_is_a_failure_whatever_the_project_sets(make_app, server, workers, how):
    conf = {} if how == "base class" else {"task_annotations": {"*": ANNOTATIONS}}
    app = make_app(**conf, worker_concurrency=1)
    server.fail_messages(lambda message: message["event"] == "bad")
    with listening(app) as events:
        workers.start(app, "-E", module="hostapp" if how == "base class" else "workerapp")
        track.delay("u", "bad")
        wait_until(lambda: events("failed"))
        track.delay("u", "good")
        track.apply_async(("u", "later"), countdown=0.1)
        wait_until(lambda: Analytics().stats().delivered.messages == 2)
        wait_until(lambda: len(events("succeeded")) >= 2)
    assert len(events("failed")) == 1
    assert "DeliveryFailed" in events("failed")[0]["exception"]
    assert events("retried") == []


def test_a_retry_is_made_whatever_the_project_sets(make_app, server, workers):
    app = make_app()
    workers.start(app, module="hostapp")
    server.reply(Reply.status(503), times=2)
    track.delay("u", "E")
    wait_until(lambda: Analytics().stats().delivered.messages == 1)
    assert Analytics().stats().retries == 2
