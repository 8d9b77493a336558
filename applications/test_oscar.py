"""A shop that others wrote, django-oscar, from the home page to an order and back.

PostgreSQL, a worker and gunicorn run as they do for its users; what the visitor did is read at
the endpoint.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections import Counter
from contextlib import ExitStack
from pathlib import Path

import pytest

from browsing import Browser
from celery_segment.testing import EmbeddedRedis, SegmentServer
from postgres import Postgres, find_programs
from support import WRITE_KEY, Gunicorn, Worker

PROJECT = Path(__file__).parent / "oscar"
AGENT = "Mozilla/5.0 (a visitor)"
#: What is tracked before the visitor signs up, of an order, and besides, each so many times.
BROWSED = {
    "Product List Viewed": 3,
    "Products Searched": 1,
    "Product Viewed": 4,
    "Product Added": 2,
    "Cart Viewed": 3,
    "Product Removed": 1,
}
ORDERED = {"Checkout Started": 1, "Order Completed": 1}
ACCOUNT = {"Signed Up": 1, "Signed Out": 1, "Signed In": 1, "identify": 2}
STEPS = Counter({**BROWSED, **ORDERED, **ACCOUNT, "page": 3, "Order Updated": 1})
EMAIL, PASSWORD = "ada@example.com", "the engine of 1837"


class Shop:
    """The shop's database, worker and web processes."""

    def __init__(self, folder: Path, database: dict[str, str]) -> None:
        self.segment = SegmentServer(write_keys=[WRITE_KEY])
        self.redis = EmbeddedRedis()
        self.folder = folder
        self._database = database

    def __enter__(self):
        with ExitStack() as entered:
            for server in (self.redis, self.segment):
                entered.enter_context(server)
            self.environ = {
                **self._database,
                "PYTHONPATH": os.pathsep.join([str(PROJECT), str(self.folder)]),
                "REDIS_URL": self.redis.url,
                "SEGMENT_HOST": self.segment.url,
                "SHOP_FILES": str(self.folder),
                "SHOP_SECRET_KEY": "of a test",
            }
            self.manage("migrate", "--verbosity=0")
            self.manage("fill_catalogue")
            keys = {**self.environ, "SEGMENT_WRITE_KEY": WRITE_KEY}
            self.worker = Worker(self.folder, {}, "shop", ("--concurrency=1",), keys, "shop")
            entered.callback(self.worker.kill)
            self.web = entered.enter_context(
                Gunicorn(self.folder, "shop.wsgi", self.environ, processes=2)
            )
            self.worker.wait_ready()
            self._entered = entered.pop_all()
        return self

    def __exit__(self, *_):
        self._entered.close()

    def manage(self, *command: str, environ=()) -> str:
        """Run a command of Django, and return what it says."""
        return self._run("manage.py", *command, environ=environ)

    def flush(self) -> None:
        """Have everything delivered that the shop has tracked."""
        self._run("-m", "celery", "-A", "shop", "segment", "flush")

    def _run(self, *command: str, environ=()) -> str:
        run = subprocess.run(
            [sys.executable, *command],
            cwd=PROJECT,
            env={**os.environ, **self.environ, **dict(environ)},
            capture_output=True,
            text=True,
            timeout=300,
            check=False,
        )
        assert run.returncode == 0, run.stdout + run.stderr
        return run.stdout + run.stderr

    def check(self, settings: str) -> set[str]:
        """Return the ids of what the checks for a deployment find."""
        output = self.manage("check", "--deploy", f"--settings={settings}")
        return set(re.findall(r"\((\w[\w-]*\.\w\d+)\)", output))


@pytest.fixture(scope="module")
def database():
    """The variables of the environment that name a database."""
    programs = find_programs()
    if programs is None:
        yield {}
    else:
        with Postgres(programs, "shop") as server:
            yield {"SHOP_POSTGRES": str(server.folder)}


@pytest.fixture(scope="module")
def shop(tmp_path_factory, database):
    with Shop(tmp_path_factory.mktemp("shop"), database) as shop:
        yield shop


@pytest.fixture(scope="module")
def visit(shop):
    """The id that a visitor had, and all that arrived of the visit."""
    with Browser(shop.web.url, AGENT) as browser:
        buy(browser)
        visitor = browser.cookies["ajs_anonymous_id"]
    assert shop.segment.wait_for_messages(sum(STEPS.values()), timeout=60), shop.worker.output
    shop.flush()
    return visitor, [*shop.segment.messages]


def buy(browser):
    """Look around, fill the cart, sign up, order, and come back."""
    browser.open("/")
    browser.send("q", q="Ink")
    browser.follow("/catalogue/ink_")
    browser.send("/basket/add/")  # and sees the product again
    browser.open("/catalogue/")
    browser.follow("/catalogue/paper_")
    browser.send("/basket/add/", quantity="2")
    browser.open("/basket/")
    browser.send("form-1-id", **{"form-1-DELETE": "on"})  # and sees the cart again
    browser.open("/accounts/login/")
    browser.send(
        "registration-email",
        **{
            "registration-email": EMAIL,
            "registration-password1": PASSWORD,
            "registration-password2": PASSWORD,
            "registration_submit": "Register",
        },
    )
    browser.open("/basket/")
    browser.follow("/checkout/")
    browser.send(
        "postcode", first_name="Ada", last_name="L.", line1="1 A", line4="B", postcode="SW1Y 4JH"
    )
    browser.follow("/checkout/preview/")
    browser.send("action")
    assert "/checkout/thank-you/" in browser.page.url
    browser.open("/accounts/logout/")  # which leads to the home page
    browser.open("/accounts/login/")
    browser.send(
        "login-username",
        **{"login-username": EMAIL, "login-password": PASSWORD, "login_submit": "Log in"},
    )


def name(message) -> str:
    """Return an event's name, or a call's type."""
    return message.get("event", message["type"])


def of(messages, event) -> dict:
    """Return the only event of a name."""
    [found] = (message for message in messages if name(message) == event)
    return found


def test_each_step_arrives_once(shop, visit):
    _, messages = visit
    assert Counter(map(name, messages)) == STEPS
    assert (shop.segment.duplicates, shop.segment.violations) == (0, [])


def test_a_visitor_becomes_a_user(visit):
    visitor, messages = visit
    ids = {
        (name(message), message.get("anonymousId"), message.get("userId")) for message in messages
    }
    user = of(messages, "Signed Up")["userId"]
    before = {"page", *BROWSED}
    after = {"identify", "Signed Up", "Cart Viewed", *ORDERED, "Signed Out", "Signed In"}
    assert ids == {
        *((event, visitor, None) for event in before),
        *((event, visitor, user) for event in after),
        ("Order Updated", None, user),  # by a worker, which has no visitor
    }


def test_what_is_told_of_a_request(shop, visit):
    _, messages = visit
    for message in messages:
        context = {**message["context"]}
        assert context.pop("library")["name"] == "celery-segment"
        if name(message) == "Order Updated":
            assert context == {}
            continue
        page = context.pop("page")
        assert context == {"ip": "127.0.0.1", "userAgent": AGENT, "locale": "en-GB"}
        assert page["url"].startswith(shop.web.url + page["path"])
    searched = of(messages, "Products Searched")["context"]["page"]
    assert (searched["path"], searched["search"]) == ("/search/", "?q=Ink")
    assert searched["referrer"] == f"{shop.web.url}/catalogue/"


def test_what_was_bought(visit):
    _, messages = visit
    ink = {
        "product_id": 1,
        "sku": "ink",
        "name": "Ink",
        "category": "Stationery",
        "price": 12.5,
        "currency": "GBP",
    }
    order = of(messages, "Order Completed")
    number = order["properties"]["order_id"]
    assert order["messageId"] == f"order-{number}"
    assert order["properties"] == {
        "order_id": number,
        "total": 12.5,
        "revenue": 12.5,
        "shipping": 0,
        "tax": 0,
        "discount": 0,
        "currency": "GBP",
        "products": [{**ink, "quantity": 1}],
    }
    updated = of(messages, "Order Updated")["properties"]
    assert (updated["order_id"], updated["status"]) == (number, "Being processed")
    assert of(messages, "Product Removed")["properties"]["quantity"] == 2
    identified = next(message for message in messages if message["type"] == "identify")
    assert identified["traits"]["email"] == EMAIL


def test_the_checks_of_oscar_and_django_find_nothing_new(shop):
    assert shop.check("shop.settings") == shop.check("shop.plain")


def test_the_checks_find_what_the_guide_says(shop):
    (shop.folder / "hasty.py").write_text(
        "from shop.settings import *\n"
        "MIDDLEWARE = MIDDLEWARE[:-1]\n"
        "del CELERY_SEGMENT_ON_INVALID\n"
        "SEGMENT_WRITE_KEY = 'any'\n"
    )
    found = shop.check("hasty") - shop.check("shop.plain")
    assert found == {"celery_segment.W001", "celery_segment.W004", "celery_segment.W005"}


def test_a_page_is_shown_while_redis_is_away(shop, visit):  # noqa: ARG001 - after it
    arrived = len(shop.segment.received)
    shop.redis.stop()
    try:
        with Browser(shop.web.url, AGENT) as browser:
            browser.open("/catalogue/glue_3/")
    finally:
        shop.redis.start()
    assert shop.segment.wait_for_messages(arrived + 1, timeout=60), shop.worker.output
    assert shop.segment.messages[-1]["properties"]["sku"] == "glue"


def test_the_tests_of_the_project_need_no_redis(shop):
    environ = {**shop.environ, "REDIS_URL": "redis://127.0.0.1:1/0"}
    assert "OK" in shop.manage("test", "tracking", environ=environ)
