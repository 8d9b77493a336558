"""`celery segment send`: one message of each type, and what becomes of it."""

from __future__ import annotations

import json

import pytest

from celery_segment import Analytics
from celery_segment.messages import TYPES
from celery_segment.testing import Reply
from commands import ok, run
from operating import store
from support import WRITE_KEY, stored

GIVEN = {
    "identify": ({"--traits": '{"plan": "pro"}'}, {"traits": {"plan": "pro"}}),
    "track": (
        {"--event": "E", "--properties": '{"revenue": 39.95}'},
        {"event": "E", "properties": {"revenue": 39.95}},
    ),
    "page": ({"--name": "Home", "--category": "Docs"}, {"name": "Home", "category": "Docs"}),
    "screen": ({"--name": "Home"}, {"name": "Home"}),
    "group": ({"--group-id": "g", "--traits": "{}"}, {"groupId": "g", "traits": {}}),
    "alias": ({"--previous-id": "p"}, {"previousId": "p"}),
}


def options_of(given):
    return [text for pair in given.items() for text in pair]


@pytest.mark.parametrize("kind", TYPES)
def test_each_type_is_stored_as_the_call_stores_it(app, redis, kind):
    given, expected = GIVEN[kind]
    shared = {"--context": '{"ip": "192.0.2.1"}', "--integrations": '{"All": false}'}
    shared |= {"--timestamp": "2026-11-23T07:00:00.123Z", "--message-id": "m1", "--user-id": "u"}
    said = ok(app, "send", kind, *options_of({**given, **shared}))
    assert said == f"default: {kind} m1 is stored; --wait waits until it is delivered\n"
    (message,) = stored(redis)
    assert message["context"].pop("library")
    assert message == {
        "type": kind,
        "messageId": "m1",
        "timestamp": "2026-11-23T07:00:00.123Z",
        "userId": "u",
        "context": {"ip": "192.0.2.1"},
        "integrations": {"All": False},
        **expected,
    }


def test_the_source_and_json(app, redis):
    said = ok(
        app,
        "send",
        "track",
        "--anonymous-id",
        "a",
        "--event",
        "E",
        "--source",
        "marketing",
        "--json",
    )
    (message,) = stored(redis, "marketing")
    assert json.loads(said) == {
        "type": "track",
        "message_id": message["messageId"],
        "source": "marketing",
        "state": "stored",
        "text": "is stored; --wait waits until it is delivered",
    }


TRACK = ("send", "track", "--user-id", "u", "--event", "E")


@pytest.mark.parametrize(
    ("args", "told"),
    [
        (("send", "track", "--user-id", "u"), "--event: is required by track"),
        (("send", "track", "--event", "E"), "--user-id: give --user-id or --anonymous-id: Segment"),
        (("send", "alias", "--user-id", "u"), "--previous-id: is required by alias"),
        ((*TRACK, "--properties", "{s3cr3t"), "'--properties': must be a JSON object in quotes"),
        ((*TRACK, "--properties", "[5]"), "'--properties': must be a JSON object in quotes"),
        ((*TRACK, "--context", '"s3cr3t"'), "'--context': must be a JSON object in quotes"),
        ((*TRACK, "--timestamp", "yesterday"), "--timestamp: this text of 9 characters is not ISO"),
        ((*TRACK, "--message-id", "m" * 101), "--message-id: has 101 characters"),
        ((*TRACK, "--properties", '{"a": "%s"}' % ("x" * 33_000)), "--properties: the message has"),
        ((*TRACK, "--evnt", "E"), "--evnt"),
        (("send", "track", "--traits", "{}"), "--traits"),
        (("send", "alias", "--anonymous-id", "a"), "--anonymous-id"),
        (("send", "tracks"), "No such command 'tracks'"),
    ],
)
def test_an_error_names_the_option(app, redis, args, told):
    result = run(app, *args)
    assert result.exit_code == 2, result.output
    assert told in " ".join(result.stderr.split())
    assert "s3cr3t" not in result.stderr
    assert stored(redis) == []


def test_a_source_that_is_unknown_or_not_enabled(make_app):
    app = make_app(segment_sources={"off": {"enabled": False}})
    result = run(app, *TRACK, "--source", "shop")
    assert (result.exit_code, result.stdout) == (1, "")
    assert "source 'shop' is not configured" in result.stderr
    result = run(app, *TRACK, "--source", "off")
    assert (result.exit_code, result.stdout) == (1, "")
    assert "source 'off' is not enabled: nothing would be stored" in result.stderr


def test_one_that_is_dropped_says_so(make_app, redis):
    app = make_app(segment_before_send=lambda _: None)
    result = run(app, *TRACK)
    assert result.exit_code == 1
    assert "is dropped: segment_before_send returned None" in result.stdout
    assert stored(redis) == []


def test_a_redis_that_is_away_is_an_error_whatever_is_set(make_app):
    app = make_app(segment_redis_url="redis://127.0.0.1:1/0", segment_on_unavailable="drop")
    result = run(app, *TRACK)
    assert (result.exit_code, result.stdout) == (1, "")
    assert "Error: " in result.stderr


def test_waiting_says_that_it_is_delivered(make_app, server, workers):
    app = make_app()
    workers.start(app)
    server.reply(Reply.status(503))
    said = ok(app, *TRACK, "--message-id", "m1", "--wait")
    assert said.startswith("default: track m1 is delivered, ")
    assert said.endswith("s after it was stored (answers: 200, 503)\n")
    assert server.received == {"m1": 1}
    server.fail_messages(lambda message: message["event"] == "bad")
    result = run(app, "send", "track", "--user-id", "u", "--event", "bad", "--wait", "--json")
    assert result.exit_code == 1
    found = json.loads(result.stdout)
    assert found["state"] == "dead"
    assert found["text"].startswith("is given up: 400 ")
    assert "`celery segment dead list --source default`" in found["text"]


def test_waiting_says_why_it_is_not(app):
    result = run(app, *TRACK, "--wait", "--timeout", "0.2")
    assert result.exit_code == 1
    assert "is stored, and not delivered yet: no worker answers; start one" in result.stdout
    ok(app, "pause")
    result = run(app, *TRACK, "--wait", "--json")
    assert json.loads(result.stdout)["state"] == "waiting"
    assert "the source is paused; run `celery segment resume --source default`" in result.stdout


def test_a_wrong_key_is_told_at_once(make_app, server, workers):
    app = make_app()
    workers.start(app)
    server.always(Reply.status(401))
    result = run(app, *TRACK, "--wait")
    assert result.exit_code == 1
    assert "is stored, and not delivered yet (answers: 401): the source is closed" in result.stdout
    assert WRITE_KEY not in result.output


def test_what_waited_before_is_not_waited_for(make_app, server, workers):
    app = make_app()
    store(app, "first")
    Analytics(app=app).pause()
    Analytics(app=app).resume()
    server.rule(
        lambda request: (
            Reply.status(503)
            if any(message["event"] == "first" for message in request.messages)
            else None
        )
    )
    workers.start(app)
    assert " is delivered, " in ok(app, *TRACK, "--wait")


def test_an_eager_application_delivers_by_itself(make_app, server):
    app = make_app(task_always_eager=True)
    assert " is delivered, " in ok(app, *TRACK, "--wait")
    assert len(server.received) == 1
