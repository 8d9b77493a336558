"""Visitors who look around, sign up and buy in the example shops, with a real browser."""

from __future__ import annotations

from contextlib import closing
from urllib.parse import unquote

import pytest

from celery_segment import Analytics
from shops import SHOPS, serving
from support import wait_until

#: Each has a language, a browser and a way to the shop of their own.
VISITORS = {
    "Ada": ("de-CH", "Mozilla/5.0 (X11; Linux x86_64) Ada/1", "https://search.example/"),
    "Grace": ("en-US", "Mozilla/5.0 (iPhone; CPU iPhone OS 26_0) Grace/2", "https://news.example/"),
    "Élodie": ("fr-FR", "Mozilla/5.0 (Windows NT 10.0; Win64) Elodie/3", "https://ads.example/"),
}
ITEMS = ["Sencha", "Earl Grey", "Cast-iron teapot"]
#: The calls of a visit, before the sign-up and from it on.
BEFORE = ["Home", "Item", "Product Viewed", "Sign up"]
AFTER = [
    *("alias", "identify", "group", "Signed Up", "Home"),
    *("Item", "Product Viewed", "Order Completed", "Thank you"),
]
#: What the browser itself says of a page.
SAYS = "({url: location.href, path: location.pathname, referrer: document.referrer})"


class Visitor:
    def __init__(self, browser, name):
        self.name = name
        self.locale, self.agent, self.origin = VISITORS[name]
        self._context = browser.new_context(
            locale=self.locale,
            user_agent=self.agent,
            # No proxy is trusted, so nobody is believed this.
            extra_http_headers={"X-Forwarded-For": "203.0.113.7"},
        )
        self._page = self._context.new_page()
        #: What the calls have to say of the page, one by one.
        self.pages = []

    def close(self):
        self._context.close()

    @property
    def anonymous_id(self):
        """The cookie as analytics.js would read it."""
        cookies = dict(c.split("=", 1) for c in self._page.evaluate("document.cookie").split("; "))
        return unquote(cookies["ajs_anonymous_id"])

    def visit(self, shop):
        """Go through the shop, a step at a time."""
        page = self._page
        first, second = ITEMS[len(self.name) % 3], ITEMS[len(self.name) % 3 - 1]
        page.goto(shop, referer=self.origin)
        self._saw(calls=1)
        known_as = self.anonymous_id
        yield
        page.click(f"role=link[name='{first}']")
        self._saw(calls=2)
        yield
        page.click("role=link[name='Sign up']")
        self._saw(calls=1)
        yield
        page.fill("[name=name]", self.name)
        page.fill("[name=email]", f"visitor{list(VISITORS).index(self.name)}@tea.example")
        page.fill("[name=company]", f"{self.name} & Co")
        self._send("role=button[name='Sign up']", page.url, calls=4)
        page.wait_for_selector(f"text=Hello, {self.name}")
        self._saw(calls=1)
        yield
        page.click(f"role=link[name='{second}']")
        self._saw(calls=2)
        yield
        self._send("role=button[name='Buy']", f"{page.url}buy/", calls=1)
        page.wait_for_selector("text=Your order is on its way")
        self._saw(calls=1)
        assert self.anonymous_id == known_as

    def _saw(self, calls):
        self.pages += [self._page.evaluate(SAYS)] * calls

    def _send(self, button, action, calls):
        """Send a form: the page that takes it is answered by a redirection, and never seen."""
        sent = self._page.url
        with self._page.expect_request(action) as request:
            self._page.click(button)
        assert request.value.method == "POST"
        path = action.removeprefix(self._page.evaluate("location.origin"))
        self.pages += [{"url": action, "path": path, "referrer": sent}] * calls


@pytest.mark.parametrize("shop", SHOPS)
def test_each_visitor_is_known_from_the_first_page_to_the_purchase(
    shop, browser, make_app, redis_server, server, tmp_path
):
    make_app()
    visitors = [Visitor(browser, name) for name in VISITORS]
    with serving(shop, redis_server.url, server.url, tmp_path) as web:
        # In turns, so that each process meets them all.
        steps = zip(*(visitor.visit(web.url) for visitor in visitors), strict=True)
        assert len(list(steps)) == 5
        calls = len(visitors) * len(BEFORE + AFTER)
        wait_until(lambda: Analytics().stats().delivered.messages >= calls)
        assert len(web.answered) > 1, web.output
    stats = Analytics().stats()
    assert (stats.accepted, stats.delivered.messages) == (calls, calls)
    assert len(server.messages) == len(server.received) == calls
    assert server.violations == []

    assert len({visitor.anonymous_id for visitor in visitors}) == len(visitors)
    users = set()
    for visitor in visitors:
        with closing(visitor):
            users.add(check(visitor, server.messages))
    assert len(users) == len(visitors)


def check(visitor, messages):
    """Check all that a visitor's browser has sent; return the user's id."""
    theirs = [m for m in messages if m["context"]["userAgent"] == visitor.agent]
    theirs.sort(key=lambda message: message["timestamp"])
    told = [m.get("event") or m.get("name") or m["type"] for m in theirs]
    assert told == BEFORE + AFTER
    assert [m["context"]["page"] for m in theirs] == visitor.pages
    assert theirs[0]["context"]["page"]["referrer"] == visitor.origin
    assert {m["context"]["ip"] for m in theirs} == {"127.0.0.1"}
    assert {m["context"]["locale"] for m in theirs} == {visitor.locale}
    of = dict(zip(told, theirs, strict=True))
    user = of["identify"]["userId"]
    assert all("userId" not in m for m in theirs[: len(BEFORE)])
    assert {m["userId"] for m in theirs[len(BEFORE) :]} == {user}
    ids = {m["anonymousId"] for m in theirs if m["type"] != "alias"}
    assert ids == {visitor.anonymous_id} == {of["alias"]["previousId"]}
    assert of["identify"]["traits"]["name"] == visitor.name
    assert of["group"]["groupId"] == f"{visitor.name} & Co"
    assert of["Order Completed"]["properties"]["revenue"] > 0
    return user
