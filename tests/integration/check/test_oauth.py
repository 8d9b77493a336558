"""Whether OAuth works: a token is asked for, and the workers are compared by fingerprints."""

from __future__ import annotations

import msgspec
import pytest

from authorization import CLIENT, KEY_ID, TOKEN, AuthorizationServer, refusal
from celery_segment.worker.interview import facts_of
from checks import findings, rendered, run
from support import WRITE_KEY


@pytest.fixture
def auth():
    with AuthorizationServer() as auth:
        yield auth


def token(app, *args, source="default"):
    """Return what is told of a source's token; nothing of it shows a secret."""
    output = run(app, *args).output
    assert TOKEN not in output
    assert "PRIVATE KEY" not in output
    found = findings(app, *args)
    return rendered(found[source, "token"]) if (source, "token") in found else None


def test_a_token_is_granted_or_not(make_app, auth):
    sources = {"none": {"oauth": None}, "off": {"enabled": False}}
    app = make_app(segment_oauth=auth.oauth(), segment_sources=sources)
    assert token(app) == "ok granted for 1 h"
    assert token(app, source="none") is None
    assert token(app, source="off") is None
    assert token(app, "--no-endpoint") is None
    auth.always(refusal(401, "invalid_client", "unknown key"))
    assert token(app) == (
        "fail no token: the authorization server answers 401 Unauthorized (invalid_client: unknown"
        " key); check segment_oauth: client_id, private_key, key_id, auth_server: compare"
        " segment_oauth with the OAuth application, and its keys, in Segment"
    )


def test_a_server_that_is_away(make_app, auth):
    app = make_app(segment_oauth=auth.oauth())
    auth.stop()
    found = token(app)
    assert found.startswith(f"fail no token: no answer from {auth.oauth()['auth_server']}: ")
    assert found.endswith("check auth_server in segment_oauth, the firewall, and segment_proxies")
    auth.start()


def test_a_clock_that_is_off_is_told(make_app, auth):
    app = make_app(segment_oauth=auth.oauth())
    auth.ahead = 3_600
    found = token(app)
    assert found.startswith("warn granted for 1 h; this host's clock is ")
    assert "behind the authorization server's: set the clock of this host" in found


def test_a_key_that_cannot_sign_is_told(make_app, auth):
    app = make_app(segment_oauth=auth.oauth(private_key="/nowhere/k.pem"))
    found = token(app)
    assert found.startswith("fail no token: private_key in segment_oauth of source 'default'")
    assert "nowhere" not in found


def test_fingerprints_tell_credentials_apart_within_one_check(make_app, auth):
    def fingerprint(salt, **given):
        facts = facts_of(make_app(segment_oauth=auth.oauth(**given)), salt)
        text = msgspec.json.encode(facts).decode()
        for secret in ("PRIVATE KEY", CLIENT, KEY_ID, WRITE_KEY):
            assert secret not in text
        return facts.sources["default"].oauth_fingerprint

    one = fingerprint("a")
    assert fingerprint("a", private_key="/elsewhere/key.pem") == one
    assert fingerprint("b") != one
    for change in ("client_id", "scope"):
        assert fingerprint("a", **{change: "other"}) != one
    assert facts_of(make_app(), "a").sources["default"].oauth_fingerprint is None
