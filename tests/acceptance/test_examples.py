"""The shops in examples/: their own tests, and visits to them that arrive at the endpoint."""

from __future__ import annotations

import re
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import pytest
import requests

from shops import EXAMPLES, SHOPS, serving

VISITORS = 8
pytestmark = pytest.mark.parametrize("shop", SHOPS)


def test_its_own_tests_pass(shop, tmp_path):
    run = subprocess.run(
        [sys.executable, "-m", "pytest", "-W", "error", "-o", f"cache_dir={tmp_path}"],
        cwd=EXAMPLES / shop,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert run.returncode == 0, run.stdout + run.stderr
    assert re.search(r"\b\d+ passed", run.stdout)
    assert "segment_outbox" in (EXAMPLES / shop / "tests/test_shop.py").read_text()


def test_its_events_are_those_of_its_plan(shop):
    _, app = SHOPS[shop]
    file = "shop/events.py" if shop == "django_shop" else "events.py"
    module = file.removesuffix(".py").replace("/", ".")

    def plan(*arguments):
        command = [sys.executable, "-m", "celery", "-A", app, "segment", "plan", *arguments]
        run = subprocess.run(
            command, cwd=EXAMPLES / shop, capture_output=True, text=True, timeout=60, check=False
        )
        assert run.returncode == 0, run.stdout + run.stderr
        return run.stdout

    assert plan("generate", file, "--check") == f"{file} is what the plan gives\n"
    assert plan("check", module) == "5 classes and 5 rules of Shop agree\n"


class Visitor:
    """A browser without JavaScript."""

    def __init__(self, url, number):
        self.url = url
        self.name = f"Visitor {number}"
        self._session = requests.Session()
        self._session.trust_env = False
        self._session.headers.update({"user-agent": self.name, "accept-language": "de-CH,de;q=0.9"})
        self.page = None

    def get(self, path):
        headers = {"referer": self.page.url} if self.page else {}
        self._see(self._session.get(self.url + path, headers=headers))

    def submit(self, path, **fields):
        """Send the form of the present page."""
        token = re.search('name="csrfmiddlewaretoken" value="(.+?)"', self.page.text)
        fields |= {"csrfmiddlewaretoken": token[1]} if token else {}
        self._see(self._session.post(self.url + path, fields, headers={"referer": self.page.url}))

    def _see(self, page):
        page.raise_for_status()
        self.page = page

    def shop(self):
        """Look around, sign up and buy; return the id that the shop gave."""
        self.get("/")
        self.get("/items/teapot/")
        self.get("/sign-up/")
        self.submit(
            "/sign-up/",
            name=self.name,
            email=f"{self.name}@a.example".replace(" ", ""),
            company="C",
        )
        assert self.name in self.page.text
        self.get("/items/sencha/")
        self.submit("/items/sencha/buy/")
        assert "Your order is on its way" in self.page.text
        sent = {"anonymous_id": f"phone of {self.name}", "name": "Cart"}
        requests.post(f"{self.url}/app/screens/", json=sent, timeout=10).raise_for_status()
        visitor = self._session.cookies["ajs_anonymous_id"]
        self._session.close()
        return visitor


def test_visits_arrive_as_what_they_were(shop, redis, redis_server, server, tmp_path):  # noqa: ARG001 - an empty Redis
    with serving(shop, redis_server.url, server.url, tmp_path) as web:
        visitors = {f"Visitor {n}": Visitor(web.url, n) for n in range(VISITORS)}
        with ThreadPoolExecutor(VISITORS) as browsers:
            ids = dict(zip(visitors, browsers.map(Visitor.shop, visitors.values()), strict=True))
        assert server.wait_for_messages(14 * VISITORS, timeout=15)
        assert len(web.answered) > 1
    assert (server.violations, server.duplicates) == ([], 0)
    assert len(set(ids.values())) == VISITORS

    for name, anonymous in ids.items():
        theirs = [m for m in server.messages if m["context"].get("userAgent") == name]
        theirs.sort(key=lambda m: m["timestamp"])
        shown = [m.get("event") or m.get("name") or m["type"] for m in theirs]
        assert shown == [
            *("Home", "Item", "Product Viewed", "Sign up"),
            *("alias", "identify", "group", "Signed Up", "Home"),
            *("Item", "Product Viewed", "Order Completed", "Thank you"),
        ]
        alias = theirs[4]
        user = alias["userId"]
        assert alias["previousId"] == anonymous
        others = [m for m in theirs if m is not alias]
        assert {m["anonymousId"] for m in others} == {anonymous}
        assert [m.get("userId") for m in others] == [None] * 4 + [user] * 8
        contexts = [m["context"] for m in theirs]
        assert {(c["ip"], c["locale"]) for c in contexts} == {("127.0.0.1", "de-CH")}
        view = contexts[1]["page"]
        assert view["url"] == f"{web.url}/items/teapot/"
        assert view["referrer"] == f"{web.url}/"
        (screen,) = [m for m in server.messages if m.get("anonymousId") == f"phone of {name}"]
        assert (screen["type"], screen["name"]) == ("screen", "Cart")
        assert "userId" not in screen
