"""What a worker answers, and workers that cannot be asked."""

from __future__ import annotations

import logging

import msgspec
import pytest

from celery_segment.operations import health
from celery_segment.runtime import runtime_of
from celery_segment.version import __version__
from celery_segment.worker.interview import TrustFacts, facts_of
from checks import findings, rendered
from support import WRITE_KEY, free_port


def test_an_answer_holds_no_secret(make_app, redis_server):
    url = f"redis://user:passw0rd@127.0.0.1:{redis_server.port}/3"
    app = make_app(segment_redis_url=url, segment_sources={"b": {}})
    facts = facts_of(app, "salt", {"celery"})
    assert facts.problem.startswith(f"Redis at 127.0.0.1:{redis_server.port} refused")
    assert (facts.redis, facts.server) == (f"127.0.0.1:{redis_server.port}, database 3", "")
    assert (facts.version, facts.application, facts.namespace) == (__version__, "tests", "")
    assert (facts.queue, facts.consumes) == ("celery", ["celery"])
    assert facts.sources["b"].fingerprint is None
    text = msgspec.json.encode(facts).decode()
    assert WRITE_KEY not in text
    assert "passw0rd" not in text


def test_a_fingerprint_tells_keys_apart_within_one_check(make_app):
    def fingerprint(salt, **conf):
        return facts_of(make_app(**conf), salt).sources["default"].fingerprint

    assert fingerprint("a") == fingerprint("a")
    assert fingerprint("a") != fingerprint("a", segment_write_key=f"{WRITE_KEY}2")
    assert fingerprint("a") != fingerprint("b")


def test_signing_keys_are_compared_by_what_confirms_no_guess(make_app):
    key, other = "k" * 32, "o" * 32

    def trust_of(salt="", **conf):
        return facts_of(make_app(**conf), salt).trust

    (one,) = trust_of(segment_signing_key=key).fingerprints
    # It is short, and the same whatever is asked: no number of them confirms a guess.
    assert len(one) == 4
    assert trust_of("salt", segment_signing_key=f"{other},{key}").fingerprints[1:] == [one]
    assert trust_of(segment_signing_key=other).fingerprints != [one]
    assert trust_of(segment_allowed_callbacks=["b.y", "a.x"]) == TrustFacts(
        [], True, ["a.x", "b.y"]
    )
    # It is no part of a signature, which is over something else.
    trust = runtime_of(make_app(segment_signing_key=key)).trust
    assert not trust.is_prepared(b"", one)
    assert not trust.signature_of(b"").startswith(one)
    assert one.encode() not in trust.seal(b"")


def test_a_logger_that_is_off_is_told(make_app, monkeypatch):
    app = make_app()
    assert facts_of(app, "").logs
    monkeypatch.setattr(logging.getLogger("celery_segment"), "disabled", True)
    assert not facts_of(app, "").logs


def test_redis_is_known_by_its_run_id(make_app, redis, redis_server):
    alias = redis_server.url.replace("127.0.0.1", "localhost")
    one, other = (facts_of(make_app(segment_redis_url=u), "") for u in (redis_server.url, alias))
    assert one.redis != other.redis
    assert one.server == other.server == redis.info("server")["run_id"]


def test_a_redis_that_is_away_is_told(make_app):
    port = free_port()
    facts = facts_of(make_app(segment_redis_url=f"redis://127.0.0.1:{port}/0"), "")
    assert facts.problem.startswith(f"Redis at 127.0.0.1:{port} is unreachable")


@pytest.mark.parametrize(
    ("conf", "why"),
    [
        ({"worker_enable_remote_control": False}, "worker_enable_remote_control is off"),
        # As SQS: it has queues, and no way to reach all workers at once.
        (
            {"broker_url": None, "broker_transport": "kombu.transport.virtual:Transport"},
            "the broker (N/A) has no remote control",
        ),
    ],
)
def test_workers_without_remote_control(
    make_app, redis_server, ask_workers, monkeypatch, conf, why
):
    monkeypatch.setattr(health, "ask_workers", ask_workers)
    app = make_app(segment_redis_url=redis_server.url, **conf)
    found = findings(app, status=0)
    assert rendered(found["workers"]).startswith(f"warn cannot be asked: {why}: make sure that a")
    assert rendered(found["default", "write key"]) == "ok present"
    # A health check that can check nothing must not report health.
    found = findings(app, "--worker", "celery@host", status=1)
    assert rendered(found["worker"]) == (
        f"fail celery@host cannot be asked: {why}: use another health check for this worker"
    )
