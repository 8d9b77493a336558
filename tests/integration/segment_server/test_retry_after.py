"""A request before its Retry-After has passed is a violation."""

from __future__ import annotations

import time
from datetime import datetime, timedelta, timezone
from email.utils import format_datetime

import pytest

from celery_segment.testing import Reply, SegmentServer
from posting import PATIENCE, SENT_AT, encode, message


class TestRetryAfter:
    def test_an_early_request_is_a_violation_of_its_key_alone(self, server, post):
        server.reply(Reply.status(429, retry_after=60))
        post([message(1)], key="one")
        assert post([message(2)], key="two").ok
        assert server.violations == []
        assert post([message(1)], key="one").ok
        [violation] = server.violations
        assert "before its Retry-After had passed" in violation
        assert server.requests[-1].violations == (violation,)
        server.clear()
        post([message(1)], key="one")
        assert server.violations == []

    def test_an_outage_that_ends_does_not_lift_it(self, server, post):
        server.always(Reply.status(503, retry_after=60))
        post([message(1)])
        server.restore()
        post([message(1)])
        assert len(server.violations) == 1

    def test_a_request_in_time_is_none(self, server, post):
        server.reply(Reply.status(503, retry_after=1))
        post([message(1)])
        replied = time.monotonic()
        server.wait_for(lambda: time.monotonic() >= replied + 1, 1.001)
        post([message(1)])
        assert server.violations == []

    def test_as_a_date(self, server, post):
        date = datetime.now(timezone.utc) + timedelta(seconds=60)
        server.reply(Reply.status(429, retry_after=format_datetime(date, usegmt=True)))
        assert post([message(1)]).headers["Retry-After"].endswith("GMT")
        post([message(1)])
        assert len(server.violations) == 1

    @pytest.mark.parametrize(
        "reply",
        [
            Reply.status(400, retry_after=60),
            Reply.status(501, retry_after=60),
            Reply.status(200, retry_after=60),
            Reply.status(429, retry_after="soon"),
            Reply.status(429, retry_after="-1"),
            Reply.status(429),
        ],
    )
    def test_where_nothing_is_to_be_honoured(self, server, post, reply):
        server.reply(reply)
        post([message(1)])
        post([message(1)])
        assert server.violations == []

    def test_requests_under_way_are_excused_within_the_grace(self, session):
        with SegmentServer(in_flight_grace=60) as server:
            server.always(Reply.status(429, retry_after=60))
            for _ in range(2):
                session.post(
                    server.url + "/v1/batch",
                    encode({"batch": [message(1)], "sentAt": SENT_AT}),
                    headers={"Content-Type": "application/json"},
                    auth=("key", ""),
                    timeout=PATIENCE,
                )
            assert server.violations == []
