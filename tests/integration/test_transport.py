"""The HTTP edge, against a real endpoint."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
from contextlib import ExitStack

import pytest

from celery_segment.delivery import transport
from celery_segment.delivery.answer import Answer, Failure
from celery_segment.testing import Reply, SegmentServer
from delivering import post
from support import TESTS, WRITE_KEY, TLSFront, proxy_that_answers


class TestRequest:
    def test_a_request_is_what_segment_expects(self, server):
        answer = post(server.url)
        assert isinstance(answer, Answer)
        assert answer.status == 200
        (request,) = server.requests
        assert request.path == "/v1/batch"
        assert request.write_key == WRITE_KEY
        assert request.message_ids == ("m1", "m2")
        assert request.headers["Content-Encoding"] == "gzip"
        assert request.headers["User-Agent"].startswith("celery-segment/")
        assert "X-Retry-Count" not in request.headers
        assert server.violations == []

    def test_a_retry_says_so(self, server):
        post(server.url, requests=3)
        assert server.requests[0].retry_count == 3

    def test_uncompressed(self, server):
        post(server.url, segment_gzip=False)
        assert server.requests[0].accepted
        assert "Content-Encoding" not in server.requests[0].headers

    @pytest.mark.parametrize("suffix", ["", "/", "/v1", "/v1/", "/v1/batch"])
    def test_a_host_may_end_as_the_documentation_printed_it(self, server, suffix):
        assert post(server.url + suffix).status == 200

    def test_connections_are_reused(self, server):
        for _ in range(5):
            post(server.url)
        routes = transport._of_this_process()._routes.items()
        (pool,) = [route.pool for (url, *_), route in routes if url.startswith(server.url)]
        assert pool.num_connections == 1
        assert pool.num_requests == 5

    def test_a_forked_child_opens_its_own(self, server):
        post(server.url)
        parent = transport._of_this_process()
        child = os.fork()
        if child == 0:
            fine = transport._of_this_process() is not parent and post(server.url).status == 200
            os._exit(0 if fine else 1)
        assert os.waitpid(child, 0)[1] == 0


class TestAnswers:
    @pytest.mark.parametrize("status", [200, 204, 400, 401, 404, 429, 500, 503])
    def test_the_status_is_the_answer(self, server, status):
        server.reply(Reply.status(status))
        assert post(server.url).status == status

    def test_headers_are_found_in_any_case(self, server):
        server.reply(Reply.status(429, retry_after=7))
        assert post(server.url).headers["retry-after"] == "7"

    def test_a_redirect_is_not_followed_with_the_key(self, server):
        with SegmentServer() as elsewhere:
            server.reply(Reply.redirect(elsewhere.url + "/v1/batch"))
            assert post(server.url).status == 302
            assert elsewhere.requests == []

    def test_an_answer_that_echoes_the_key_is_not_shown(self, server):
        server.reply(Reply.status(401, body=f"bad key {WRITE_KEY}".encode()))
        assert post(server.url).text == ""
        server.reply(Reply.status(401, body=b"bad key"))
        assert post(server.url).text == "bad key"

    def test_no_cookie_is_kept(self, server):
        server.reply(Reply.status(200, headers={"Set-Cookie": "a=b"}))
        post(server.url)
        post(server.url)
        assert "Cookie" not in server.requests[-1].headers

    def test_a_netrc_file_is_not_asked(self, server, monkeypatch, tmp_path):
        netrc = tmp_path / "netrc"
        netrc.write_text("machine 127.0.0.1 login other password secret\n")
        netrc.chmod(0o600)
        monkeypatch.setenv("NETRC", str(netrc))
        post(server.url)
        assert server.requests[0].write_key == WRITE_KEY


class TestFailures:
    @pytest.mark.parametrize("reply", [Reply.close(), Reply.reset(), Reply.garbage()])
    def test_no_answer_is_a_failure_with_a_cause(self, server, reply):
        server.reply(reply)
        failure = post(server.url)
        assert isinstance(failure, Failure)
        assert server.url in failure.cause
        assert WRITE_KEY not in failure.cause

    def test_the_connection_refused(self):
        with socket.socket() as s:
            s.bind(("127.0.0.1", 0))
            port = s.getsockname()[1]
        refused = post(f"http://127.0.0.1:{port}")
        assert "refused" in refused.cause
        assert refused.kind == "network"

    @pytest.mark.parametrize("reply", [Reply.hang(30), Reply.drip(0.05), Reply.slow(30)])
    def test_the_deadline_is_for_the_whole_exchange(self, server, reply):
        server.reply(reply)
        started = time.monotonic()
        failure = post(server.url, segment_timeout=0.5)
        assert time.monotonic() - started < 1.5
        assert failure == Failure(f"no answer from {server.url} within 0.5 s", "timeout")

    def test_a_reused_connection_has_a_deadline_of_its_own(self, server):
        for _ in range(3):
            assert post(server.url, segment_timeout=0.7).status == 200
            time.sleep(0.3)
        server.reply(Reply.hang(30))
        started = time.monotonic()
        post(server.url, segment_timeout=0.7)
        assert 0.6 < time.monotonic() - started < 1.5


@pytest.fixture
def deaf():
    """Four addresses of this machine, one port: they take no more connections, and say nothing."""
    with ExitStack() as stack:
        port = 0
        addresses = [f"127.0.0.{n}" for n in range(2, 6)]
        for address in addresses:
            listener = stack.enter_context(socket.create_server((address, port), backlog=0))
            port = listener.getsockname()[1]
            for _ in range(3):
                filler = stack.enter_context(socket.socket())
                filler.setblocking(False)
                filler.connect_ex((address, port))
        yield addresses, port


class TestAddresses:
    def test_the_deadline_is_for_all_addresses_together(self, deaf, monkeypatch):
        addresses, port = deaf
        resolve(monkeypatch, addresses, port)
        started = time.monotonic()
        failure = post(f"http://several.invalid:{port}", segment_timeout=1, segment_allow_http=True)
        assert isinstance(failure, Failure)
        assert 0.9 < time.monotonic() - started < 1.5

    def test_the_next_address_is_tried(self, server, monkeypatch):
        resolve(monkeypatch, ["127.0.0.9", "127.0.0.1"], server.port)
        assert post(f"http://several.invalid:{server.port}", segment_allow_http=True).status == 200


def resolve(monkeypatch, addresses, port):
    real = socket.getaddrinfo

    def getaddrinfo(host, *args, **kwargs):
        if host != "several.invalid":
            return real(host, *args, **kwargs)
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (a, port)) for a in addresses]

    monkeypatch.setattr(socket, "getaddrinfo", getaddrinfo)


class TestTLS:
    def test_the_certificate_is_checked_against_the_bundle(self, server, tmp_path):
        with TLSFront(server.port, tmp_path) as front:
            url, bundle = f"https://localhost:{front.port}", front.bundle
            refused = post(url, segment_timeout=3)
            assert isinstance(refused, Failure)
            assert "certificate" in refused.cause.lower()
            assert refused.kind == "tls"
            assert server.requests == []
            assert post(url, segment_ca_bundle=str(bundle)).status == 200
        assert server.received == {"m1": 1, "m2": 1}


class TestProxies:
    @pytest.mark.parametrize(
        ("status", "kind"),
        [
            *((status, "configuration") for status in (400, 403, 405, 407, 501)),
            *((status, "network") for status in (408, 429, 500, 502, 503, 504)),
        ],
    )
    def test_a_proxy_that_refuses_a_tunnel(self, status, kind):
        with proxy_that_answers(status) as proxy:
            failure = post("https://segment.invalid", segment_proxies={"https": proxy})
        assert isinstance(failure, Failure)
        assert failure.kind == kind
        assert str(status) in failure.cause
        assert "passw0rd" not in failure.cause

    @pytest.mark.parametrize("scheme", ["http", "https"])
    @pytest.mark.parametrize(
        ("proxy", "told"),
        [
            ("http:///nowhere", "InvalidProxyURL"),
            ("http://user:passw0rd@proxy:port", "LocationParseError"),
            ("http://user:passw0rd@[proxy", ""),
            ("ftp://user:passw0rd@proxy", "ftp"),
        ],
    )
    def test_a_url_of_a_proxy_that_is_none(self, scheme, proxy, told):
        conf = {"segment_allow_http": True, "segment_proxies": {scheme: proxy}}
        failure = post(f"{scheme}://segment.invalid", **conf)
        assert isinstance(failure, Failure)
        assert failure.kind == "configuration"
        assert told in failure.cause
        assert "passw0rd" not in failure.cause

    @pytest.mark.parametrize("scheme", ["socks4", "socks5", "socks5h"])
    def test_socks_without_pysocks(self, scheme):
        program = (
            "import sys; sys.modules['socks'] = None; from delivering import post;"
            f" conf = {{'segment_proxies': {{'https': '{scheme}://user:passw0rd@127.0.0.1:1'}}}};"
            " failure = post('https://segment.invalid', **conf);"
            " print(failure.kind, failure.cause)"
        )
        run = subprocess.run(
            [sys.executable, "-c", program],
            env={**os.environ, "PYTHONPATH": str(TESTS)},
            capture_output=True,
            text=True,
            timeout=60,
            check=True,
        )
        assert run.stdout.startswith("configuration ")
        assert "pip install 'requests[socks]'" in run.stdout
        assert "passw0rd" not in run.stdout

    def test_a_missing_file_of_certificates(self, server, monkeypatch, tmp_path):
        monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(tmp_path / "gone.pem"))
        with TLSFront(server.port, tmp_path) as front:
            failure = post(f"https://localhost:{front.port}", segment_timeout=3)
        assert failure.kind == "configuration"
        assert "REQUESTS_CA_BUNDLE" in failure.cause

    def test_a_configured_proxy_is_used(self, server):
        # A plain-http proxy gets the whole URL and answers in the host's stead.
        conf = {"segment_allow_http": True, "segment_proxies": {"http": server.url}}
        post("http://segment.invalid", **conf)
        assert len(server.requests) == 1

    def test_the_environments_proxy_is_used_and_may_be_excepted(self, server, monkeypatch):
        monkeypatch.setenv("http_proxy", server.url)
        monkeypatch.setenv("no_proxy", "excepted.invalid")
        post("http://segment.invalid", segment_allow_http=True)
        assert len(server.requests) == 1
        excepted = post("http://excepted.invalid", segment_allow_http=True)
        assert isinstance(excepted, Failure)
        assert len(server.requests) == 1
