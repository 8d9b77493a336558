"""What SegmentServer records, and waiting for it."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor

from celery_segment.testing import Received, SegmentServer
from posting import PATIENCE, SENT_AT, connect, encode, message, raw_batch


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

    def test_a_listener_is_called_for_every_request(self, session):
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
