"""Defaults, and what a source takes from its application."""

from __future__ import annotations

import json

import pytest

from celery_segment import ConfigurationError
from celery_segment.config import Settings, Source, WriteKey, declared
from celery_segment.config.oauth import oauth
from celery_segment.runtime import runtime_of
from configuring import DEFAULTS, application, configured


def test_defaults():
    settings = configured()
    assert list(settings.sources) == ["default"]
    assert settings.redis_url == "redis://localhost:6379/0"
    assert settings.redis_timeout == 1.0
    assert settings.trusted_proxies == 0
    assert settings.set_anonymous_id is False
    assert settings.batch_requests is False
    assert settings.tick is True
    default = settings.source("default")
    assert {name: getattr(default, name) for name in DEFAULTS} == DEFAULTS
    assert default.name == "default"


def test_every_setting_is_declared_once_with_a_line_of_documentation():
    assert set(DEFAULTS) <= set(declared(Source))
    assert not set(declared(Source)) & set(declared(Settings))
    for cls in (Source, Settings):
        for name, field in declared(cls).items():
            doc = field.metadata["doc"]
            assert doc.endswith("."), name
            assert "\n" not in doc, name
            assert field.metadata["show"], name


def test_a_source_inherits_the_applications_values_and_overrides_them():
    settings = configured(
        segment_write_key="app-key",
        segment_flush_at=5,
        segment_gzip=False,
        segment_sources={
            "marketing": {"write_key": "m-key", "flush_at": 50},
            "product": {"write_key": "p-key", "host": "https://events.eu1.segmentapis.com"},
            "keyless": {},
        },
    )
    default, marketing, product, keyless = (
        settings.source(name) for name in ("default", "marketing", "product", "keyless")
    )
    assert [s.flush_at for s in (default, marketing, product, keyless)] == [5, 50, 5, 5]
    assert not any(s.gzip for s in settings.sources.values())
    assert product.host == "https://events.eu1.segmentapis.com"
    assert marketing.host == default.host == "https://api.segment.io"
    assert default.write_key.reveal() == "app-key"
    assert marketing.write_key.reveal() == "m-key"
    # Another source's events never go out under the default's key.
    assert keyless.write_key is None


def test_the_default_source_may_be_configured_among_the_sources():
    settings = configured(
        segment_write_key="app-key", segment_sources={"default": {"flush_at": 7}, "b": {}}
    )
    assert settings.source("default").flush_at == 7
    assert settings.source("default").write_key.reveal() == "app-key"
    assert settings.source("b").flush_at == 20
    own = configured(segment_write_key="a", segment_sources={"default": {"write_key": "own"}})
    assert own.source("default").write_key.reveal() == "own"


def test_every_setting_of_a_source_may_be_given_to_one_source(tmp_path):
    given = {
        "write_key": "k",
        "oauth": {"client_id": "c", "private_key": "key.pem", "key_id": "k"},
        "host": "http://example.com",
        "allow_http": True,
        "enabled": False,
        "flush_at": 1,
        "flush_interval": 0.1,
        "max_batch_bytes": 33_000,
        "max_batch_messages": 1,
        "max_buffer_bytes": 100_000,
        "on_full": "drop",
        "on_unavailable": "drop",
        "context": {"app": {"name": "shop"}},
        "integrations": {"All": False, "Vero": True},
        "before_send": "json.loads",
        "on_delivered": "shop.tasks.delivered",
        "on_failed": print,
        "gzip": False,
        "timeout": 0.5,
        "proxies": {"https": "http://proxy:3128"},
        "ca_bundle": tmp_path,
        "max_retries": 0,
        "retry_for": 0,
        "max_inflight": 1,
        "lease": 3,
        "max_dead_bytes": 1_000_000,
        "dead_retention": 60,
    }
    assert set(given) == set(DEFAULTS)
    settings = configured(segment_sources={"a": given})
    one = settings.source("a")
    expected = {**given, "write_key": WriteKey("k"), "ca_bundle": str(tmp_path)}
    expected["before_send"] = json.loads
    expected["oauth"] = oauth(given["oauth"])
    assert {name: getattr(one, name) for name in given} == expected
    other = settings.source("default")
    assert {name: getattr(other, name) for name in DEFAULTS} == DEFAULTS


def test_an_unknown_source_is_refused_with_those_there_are():
    settings = configured(segment_sources={"b": {}, "a": {}})
    for name in ("marketing", "", None, 5, ["a"]):
        with pytest.raises(ConfigurationError, match=r"configured: a, b, default"):
            settings.source(name)


def test_settings_are_read_once_per_application():
    app = application(segment_flush_at=3)
    assert runtime_of(app).settings is runtime_of(app).settings
    assert runtime_of(app).settings.source("default").flush_at == 3
    assert runtime_of(application()).settings.source("default").flush_at == 20
