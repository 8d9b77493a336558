"""Segment's endpoint, as it is reached or not."""

from __future__ import annotations

import time

from checks import findings
from support import TLSFront, free_port, proxy_that_answers


def test_any_answer_of_the_endpoint_will_do(make_app, server):
    found = findings(make_app(segment_host=f"{server.url}/elsewhere"), status=0)
    assert found["default", "endpoint"]["found"].endswith("(HTTP 404)")


def test_the_endpoint_down_is_reported_unless_not_asked(app, server):
    server.stop()
    found = findings(app, status=1)["default", "endpoint"]
    assert "refused" in found["found"]
    assert found["hint"].startswith("check segment_host, the name server, the firewall")
    assert ("default", "endpoint") not in findings(app, "--no-endpoint", status=0)


def test_a_host_that_does_not_exist(make_app):
    found = findings(make_app(segment_host="https://api.segment.invalid"), status=1)
    assert "https://api.segment.invalid" in found["default", "endpoint"]["found"]


def test_an_endpoint_that_hangs(make_app, silent):
    sources = {"eu": {"host": f"https://127.0.0.1:{silent}", "timeout": 0.5}}
    started = time.monotonic()
    found = findings(make_app(segment_sources=sources), status=1)
    assert time.monotonic() - started < 2
    assert found["default", "endpoint"]["state"] == "ok"
    assert found["eu", "endpoint"]["found"].endswith("within 0.5 s")


def test_a_certificate_is_trusted_by_its_bundle_only(make_app, server, tmp_path):
    with TLSFront(server.port, tmp_path) as front:
        url = f"https://localhost:{front.port}"
        bundle = {"host": url, "ca_bundle": str(front.bundle)}
        found = findings(make_app(segment_host=url, segment_sources={"b": bundle}), status=1)
    assert found["default", "endpoint"]["hint"].startswith("set segment_ca_bundle to")
    assert found["b", "endpoint"]["state"] == "ok"


def test_the_way_leads_through_the_proxy(make_app, server):
    login = server.url.replace("//", "//user:passw0rd@")
    away = f"http://user:passw0rd@127.0.0.1:{free_port()}"
    conf = {"segment_host": "http://segment.invalid", "segment_allow_http": True}
    sources = {"b": {"proxies": {"http": away}}, "c": {"proxies": {"http": "passw0rd"}}}
    app = make_app(**conf, segment_proxies={"http": login}, segment_sources=sources)
    found = findings(app, status=1)
    states = [found[source, "endpoint"]["state"] for source in ("default", "b", "c")]
    assert states == ["ok", "fail", "fail"]


def test_a_proxy_that_asks_for_a_login_is_reported(make_app):
    sources = {"b": {"proxies": {"http": "ftp://proxy"}}}
    conf = {"segment_host": "http://segment.invalid", "segment_allow_http": True}
    with proxy_that_answers(407) as proxy:
        conf |= {"segment_proxies": {"http": proxy}, "segment_sources": sources}
        found = findings(make_app(**conf), status=1)
    for source, told in (("default", "407"), ("b", "ftp")):
        finding = found[source, "endpoint"]
        assert finding["state"] == "fail"
        assert told in finding["found"]
        assert "segment_proxies" in finding["hint"]
