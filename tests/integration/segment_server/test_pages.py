"""SegmentServer hands what is not for Segment's endpoint to a WSGI application."""

from __future__ import annotations

import time

import pytest

from celery_segment.testing import Reply, SegmentServer
from posting import PATIENCE, connect, encode, message, raw_batch, read_until_closed


def echo(environ, start_response):
    """Answer with what WSGI was told."""
    body = environ["wsgi.input"].read()
    told = {
        name: environ[name]
        for name in ("REQUEST_METHOD", "SCRIPT_NAME", "PATH_INFO", "QUERY_STRING", "HTTP_HOST")
    }
    if environ["PATH_INFO"] == "/broken":
        raise RuntimeError("a page is broken")
    start_response("418 Teapot", [("Content-Type", "application/json"), ("X-Page", "1")])
    return [encode({**told, "port": int(environ["SERVER_PORT"]), "body": body.decode()})]


@pytest.fixture
def server():
    with SegmentServer(pages=echo) as server:
        yield server


def test_a_page_is_asked(server, session):
    address = f"{server.url}/a%20path?x=1&y"
    for method, body in (("GET", ""), ("POST", "b" * 100_000), ("DELETE", "")):
        response = session.request(method, address, data=body, timeout=PATIENCE)
        assert (response.status_code, response.headers["X-Page"]) == (418, "1")
        assert response.json() == {
            "REQUEST_METHOD": method,
            "SCRIPT_NAME": "",
            "PATH_INFO": "/a path",
            "QUERY_STRING": "x=1&y",
            "HTTP_HOST": f"127.0.0.1:{server.port}",
            "port": server.port,
            "body": body,
        }
    assert server.requests == []


@pytest.mark.parametrize("path", ["/v1/batch", "/v1/track", "/prefix/v1/batch", "/health"])
def test_the_endpoint_has_its_paths(server, session, path):
    response = session.get(server.url + path, timeout=PATIENCE)
    assert response.status_code == {"/v1/batch": 405, "/health": 200}.get(path, 404)
    assert len(server.requests) == (path != "/health")


def test_without_pages_there_are_none(session):
    with SegmentServer() as server:
        assert session.get(server.url + "/page", timeout=PATIENCE).status_code == 404
        assert len(server.requests) == 1


def test_a_page_that_fails_leaves_the_server_well(server, session, post, capfd):
    assert session.get(server.url + "/broken", timeout=PATIENCE).status_code == 500
    assert "a page is broken" in capfd.readouterr().err
    assert post([message(1)]).ok
    assert server.violations == []


def test_pages_and_batches_on_one_connection(server):
    with connect(server) as connection:
        connection.sendall(raw_batch("a"))
        assert connection.recv(65_536).endswith(b'{"success":true}')
        connection.sendall(b"GET /page HTTP/1.1\r\nHost: test\r\n\r\n")
        assert b'"PATH_INFO":"/page"' in read_until_closed(connection)


def test_a_page_that_waits_hears_of_the_end():
    def wait(environ, start_response):
        server.reply(Reply.ok())  # tells the test that it waits
        environ["celery_segment.stopping"].wait(PATIENCE)
        start_response("200 OK", [])
        return [b""]

    with SegmentServer(pages=wait) as server, connect(server) as connection:
        connection.sendall(b"GET /page HTTP/1.1\r\nHost: test\r\n\r\n")
        deadline = time.monotonic() + PATIENCE
        while not server._queue and time.monotonic() < deadline:
            time.sleep(0.01)
        start = time.monotonic()
        server.stop()
        assert time.monotonic() - start < 1


def test_nothing_is_recorded_where_that_is_asked(session):
    seen = []
    with SegmentServer(record="nothing", on_exchange=lambda *both: seen.append(both)) as server:
        body = encode({"batch": [message("a")], "sentAt": "2026-11-23T07:00:00Z"})
        headers = {"Content-Type": "application/json"}
        session.post(f"{server.url}/v1/batch", body, headers=headers, auth=("k", ""))
        session.get(server.url, timeout=PATIENCE)
        assert (server.requests, server.messages, server.violations) == ([], [], [])
        assert not server.received
    (request, received), (_, refused) = seen
    assert request.messages == (message("a"),)
    assert (received.status, received.accepted, received.messages) == (200, True, ())
    assert (refused.status, refused.violations) == (404, ("the path is not /v1/batch",))


def test_an_override_is_asked_before_all_scripts_and_stays(session):
    asked = []

    def override(request):
        asked.append(request.message_ids)
        return Reply.status(503) if request.message_ids == ("bad",) else None

    with SegmentServer(override=override) as server:
        server.always(Reply.status(500))
        server.restore()
        server.reply(Reply.status(429))
        statuses = []
        for name in ("bad", "good", "good"):
            body = encode({"batch": [message(name)], "sentAt": "2026-11-23T07:00:00Z"})
            headers = {"Content-Type": "application/json"}
            url = f"{server.url}/v1/batch"
            statuses.append(session.post(url, body, headers=headers, auth=("k", "")).status_code)
        assert statuses == [503, 429, 200]
        assert asked == [("bad",), ("good",), ("good",)]
