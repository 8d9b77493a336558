from __future__ import annotations

import base64
import gzip
import json
import signal
import socket
import struct
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from datetime import datetime, timedelta, timezone
from email.utils import format_datetime

import pytest
import requests

from celery_segment.testing import Received, Reply, SegmentServer

PATIENCE = 5.0
SENT_AT = "2026-11-23T07:00:09.456Z"


@pytest.fixture
def server():
    with SegmentServer() as server:
        yield server


@pytest.fixture
def session():
    with requests.Session() as session:
        session.trust_env = False
        yield session


@pytest.fixture
def post(server, session):
    def post(batch, *, key="key", headers=None, timeout=PATIENCE, **options):
        """POST a list of messages, a mapping as the whole body, or the body's bytes."""
        if isinstance(batch, list):
            batch = {"batch": batch, "sentAt": SENT_AT}
        body = batch if isinstance(batch, bytes) else encode(batch)
        return session.post(
            server.url + "/v1/batch",
            body,
            headers={"Content-Type": "application/json", **(headers or {})},
            auth=None if key is None else (key, ""),
            timeout=timeout,
            allow_redirects=False,
            **options,
        )

    return post


def encode(value):
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False).encode()


def message(name, **fields):
    return {"type": "track", "messageId": str(name), "userId": "u", "event": "E", **fields}


def message_of(size, name="m"):
    """A message of exactly this many bytes of JSON."""
    return message(name, pad="x" * (size - len(encode(message(name, pad="")))))


def raw_request(body, *, key="key", method="POST", path="/v1/batch"):
    login = base64.b64encode(f"{key}:".encode()).decode()
    return (
        f"{method} {path} HTTP/1.1\r\nHost: test\r\nContent-Type: application/json\r\n"
        f"Authorization: Basic {login}\r\nContent-Length: {len(body)}\r\n\r\n"
    ).encode() + body


def raw_batch(*names):
    return raw_request(encode({"batch": [message(n) for n in names], "sentAt": SENT_AT}))


@contextmanager
def connect(server):
    with socket.create_connection((server.host, server.port), timeout=PATIENCE) as connection:
        yield connection


def read_until_closed(connection):
    parts = []
    while part := connection.recv(65536):
        parts.append(part)
    return b"".join(parts)


class TestRecording:
    def test_an_accepted_batch(self, server, post):
        before = time.monotonic()
        answer = post([message(1), message(2)], headers={"x-retry-count": "3"})
        assert (answer.status_code, answer.json()) == (200, {"success": True})
        [received] = server.requests
        assert isinstance(received, Received)
        assert before < received.at < time.monotonic()
        assert (received.status, received.reply, received.accepted) == (200, "ok", True)
        assert received.write_key == "key"
        assert received.message_ids == ("1", "2")
        assert received.messages == (message(1), message(2))
        assert received.retry_count == 3
        assert received.sent_at == SENT_AT
        assert received.bytes == len(encode({"batch": list(received.messages), "sentAt": SENT_AT}))
        assert (received.method, received.path) == ("POST", "/v1/batch")
        assert received.headers["X-Retry-Count"] == "3"
        assert received.headers["Content-Type"] == "application/json"
        assert "Authorization" not in received.headers
        assert server.messages == [message(1), message(2)]
        assert server.received == {"1": 1, "2": 1}
        assert server.violations == []

    def test_no_key_and_no_payload_in_the_repr(self, server, post):
        post([message(1, secret="payload")], key="the-key")
        assert "the-key" not in repr(server.requests)
        assert "payload" not in repr(server.requests)

    def test_the_retry_count_is_zero_when_absent(self, server, post):
        post([message(1)])
        assert server.requests[0].retry_count == 0

    def test_duplicates_are_counted(self, server, post):
        for _ in range(3):
            post([message(1), message(2)])
        post([message(3)])
        assert server.received == {"1": 3, "2": 3, "3": 1}
        assert server.duplicates == 4
        assert len(server.messages) == 7

    def test_ids_only(self, session):
        with SegmentServer(record="ids") as server:
            session.post(
                server.url + "/v1/batch",
                encode({"batch": [message(1), message(2)], "sentAt": SENT_AT}),
                headers={"Content-Type": "application/json; charset=utf-8"},
                auth=("key", ""),
                timeout=PATIENCE,
            )
            assert server.requests[0].message_ids == ("1", "2")
            assert server.requests[0].messages == ()
            assert server.messages == []
            assert server.received == {"1": 1, "2": 1}

    def test_clear(self, server, post):
        post([message(1)])
        post(b"{")
        server.clear()
        assert (server.requests, server.messages, server.violations) == ([], [], [])
        assert server.received == {}
        assert server.duplicates == 0

    def test_every_request_is_told_to_a_listener(self, session):
        heard = []
        with SegmentServer(on_request=heard.append) as server:
            session.get(server.url, timeout=PATIENCE)
            assert heard == server.requests
            assert len(heard) == 1

    def test_many_connections_at_once(self, server):
        def send(worker):
            with connect(server) as connection:
                for n in range(50):
                    names = [f"{worker}-{n}-{i}" for i in range(20)]
                    connection.sendall(raw_batch(*names))
                    assert connection.recv(65536).startswith(b"HTTP/1.1 200 ")

        with ThreadPoolExecutor(8) as pool:
            list(pool.map(send, range(8)))
        assert len(server.requests) == 400
        assert len(server.received) == 8_000
        assert server.duplicates == 0
        assert server.violations == []


class TestBodies:
    def test_gzip(self, server, post):
        body = encode({"batch": [message("é" * 9)], "sentAt": SENT_AT})
        assert post(gzip.compress(body), headers={"Content-Encoding": "gzip"}).ok
        assert server.messages == [message("é" * 9)]
        assert server.requests[0].bytes == len(body)

    def test_gzip_of_several_members(self, server, post):
        body = encode({"batch": [message(1)], "sentAt": SENT_AT})
        body = gzip.compress(body[:20]) + gzip.compress(body[20:])
        assert post(body, headers={"Content-Encoding": "gzip"}).ok
        assert server.messages == [message(1)]

    def test_a_bomb_is_not_inflated(self, server, post):
        bomb = gzip.compress(bytes(50_000_000))
        assert post(bomb, headers={"Content-Encoding": "gzip"}).status_code == 400
        assert server.requests[0].bytes == 8_000_000
        assert any("above 500,000" in violation for violation in server.violations)

    def test_an_endless_body_is_read_but_not_kept(self, server, post):
        assert post(bytes(20_000_000)).status_code == 400
        assert server.requests[0].bytes == 8_000_000
        assert post([message(1)]).ok

    def test_at_every_limit_at_once(self, server, post):
        largest = message_of(32_768, "m" * 100)
        padding = 500_000 - len(encode({"batch": [largest, message(0)], "sentAt": SENT_AT}))
        body = {"batch": [largest, message(0)], "sentAt": SENT_AT, "pad": ""}
        body["pad"] = "x" * (padding - len(',"pad":""'))
        assert len(encode(body)) == 500_000
        assert post(body).ok
        assert post([message(n) for n in range(2_500)]).ok
        assert server.violations == []

    @pytest.mark.parametrize(
        ("body", "status", "violation"),
        [
            ({"batch": [], "sentAt": "x", "pad": "y" * 500_000}, 400, "the body has 500,0"),
            ([message_of(32_769)], 400, "a message has 32,769 bytes, above 32,768"),
            ([message(n) for n in range(2_501)], 200, "the batch has 2,501 messages"),
            ([message("m" * 101)], 400, "a messageId has more than 100 characters"),
            ([{"type": "track"}], 400, "a message has no messageId"),
            ([message(1) | {"messageId": 1}], 400, "a message has no messageId"),
            ([message(1), 2], 400, "not a batch"),
            ({"batch": [message(1)]}, 400, "there is no sentAt"),
            ({"batch": {}, "sentAt": SENT_AT}, 400, "not a batch"),
            ({"sentAt": SENT_AT}, 400, "not a batch"),
            ([message(1, n=float("nan"))], 400, "not a batch"),
            (b"[]", 400, "not a batch"),
            (b"", 400, "not a batch"),
            (b'{"batch":[{"messageId":"1","a":"\xff"}],"sentAt":"x"}', 400, "not UTF-8"),
            (b'{"batch":[{"messageId":"1","a":"\\ud800"}],"sentAt":"x"}', 400, "not a batch"),
        ],
    )
    def test_a_bad_batch_is_refused_whole(self, server, post, body, status, violation):
        assert post(body).status_code == status
        [received] = server.requests
        assert (received.status, received.reply, received.accepted) == (status, "refused", False)
        assert received.violations == tuple(server.violations)
        assert len(server.violations) == 1
        assert violation in server.violations[0]
        assert server.messages == []
        assert not server.received

    def test_the_ids_of_a_refused_batch_are_told(self, server, post):
        post([message(1), {"type": "track"}])
        assert server.requests[0].message_ids == ("1", "")

    @pytest.mark.parametrize(
        ("headers", "status", "violation"),
        [
            ({"Content-Type": "text/plain"}, 400, "Content-Type"),
            ({"Content-Type": None}, 400, "Content-Type"),
            ({"Content-Encoding": "br"}, 400, "Content-Encoding"),
            ({"Content-Encoding": "gzip"}, 400, "not gzip"),
            ({"X-Retry-Count": "-1"}, 200, "X-Retry-Count"),
        ],
    )
    def test_bad_headers(self, server, post, headers, status, violation):
        assert post([message(1)], headers=headers).status_code == status
        [found] = server.violations
        assert violation in found
        assert server.requests[0].accepted is (status == 200)

    def test_gzip_cut_off(self, server, post):
        body = gzip.compress(encode({"batch": [message(1)], "sentAt": SENT_AT}))[:-9]
        assert post(body, headers={"Content-Encoding": "gzip"}).status_code == 400
        assert server.violations == ["the gzip body is cut off"]

    def test_a_body_without_its_length(self, server):
        with connect(server) as connection:
            head = raw_request(b"").replace(b"Content-Length: 0", b"Transfer-Encoding: chunked")
            connection.sendall(head)
            assert read_until_closed(connection).startswith(b"HTTP/1.1 411 ")
        assert server.violations == ["there is no Content-Length"]


class TestRoutesAndKeys:
    def test_a_health_check_is_answered_and_not_recorded(self, server, session):
        server.always(Reply.status(503))
        assert session.get(server.url + "/health", timeout=PATIENCE).status_code == 200
        assert server.requests == server.violations == []
        assert session.post(server.url + "/health", timeout=PATIENCE).status_code == 404

    @pytest.mark.parametrize(
        ("method", "path", "status"),
        [
            ("POST", "/", 404),
            ("POST", "/v1/batch/", 404),
            ("GET", "/elsewhere", 404),
            ("GET", "/v1/batch", 405),
            ("PUT", "/v1/batch", 405),
            ("DELETE", "/v1/batch", 405),
            ("HEAD", "/v1/batch", 405),
        ],
    )
    def test_only_post_to_batch(self, server, session, method, path, status):
        server.always(Reply.status(503))
        for _ in range(2):  # the connection stays in step
            answer = session.request(method, server.url + path, data=b"{}", timeout=PATIENCE)
            assert answer.status_code == status
        assert len(server.violations) == 2
        assert (server.requests[0].method, server.requests[0].path) == (method, path)

    @pytest.mark.parametrize("key", ["other", "", None])
    def test_a_wrong_key(self, session, key):
        body = encode({"batch": [message(1)], "sentAt": SENT_AT})
        headers = {"Content-Type": "application/json"}
        auth = None if key is None else (key, "")
        for strict, status in ((True, 401), (False, 200)):
            with SegmentServer(write_keys=["key"], strict_keys=strict) as server:
                url = server.url + "/v1/batch"
                answer = session.post(url, body, headers=headers, auth=auth, timeout=PATIENCE)
                assert answer.status_code == status
                assert server.requests[0].accepted is False
                assert not server.received
                assert server.violations == []
                assert session.post(url, body, headers=headers, auth=("key", ""), timeout=9).ok
                assert server.received == {"1": 1}

    @pytest.mark.parametrize(
        "authorization",
        [
            "Bearer a2V5Og==",
            "Basic !",
            "Basic " + base64.b64encode(b"key").decode(),
            "Basic " + base64.b64encode(b"key:password").decode(),
        ],
    )
    def test_a_malformed_authorization(self, server, post, authorization):
        answer = post([message(1)], key=None, headers={"Authorization": authorization})
        assert answer.status_code == 401
        assert server.requests[0].write_key is None
        assert server.violations == ["Authorization is not Basic, of a key and no password"]

    def test_any_key_will_do_by_default(self, post):
        assert post([message(1)], key="whatever").ok
        assert post([message(1)], key="").status_code == 401


class TestReplies:
    def test_status(self, server, post):
        server.reply(Reply.status(503))
        server.reply(Reply.status(429, retry_after=0, headers={"X-RateLimit-Reset": "7"}))
        server.reply(Reply.status(460, body="text"))
        server.reply(Reply.status(400, body={"code": "invalid_request"}))
        server.reply(Reply.status(204))
        answers = [post([message(n)]) for n in range(6)]
        assert [a.status_code for a in answers] == [503, 429, 460, 400, 204, 200]
        assert answers[0].json() == {"success": False, "message": "Service Unavailable"}
        assert answers[1].headers["Retry-After"] == "0"
        assert answers[1].headers["X-RateLimit-Reset"] == "7"
        assert answers[2].text == "text"
        assert answers[3].json() == {"code": "invalid_request"}
        assert [r.reply for r in server.requests] == ["status"] * 5 + ["ok"]
        assert list(server.received) == ["4", "5"]
        assert server.violations == []

    @pytest.mark.parametrize(
        ("reply", "accepted"),
        [
            (Reply.close(), False),
            (Reply.reset(), False),
            (Reply.accept_then_close(), True),
            (Reply.garbage(), False),
            (Reply.hang(0.01), False),
        ],
        ids=lambda value: getattr(value, "name", None),
    )
    def test_without_an_answer(self, server, post, reply, accepted):
        server.reply(reply)
        with pytest.raises(requests.ConnectionError):
            post([message(1)])
        [received] = server.requests
        assert (received.status, received.reply, received.accepted) == (None, reply.name, accepted)
        assert received.message_ids == ("1",)
        assert list(server.received) == ["1"] * accepted
        assert post([message(2)]).ok

    def test_close_ends_the_stream_in_order(self, server):
        server.reply(Reply.close())
        with connect(server) as connection:
            connection.sendall(raw_batch(1))
            assert read_until_closed(connection) == b""

    def test_reset_is_a_reset(self, server):
        server.reply(Reply.reset())
        with connect(server) as connection:
            connection.sendall(raw_batch(1))
            with pytest.raises(ConnectionResetError):
                connection.recv(1)

    def test_garbage_is_not_http(self, server):
        server.reply(Reply.garbage())
        with connect(server) as connection:
            connection.sendall(raw_batch(1))
            assert not read_until_closed(connection).startswith(b"HTTP/")

    def test_slow_accepts_at_once_and_answers_late(self, server, post):
        server.reply(Reply.slow(0.1))
        start = time.monotonic()
        with ThreadPoolExecutor(1) as pool:
            answer = pool.submit(post, [message(1)])
            assert server.wait_for_messages(1, PATIENCE)
            assert not answer.done()
            assert answer.result().ok
        assert time.monotonic() - start >= 0.1
        assert server.requests[0].status == 200

    def test_drip_defeats_a_timeout_between_bytes(self, server):
        server.reply(Reply.drip(0.001))
        with connect(server) as connection:
            connection.sendall(raw_batch(1))
            assert connection.recv(65536) == b"H"
            answer = b"H"
            while b'{"success":true}' not in answer:
                answer += connection.recv(65536)
            connection.sendall(raw_batch(2))  # and the connection lives on
            assert connection.recv(65536).startswith(b"HTTP/1.1 200 ")
        assert answer.startswith(b"HTTP/1.1 200 OK\r\n")
        assert server.received == {"1": 1, "2": 1}

    def test_redirect(self, server, post):
        server.reply(Reply.redirect("https://elsewhere.example/v1/batch"))
        server.reply(Reply.redirect("/moved", code=308))
        answers = [post([message(1)]), post([message(1)])]
        assert [a.status_code for a in answers] == [302, 308]
        assert answers[0].headers["Location"] == "https://elsewhere.example/v1/batch"
        assert not server.received

    def test_a_bad_batch_is_refused_in_the_replys_own_manner(self, server, post):
        server.reply(Reply.slow(0.01))
        server.reply(Reply.drip(0))
        server.reply(Reply.status(202))
        assert [post(b"{").status_code for _ in range(3)] == [400, 400, 400]
        server.reply(Reply.accept_then_close())
        with pytest.raises(requests.ConnectionError):
            post([message("m" * 101)])
        server.reply(Reply.status(503))
        assert post(b"{").status_code == 503
        assert [r.accepted for r in server.requests] == [False] * 5
        assert not server.received
        assert len(server.violations) == 5


class TestScripts:
    def test_precedence(self, server, post):
        server.rule(lambda _: Reply.status(501))
        server.fail_messages(lambda m: m["messageId"] == "bad")
        server.always(Reply.status(502))
        server.reply(Reply.status(503), times=2)
        assert [post([message(1)]).status_code for _ in range(4)] == [503, 503, 502, 502]
        server.always(None)
        assert post([message("bad")]).status_code == 400
        assert post([message(1)]).status_code == 501
        server.rule(None)
        assert post([message(1)]).ok

    def test_restore(self, server, post):
        server.rule(lambda _: Reply.status(501))
        server.fail_messages(lambda _: True)
        server.always(Reply.status(502))
        server.reply(Reply.status(503))
        server.restore()
        assert post([message(1)]).ok

    def test_a_rule_sees_the_request(self, server, post):
        seen = []

        def rule(request):
            seen.append(request)
            return Reply.status(503) if request.retry_count == 0 else None

        server.rule(rule)
        assert post([message(1)], headers={"X-Mark": "a"}).status_code == 503
        assert post([message(1)], headers={"X-Retry-Count": "1"}).ok
        assert seen[0].messages == (message(1),)
        assert seen[0].message_ids == ("1",)
        assert seen[0].write_key == "key"
        assert seen[0].headers["X-Mark"] == "a"
        assert "Authorization" not in seen[0].headers

    def test_a_rule_may_hold_a_request_while_others_pass(self, server, post):
        release = threading.Event()

        def rule(request):
            if request.message_ids == ("held",):
                release.wait(PATIENCE)

        server.rule(rule)
        with ThreadPoolExecutor(1) as pool, requests.Session() as other:
            held = pool.submit(post, [message("held")])
            body = encode({"batch": [message("free")], "sentAt": SENT_AT})
            headers = {"Content-Type": "application/json"}
            url = server.url + "/v1/batch"
            assert other.post(url, body, headers=headers, auth=("key", ""), timeout=9).ok
            assert list(server.received) == ["free"]
            release.set()
            assert held.result().ok

    def test_a_rule_that_raises_is_a_violation(self, server, post):
        server.rule(lambda _: 1 // 0)
        with pytest.raises(requests.ConnectionError):
            post([message(1)])
        assert server.wait_for(lambda: bool(server.violations), PATIENCE)
        assert "ZeroDivisionError" in server.violations[0]

    @pytest.mark.parametrize("record", ["messages", "ids"])
    def test_fail_messages(self, session, record):
        with SegmentServer(record=record) as server:
            server.fail_messages(lambda m: m["event"] == "Bad")

            def post(*events):
                batch = [message(n, event=event) for n, event in enumerate(events)]
                return session.post(
                    server.url + "/v1/batch",
                    encode({"batch": batch, "sentAt": SENT_AT}),
                    headers={"Content-Type": "application/json"},
                    auth=("key", ""),
                    timeout=PATIENCE,
                )

            answer = post("Good", "Bad", "Good")
            assert answer.status_code == 400
            assert answer.json()["success"] is False
            assert answer.json()["code"] == "invalid_request"
            assert server.requests[0].reply == "fail_messages"
            assert not server.received
            assert post("Good", "Good").ok
            server.fail_messages(None)
            assert post("Bad").ok
            assert server.violations == []


class TestRetryAfter:
    def test_an_early_request_is_a_violation_of_its_key_alone(self, server, post):
        server.reply(Reply.status(429, retry_after=60))
        post([message(1)], key="one")
        assert post([message(2)], key="two").ok
        assert server.violations == []
        assert post([message(1)], key="one").ok
        [violation] = server.violations
        assert "before its Retry-After had passed" in violation
        assert server.requests[-1].violations == (violation,)
        server.clear()
        post([message(1)], key="one")
        assert server.violations == []

    def test_an_outage_that_ends_does_not_lift_it(self, server, post):
        server.always(Reply.status(503, retry_after=60))
        post([message(1)])
        server.restore()
        post([message(1)])
        assert len(server.violations) == 1

    def test_a_request_in_time_is_none(self, server, post):
        server.reply(Reply.status(503, retry_after=1))
        post([message(1)])
        told = time.monotonic()
        server.wait_for(lambda: time.monotonic() >= told + 1, 1.001)
        post([message(1)])
        assert server.violations == []

    def test_as_a_date(self, server, post):
        date = datetime.now(timezone.utc) + timedelta(seconds=60)
        server.reply(Reply.status(429, retry_after=format_datetime(date, usegmt=True)))
        assert post([message(1)]).headers["Retry-After"].endswith("GMT")
        post([message(1)])
        assert len(server.violations) == 1

    @pytest.mark.parametrize(
        "reply",
        [
            Reply.status(400, retry_after=60),
            Reply.status(501, retry_after=60),
            Reply.status(200, retry_after=60),
            Reply.status(429, retry_after="soon"),
            Reply.status(429, retry_after="-1"),
            Reply.status(429),
        ],
    )
    def test_where_nothing_is_to_be_honoured(self, server, post, reply):
        server.reply(reply)
        post([message(1)])
        post([message(1)])
        assert server.violations == []

    def test_requests_under_way_are_excused_within_the_grace(self, session):
        with SegmentServer(in_flight_grace=60) as server:
            server.always(Reply.status(429, retry_after=60))
            for _ in range(2):
                session.post(
                    server.url + "/v1/batch",
                    encode({"batch": [message(1)], "sentAt": SENT_AT}),
                    headers={"Content-Type": "application/json"},
                    auth=("key", ""),
                    timeout=PATIENCE,
                )
            assert server.violations == []


class TestWaiting:
    def test_for_messages(self, server, post):
        with ThreadPoolExecutor(1) as pool:
            waiting = pool.submit(server.wait_for_messages, 3, PATIENCE)
            post([message(1), message(2)])
            post([message(1), message(2)])
            assert not waiting.done()
            post([message(3)])
            assert waiting.result() is True

    def test_for_anything(self, server, post):
        with ThreadPoolExecutor(1) as pool:
            waiting = pool.submit(server.wait_for, lambda: len(server.requests) == 2, PATIENCE)
            post(b"{")
            post(b"{")
            assert waiting.result() is True

    def test_in_vain(self, server):
        assert server.wait_for(lambda: False, 0.01) is False
        assert server.wait_for_messages(1, 0.01) is False


class TestConnections:
    def test_are_kept_alive(self, server):
        with connect(server) as connection:
            for n in range(3):
                connection.sendall(raw_batch(n))
                assert connection.recv(65536).endswith(b'{"success":true}')
        assert len(server.received) == 3

    def test_are_closed_when_asked(self, server):
        with connect(server) as connection:
            request = raw_batch(1).replace(b"Host:", b"Connection: close\r\nHost:")
            connection.sendall(request)
            assert b"Connection: close\r\n" in read_until_closed(connection)

    def test_a_client_that_leaves_is_no_noise(self, server, capfd):
        server.reply(Reply.slow(0.05))
        with connect(server) as connection:
            connection.sendall(raw_batch("left"))
            assert server.wait_for_messages(1, PATIENCE)
            linger = struct.pack("ii", 1, 0)
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
        with connect(server) as connection:
            connection.sendall(raw_batch("half")[:-5])
        server.stop()  # waits for both connections' threads
        assert list(server.received) == ["left"]
        assert len(server.requests) == 1
        assert server.violations == []
        assert capfd.readouterr() == ("", "")

    @pytest.mark.parametrize(
        "reply",
        [Reply.hang(60), Reply.slow(60), Reply.drip(60)],
        ids=lambda reply: reply.name,
    )
    def test_stop_is_prompt(self, server, reply):
        server.reply(reply)
        with connect(server) as idle, connect(server) as waiting:
            waiting.sendall(raw_batch(1))
            assert server.wait_for(lambda: len(server.requests) == 1, PATIENCE)
            start = time.monotonic()
            server.stop()
            assert time.monotonic() - start < 1
            assert read_until_closed(idle) == b""
            assert read_until_closed(waiting) in (b"", b"H")
        server.stop()

    def test_a_stopped_server_refuses_and_comes_back(self, server, post):
        post([message(1)])
        url = server.url
        server.stop()
        with pytest.raises(requests.ConnectionError):
            post([message(2)])
        server.start()
        assert server.url == url
        assert post([message(3)]).ok
        assert list(server.received) == ["1", "3"]

    def test_a_port_of_ones_choice(self):
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
        with SegmentServer(port) as server:
            assert server.url == f"http://127.0.0.1:{port}"


@pytest.mark.parametrize("ending", [signal.SIGTERM, signal.SIGINT])
def test_as_a_command(ending, session):
    command = [sys.executable, "-W", "error", "-m", "celery_segment.testing", "--port", "0"]
    with subprocess.Popen(command, stdout=-1, stderr=-1, text=True) as process:
        url = process.stdout.readline().strip()
        for _ in range(2):
            session.post(
                url + "/v1/batch",
                encode({"batch": [message("an-id")], "sentAt": SENT_AT}),
                headers={"Content-Type": "application/json"},
                auth=("the-key", ""),
                timeout=PATIENCE,
            )
        session.get(url, timeout=PATIENCE)
        process.send_signal(ending)
        output, errors = process.communicate(timeout=PATIENCE)
    size = len(encode({"batch": [message("an-id")], "sentAt": SENT_AT}))
    assert output.splitlines() == [
        f"200 ok: 1 messages, {size} bytes, retry 0",
        f"200 ok: 1 messages, {size} bytes, retry 0",
        "404 refused: 0 messages, 0 bytes, retry 0; a request to another path than /v1/batch",
        "3 requests, 2 messages accepted, 1 duplicates, 1 violations",
    ]
    assert errors == ""
    assert process.returncode == 0


def test_as_a_command_on_a_taken_port(server):
    command = [sys.executable, "-m", "celery_segment.testing", "--port", str(server.port)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)
    assert done.returncode == 2
    assert f"cannot listen on 127.0.0.1:{server.port}" in done.stderr
    assert "Traceback" not in done.stderr
