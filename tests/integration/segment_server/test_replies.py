"""SegmentServer's replies, in order or by rule."""

from __future__ import annotations

import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
import requests

from celery_segment.testing import Reply, SegmentServer
from posting import PATIENCE, SENT_AT, connect, encode, message, raw_batch, read_until_closed


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
            parts = []
            while b'{"success":true}' not in b"".join(parts):
                parts.append(connection.recv(65536))
            connection.sendall(raw_batch(2))  # and the connection lives on
            assert connection.recv(65536).startswith(b"HTTP/1.1 200 ")
        assert b"".join(parts).startswith(b"HTTP/1.1 200 OK\r\n")
        assert len(parts) > 20  # one for each byte, unless the machine is busy
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
