"""The credentials of OAuth are read of the settings and the environment, and never shown."""

from __future__ import annotations

import copy
import json
import pickle
from pathlib import Path

import msgspec
import pytest

from celery_segment import ConfigurationError
from celery_segment.config import mask_settings
from configuring import SECRET, application, configured, refusal, source

PEM = f"-----BEGIN PRIVATE KEY-----\n{SECRET}\n-----END PRIVATE KEY-----\n"
GIVEN = {"client_id": "c", "private_key": PEM, "key_id": "k"}


def test_what_is_given_and_what_is_left_out():
    found = source(segment_oauth=GIVEN).oauth
    assert (found.client_id, found.key_id, found.scope) == ("c", "k", "tracking_api:write")
    assert found.private_key.reveal() == PEM.strip()
    assert found.auth_server is None
    own = {**GIVEN, "auth_server": "https://auth.example/", "scope": "other"}
    found = source(segment_oauth=own).oauth
    assert (found.auth_server, found.scope) == ("https://auth.example", "other")
    assert source(segment_oauth={**GIVEN, "private_key": Path("/run/k.pem")}).oauth is not None


def test_sources_have_their_own_or_that_of_all():
    entries = {"own": {"oauth": {**GIVEN, "client_id": "other"}}, "none": {"oauth": None}, "a": {}}
    settings = configured(segment_oauth=GIVEN, segment_sources=entries)
    clients = {name: s.oauth and s.oauth.client_id for name, s in settings.sources.items()}
    assert clients == {"default": "c", "own": "other", "none": None, "a": "c"}


def test_the_environment_has_it_as_json():
    environ = {"SEGMENT_OAUTH": json.dumps(GIVEN)}
    assert configured(environ).source("default").oauth == source(segment_oauth=GIVEN).oauth
    for text in (PEM, "[" * 100_000 + SECRET, f'"{SECRET}"'):
        with pytest.raises(ConfigurationError, match=r"(?i)^segment_oauth must be ") as caught:
            configured({"SEGMENT_OAUTH": text})
        assert SECRET not in str(caught.value)


@pytest.mark.parametrize(
    ("host", "server"),
    [
        ("https://api.segment.io", "https://oauth2.segment.io"),
        ("https://events.eu1.segmentapis.com", "https://oauth2.eu1.segmentapis.com"),
        ("https://eu1.api.segmentapis.com/v1", "https://oauth2.eu1.segmentapis.com"),
        ("https://eu1.segmentapis.com.example", "https://oauth2.segment.io"),
        ("http://127.0.0.1:1", "https://oauth2.segment.io"),
    ],
)
def test_the_server_is_that_of_the_hosts_region(host, server):
    one = source(segment_oauth=GIVEN, segment_host=host)
    assert one.oauth.server_of(one.host) == server


@pytest.mark.parametrize(
    "url", ["http://127.0.0.1:80", "http://localhost/token", "https://h/token"]
)
def test_plain_http_only_on_this_machine(url):
    found = source(segment_oauth={**GIVEN, "auth_server": url}).oauth.auth_server
    assert found == url.removesuffix("/token")
    with pytest.raises(ConfigurationError, match="whose auth_server is an https URL"):
        source(segment_oauth={**GIVEN, "auth_server": "http://h"}, segment_allow_http=True)


@pytest.mark.parametrize(
    "bad",
    [
        {"client_id": ""},
        {"key_id": 5},
        {"auth_server": f"http://{SECRET}@h"},
        {"scope": ""},
        {"private_keys": PEM},
        {PEM: 1},
        {"private_key": [PEM]},
        {"private_key": PEM.encode()},
    ],
)
def test_a_field_that_is_wrong_is_named_and_its_value_is_not(bad):
    text = refusal(segment_oauth={**GIVEN, **bad})
    (name,) = bad
    assert ("another field" if name == PEM else name) in text
    assert SECRET not in text


def test_a_lease_has_to_last_for_all_requests_of_an_attempt():
    text = refusal(segment_oauth=GIVEN, segment_lease=60, segment_timeout=15)
    assert text.startswith("segment_lease (60 s) of source 'default' must be longer than 4 times")
    assert source(segment_oauth=GIVEN, segment_lease=61, segment_timeout=15).lease == 61


def test_it_shows_itself_to_nobody():
    settings = configured(segment_oauth=GIVEN, segment_sources={"other": {"oauth": GIVEN}})
    one = settings.source("default")
    for thing in (one.oauth, one.oauth.private_key, one, settings, [one.oauth]):
        for text in (repr(thing), str(thing), f"{thing}", f"{thing!a}"):
            assert SECRET not in text
        for leave in (pickle.dumps, copy.deepcopy, json.dumps, msgspec.json.encode):
            with pytest.raises(TypeError):
                leave(thing)


def test_celery_masks_it():
    mask_settings()
    app = application(segment_oauth=GIVEN, segment_sources={"a": {"oauth": GIVEN}})
    shown = app.conf.humanize()
    assert "segment_oauth" in shown
    for secret in (SECRET, "PRIVATE KEY"):
        assert secret not in shown
