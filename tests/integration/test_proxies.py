"""Requests through proxies that are real: SOCKS and CONNECT, well, slow, or wrongly configured."""

from __future__ import annotations

import socket
import time

import pytest

from celery_segment.testing import Reply
from delivering import post
from proxies import proxy
from support import TLSFront, free_port, proxy_that_answers

#: The proxies that are asked for a name; the others get an address.
REMOTE = ("http", "socks4a", "socks5h")


@pytest.fixture
def front(server, tmp_path):
    with TLSFront(server.port, tmp_path) as front:
        yield front


@pytest.fixture
def silent():
    """The port of a server that takes connections and never says a word."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        yield listener.getsockname()[1]


def through(url, front, **conf):
    bundle = str(front.bundle)
    target = f"https://localhost:{front.port}"
    return post(target, segment_proxies={"https": url}, segment_ca_bundle=bundle, **conf)


@pytest.mark.parametrize("scheme", [*REMOTE, "socks4", "socks5"])
def test_messages_arrive_through_a_proxy(server, front, scheme):
    with proxy() as way:
        for _ in range(2):
            assert through(way.url(scheme), front).status == 200
        assert len(way.asked) == 1, "the connection is kept"
        assert (way.asked == ["localhost"]) == (scheme in REMOTE)
    assert server.received == {"m1": 2, "m2": 2}


@pytest.mark.parametrize("scheme", ["socks4a", "socks5h"])
def test_without_tls(server, scheme):
    with proxy() as way:
        conf = {"segment_proxies": {"all": way.url(scheme)}, "segment_allow_http": True}
        assert post(f"http://segment.invalid:{server.port}", **conf).status == 200
        assert way.asked == ["segment.invalid"]


@pytest.mark.parametrize("scheme", ["socks4", "socks5h", "http"])
def test_a_wrong_login_is_configuration(front, scheme):
    with proxy() as way:
        url = way.url(scheme, "wr0ng").replace("user:", "n0body:")
        failure = through(url, front)
    assert failure.kind == "configuration"
    assert "wr0ng" not in failure.cause
    assert "n0body" not in failure.cause


@pytest.mark.parametrize(
    ("scheme", "code", "kind"),
    [
        ("socks5h", b"\2", "configuration"),
        ("socks5h", b"\7", "configuration"),
        ("socks5h", b"\4", "network"),
        ("socks4", b"\x5b", "network"),
    ],
)
def test_a_connection_that_socks_refuses(front, scheme, code, kind):
    with proxy(refuses=code) as way:
        failure = through(way.url(scheme), front)
    assert failure.kind == kind
    assert f"0x{code.hex()}" in failure.cause
    assert "passw0rd" not in failure.cause


def test_a_proxy_that_is_not_one_of_socks(front):
    with proxy_that_answers(400) as url:
        failure = through(url.replace("http:", "socks5h:"), front)
    assert failure.kind == "configuration"
    assert "passw0rd" not in failure.cause


@pytest.mark.parametrize("scheme", ["socks4", "socks5h", "http"])
def test_a_proxy_that_says_nothing(front, silent, scheme):
    started = time.monotonic()
    failure = through(f"{scheme}://user:passw0rd@127.0.0.1:{silent}", front, segment_timeout=0.5)
    assert time.monotonic() - started < 1.0
    assert failure.kind == "timeout"


def test_the_deadline_is_for_all_answers_of_a_proxy_together(front):
    with proxy(delay=0.4) as way:
        started = time.monotonic()
        failure = through(way.url("socks5h"), front, segment_timeout=0.5)
        assert time.monotonic() - started < 0.7
    assert failure.kind == "timeout"


def test_the_deadline_is_for_the_endpoint_behind_a_proxy_too(server, front):
    with proxy(delay=0.1) as way:
        url = way.url("socks5h")
        server.reply(Reply.drip(0.05))
        started = time.monotonic()
        assert through(url, front, segment_timeout=0.6).kind == "timeout"
        assert time.monotonic() - started < 1.0


@pytest.mark.parametrize("scheme", ["http", "https"])
def test_tls_to_a_proxy_without_it(scheme):
    with proxy_that_answers(200) as url:
        conf = {"segment_proxies": {scheme: url.replace("http:", "https:")}}
        failure = post(f"{scheme}://segment.invalid", segment_allow_http=True, **conf)
    assert failure.kind == "configuration"
    assert "write its URL as http://" in failure.cause


@pytest.mark.parametrize("scheme", ["http", "https"])
def test_a_proxy_with_tls_whose_url_has_none(front, scheme):
    conf = {"segment_proxies": {scheme: f"http://user:passw0rd@localhost:{front.port}"}}
    failure = post(f"{scheme}://segment.invalid", segment_allow_http=True, **conf)
    assert failure.kind == "configuration"
    assert "write its URL as https://" in failure.cause


def test_the_certificate_of_a_proxy_is_checked(front):
    conf = {"segment_proxies": {"https": f"https://user:passw0rd@localhost:{front.port}"}}
    assert post("https://segment.invalid", **conf).kind == "tls"


@pytest.mark.parametrize("scheme", ["socks5h", "http", "https"])
def test_a_proxy_that_is_down_is_a_failing_network(scheme):
    conf = {"segment_proxies": {"https": f"{scheme}://user:passw0rd@127.0.0.1:{free_port()}"}}
    assert post("https://segment.invalid", **conf).kind == "network"
