from __future__ import annotations

import pytest
import requests

from celery_segment.testing import SegmentServer
from posting import PATIENCE, SENT_AT, encode


@pytest.fixture
def server():
    with SegmentServer() as server:
        yield server


@pytest.fixture
def session():
    with requests.Session() as session:
        session.trust_env = False
        yield session


@pytest.fixture
def post(server, session):
    def post(batch, *, key="key", headers=None, timeout=PATIENCE, **options):
        """POST a list of messages, a mapping as the whole body, or the body's bytes."""
        if isinstance(batch, list):
            batch = {"batch": batch, "sentAt": SENT_AT}
        body = batch if isinstance(batch, bytes) else encode(batch)
        return session.post(
            server.url + "/v1/batch",
            body,
            headers={"Content-Type": "application/json", **(headers or {})},
            auth=None if key is None else (key, ""),
            timeout=timeout,
            allow_redirects=False,
            **options,
        )

    return post
