"""Bodies, routes and keys that SegmentServer takes or refuses."""

from __future__ import annotations

import base64
import gzip

import pytest

from celery_segment.testing import Reply, SegmentServer
from posting import (
    PATIENCE,
    SENT_AT,
    connect,
    encode,
    message,
    message_of,
    raw_request,
    read_until_closed,
)


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
            ({"batch": [message(1)]}, 400, "sentAt is missing"),
            ({"batch": {}, "sentAt": SENT_AT}, 400, "not a batch"),
            ({"sentAt": SENT_AT}, 400, "not a batch"),
            ([message(1, n=float("nan"))], 400, "not a batch"),
            (b"[]", 400, "not a batch"),
            (b"", 400, "not a batch"),
            (b'{"batch":[{"messageId":"1","a":"\xff"}],"sentAt":"x"}', 400, "not UTF-8"),
            (b'{"batch":[{"messageId":"1","a":"\\ud800"}],"sentAt":"x"}', 400, "not a batch"),
            (b"[" * 20_000 + b"]" * 20_000, 400, "not a batch"),
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

    def test_the_ids_of_a_refused_batch_are_recorded(self, server, post):
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
        assert server.violations == ["Content-Length is missing"]


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
        assert server.violations == ["Authorization is not Basic with a write key and no password"]

    def test_any_key_will_do_by_default(self, post):
        assert post([message(1)], key="whatever").ok
        assert post([message(1)], key="").status_code == 401
