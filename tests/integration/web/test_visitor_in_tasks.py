"""A request's visitor follows into the tasks that it starts, and into those that they start."""

from __future__ import annotations

import json
from base64 import b64decode
from types import SimpleNamespace

import pytest
from celery import chain, signature

from celery_segment import context, track
from celery_segment.calls.carried import MOST, VISITOR, encoded
from celery_segment.runtime import runtime_of
from celery_segment.visitor import acting
from sites import ANONYMOUS
from support import run_as_worker, stored, wait_until
from taskevents import listening

CONF = {"segment_propagate_visitor": True, "segment_flush_interval": 0.3}
KEY = "a signing key of at least 32 characters"
ADDRESS = "192.0.2.77"
PAGE = {"url": "http://shop.example/buy?q=1", "path": "/buy", "search": "?q=1"}


class Visitor(SimpleNamespace):
    user_id = "u1"
    anonymous_id = "a1"
    context = {"ip": ADDRESS, "page": PAGE}  # noqa: RUF012 - as simple as it gets

    def new_anonymous_id(self):
        return "new"


def in_tasks_messages(messages):
    return {message["event"]: message for message in messages}


def start(app, name="tests.first", **kwargs):
    app.send_task(name, kwargs=kwargs)


def of_queue(redis, queue="celery"):
    return [json.loads(message) for message in redis.lrange(queue, 0, -1)]


def header_of(message):
    _, _, content = message["headers"][VISITOR].partition(":")
    return json.loads(b64decode(content))["layers"]


def test_a_request_and_its_tasks_have_one_visitor(make_app, site, server, workers, redis):
    app = make_app(**CONF, segment_trusted_proxies=1)
    user = site.log_in()

    def view():
        start(app, retries=1)
        track.delay(event="Request")

    with listening(app) as events:
        plain = {"DJANGO_SETTINGS_MODULE": ""}  # the site's, of this process
        worker = workers.start(app, "-E", module="visitedtasks", processes=1, environ=plain)
        site.ask(view, "/buy?q=1", x_forwarded_for=ADDRESS)
        assert server.wait_for_messages(4, timeout=20)
        wait_until(lambda: len(events("succeeded")) >= 3)
        seen = repr([events(kind) for kind in ("sent", "received", "started", "succeeded")])
    messages = in_tasks_messages(server.messages)
    for name in ("Request", "First", "Second"):
        message = messages[name]
        assert (message["userId"], message["anonymousId"]) == (user, ANONYMOUS), name
        assert message["context"]["ip"] == ADDRESS
        assert message["context"]["page"]["path"] == "/buy"
        assert message["context"] == messages["Request"]["context"]
    other = messages["Banned"]
    assert (other["userId"], other.get("anonymousId")) == ("another", None)
    assert set(other["context"]) == {"library"}
    for text in (ADDRESS, ANONYMOUS, "/buy"):
        assert text not in worker.output
        assert text not in seen
    assert not redis.keys("*segment_visitor*")


def test_it_is_off_by_default(make_app, redis):
    app = make_app()
    with acting(Visitor()):
        start(app)
    (message,) = of_queue(redis)
    assert VISITOR not in message["headers"]


def test_a_worker_takes_a_visitor_where_the_setting_says_so(make_app, server, workers):
    app = make_app(**CONF)
    with acting(Visitor()):
        app.send_task("segment.track", kwargs={"event": "E"})
        app.send_task("segment.track", kwargs={"event": "F", "user_id": "v"})
    worker = workers.start(app, processes=1, segment_propagate_visitor=False)
    assert server.wait_for_messages(1, timeout=20)
    wait_until(lambda: "NoIdentity" in worker.output)
    assert [message["event"] for message in server.messages] == ["F"]


def test_tasks_sent_by_name_and_in_a_canvas_have_it(make_app, server, workers):
    app = make_app(**CONF)
    with acting(Visitor()):
        app.send_task("segment.track", kwargs={"event": "By Name"})
        names = ("tests.chained", "tests.chained")
        chain(*(signature(name, immutable=True, app=app) for name in names)).apply_async()
    workers.start(app, module="visitedtasks", processes=1)
    assert server.wait_for_messages(3, timeout=20)
    assert {message["userId"] for message in server.messages} == {"u1"}


@pytest.mark.parametrize("key", [None, KEY])
def test_a_retry_and_a_replacement_have_it(make_app, server, workers, key):
    app = make_app(**CONF, **({"segment_signing_key": key} if key else {}))
    with acting(Visitor()):
        start(app, retries=1)
        start(app, "tests.replaced")
    workers.start(app, module="visitedtasks", processes=1)
    assert server.wait_for_messages(4, timeout=20)
    about_them = [message for message in server.messages if message["event"] != "Banned"]
    assert {message["userId"] for message in about_them} == {"u1"}
    assert sorted(m["event"] for m in about_them) == ["Chained", "First", "Second"]


@pytest.mark.parametrize("pool", ["threads", "solo", "gevent"])
def test_in_each_pool_it_is_the_tasks_alone(make_app, server, workers, pool):
    app = make_app(**CONF)
    workers.start(app, pool=pool, module="visitedtasks")
    for name in ("x", "y", "z"):
        visitor = Visitor()
        visitor.user_id = name
        with acting(visitor):
            start(app, "tests.chained")
    start(app, "tests.chained")  # of nobody
    assert server.wait_for_messages(3, timeout=20)
    assert sorted(message["userId"] for message in server.messages) == ["x", "y", "z"]


def test_an_eager_task_has_the_requests(make_app, site, segment_outbox):
    app = make_app(**CONF, task_always_eager=True)

    @app.task(shared=False)
    def eager():
        track.delay(event="Eager")

    site.ask(eager.delay)
    segment_outbox.assert_tracked("Eager", anonymous_id=ANONYMOUS)


def without_address(message):
    message["context"].pop("ip", None)
    return message


def test_an_eager_call_in_a_task_adds_nothing_to_what_the_hook_left(make_app, server):
    app = make_app(**CONF, task_always_eager=True, segment_before_send=without_address)
    header = encoded(Visitor(), "id-1", runtime_of(app).trust)
    run_as_worker(app, lambda _: track.delay(event="E"), headers={VISITOR: header})
    (message,) = server.messages
    assert message["userId"] == "u1"
    assert message["context"]["page"] == PAGE
    assert "ip" not in message["context"]


@pytest.mark.usefixtures("project")
def test_a_task_that_awaits_a_commit_has_it(make_app, redis):
    from django.db import transaction
    from django.http import HttpResponse
    from django.test import Client, override_settings
    from django.urls import path

    app = make_app(**CONF)

    def view(_):
        with transaction.atomic():
            transaction.on_commit(lambda: start(app))
        return HttpResponse()

    with override_settings(ROOT_URLCONF=(path("buy", view),)):
        Client(headers={"host": "shop.example"}).get("/buy", REMOTE_ADDR=ADDRESS)
    (message,) = of_queue(redis)
    (layer,) = header_of(message)
    assert layer["context"]["ip"] == ADDRESS
    assert layer["context"]["page"]["path"] == "/buy"


def test_blocks_are_carried_as_well(make_app, redis):
    app = make_app(**CONF)
    with acting(Visitor()), context(context={"app": "shop"}, integrations={"Vero": False}):
        start(app)
    block, visitor = header_of(of_queue(redis)[0])
    assert block["context"] == {"app": "shop"}
    assert block["integrations"] == {"Vero": False}
    assert visitor["user_id"] == "u1"


def test_a_visitor_without_an_id_gets_one_as_in_a_call(make_app, redis, site):
    app = make_app(**CONF, segment_set_anonymous_id=True)
    site.set_cookie(None)

    def view():
        start(app)
        track.delay(event="E")

    answer = site.ask(view)
    (layer,) = header_of(of_queue(redis)[0])
    assert answer.cookies["ajs_anonymous_id"].value == layer["anonymous_id"]
    assert stored(redis)[0]["anonymousId"] == layer["anonymous_id"]


def test_a_large_visitor_loses_the_largest_parts_first(make_app, redis):
    app = make_app(**CONF)
    visitor = Visitor()
    page = {"path": "/", "url": "x" * 2_000, "search": "y" * 1_500, "referrer": "z" * 10}
    visitor.context = {"ip": ADDRESS, "userAgent": "w" * 300, "page": page}
    with acting(visitor):
        start(app)
    (message,) = of_queue(redis)
    assert len(message["headers"][VISITOR]) <= MOST
    (layer,) = header_of(message)
    assert layer["context"] == {
        "ip": ADDRESS,
        "userAgent": "w" * 300,
        "page": {"path": "/", "search": "y" * 1_500, "referrer": "z" * 10},
    }
    assert layer["user_id"] == "u1"
    visitor.user_id = "u" * 5_000
    with acting(visitor):
        start(app)
    newest, _ = of_queue(redis)
    assert VISITOR not in newest["headers"]


class Broken(Visitor):
    @property
    def user_id(self):
        raise RuntimeError("s3cr3t")


def test_no_task_fails_to_be_published_for_it(make_app, redis, caplog):
    app = make_app(**CONF)
    with acting(Broken()):
        start(app)
    (message,) = of_queue(redis)
    assert VISITOR not in message["headers"]
    assert "without the visitor, who could not be read: RuntimeError" in caplog.text
    assert "s3cr3t" not in caplog.text


def test_its_own_tasks_carry_none(make_app, redis):
    app = make_app(**CONF)
    with acting(Visitor()):
        track.apply_async((), {"event": "E"}, countdown=60)
        app.send_task("segment.drain", kwargs={"source": "default"})
    assert [VISITOR in message["headers"] for message in of_queue(redis)] == [False, False]


def test_a_strangers_visitor_counts_for_nothing(make_app, redis, server, workers):
    app = make_app(**CONF, segment_signing_key=KEY)
    with acting(Visitor()):
        app.send_task("tests.chained", task_id="mine")
    (message,) = of_queue(redis)
    signed = message["headers"][VISITOR]
    forged = ":" + signed.partition(":")[2]
    for header in (signed, forged, "nonsense", 5, {"a": 1}, "x" * 5_000):
        app.send_task("tests.chained", headers={VISITOR: header})
    worker = workers.start(app, module="visitedtasks", processes=1)
    wait_until(lambda: worker.output.count("raised unexpected: NoIdentity") == 6)
    assert server.wait_for_messages(1, timeout=20)
    assert [message["userId"] for message in server.messages] == ["u1"]
