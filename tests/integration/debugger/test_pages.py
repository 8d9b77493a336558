"""The debugger's pages, as they are without their script."""

from __future__ import annotations

import html
import re
import threading
import time

import pytest

from celery_segment.web.debugger import Debugger
from celery_segment.web.debugger.failures import KINDS
from exchanges import KEY
from posting import PATIENCE, SENT_AT, encode, message

EVIL = "<img src=x onerror=alert(1)>\u202e\u2066\u0007\x1b[31m\"'</script>&amp;"


def rows(page):
    """Return the names in a list of messages, from top to bottom."""
    links = re.findall(r'<a id="m\d+"[^>]*>(.*?)</a>', page.text)
    return [html.unescape(re.sub("<.*?>", "", link)) for link in links]


def token_of(page):
    return re.search(r'name="token" value="([^"]+)"', page.text)[1]


class TestMessages:
    def test_the_newest_is_on_top(self, ask, post):
        post(message(1, event="First"), message(2, event="Second"))
        post({"type": "identify", "messageId": "3", "userId": "u", "traits": {"plan": 1}})
        post({"type": "group", "messageId": "4", "userId": "u", "groupId": "acme"})
        page = ask("/")
        assert page.status_code == 200
        assert rows(page) == ["acme", "plan", "Second", "First"]
        assert "4 messages" in page.text

    def test_an_empty_one_says_what_to_do(self, ask, debugger):
        assert f'segment_host = "{debugger.server.url}"' in ask("/").text

    @pytest.mark.parametrize(
        ("query", "expected"),
        [
            ("event=Order*", ["Order B", "Order A"]),
            ("event=Order+A", ["Order A"]),
            ("user=someone", ["Order B"]),
            ("type=page", ["Home"]),
            ("source=unknown+key", ["Elsewhere"]),
            ("text=50314B8E", ["Order A"]),
            ("violations=yes", ["Wrong"]),
            ("accepted=no", ["Refused"]),
            ("event=Order*&user=u", ["Order A"]),
            ("event=&text=&type=", ["Refused", "Elsewhere", "Wrong", "Home", "Order B", "Order A"]),
        ],
    )
    def test_filters_are_in_the_address(self, ask, post, query, expected):
        post(message(1, event="Order A", properties={"id": "50314b8e"}))
        post(message(2, event="Order B", userId="someone"))
        post({"type": "page", "messageId": "3", "userId": "u", "name": "Home"})
        post(message(4, event="Wrong", userId=["u"]))
        post(message(5, event="Elsewhere"), key="another")
        ask("/api/failures", "POST", json={"kind": "error", "requests": 1})
        post(message(6, event="Refused"))
        page = ask(f"/?{query}")
        assert rows(page) == expected
        if len(expected) < 6:
            assert f"{len(expected)} of 6 messages" in page.text

    def test_a_filter_that_is_wrong(self, ask):
        page = ask("/?accepted=perhaps")
        assert page.status_code == 400
        assert "accepted: must be one of 1, true, yes, 0, false, no" in page.text
        assert ask("/?before=x").status_code == 400

    def test_in_pages(self, ask, post):
        post(*(message(n, event=f"E{n}") for n in range(150)))
        page = ask("/")
        assert rows(page) == [f"E{n}" for n in range(149, 49, -1)]
        older = html.unescape(re.search(r'href="(/\?before=\d+)"', page.text)[1])
        assert rows(ask(older)) == [f"E{n}" for n in range(49, -1, -1)]
        assert "Older messages" not in ask(older).text

    def test_one_is_open_beside_the_list(self, ask, post):
        post(message("an-id", event="Shown"), message(2, event="Other"))
        page = ask("/?event=Shown&open=1")
        assert rows(page) == ["Shown"]
        assert 'aria-current="true"' in page.text
        assert '<article class="details"' in page.text
        assert html.unescape(re.search(r'href="([^"]+)" data-beside data-close', page.text)[1]) == (
            "/?event=Shown"
        )
        assert "not kept any more" in ask("/?open=99").text

    def test_are_deleted(self, ask, post):
        post(message(1))
        page = ask("/")
        answer = ask("/clear", "POST", data={"token": token_of(page)}, allow_redirects=True)
        assert "Deleted 1 message." in answer.text
        assert rows(answer) == []
        assert "Deleted" not in ask("/").text


class TestMessage:
    def test_shows_all_of_it(self, ask, post):
        ask("/api/failures", "POST", json={"kind": "error", "requests": 1})
        sent = message("an-id", event="Shown", traits=[1], properties={"price": 39.95})
        post(sent, message(2))
        post(sent, message(2), X_Retry_Count="1")
        text = ask("/messages/1").text
        for part in (
            "<code><bdi>traits</bdi></code> <bdi>must be an object, not a list</bdi>",
            "&#34;price&#34;: 39.95",
            'data-copy aria-label="Copy message"',
            "Its 2 requests",
            '<a href="/requests/1">Request 1</a>',
            '<span class="status bad">503</span>',
            '<a href="/requests/2">Request 2</a>',
            '<span class="status good">200</span>',
            "batch of 2 messages",
            'href="/messages/2" rel="prev"',
        ):
            assert part in text
        assert ask("/messages/3").status_code == 404

    def test_of_a_request_that_violates_a_limit(self, ask, post):
        post(message(1, pad="x" * 40_000))
        text = ask("/messages/1").text
        assert "bytes; Segment accepts 32,768" in text
        assert '<span class="status bad">400</span>' in text
        assert rows(ask("/?violations=yes")) == ["E"]


def test_requests(ask, post):
    assert "No request has arrived yet." in ask("/requests").text
    post(message(1), message(2), User_Agent="client/1.0")
    post(message(3, pad="x" * 40_000))
    text = ask("/requests").text
    assert text.index('id="r2"') < text.index('id="r1"')
    assert "a message has" in text
    text = ask("/requests/1").text
    assert "client/1.0" in text
    assert "2 messages" in text
    assert 'href="/messages/2"' in text
    assert ask("/requests/3").status_code == 404


class TestFailures:
    def switch_on(self, ask, **values):
        token = token_of(ask("/failures"))
        data = {"token": token, **values}
        return ask("/failures/add", "POST", data=data, allow_redirects=True)

    def test_by_button(self, ask, post):
        page = self.switch_on(ask, kind="rate-limit", seconds="7", event="", requests="2")
        assert "The endpoint now answers 429 with a Retry-After of 7 s for 2 requests." in page.text
        assert "2 requests left" in page.text
        assert post(message(1)).headers["Retry-After"] == "7"
        assert "answers 429 with a Retry-After of 7 s (1 request left)" in ask("/").text
        answer = ask("/failures/remove", "POST", data={"token": token_of(page), "number": "1"})
        assert (answer.status_code, answer.headers["Location"]) == (303, "/failures")
        assert post(message(1)).ok

    def test_all_are_switched_off(self, ask, debugger):
        self.switch_on(ask, kind="close")
        page = self.switch_on(ask, kind="reject", event="E")
        ask("/failures/remove", "POST", data={"token": token_of(page)})
        assert debugger.failures.all() == []

    @pytest.mark.parametrize("kind", KINDS)
    def test_each_as_its_form_has_it(self, ask, kind, debugger):
        form = next(f for f in ask("/failures").text.split("<form ") if f'value="{kind}"' in f)
        fields = dict(re.findall(r'name="(\w+)"[^>]*?value="([^"]*)"', form))
        assert self.switch_on(ask, **fields).status_code == 200
        assert [failure.kind for failure in debugger.failures.all()] == [kind]

    def test_a_value_that_is_wrong(self, ask, debugger):
        page = self.switch_on(ask, kind="slow", seconds="soon")
        assert "seconds: must be a number" in page.text
        assert debugger.failures.all() == []

    def test_only_from_a_page_of_its_own(self, ask, debugger):
        token = token_of(ask("/failures"))
        for data, headers in (
            ({"kind": "close"}, {}),
            ({"kind": "close", "token": "another"}, {}),
            ({"kind": "close", "token": token}, {"Origin": "https://evil.example"}),
        ):
            answer = ask("/failures/add", "POST", data=data, headers=headers)
            assert answer.status_code == 403
        assert debugger.failures.all() == []


def test_what_arrives_is_shown_as_text(ask, post):
    evil = message(EVIL, event=EVIL, userId=EVIL, anonymousId=EVIL, properties={EVIL: EVIL})
    post(evil, message(2, type=EVIL), User_Agent="<img src=x onerror=alert(1)>")
    ask("/api/failures", "POST", json={"kind": "reject", "event": EVIL})
    for path in (
        "/",
        "/?open=1",
        "/messages/1",
        "/messages/2",
        "/requests",
        "/requests/1",
        "/failures",
    ):
        text = ask(path).text
        assert "<img" not in text
        assert "</script>&" not in text
        # Within a field they stand as they are, so that it can be sent: in no text.
        shown = re.sub(r"<[^>]*>", "", text)
        assert not set(shown) & set("\u202e\u2066\u0007\x1b"), path
    assert ask("/", params={"text": EVIL, "event": EVIL, "user": EVIL}).status_code == 200
    assert "<img" not in ask("/", params={"text": EVIL, "source": EVIL, "open": "1"}).text


def test_a_password_is_asked_for(session):
    debugger = Debugger(password="s3cr3t", host_names=["debugger.example"])
    with debugger.server as server:
        for path in ("/", "/api/messages"):
            assert session.get(server.url + path, timeout=PATIENCE).status_code == 401
            answer = session.get(
                server.url + path,
                auth=("me", "s3cr3t"),
                headers={"Host": f"debugger.example:{server.port}"},
                timeout=PATIENCE,
            )
            assert answer.status_code == 200
        # Not by whoever delivers.
        assert session.get(server.url + "/health", timeout=PATIENCE).ok


def test_an_open_page_is_sent_what_has_changed(ask, post):
    post(message(1, event="First"))
    for path in ("/", "/messages/1", "/requests", "/failures"):
        live = {"X-Segment-Live": "1"}
        first = ask(path, headers=live)
        assert "<html" not in first.text
        again = {**live, "If-None-Match": first.headers["ETag"]}
        assert ask(path, headers=again).status_code == 304
        assert ask(path, headers={"If-None-Match": first.headers["ETag"]}).status_code == 200
        post(message(2, event="Second"))
        changed = ask(path, headers=again)
        assert changed.status_code == 200
        ask("/api/failures", "POST", json={"kind": "close", "event": "none"})
        again = {**live, "If-None-Match": changed.headers["ETag"]}
        assert ask(path, headers=again).status_code == 200


def test_a_token_in_place_of_a_key(debugger, session, ask):
    body = encode({"batch": [message(1)], "sentAt": SENT_AT, "writeKey": KEY})
    headers = {"Content-Type": "application/json", "Authorization": "Bearer t0k3n"}
    url = f"{debugger.server.url}/v1/batch"
    assert session.post(url, body, headers=headers, timeout=PATIENCE).ok
    (only,) = ask("/api/messages").json()["messages"]
    assert only["source"] == "default"
    assert "t0k3n" not in ask("/requests/1").text


def test_an_open_page_may_wait_for_what_arrives(ask, post):
    live = {"X-Segment-Live": "1"}
    etag = ask("/", headers=live).headers["ETag"]
    waiting = {**live, "If-None-Match": etag, "Prefer": "wait=5"}
    answers = []
    asked = threading.Thread(target=lambda: answers.append(ask("/", headers=waiting, timeout=20)))
    start = time.monotonic()
    asked.start()
    post(message(1, event="Awaited"))
    asked.join(20)
    assert rows(answers[0]) == ["Awaited"]
    assert time.monotonic() - start < 3
    assert ask("/", headers={**waiting, "Prefer": "wait=0"}).status_code == 200
