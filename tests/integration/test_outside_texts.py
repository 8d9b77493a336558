"""What others send cannot control a terminal, nor add a line to a log."""

from __future__ import annotations

import json
import logging
import socket
import threading
from contextlib import contextmanager

import pytest
from hiredis import ReplyError

from celery_segment import Analytics, track
from celery_segment.buffer.answers import brief, translated
from celery_segment.delivery.attempt import attempt_delivery
from celery_segment.text import one_line
from commands import ok
from delivering import post
from support import WRITE_KEY, buffer_of

EVIL = "\x1b[31mred\x1b]0;title\x07\x9b2J\r\nWARNING forged\u2028line\u202e"
EVIL_BYTES = EVIL.encode().replace(b"\r\n", b"")


def check(text):
    assert text.isprintable(), ascii(text)


@contextmanager
def answering(data: bytes):
    """A server, or a proxy, that gives each request the same bytes; yield its port."""

    def serve():
        while True:
            try:
                client, _ = listener.accept()
            except OSError:
                return
            with client:
                client.recv(65_536)
                client.sendall(data)

    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=serve)
        thread.start()
        yield listener.getsockname()[1]
        listener.shutdown(socket.SHUT_RDWR)
        thread.join()


def head(status, reason=b"", headers=b"", body=b""):
    length = f"Content-Length: {len(body)}\r\n".encode()
    lines = b"HTTP/1.1 %d %b\r\n" % (status, reason)
    return lines + length + b"Connection: close\r\n" + headers + b"\r\n" + body


ANSWERS = {
    "no status": EVIL_BYTES + b"\r\n\r\n",
    "no number": b"HTTP/1.1 " + EVIL_BYTES + b"\r\n\r\n",
    "reason": head(500, EVIL_BYTES),
    "header": head(429, headers=b"Retry-After: " + EVIL_BYTES + b"\r\n"),
    "encoding": head(400, headers=b"Content-Encoding: " + EVIL_BYTES + b"\r\n", body=b"x"),
    "body": head(400, EVIL_BYTES, body=EVIL.encode()),
    "length": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + EVIL_BYTES + b"\r\n",
    "redirect": head(302, headers=b"Location: " + EVIL_BYTES + b"\r\n"),
    "credentials": f"{WRITE_KEY}\r\n\r\n".encode(),
}


@pytest.mark.parametrize("answer", ANSWERS.values(), ids=ANSWERS)
def test_what_an_endpoint_answers(make_app, caplog, answer):
    caplog.set_level(logging.DEBUG, "celery_segment")
    with answering(answer) as port:
        app = make_app(segment_host=f"http://127.0.0.1:{port}", segment_flush_at=1)
        buffer = buffer_of(app)
        track.delay("u", "E")
        (batch,) = buffer.claim(1)
        report = attempt_delivery(buffer, batch.id)
    letters = list(Analytics().dead_letters)
    shown = [report.text, str(Analytics().stats().gate), *(letter.reason for letter in letters)]
    shown += [record.getMessage() for record in caplog.records]
    for text in shown:
        check(text)
        assert WRITE_KEY not in text
    assert letters or report.retry_in is not None or "delivered" in report.text
    for output in (ok(app, "dead", "list"), ok(app, "status")):
        for line in output.splitlines():
            check(line)


@pytest.mark.parametrize("status", [200, 403, 503])
def test_what_a_proxy_answers(status):
    with answering(head(status, EVIL_BYTES)) as port:
        proxies = {"https": f"http://127.0.0.1:{port}"}
        check(post("https://segment.invalid", segment_timeout=2, segment_proxies=proxies).cause)


def test_what_redis_answers():
    check(str(translated(ReplyError(f"ERR {EVIL}"), "host:1")))
    check(str(translated(ReplyError(f"NOPERM {EVIL}"), "host:1")))
    check(brief(ConnectionError(EVIL)))


def test_what_others_wrote_into_redis(app, redis):
    track.delay("u", "E")
    prefix = "{segment:default}"
    redis.hset(f"{prefix}:state", "owner", EVIL)
    redis.set(f"{prefix}:gate", f"failure {EVIL}".encode() + b"\xff", px=60_000)
    redis.zadd(f"{prefix}:dead", {EVIL: 1})
    letter = {"count": 1, "bytes": 3, "buried": 1, "cause": EVIL}
    redis.hset(f"{prefix}:meta:{EVIL}", mapping=letter)
    redis.hset(f"{prefix}:stats", f"attempts:{EVIL}", 1)
    outputs = [
        *(ok(app, "dead", "list"), ok(app, "status")),
        *(ok(app, "dead", "list", "--json"), ok(app, "status", "--json")),
    ]
    for output in outputs:
        for line in output.splitlines():
            check(line)
    assert json.loads(outputs[2])[0]["id"] == EVIL  # an operator can purge it


def test_a_text_that_is_harmless_stays_as_it_is():
    assert one_line("  a  text é 日本語 🙂\n") == "a text é 日本語 🙂"
    assert one_line(b"\xff\x1b") == "\N{REPLACEMENT CHARACTER}" * 2
