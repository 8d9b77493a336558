"""The delivery's decisions beside those of Segment's own library, which is run for each."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone
from email.utils import format_datetime

import pytest
from requests.structures import CaseInsensitiveDict
from segment.analytics.consumer import BATCH_SIZE_LIMIT, MAX_MSG_SIZE, Consumer
from segment.analytics.request import APIError, parse_retry_after

from celery_segment.config import Source, WriteKey
from celery_segment.delivery.answer import Answer
from celery_segment.delivery.authorization import by_write_key
from celery_segment.delivery.outcome import Delivered, KeyState, Past, Retry, decide
from celery_segment.delivery.pause import backoff, retry_after
from celery_segment.delivery.request import build
from celery_segment.messages import MAX_MESSAGE_BYTES
from celery_segment.testing import Reply, SegmentServer

SOURCE = Source(name="default")
MESSAGE = {"type": "track", "userId": "u", "event": "E", "messageId": "m"}
STATUSES = [*range(200, 212), *range(300, 309), *range(400, 432), 451, 460, *range(499, 515), 599]

#: Statuses that we retry and Segment's library does not.
RETRIED_HERE_ALONE = {
    511: "it retries this with OAuth only; here a captive portal in between costs no message"
}


class Patient(Consumer):
    """Segment's consumer, which notes its waits instead of waiting."""

    def __init__(self, url, **options):
        super().__init__(None, "k", host=url, **options)
        self.waits = []

    def _wait(self, seconds):
        self.waits.append(seconds)
        return True


@pytest.fixture(scope="module")
def endpoint():
    with SegmentServer() as server:
        yield server


def theirs(endpoint, reply, **options):
    """What Segment's library does with an answer: whether delivered, its waits, its requests."""
    endpoint.clear()
    endpoint.always(reply)
    consumer = Patient(endpoint.url, **options)
    try:
        consumer.request([MESSAGE])
    except APIError:
        return False, consumer, endpoint.requests
    return True, consumer, endpoint.requests


def ours(status, attempts=0, **headers):
    answer = Answer(status, CaseInsensitiveDict(headers))
    now = datetime.now(timezone.utc)
    return decide(answer, SOURCE, Past(1, attempts), KeyState(), now)


@pytest.mark.parametrize("status", STATUSES)
def test_the_same_statuses_are_delivered_and_retried(endpoint, status):
    delivered, _, requests = theirs(endpoint, Reply.status(status), retries=1)
    assert isinstance(ours(status), Delivered) == delivered
    retried = len(requests) > 1 or status in RETRIED_HERE_ALONE
    assert isinstance(ours(status), Retry) == retried


def test_what_is_said_to_deviate_does(endpoint):
    for status in RETRIED_HERE_ALONE:
        assert len(theirs(endpoint, Reply.status(status), retries=1)[2]) == 1


def test_the_waits_are_the_same_but_for_the_jitter_of_the_longest(endpoint):
    _, consumer, _ = theirs(endpoint, Reply.status(500), retries=10)
    assert len(consumer.waits) == 10
    for attempts, wait in enumerate(consumer.waits):
        # Theirs are cut at 60 s, jitter and all; ours are spread there as well.
        assert backoff(attempts) == pytest.approx(wait, rel=0.1), attempts


def test_the_retries_are_counted_alike(endpoint):
    _, _, requests = theirs(endpoint, Reply.status(503), retries=4)
    key, now = WriteKey("k"), datetime.now(timezone.utc)
    for n, request in enumerate(requests):
        headers = build(SOURCE, by_write_key(key), b"{},", n, now).headers
        assert headers.get("X-Retry-Count") == request.headers.get("X-Retry-Count")
        assert headers["Authorization"] == "Basic azo="
        assert request.write_key == "k"
    assert len(requests) == 5


@pytest.mark.parametrize("status", [408, 410, 429, 460, 500, 503, 529])
def test_a_retry_after_is_waited_for_and_not_counted(endpoint, status):
    delivered, consumer, requests = theirs(endpoint, Reply.status(status, retry_after=7), retries=3)
    # The consumer puts the batch back and waits before it takes the next.
    assert (delivered, len(requests), consumer.waits) == (False, 1, [])
    assert consumer.rate_limited_until is not None
    decision = ours(status, **{"Retry-After": "7"})
    assert (type(decision), decision.wait, decision.asked) == (Retry, 7.0, True)


def _date(seconds):
    return format_datetime(datetime.now(timezone.utc) + timedelta(seconds=seconds), usegmt=True)


@pytest.mark.parametrize(
    "value",
    [
        *("1", "30", " 120 ", "300", "301", "600", "99999999", "", "0", "-5", "soon", "1.5"),
        *("Mon, 23 Nov 2026", "Mon, 32 Nov 2026 07:01:30 GMT"),
        # Dates so many seconds from now; made in the test, as its processes name tests alike.
        *(90, 100_000, -10),
    ],
)
def test_a_retry_after_is_read_alike(value):
    value = _date(value) if isinstance(value, int) else value
    answer = Answer(429, CaseInsensitiveDict({"Retry-After": value}))
    # One that asks for no wait is none to both: theirs is 0, then, or None.
    wanted = parse_retry_after(answer) or None
    found = retry_after(answer.headers, datetime.now(timezone.utc))
    assert found == (wanted if wanted is None else pytest.approx(wanted, abs=1.5))


@pytest.mark.parametrize(
    ("value", "here"),
    [
        ("+5", None),  # RFC 9110 has digits alone
        ("1_0", None),  # which is Python's
    ],
)
def test_where_a_retry_after_is_read_otherwise(value, here):
    answer = Answer(429, CaseInsensitiveDict({"Retry-After": value}))
    assert parse_retry_after(answer) is not None
    assert retry_after(answer.headers, datetime.now(timezone.utc)) is here


def test_the_limits_are_the_same_or_stricter():
    assert MAX_MESSAGE_BYTES == MAX_MSG_SIZE
    # Theirs is met before the last message is looked at, and so exceeded by up to that.
    assert SOURCE.max_batch_bytes < BATCH_SIZE_LIMIT + MAX_MSG_SIZE
