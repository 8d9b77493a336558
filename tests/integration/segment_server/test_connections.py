"""SegmentServer's connections, its start and stop, and as a command."""

from __future__ import annotations

import signal
import socket
import struct
import subprocess
import sys
import time

import pytest
import requests

from celery_segment.testing import Reply, SegmentServer
from posting import PATIENCE, SENT_AT, connect, encode, message, raw_batch, read_until_closed


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
        session.get(url + "/v1/track", timeout=PATIENCE)
        process.send_signal(ending)
        output, errors = process.communicate(timeout=PATIENCE)
    size = len(encode({"batch": [message("an-id")], "sentAt": SENT_AT}))
    assert output.splitlines() == [
        f"200 ok: 1 message, {size} bytes, retry 0",
        f"200 ok: 1 message, {size} bytes, retry 0",
        "404 refused: 0 messages, 0 bytes, retry 0; the path is not /v1/batch",
        "3 requests, 2 messages accepted, 1 duplicate, 1 violation",
    ]
    assert errors == ""
    assert process.returncode == 0


def test_as_a_command_on_a_taken_port(server):
    command = [sys.executable, "-m", "celery_segment.testing", "--port", str(server.port)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)
    assert done.returncode == 2
    assert f"cannot listen on 127.0.0.1:{server.port}" in done.stderr
    assert "Traceback" not in done.stderr
