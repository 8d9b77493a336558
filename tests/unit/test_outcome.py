"""What each answer means for a batch."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone
from email.utils import format_datetime
from http import HTTPStatus

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from requests.structures import CaseInsensitiveDict

from celery_segment.config import OAuth, Source
from celery_segment.config.parsers import PrivateKey
from celery_segment.delivery.answer import Answer, Failure
from celery_segment.delivery.outcome import (
    Bury,
    Delivered,
    KeyState,
    Past,
    Refused,
    Retry,
    Split,
    WrongKey,
    decide,
)
from celery_segment.delivery.pause import backoff, retry_after

UTC = timezone.utc
NOW = datetime(2026, 11, 23, 7, 0, 0, tzinfo=UTC)
SOURCE = Source(name="default")
WITH_OAUTH = Source(name="default", oauth=OAuth("id", PrivateKey("key.pem"), "key id"))
UNKNOWN, CLEARED = KeyState(), KeyState(is_cleared=True)
ONLY_ONE = KeyState(is_the_only_one_refused=True)

# The tables of DESIGN.md section 3 and WIRE.md, written out once more.
DELIVERED = set(range(200, 300))
RETRIED = {408, 410, 429, 460, *range(500, 600)} - {501, 505}
BAD_DATA = {400, 413, 422}
STATUSES = range(100, 600)


def ask(status, *, headers=(), text="", source=SOURCE, key=UNKNOWN, **past):
    answer = Answer(status, CaseInsensitiveDict(headers), text)
    return decide(answer, source, Past(**{"count": 10, **past}), key, NOW)


def fail(cause="x", **past):
    """Decide on a request without a response."""
    return decide(Failure(cause), SOURCE, Past(**past), UNKNOWN, NOW)


def test_a_configuration_that_reaches_no_endpoint_is_no_attempt():
    failure = Failure("no way", "configuration")
    past = Past(1, attempts=10**6, age=1e9)
    many = decide(failure, SOURCE, past, UNKNOWN, NOW)
    assert isinstance(many, Refused)
    assert many.cause.startswith("no way; check segment_proxies")
    assert "proxies" in ask(407).cause


@pytest.mark.parametrize("status", STATUSES)
def test_every_status_has_its_decision(status):
    many, one = ask(status), ask(status, count=1)
    if status in DELIVERED:
        assert many == one == Delivered(status)
    elif status in RETRIED:
        assert (many.wait, many.asked, type(many)) == (0.0, False, Retry)
        assert one == many
    elif status in BAD_DATA:
        assert type(many) is Split
        assert one == Bury(many.cause, answered=True)
    else:
        assert type(many) is Refused
        assert one == many
        assert "check " in many.cause
    if status not in DELIVERED:
        assert many.cause.startswith(str(status))


@pytest.mark.parametrize("status", [600, 601, 999])
def test_what_is_no_http_status_blames_the_configuration(status):
    assert type(ask(status)) is Refused


@pytest.mark.parametrize(
    ("status", "fix"),
    [
        (401, "write key"),
        (403, "write key"),
        (404, "segment_host"),
        (301, "segment_host"),
        (308, "segment_host"),
        (418, "segment_host"),
        (501, "segment_host"),
    ],
)
def test_a_refused_configuration_names_its_fix(status, fix):
    assert fix in ask(status).cause
    assert "oauth" not in ask(status).cause


@pytest.mark.parametrize("status", [401, 403])
def test_a_refused_token_names_the_credentials_as_well(status):
    assert ask(status, source=WITH_OAUTH).cause.endswith(
        "; check segment_oauth, to which source its application belongs, and the source's write"
        " key in the workers' configuration"
    )


@pytest.mark.parametrize(("source", "what"), [(SOURCE, "write key"), (WITH_OAUTH, "token")])
def test_what_is_refused_while_others_deliver_is_named(source, what):
    decision = ask(401, source=source, key=ONLY_ONE)
    assert decision == WrongKey(f"this worker's {what} is refused (401), while others deliver")


def test_the_cause_names_the_status_and_never_the_answers_text():
    # An endpoint may quote the message, and a cause is logged and shown in Flower.
    assert ask(503, text="you sent p4yl04d").cause == "503 Service Unavailable"
    assert ask(460).cause == "460"
    buried = ask(400, count=1, text="bad\n  event")
    assert (buried.cause, buried.text) == ("400 Bad Request", "bad event")
    assert ask(400, count=2, text="bad") == Split("400 Bad Request")


@pytest.mark.parametrize("status", [301, 400, 404, 429, 460, 500, 599])
def test_the_cause_is_bounded_whatever_the_answers_text(status):
    for text in ("x" * 1_000_000, "x " * 500_000, "\n" * 1_000_000, "🦓" * 100_000):
        for attempts, age, headers in (
            (0, 0, {}),
            (50, 1e6, {}),
            (0, 0, {"Retry-After": "9" * 99}),
        ):
            decision = ask(status, text=text, attempts=attempts, age=age, headers=headers)
            assert len(decision.cause) + len(getattr(decision, "text", "")) < 400
            assert "\n" not in decision.cause + getattr(decision, "text", "")


def test_a_failure_is_retried_with_its_cause():
    assert fail("no answer within 15 s", count=1) == Retry(0.0, "no answer within 15 s")


# ---------------------------------------------------------------- Retry-After


def date_in(seconds):
    return format_datetime(NOW + timedelta(seconds=seconds), usegmt=True)


HONOURED = [
    ("1", 1.0),
    ("  120 ", 120.0),
    ("300", 300.0),
    ("301", 300.0),
    ("86400", 300.0),
    ("9" * 400, 300.0),
    ("007", 7.0),
    (date_in(90), 90.0),
    (date_in(300), 300.0),
    (date_in(301), 300.0),
    (date_in(365 * 86_400), 300.0),
    # -0000: a date without a zone, which HTTP reads as GMT
    ("Mon, 23 Nov 2026 07:01:30 -0000", 90.0),
    ("Mon, 23 Nov 2026 09:01:30 +0200", 90.0),
    # the obsolete forms of RFC 9110
    ("Monday, 23-Nov-26 07:01:30 GMT", 90.0),
    ("Mon Nov 23 07:01:30 2026", 90.0),
    ("Fri, 31 Dec 9999 23:59:59 -2359", 300.0),
]
IGNORED = [
    "",
    " ",
    "0",
    "000",
    "-5",
    "+5",
    "1.5",
    "1e3",
    "soon",
    "5 seconds",
    "²",
    date_in(0),
    date_in(-1),
    date_in(-86_400),
    "Mon, 23 Nov 2026",
    "Mon, 32 Nov 2026 07:01:30 GMT",
    "Mon, 23 Nov 99999 07:01:30 GMT",
    "Mon, 23 Nov 2026 07:01:30 +99999999999999999999999",
    "\x00",
    "," * 1_000,
]


@pytest.mark.parametrize(("value", "seconds"), HONOURED, ids=lambda v: str(v)[:40])
def test_retry_after_is_honoured_on_every_retryable_status(value, seconds):
    for status in RETRIED:
        decision = ask(status, headers={"retry-after": value})
        assert (type(decision), decision.wait, decision.asked) == (Retry, seconds, True), status
        assert f"Retry-After {seconds:g} s" in decision.cause


@pytest.mark.parametrize("value", IGNORED, ids=lambda v: repr(v)[:40])
def test_a_retry_after_that_asks_for_no_wait_is_none(value):
    for status in RETRIED:
        decision = ask(status, headers={"Retry-After": value}, attempts=3)
        assert (type(decision), decision.asked) == (Retry, False), status
        assert 2.0 <= decision.wait <= 2.2


def test_retry_after_means_nothing_on_other_statuses():
    for status in sorted(set(STATUSES) - RETRIED):
        assert ask(status, headers={"Retry-After": "5"}) == ask(status)


def test_a_date_is_read_in_its_own_zone():
    east = NOW.astimezone(timezone(timedelta(hours=5)))
    for value in ("Mon, 23 Nov 2026 07:01:30 -0000", date_in(90)):
        assert retry_after({"Retry-After": value}, east) == 90.0


def test_an_endpoint_that_names_its_wait_is_waited_for_beyond_the_limits():
    decision = ask(429, headers={"Retry-After": "5"}, attempts=1_000, age=1e9)
    assert (type(decision), decision.wait, decision.asked) == (Retry, 5.0, True)


@settings(max_examples=300, deadline=None)
@given(
    st.text()
    | st.datetimes().map(lambda d: format_datetime(d.replace(tzinfo=UTC), usegmt=True))
    | st.from_regex(r"[A-Z][a-z]{2}, \d{1,3} (Jan|Feb|x) \d{1,6} \d{1,3}:\d\d:\d\d [+-]?\w{1,30}")
)
def test_whatever_stands_in_retry_after_is_a_bounded_wait_or_none(value):
    seconds = retry_after({"Retry-After": value}, NOW)
    assert seconds is None or 0 < seconds <= 300


# ---------------------------------------------------------------- waits


def test_the_waits_are_0_then_half_a_second_doubled_up_to_a_minute():
    least = [0, 0.5, 1, 2, 4, 8, 16, 32]
    for attempts, wait in enumerate(least):
        for _ in range(200):
            assert wait <= backoff(attempts) <= wait * 1.1
    for attempts in (8, 9, 20, 100, 10**6):
        for _ in range(200):
            assert 54 < backoff(attempts) <= 60


def test_the_waits_are_jittered():
    for attempts in (1, 5, 50):
        waits = [backoff(attempts) for _ in range(500)]
        assert len(set(waits)) > 450
        assert max(waits) > min(waits) * 1.08


@pytest.mark.parametrize("attempts", [0, 1, 4, 30])
def test_a_failure_and_an_answer_wait_alike(attempts):
    failed = fail(count=1, attempts=attempts)
    for decision in (failed, ask(500, attempts=attempts), ask(429, attempts=attempts)):
        floor = min(0.5 * 2 ** (attempts - 1), 54) if attempts else 0
        assert floor <= decision.wait <= max(floor * 1.1, 60 * (attempts > 20))
        assert not decision.asked


# ---------------------------------------------------------------- giving up


@pytest.mark.parametrize("status", [408, 410, 429, 460, 500, 502, 503, 599, None])
def test_a_batch_is_given_up_only_when_both_limits_are_exceeded(status):
    def after(attempts, age):
        if status is None:
            return fail(count=5, attempts=attempts, age=age)
        return ask(status, attempts=attempts, age=age)

    for attempts, age in ((0, 0), (9, 43_201), (10, 43_199), (0, 1e9), (10**6, 0)):
        assert type(after(attempts, age)) is Retry, (attempts, age)
    for attempts, age in ((10, 43_201), (11, 43_201), (10**6, 1e9)):
        decision = after(attempts, age)
        assert type(decision) is Bury, (attempts, age)
        assert decision.answered is False
        assert f"given up after {attempts + 1} attempts in {age:,.0f} s" in decision.cause
        # Nothing by which each dead letter would be in a group of its own.
        assert decision.cause.startswith(f"{decision.group} after ")
        assert decision.group.endswith("; given up")


def test_the_limits_are_the_sources():
    once = Source(name="once", max_retries=0, retry_for=0.0)
    assert type(ask(500, source=once)) is Bury
    long = Source(name="long", max_retries=3, retry_for=1e9)
    assert type(ask(500, source=long, attempts=100, age=1e8)) is Retry


def test_a_refused_configuration_buries_nothing():
    for status in (301, 401, 403, 404, 501):
        for count in (1, 100):
            assert type(ask(status, count=count, attempts=10**6, age=1e9)) is Refused


@pytest.mark.parametrize("status", sorted(BAD_DATA))
@pytest.mark.parametrize("attempts", [0, 100])
def test_bad_data_is_split_until_one_message_is_left(status, attempts):
    for count in (2, 3, 2_500):
        assert type(ask(status, count=count, attempts=attempts, age=1e9)) is Split
    decision = ask(status, count=1, attempts=attempts, age=1e9)
    assert decision == Bury(f"{status} {HTTPStatus(status).phrase}", answered=True)


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        ("7", 7.0),
        (" 120 ", 120.0),
        ("301", 300.0),
        (str(int(NOW.timestamp()) + 90), 90.0),
        (str(int(NOW.timestamp()) + 100_000), 300.0),
        ("1000000000", 300.0),  # the longest wait, however absurd; from the next on it is a time
    ],
)
def test_a_429_without_retry_after_waits_for_x_ratelimit_reset(value, seconds):
    decision = ask(429, headers={"X-RateLimit-Reset": value})
    assert decision == Retry(
        seconds, f"429 Too Many Requests, X-RateLimit-Reset {seconds:g} s", asked=True
    )


@pytest.mark.parametrize(
    "value", ["", "0", "-5", "1.5", "soon", str(int(NOW.timestamp()) - 10), "1000000001"]
)
def test_an_x_ratelimit_reset_that_asks_for_no_wait_is_none(value):
    assert ask(429, headers={"X-RateLimit-Reset": value}) == ask(429)


def test_a_retry_after_comes_before_it_and_other_statuses_have_none():
    both = {"Retry-After": "5", "X-RateLimit-Reset": "60"}
    assert ask(429, headers=both) == ask(429, headers={"Retry-After": "5"})
    assert ask(503, headers={"X-RateLimit-Reset": "60"}) == ask(503)
    assert ask(400, headers={"X-RateLimit-Reset": "60"}) == ask(400)


# ---------------------------------------------------------------- whose fault it is

REFUSED = [*range(300, 400), *(s for s in range(400, 600) if s not in RETRIED | BAD_DATA)]


@pytest.mark.parametrize("status", REFUSED)
def test_a_refusal_while_others_are_delivered_is_about_what_the_batch_holds(status):
    known = {"key": CLEARED, "others_delivered": True, "text": "no"}
    many, one = (ask(status, count=n, **known) for n in (10, 1))
    assert type(many) is Split
    assert many.answered
    assert one == Bury(many.cause, answered=True, text="no")


@pytest.mark.parametrize("count", [1, 10])
def test_a_key_that_is_refused_may_be_at_fault_while_others_are_delivered(count):
    for refusals in range(20):
        decision = ask(401, count=count, others_delivered=True, refusals=refusals)
        assert decision == Retry(0.5, decision.cause, doubtful=True)
    assert ask(401, count=count, others_delivered=True, refusals=20).key
    assert ask(401, count=count).key


@pytest.mark.parametrize("count", [1, 10])
@pytest.mark.parametrize(
    "past", [{}, {"others_delivered": True}, {"alone": True, "refusals": 1}, {"refusals": 9}]
)
def test_where_others_deliver_the_batch_is_left_to_them(count, past):
    assert type(ask(401, count=count, key=ONLY_ONE, **past)) is WrongKey
    assert type(ask(403, count=count, key=ONLY_ONE)) is Refused


@pytest.mark.parametrize("status", REFUSED)
def test_a_batch_that_is_alone_is_compared_with_its_own_half(status):
    assert type(ask(status, alone=True)) is Refused
    again = ask(status, alone=True, refusals=1)
    assert again == Split(again.cause, answered=False)
    assert type(ask(status, count=1, alone=True, refusals=1)) is Refused
    assert type(ask(status, refusals=9)) is Refused, "there are others to compare it with"


@pytest.mark.parametrize("status", [500, 503, 429, 599, None])
def test_a_batch_that_fails_again_and_again_is_split_where_that_shows_more(status):
    def after(**past):
        return fail(**{"count": 10, **past}) if status is None else ask(status, **past)

    for attempts in (0, 1):
        for past in ({"others_delivered": True}, {"alone": True}):
            assert type(after(attempts=attempts, **past)) is Retry
    assert after(attempts=2, others_delivered=True).answered
    assert not after(attempts=2, alone=True).answered
    assert type(after(attempts=2)) is Retry, "all of them fail: it is the endpoint"
    for past in ({"others_delivered": True}, {"alone": True}):
        assert type(after(count=1, attempts=2, **past)) is Retry


def test_a_failure_is_the_batchs_own_while_others_are_delivered():
    assert ask(500, count=1, others_delivered=True).own
    assert not ask(500, count=1).own
    assert not ask(500, headers={"Retry-After": "1"}, others_delivered=True).own


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ('{"success": false, "code": "invalid_request", "message": "cut o', "invalid_request"),
        ('{"code":"invalid_request"}', "invalid_request"),
        ('{"code": "user@example.com"}', ""),
        ("invalid_request", ""),
        ("", ""),
    ],
)
def test_only_a_known_code_of_an_answer_is_shown(text, code):
    assert Bury("400 Bad Request", answered=True, text=text).code == code
