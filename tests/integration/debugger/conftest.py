from __future__ import annotations

import pytest
import requests

from celery_segment.web.debugger import Debugger
from exchanges import KEY
from posting import PATIENCE, SENT_AT, encode


@pytest.fixture
def debugger():
    made = Debugger(sources={KEY: "default"})
    with made.server:
        yield made


@pytest.fixture
def session():
    with requests.Session() as session:
        session.trust_env = False
        yield session


@pytest.fixture
def post(debugger, session):
    def post(*batch, key=KEY, **headers):
        """Deliver some messages; keyword arguments are further headers."""
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        return session.post(
            debugger.server.url + "/v1/batch",
            encode({"batch": batch, "sentAt": SENT_AT, "writeKey": key}),
            headers={"Content-Type": "application/json", **named},
            auth=(key, ""),
            timeout=PATIENCE,
        )

    return post


@pytest.fixture
def ask(debugger, session):
    """Ask for a page or of the API. No answer shows a write key."""

    def ask(path, method="GET", **options):
        options = {"timeout": PATIENCE, "allow_redirects": False, **options}
        response = session.request(method, debugger.server.url + path, **options)
        assert KEY not in response.text
        assert KEY not in repr(response.headers)
        return response

    return ask
