"""``python -m celery_segment.testing.e2e``, as a suite of tests in another language runs it."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import psutil
import pytest

from celery_segment.testing import Reply, e2e
from support import content_of

WRITE_KEY = "e2ewr1tek3y"
COMMAND = [sys.executable, "-m", "celery_segment.testing.e2e", "--input"]
ENVIRON = {k: v for k, v in os.environ.items() if not k.startswith("SEGMENT_")}

EVENTS = [
    {"type": "identify", "userId": "u", "traits": {"plan": "pro", "score": 1.10}},
    {"type": "track", "userId": "u", "event": "E", "properties": {"n": 1}, "messageId": "m1"},
    {"type": "page", "anonymousId": "a", "name": "Start", "category": "Docs"},
    {"type": "screen", "userId": "u", "name": "Home", "timestamp": "2026-11-23T07:00:00.000Z"},
    {"type": "group", "userId": "u", "groupId": "g", "context": {"ip": "1.2.3.4"}},
    {"type": "alias", "previousId": "a", "userId": "u", "integrations": {"All": False}},
]


def input_for(server, events=EVENTS, delays=(0,), **config):
    sequences = [{"delayMs": delay, "events": events} for delay in delays]
    given = {"writeKey": WRITE_KEY, "apiHost": server.url, "sequences": sequences}
    return json.dumps({**given, "config": {"flushInterval": 200, **config}})


def outcome(given, *options, stdin=None, **environ):
    """Run the command; return its status and what it prints."""
    run = subprocess.run(
        [*COMMAND, given, *options],
        env={**ENVIRON, **environ},
        input=stdin,
        capture_output=True,
        text=True,
        check=False,
    )
    assert WRITE_KEY not in run.stdout + run.stderr
    (line,) = run.stdout.splitlines()
    printed = json.loads(line)
    assert list(printed) == ["success", "sentBatches", "error"]
    assert run.returncode == (0 if printed["success"] else 1)
    return printed


def test_every_event_is_delivered_and_the_key_goes_nowhere(server, redis, redis_server):
    server.reply(Reply.slow(1))
    command = [*COMMAND, "-"]
    environ = {**ENVIRON, "SEGMENT_REDIS_URL": redis_server.url}
    pipes = dict.fromkeys(("stdin", "stdout", "stderr"), subprocess.PIPE)
    with subprocess.Popen(command, env=environ, text=True, **pipes) as process:
        process.stdin.write(input_for(server, delays=(0, 300)))
        process.stdin.close()
        # While the first request waits for its answer, all that runs is there to be seen.
        assert server.wait_for(lambda: server.requests, 20)
        family = [psutil.Process(process.pid), *psutil.Process(process.pid).children(True)]
        assert not any(WRITE_KEY in " ".join(each.cmdline()) for each in family)
        places = [key + content_of(redis, key) for key in redis.keys("*")]
        logs, printed = process.stderr.read(), process.stdout.read()
    assert process.returncode == 0, logs
    result = json.loads(printed)
    assert (result["success"], result["error"]) == (True, None)
    assert result["sentBatches"] == len(server.requests)
    assert "segment.deliver" in logs
    assert any(b"messageId" in place for place in places)
    places += [key + content_of(redis, key) for key in redis.keys("*")]
    assert not any(WRITE_KEY.encode() in place for place in [*places, logs.encode()])

    assert server.violations == []
    assert {r.write_key for r in server.requests} == {WRITE_KEY}
    assert server.received["m1"] == 2
    for event in EVENTS:
        sent = [m for m in server.messages if m["type"] == event["type"]]
        assert len(sent) == 2
        assert all(_holds(message, event) for message in sent)


def _holds(message, event):
    """Whether a message is what the event says, and what every message has besides."""
    context = {**event.get("context", {}), "library": message["context"]["library"]}
    own = {"messageId": message["messageId"], "timestamp": message["timestamp"]}
    return message == {**own, **event, "context": context}


def test_failures_are_retried_and_retry_after_is_waited_for(server, tmp_path):
    server.reply(Reply.status(500), times=2)
    server.reply(Reply.status(429, retry_after=1))
    file = tmp_path / "input.json"
    file.write_text(input_for(server, [EVENTS[1]]))
    assert outcome(f"@{file}") == {"success": True, "sentBatches": 1, "error": None}
    assert [r.status for r in server.requests] == [500, 500, 429, 200]
    assert [r.retry_count for r in server.requests] == [0, 1, 2, 3]
    assert server.requests[3].at - server.requests[2].at >= 1
    assert server.violations == []


def test_a_batch_is_given_up_after_its_retries(server):
    server.always(Reply.status(503))
    printed = outcome(input_for(server, EVENTS[:1], maxRetries=2))
    assert (printed["success"], printed["sentBatches"]) == (False, 0)
    assert printed["error"].startswith(
        "1 given up: 503 Service Unavailable; given up after 3 attempts in "
    )
    assert len(server.requests) == 3


def test_what_is_refused_is_told(server):
    server.fail_messages(lambda message: message["type"] == "page")
    printed = outcome(input_for(server))
    assert (printed["success"], printed["sentBatches"] > 0) == (False, True)
    assert printed["error"].startswith("1 given up: 400 Bad Request")
    assert len(server.received) == 5


@pytest.mark.parametrize(
    ("status", "options", "error"),
    [
        (401, (), "6 remain: 401 Unauthorized; check the source's write key in the workers' "),
        (429, ("--timeout", "2"), "6 remain: 429 Too Many Requests, Retry-After 300 s"),
    ],
)
def test_what_remains_is_told(server, status, options, error):
    headers = {"retry_after": 300} if status == 429 else {}
    server.always(Reply.status(status, **headers))
    printed = outcome(input_for(server, flushAt=6), *options)
    assert not printed["success"]
    assert printed["error"].startswith(error)


def test_a_batch_holds_no_more_than_flush_at(server):
    events = [{"type": "track", "userId": "u", "event": f"E{n}"} for n in range(25)]
    printed = outcome(input_for(server, events, flushAt=10))
    assert printed["success"]
    assert len(server.messages) == 25
    assert max(len(r.message_ids) for r in server.requests) <= 10


BAD = {
    "not json": "the input is invalid: JSON is malformed",
    '{"sequences": []}': "missing required field `writeKey`",
    '{"writeKey": "k", "sequences": [{"events": 5}]}': "$.sequences[0].events",
    '{"writeKey": "k", "sequences": [], "config": {"flushAt": 0}}': "$.config.flushAt",
    '{"writeKey": "e2ewr1tek3y:", "sequences": []}': "write_key must be printable ASCII",
    '{"writeKey": "k", "apiHost": "ftp://x", "sequences": []}': "segment_host must be an https",
    "@nowhere.json": "nowhere.json",
}


@pytest.mark.parametrize("given", BAD)
def test_a_bad_input_is_told(given, redis_server, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", [e2e.__name__, "--input", given])
    monkeypatch.setenv("SEGMENT_REDIS_URL", redis_server.url)
    assert e2e.main() == 1
    shown = capsys.readouterr()
    assert WRITE_KEY not in shown.out + shown.err
    printed = json.loads(shown.out)
    assert (printed["success"], printed["sentBatches"]) == (False, 0)
    assert BAD[given] in printed["error"]


def test_a_bad_input_ends_the_command_with_1():
    assert not outcome("not json")["success"]


@pytest.mark.parametrize(
    ("event", "error"),
    [
        ({"type": "trakc", "userId": "u"}, "type: must be one of"),
        ({"type": "track", "userId": "u"}, "event: is required by track"),
        ({"type": "track", "userId": "u", "event": "E", "colour": 1}, "colour: is not a field of"),
        (5, "Expected `object`"),
    ],
)
def test_a_bad_event_is_told_with_its_place(server, redis_server, event, error):
    given = input_for(server, [EVENTS[0], event])
    printed = outcome(given, SEGMENT_REDIS_URL=redis_server.url)
    assert printed["error"].startswith(f"sequences[0].events[1]: {error}")


def test_a_redis_that_is_away_is_told(server):
    printed = outcome(input_for(server), SEGMENT_REDIS_URL="redis://127.0.0.1:1/0")
    assert not printed["success"]
    assert "127.0.0.1:1" in printed["error"]
