"""Assertions are signed, and an authorization server's answers are read. No server."""

from __future__ import annotations

import subprocess
import sys
from datetime import datetime, timedelta, timezone
from email.utils import format_datetime

import jwt
import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

from authorization import new_key, pem_of
from celery_segment import ConfigurationError
from celery_segment.config.oauth import oauth
from celery_segment.delivery.answer import Answer, Failure, Unauthorized
from celery_segment.delivery.oauth.assertion import check_key, load_key, sign
from celery_segment.delivery.oauth.grant import (
    Denied,
    Failed,
    Granted,
    Limited,
    Outdated,
    read,
    skew_of,
)
from celery_segment.delivery.outcome import KeyState, Past, Refused, Retry
from celery_segment.delivery.outcome import decide as decide_
from configuring import source
from frames import shown_by

NOW = datetime(2026, 11, 26, 12, tzinfo=timezone.utc)
LATER = format_datetime(NOW + timedelta(seconds=9), usegmt=True)
KEY = new_key()


def answer(status, body="", **headers):
    headers = {name.replace("_", "-"): value for name, value in headers.items()}
    return Answer(status, headers, body)


def said(description, error="invalid_request"):
    return f'{{"error":"{error}","error_description":"{description}"}}'


@pytest.mark.parametrize(
    ("result", "expected"),
    [
        (answer(200, '{"access_token":"t","expires_in":3600}'), Granted("t", 3600)),
        (answer(200, '{"access_token":"t","expires_in":"90"}'), Granted("t", 90)),
        (answer(200, '{"access_token":"t"}'), Granted("t", 60)),
        (answer(200, '{"access_token":"t","expires_in":-1}'), Granted("t", 60)),
        (answer(200, '{"access_token":"t","expires_in":"NaN"}'), Granted("t", 60)),
        (answer(200, '{"access_token":"a b"}'), Denied),
        (answer(200, '{"access_token":"a\\r\\nX: y"}'), Denied),
        (answer(200, '{"access_token":5}'), Denied),
        (answer(200, "<html>"), Denied),
        (answer(200, "[" * 10_000), Denied),
        (answer(429, Retry_After="7"), Limited(7, ...)),
        (
            answer(429, Retry_After=format_datetime(NOW + timedelta(seconds=9), True)),
            Limited(9, ...),
        ),
        (answer(429, X_RateLimit_Reset="8"), Limited(8, ...)),
        (answer(429, Retry_After="7", X_RateLimit_Reset="8"), Limited(7, ...)),
        (answer(429, X_RateLimit_Reset=str(int(NOW.timestamp()) + 6)), Limited(6, ...)),
        (answer(429, Retry_After="100000"), Limited(300, ...)),
        (answer(429), Limited(5, ...)),
        (answer(503, Retry_After="7"), Limited(7, ...)),
        (answer(503), Failed),
        (answer(408), Failed),
        (answer(400, said("Token is expired")), Outdated),
        (answer(400, said("Token used before issued")), Outdated),
        (answer(401, said("the assertion is not yet valid", "invalid_client")), Outdated),
        (answer(400, said("bad scope", "invalid_scope")), Denied),
        (answer(401, said("unknown key", "invalid_client")), Denied),
        (answer(415), Denied),
        (answer(404), Denied),
        (answer(302), Denied),
        (Failure("no answer", "timeout"), Failed),
        (Failure("no answer", "tls"), Failed),
        (Failure("the proxy refuses", "configuration"), Denied),
    ],
)
def test_what_an_answer_means(result, expected):
    found = read(result, NOW)
    if isinstance(expected, type):
        assert type(found) is expected
    elif isinstance(expected, Limited):
        assert (type(found), found.wait) == (Limited, expected.wait)
    else:
        assert found == expected


def test_a_clock_that_moved_explains_a_refusal():
    refused = answer(401, said("invalid", "invalid_client"))
    assert isinstance(read(refused, NOW, moved=3_600), Outdated)
    assert isinstance(read(refused, NOW, moved=-3_600), Outdated)
    assert isinstance(read(refused, NOW, moved=2), Denied)
    assert isinstance(read(answer(503), NOW, moved=3_600), Failed)


def test_what_a_server_says_is_shown_on_one_line():
    found = read(answer(401, said("un\\u001b[31mknown\\nkey" + "x" * 500)), NOW)
    assert "401 Unauthorized (invalid_request: un" in found.cause
    assert "check segment_oauth: client_id, private_key, key_id, auth_server" in found.cause
    assert "\n" not in found.cause
    assert "\x1b" not in found.cause
    assert len(found.cause) < 350


def test_a_token_is_not_shown():
    assert "s3cr3t" not in repr(read(answer(200, '{"access_token":"s3cr3t"}'), NOW))


@pytest.mark.parametrize(
    ("date", "skew"),
    [
        (format_datetime(NOW - timedelta(hours=1), usegmt=True), 3_600),
        (format_datetime(NOW + timedelta(hours=1), usegmt=True), -3_600),
        (format_datetime(NOW).replace("+0000", "-0000"), 0),
        ("yesterday", None),
        ("", None),
    ],
)
def test_the_skew_is_that_of_the_answers_date(date, skew):
    assert skew_of({"Date": date}, NOW) == skew


def test_without_a_token_a_batch_is_neither_counted_nor_given_up():
    past = Past(2, attempts=1_000, age=1e9, others_delivered=True, alone=True)

    def decide(result):
        return decide_(result, source(), past, KeyState(), NOW)

    assert decide(Unauthorized("why", 7)) == Retry(7, "why", asked=True)
    assert decide(Unauthorized("why")) == Refused("why", key=True)


# ---------------------------------------------------------------- keys and assertions


def given(private_key):
    return oauth({"client_id": "c", "private_key": private_key, "key_id": "k"})


def test_an_assertion():
    credentials = given(pem_of(KEY))
    now = 1_795_000_000.9
    texts = [sign(load_key("default", credentials), credentials, "https://a", now) for _ in "12"]
    options = {"verify_exp": False, "verify_iat": False}
    claims = [
        jwt.decode(text, KEY.public_key(), ["RS256"], options, audience="https://a")
        for text in texts
    ]
    assert claims[0] | {"jti": ...} == {
        "iss": "c",
        "sub": "c",
        "aud": "https://a",
        "iat": 1_794_999_995,
        "exp": 1_795_000_055,
        "jti": ...,
    }
    assert claims[0]["jti"] != claims[1]["jti"]
    assert jwt.get_unverified_header(texts[0]) == {"alg": "RS256", "kid": "k", "typ": "JWT"}


@pytest.mark.parametrize(
    "form", [serialization.PrivateFormat.PKCS8, serialization.PrivateFormat.TraditionalOpenSSL]
)
def test_a_key_is_a_text_or_a_file(tmp_path, form):
    pem = KEY.private_bytes(serialization.Encoding.PEM, form, serialization.NoEncryption())
    path = tmp_path / "key.pem"
    path.write_bytes(pem)
    for each in (pem.decode(), str(path), path):
        assert load_key("default", given(each)).private_numbers() == KEY.private_numbers()


WRONG = {
    "garbled": "-----BEGIN PRIVATE KEY-----\ns3cr3t\n-----END PRIVATE KEY-----",
    "cut off": pem_of(KEY)[:300] + "s3cr3t",
    "with a passphrase": pem_of(KEY, b"passphrase"),
    "too short": pem_of(new_key(1_024)),
    "no RSA": pem_of(ec.generate_private_key(ec.SECP256R1())),
    "public": KEY.public_key()
    .public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
    .decode(),
}


@pytest.mark.parametrize("pem", WRONG.values(), ids=WRONG)
def test_a_wrong_key_is_refused_by_its_field_without_quoting_it(pem):
    with pytest.raises(ConfigurationError) as caught:
        check_key("shop", given(pem))
    assert str(caught.value).startswith(
        "private_key in segment_oauth of source 'shop' must be an RSA key of at least 2,048 bits"
    )
    lines = [line for line in pem.splitlines() if len(line) > 5 and "-----" not in line]
    for place, text in shown_by(caught.value):
        for secret in (*lines, "s3cr3t"):
            assert secret not in text, place


@pytest.mark.parametrize("path", ["/nowhere/key.pem", "s3cr3t" * 100, "a\0b", "/"])
def test_a_file_that_cannot_be_read_is_told_without_its_path(path):
    with pytest.raises(
        ConfigurationError, match="neither PEM text nor the path of a file"
    ) as caught:
        check_key("shop", given(path))
    assert path not in str(caught.value) or path == "/"


@pytest.mark.parametrize("absent", ["jwt", "cryptography"])
def test_where_the_extra_is_absent_it_is_named(absent):
    program = (
        f"import sys; sys.modules[{absent!r}] = None\n"
        "from celery_segment.config.oauth import oauth\n"
        "from celery_segment.delivery.oauth.assertion import check_key\n"
        "check_key('shop', oauth({'client_id': 'c', 'private_key': 'k', 'key_id': 'k'}))\n"
    )
    run = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=False
    )
    assert run.stderr.splitlines()[-1] == (
        "celery_segment.errors.ConfigurationError: segment_oauth of source 'shop' needs PyJWT and"
        " cryptography: install them by `pip install 'celery-segment[oauth]'`"
    )
