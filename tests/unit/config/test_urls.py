"""The endpoint's host, and the URL of Redis."""

from __future__ import annotations

import ssl
from pathlib import Path

import pytest

from celery_segment.buffer import connect
from celery_segment.errors import ConfigurationError
from configuring import configured, refusal, source

# ---------------------------------------------------------------- hosts


@pytest.mark.parametrize(
    ("given", "host"),
    [
        ("https://api.segment.io", "https://api.segment.io"),
        ("https://api.segment.io/", "https://api.segment.io"),
        ("https://api.segment.io/v1", "https://api.segment.io"),
        ("https://api.segment.io/v1/", "https://api.segment.io"),
        ("https://api.segment.io//", "https://api.segment.io"),
        ("https://api.segment.io/v1/batch", "https://api.segment.io"),
        ("https://events.eu1.segmentapis.com/v1", "https://events.eu1.segmentapis.com"),
        ("api.segment.io", "https://api.segment.io"),
        ("api.segment.io/v1/", "https://api.segment.io"),
        ("  https://api.segment.io\n", "https://api.segment.io"),
        ("https://gateway.example:8443/segment/v1/", "https://gateway.example:8443/segment"),
        ("https://gateway.example/v12", "https://gateway.example/v12"),
        ("http://localhost:8080", "http://localhost:8080"),
        ("http://127.0.0.1:8080/v1", "http://127.0.0.1:8080"),
        ("http://127.1.2.3", "http://127.1.2.3"),
        ("http://[::1]:8080", "http://[::1]:8080"),
        ("http://LOCALHOST", "http://LOCALHOST"),
    ],
)
def test_hosts(given, host):
    assert source(segment_host=given).host == host
    assert source("m", segment_sources={"m": {"host": given}}).host == host


@pytest.mark.parametrize(
    "host",
    [
        "http://api.segment.io",
        "HTTP://api.segment.io",
        "http://10.0.0.1",
        "http://localhost.example.com",
        "http://127.0.0.1.example.com",
        "http://1270.0.1",
    ],
)
def test_plain_http_stays_on_this_machine_unless_allowed(host):
    text = refusal(segment_host=host)
    assert "unencrypted" in text
    assert "segment_allow_http" in text
    assert source(segment_host=host, segment_allow_http=True).host.startswith("http://")
    assert "of source 'm'" in refusal(segment_sources={"m": {"host": host}})
    assert source("m", segment_sources={"m": {"host": host, "allow_http": True}})


@pytest.mark.parametrize(
    "host",
    [
        "https://key@api.segment.io",
        "https://k:@h",
        "https://:p@h",
        "http://localhost@h",
        "k@h",
        "@h",
    ],
)
def test_credentials_in_a_host_are_refused(host):
    assert "without credentials" in refusal(segment_host=host)


# ---------------------------------------------------------------- Redis


@pytest.mark.parametrize(
    ("broker", "redis"),
    [
        ("redis://", "redis://127.0.0.1"),
        ("REDIS://h", "redis://h"),
        ("redis://h/", "redis://h"),
        ("redis://h:0x/0", ""),
        ("redis://h/orders", ""),
        ("redis://h:6380/3", "redis://h:6380/3"),
        ("redis://user:p%40ss@h/3", "redis://user:p%40ss@h/3"),
        ("rediss://h/0?ssl_cert_reqs=required", "rediss://h/0?ssl_cert_reqs=required"),
        ("rediss://h/0?ssl_cert_reqs=CERT_NONE", "rediss://h/0?ssl_cert_reqs=CERT_NONE"),
        # kombu: any option of TLS turns it on
        ("redis://h/0?ssl_ca_certs=ca", "rediss://h/0?ssl_ca_certs=ca"),
        ("redis+socket:///run/redis.sock", "unix:///run/redis.sock?db=0"),
        ("redis+socket:///run/r.sock?virtual_host=3", "unix:///run/r.sock?db=3"),
        ("redis+socket:///run/r.sock?virtual_host=/3", "unix:///run/r.sock?db=3"),
        ("redis+socket://:pw@/run/r.sock", "unix://:pw@/run/r.sock?db=0"),
        ("redis+socket://u:p%40@/run/r.sock", "unix://u:p%40@/run/r.sock?db=0"),
        (["redis://a/1", "redis://b/1"], "redis://a/1"),
        (("redis://a/1", "redis://b/1"), "redis://a/1"),
        ("redis://a/1;redis://b/1", "redis://a/1"),
        ("amqp://guest@h//", ""),
        ("sqs://", ""),
        ("memory://", ""),
        ("sentinel://h:26379", "sentinel://h:26379"),
        ("amqp://a;sentinel://h;sentinel://i/1", "sentinel://h;sentinel://i/1"),
        (["amqp://h", "redis://h"], "redis://h"),
        ("amqp://h;redis://h", "redis://h"),
        ("", ""),
    ],
)
def test_the_buffer_is_in_the_broker_when_that_is_redis(broker, redis):
    assert configured(broker_url=broker).redis_url == redis


def test_spilling_needs_a_file(tmp_path):
    assert "segment_spill_path" in refusal(segment_on_unavailable="spill")
    assert "'m'" in refusal(segment_sources={"m": {"on_unavailable": "spill"}})
    path = tmp_path / "spill"
    assert configured(segment_on_unavailable="spill", segment_spill_path=path).spill_path == str(
        path
    )


def test_the_brokers_tls_options_are_the_buffers():
    tls = {"ssl_cert_reqs": ssl.CERT_REQUIRED, "ssl_ca_certs": "/etc/ca.pem", "ssl_keyfile": None}
    for broker in ("redis://h/0", "rediss://h/0"):
        settings = configured(broker_url=broker, broker_use_ssl=tls)
        assert settings.redis_url == "rediss://h/0"
        assert settings.redis_options == tls
    own = configured(broker_url="rediss://h/0?ssl_cert_reqs=none", broker_use_ssl=tls)
    assert own.redis_options == {}


def test_tls_without_options_is_that_of_kombu():
    settings = configured(broker_url="rediss://h/0")
    assert settings.redis_options == {"ssl_cert_reqs": "none"}
    # kombu ignores True: a redis:// is connected to without TLS
    settings = configured(broker_url="redis://h/0", broker_use_ssl=True)
    assert (settings.redis_url, settings.redis_options) == ("redis://h/0", {})


def test_the_brokers_user_database_and_port_complete_its_url():
    conf = {"broker_user": "app", "broker_password": "p@", "broker_vhost": "3", "broker_port": 7}
    assert configured(broker_url="redis://h", **conf).redis_url == "redis://app:p%40@h:7/3"
    url = "redis://u:w@h:1/2"
    assert configured(broker_url=url, **conf).redis_url == url


def test_a_redis_of_ones_own():
    url = "redis://elsewhere:6379/1"
    assert configured(segment_redis_url=url).redis_url == url
    assert configured(broker_url="amqp://h", segment_redis_url=url).redis_url == url
    for unset in (None, ""):
        assert configured(segment_redis_url=unset).redis_url == "redis://localhost:6379/0"
    unix = "unix:///run/redis.sock?db=1"
    assert configured(segment_redis_url=unix).redis_url == unix


def test_the_brokers_write_url_is_the_one():
    conf = {"broker_write_url": "redis://write/1", "broker_read_url": "redis://read/1"}
    assert configured(**conf).redis_url == "redis://write/1"


def test_the_environments_broker_is_the_one(monkeypatch):
    monkeypatch.setenv("CELERY_BROKER_URL", "redis://env/9")
    assert configured().redis_url == "redis://env/9"


# ---------------------------------------------------------------- Django's namespace


def test_a_ca_bundle_is_an_existing_path(tmp_path):
    bundle = tmp_path / "ca.pem"
    bundle.touch()
    for path in (bundle, str(bundle), tmp_path):
        assert source(segment_ca_bundle=path).ca_bundle == str(Path(path))


def test_the_name_that_sentinels_watch_is_celerys():
    options = {"master_name": "shop", "sentinel_kwargs": {"password": "p"}}
    for conf in (
        {"broker_url": "sentinel://h;sentinel://i/1"},
        {"broker_url": ["sentinel://h", "sentinel://i/1"]},
        {"broker_url": "memory://", "segment_redis_url": "sentinel://h;sentinel://i/1"},
    ):
        settings = configured(**conf, broker_transport_options=options)
        assert settings.redis_url == "sentinel://h;sentinel://i/1?master_name=shop"
        assert settings.redis_options == {"sentinel_kwargs": {"password": "p"}}
    own = configured(
        broker_url="sentinel://h",
        broker_transport_options=options,
        segment_redis_url="sentinel://h/0?master_name=buffer",
    )
    assert own.redis_url == "sentinel://h/0?master_name=buffer"
    assert not own.shares_broker


@pytest.mark.parametrize(
    "url",
    [
        "sentinel://h;redis://i",
        "sentinel://h:x?master_name=m",
        "redis+cluster://h:x",
        "redis+cluster://h:1,i:x",
        "redis+cluster://h:1/2",
        "sentinel://h",
        "valkey://h/first",
        "cluster://h",
    ],
)
def test_urls_of_several_servers_that_are_not_understood(url):
    with pytest.raises(ConfigurationError, match="segment_redis_url"):
        connect(configured(segment_redis_url=url).redis_url, 1.0)


@pytest.mark.parametrize(
    ("url", "kind", "address", "database"),
    [
        ("valkey://:p@h:7/3", "standalone", "h:7", 3),
        ("valkeys://h", "standalone", "h:6379", 0),
        ("sentinel://:p@h;sentinel://:p@i:7/3?master_name=m", "Sentinel", "m (h:26379, i:7)", 3),
        ("redis+cluster://u:p@h,i:7", "Cluster", "h:6379, i:7", 0),
        ("rediss+cluster://[::1]:7/0?ssl_cert_reqs=none", "Cluster", "::1:7", 0),
    ],
)
def test_urls_of_all_kinds(url, kind, address, database):
    topology = connect(configured(segment_redis_url=url).redis_url, 1.0)
    assert (topology.kind, topology.address, topology.database) == (kind, address, database)
    assert "p@" not in repr(topology)
