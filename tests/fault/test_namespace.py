"""Several applications, or environments, on one Redis database."""

from __future__ import annotations

import pytest

from celery_segment import Analytics, track
from celery_segment.config import load
from celery_segment.operations.health import check_all
from celery_segment.runtime import runtime_of
from celery_segment.testing import SegmentServer
from support import new_app, wait_until


def test_namespaces_keep_messages_apart(make_app, server, redis, workers):
    with SegmentServer() as staging_server:
        production = make_app(segment_namespace="production")
        staging = make_app(segment_namespace="staging", segment_host=staging_server.url)
        ours = Analytics(app=production).track("u", "of production")
        theirs = Analytics(app=staging).track("u", "of staging")
        assert Analytics(app=production).stats().waiting == 1
        workers.start(production)
        assert server.wait_for_messages(1, timeout=20)
        assert Analytics(app=staging).stats().waiting == 1, "it is left alone"
        workers.start(staging)
        assert staging_server.wait_for_messages(1, timeout=20)
        assert (list(server.received), list(staging_server.received)) == ([ours], [theirs])
    own = {key.partition(b"}")[0] for key in redis.keys("{segment:*")}
    shared = {b"{segment:production:", b"{segment:staging:"}  # for a second
    assert own - shared == {b"{segment:production:default", b"{segment:staging:default"}


def test_the_prefix_of_celerys_own_keys_is_the_default():
    def namespace(**conf):
        return load(conf, {}).namespace

    assert namespace() == ""
    options = {"global_keyprefix": "shop:prod:"}
    assert namespace(broker_transport_options=options) == "shop-prod"
    assert namespace(broker_transport_options=options, segment_namespace="other") == "other"
    assert namespace(broker_transport_options=options, segment_namespace="") == ""


@pytest.mark.usefixtures("server")
def test_another_application_in_the_same_source_is_told(make_app, redis_server, workers):
    app = make_app()
    workers.start(app)
    track.delay("u", "E")
    wait_until(lambda: Analytics().stats().delivered.messages == 1)
    assert Analytics().stats().owner == "tests"
    other = new_app({"broker_url": redis_server.url})
    other.main = "another"
    found = {
        f.check: f
        for f in check_all(other, runtime_of(other).settings.enabled, ask_endpoints=False)
    }
    assert found["owner"].state == "warn"
    assert "segment_namespace" in found["owner"].hint
