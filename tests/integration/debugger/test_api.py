"""The debugger's API, as a project's end-to-end tests ask it."""

from __future__ import annotations

import json
import threading
import time
from contextlib import suppress

import pytest
import requests

from posting import PATIENCE, message

JSON = {"Content-Type": "application/json"}


def names(answer):
    return [m["message"]["messageId"] for m in answer.json()["messages"]]


class TestMessages:
    def test_as_they_were_sent(self, ask, post):
        sent = message("a", properties={"π": 1.50, "deep": [{"x": None}]})
        post(sent, message("b", userId=None))
        first, second = ask("/api/messages").json()["messages"]
        assert first["message"] == sent
        assert (
            first.items()
            >= {
                "number": 1,
                "source": "default",
                "status": 200,
                "accepted": 1,
                "arrivals": 1,
                "requests": [1],
                "violations": [],
            }.items()
        )
        assert second["violations"] == [
            {"path": "userId", "text": "is missing, and so is anonymousId: Segment drops this"}
        ]
        assert ask("/api/messages/1").json() == first

    def test_by_filters_and_pages(self, ask, post):
        post(*(message(n, event="odd" if n % 2 else "even") for n in range(6)))
        post(message("other"), key="another")
        assert names(ask("/api/messages?event=odd")) == ["1", "3", "5"]
        assert names(ask("/api/messages?source=unknown+key")) == ["other"]
        assert names(ask("/api/messages?text=%22even%22&limit=1&after=2")) == ["2"]
        answer = ask("/api/messages?limit=2").json()
        assert (answer["total"], answer["after"]) == (7, 2)
        assert ask("/api/messages?after=7").json() == {"messages": [], "total": 7, "after": 7}

    def test_of_one_that_was_not_accepted_yet(self, ask, post):
        ask("/api/failures", "POST", json={"kind": "error", "requests": 1})
        assert post(message("a")).status_code == 503
        assert names(ask("/api/messages?accepted=yes")) == []
        assert names(ask("/api/messages?accepted=no")) == ["a"]
        assert post(message("a"), X_Retry_Count="1").ok
        (a,) = ask("/api/messages?accepted=yes").json()["messages"]
        assert (a["arrivals"], a["accepted"], a["requests"]) == (2, 1, [1, 2])

    def test_wait_for_what_is_to_come(self, ask, post):
        answers = []
        asked = threading.Thread(
            target=lambda: answers.append(ask("/api/messages?event=E&wait=30&count=2", timeout=40))
        )
        asked.start()
        post(message("a"))
        post(message("b", event="another"))
        assert not answers
        post(message("c"))
        asked.join(PATIENCE)
        assert names(answers[0]) == ["a", "c"]

    def test_wait_no_longer_than_asked(self, ask):
        start = time.monotonic()
        assert names(ask("/api/messages?wait=0.3")) == []
        assert 0.3 <= time.monotonic() - start < 3

    def test_a_server_that_stops_waits_for_nobody(self, ask, debugger):
        def wait():
            with suppress(requests.ConnectionError):  # what it asks is gone, or just before
                ask("/api/messages?wait=30", timeout=40)

        asked = threading.Thread(target=wait)
        asked.start()
        deadline = time.monotonic() + PATIENCE
        while not debugger.server._listener._connections and time.monotonic() < deadline:
            time.sleep(0.01)
        start = time.monotonic()
        debugger.server.stop()
        asked.join(PATIENCE)
        assert time.monotonic() - start < 3

    def test_are_deleted(self, ask, post):
        post(message("a"), message("b"))
        assert ask("/api/messages", "DELETE").json() == {"deleted": 2}
        assert names(ask("/api/messages")) == []
        assert ask("/api/requests").json()["requests"] == []


def test_requests(ask, post):
    post(message("a"), message("b"), User_Agent="client/1.0", X_Retry_Count="3")
    post()
    first, second = ask("/api/requests").json()["requests"]
    assert (
        first.items()
        >= {
            "number": 1,
            "method": "POST",
            "path": "/v1/batch",
            "source": "default",
            "status": 200,
            "reply": "ok",
            "accepted": True,
            "retry_count": 3,
            "messages": [1, 2],
            "violations": [],
        }.items()
    )
    assert first["headers"]["User-Agent"] == "client/1.0"
    assert ask("/api/requests?after=1").json() == {"requests": [second], "after": 2}
    assert ask("/api/requests/2").json() == second


def test_failures(ask, post):
    asked = {"kind": "rate-limit", "seconds": 7, "requests": 2}
    added = ask("/api/failures", "POST", json=asked)
    assert added.status_code == 201
    assert added.json() == {
        **asked,
        "number": 1,
        "status": 0,
        "event": "",
        "text": "answers 429 with a Retry-After of 7 s",
    }
    refused = post(message("a"))
    assert (refused.status_code, refused.headers["Retry-After"]) == (429, "7")
    ((left),) = ask("/api/failures").json()["failures"]
    assert left["requests"] == 1
    assert ask("/api/failures/1", "DELETE").json() == {"removed": 1}
    assert ask("/api/failures/1", "DELETE").status_code == 404
    ask("/api/failures", "POST", json={"kind": "reject", "event": "Bad"})
    assert post(message("b"), message("c", event="Bad")).status_code == 400
    assert post(message("b")).ok
    assert ask("/api/failures", "DELETE").json() == {"removed": 1}
    assert ask("/api/failures").json() == {"failures": []}


@pytest.mark.parametrize(
    ("method", "path", "body", "status", "error"),
    [
        ("GET", "/api/messages?envent=E", None, 400, "envent: is unknown: use type, event, "),
        ("GET", "/api/messages?limit=0", None, 400, "limit: must be a whole number from 1 to"),
        ("GET", "/api/messages?after=x", None, 400, "after: must be a whole number from 0 to"),
        ("GET", "/api/messages?after=" + "9" * 50, None, 400, "after: must be a whole number"),
        ("GET", "/api/messages?wait=61", None, 400, "wait: must be a number from 0 to 60"),
        ("GET", "/api/messages?wait=nan", None, 400, "wait: must be a number from 0 to 60"),
        ("GET", "/api/messages?accepted=x", None, 400, "accepted: must be one of"),
        ("GET", "/api/messages/1", None, 404, "there is no message 1, or it is not kept any more"),
        ("GET", "/api/requests/1", None, 404, "there is no request 1, or it is not kept any more"),
        ("GET", "/api/nothing", None, 404, ""),
        ("PUT", "/api/messages", None, 405, ""),
        ("POST", "/api/failures", "{", 400, "the body must be an object of JSON"),
        ("POST", "/api/failures", "[]", 400, "the body must be an object of JSON"),
        ("POST", "/api/failures", '{"kind": "x"}', 400, "kind: must be one of rate-limit, error"),
    ],
)
def test_an_error_is_json_and_says_what_to_do(ask, method, path, body, status, error):
    answer = ask(path, method, data=body, headers=JSON)
    assert answer.status_code == status
    assert answer.headers["Content-Type"] == "application/json"
    assert answer.json()["error"].startswith(error)
    if status == 405:
        assert answer.headers["Allow"] == "DELETE, GET, HEAD"


class TestOfAnotherSite:
    @pytest.mark.parametrize(
        "headers",
        [
            {"Origin": "https://evil.example"},
            {"Origin": "null"},
            {"Sec-Fetch-Site": "cross-site"},
            {"Sec-Fetch-Site": "same-site"},
        ],
    )
    def test_nothing_is_changed(self, ask, post, headers):
        post(message("a"))
        assert ask("/api/messages", "DELETE", headers=headers).status_code == 403
        body = json.dumps({"kind": "close"})
        answer = ask("/api/failures", "POST", data=body, headers={**JSON, **headers})
        assert answer.status_code == 403
        assert ask("/api/failures").json() == {"failures": []}
        assert names(ask("/api/messages")) == ["a"]

    @pytest.mark.parametrize("kind", ["text/plain", "application/x-www-form-urlencoded", ""])
    def test_a_form_changes_nothing(self, ask, kind):
        body = json.dumps({"kind": "close"})
        answer = ask("/api/failures", "POST", data=body, headers={"Content-Type": kind})
        assert answer.status_code == 415
        assert ask("/api/failures").json() == {"failures": []}

    def test_it_cannot_read(self, ask, post):
        post(message("a"))
        answer = ask("/api/messages", headers={"Origin": "https://evil.example"})
        assert "Access-Control-Allow-Origin" not in answer.headers
        assert answer.headers["Cross-Origin-Resource-Policy"] == "same-origin"

    def test_nor_by_a_name_of_its_own(self, ask):
        for path in ("/", "/api/messages"):
            assert ask(path, headers={"Host": "evil.example"}).status_code == 421
