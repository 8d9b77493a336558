"""The debugger in a browser, as a developer uses it beside a running application."""

from __future__ import annotations

import json
import time
from urllib.parse import parse_qs, urlsplit

import pytest
from axe_playwright_python.sync_playwright import Axe

from celery_segment import Analytics
from celery_segment.web.debugger import Debugger
from celery_segment.web.debugger.failures import Failure
from exchanges import exchange
from posting import message
from support import WRITE_KEY, wait_until

EVIL = "<img src=x onerror=alert(1)>\u202eevil\u0007"
SIZES = {360: 740, 1280: 800, 1600: 900}
PATHS = ("/", "/?open=1", "/messages/1", "/messages/3", "/requests", "/requests/1", "/failures")
#: Beyond this the pictures weigh on the repository.
LARGEST = 250_000
#: Seconds from a call to its row on an open page.
SOON = 1.0


@pytest.fixture
def debugger():
    made = Debugger(sources={WRITE_KEY: "default"})
    with made.server:
        yield made


@pytest.fixture
def application(make_app, workers, debugger):
    """Calls of an application whose worker delivers to the debugger."""
    app = make_app(segment_host=debugger.server.url)
    workers.start(app, processes=2)
    return Analytics(app=app)


@pytest.fixture
def visit(browser, debugger):
    """Open pages. They ask no other host, and the browser has nothing to say of them."""
    contexts, said = [], []

    def open_page(path="/", width=1280, scheme="light", **options):
        context = browser.new_context(
            viewport={"width": width, "height": SIZES[width]}, color_scheme=scheme, **options
        )
        contexts.append(context)
        page = context.new_page()
        page.on("console", lambda message: said.append(message.text))
        page.on("pageerror", lambda error: said.append(str(error)))
        page.on("dialog", lambda dialog: said.append(dialog.message))
        page.on("request", lambda request: asked.add(urlsplit(request.url).netloc))
        page.goto(debugger.server.url + path)
        return page

    asked = set()
    yield open_page
    for context in contexts:
        context.close()
    assert said == []
    assert asked == {urlsplit(debugger.server.url).netloc}


def buy(analytics):
    """Make the calls of a visit to a shop, one of them wrong."""
    analytics.identify.delay("maria", traits={"plan": "pro", "email": "maria@example.com"})
    analytics.page.delay("maria", name="Product", properties={"path": "/tea"})
    analytics.track.delay("maria", "Item Added", {"product": "teapot", "price": 39.95})
    analytics.track.delay("maria", "Order Completed", {"order_id": "50314b8e", "total": 39.95})
    analytics.group.delay("maria", "acme", traits={"name": "Acme"})
    # As a client sends it that is not this library.
    analytics.track.delay("paul", "Item Removed", context={"ip": 1, "page": "/cart"})
    assert analytics.flush(timeout=30) == 0


def names(page):
    return page.locator("#list th.name").all_inner_texts()


def number_of(page, name):
    return int(page.locator("#list th.name a", has_text=name).get_attribute("id")[1:])


def test_an_event_appears_within_a_second_of_the_call(application, visit):
    page = visit()
    seconds = []
    for number in range(5):
        row = page.locator("#list th.name", has_text=f"Item {number}")
        start = time.monotonic()
        application.track.delay("maria", f"Item {number}")
        row.wait_for(timeout=20_000)
        seconds.append(time.monotonic() - start)
    assert sorted(seconds)[2] < SOON, seconds
    assert names(page) == [f"Item {number}" for number in reversed(range(5))]


def test_filters_are_applied_as_they_are_typed_and_stand_in_the_address(application, visit):
    buy(application)
    page = visit()
    page.locator("#list th.name", has_text="Item Removed").wait_for()
    page.keyboard.press("/")
    page.keyboard.type("50314B8E")
    page.locator("text=1 of 6 messages").wait_for()
    assert names(page) == ["Order Completed"]
    assert parse_qs(urlsplit(page.url).query) == {"text": ["50314B8E"]}
    page.fill("[name=text]", "")
    page.select_option("[name=type]", "track")
    page.fill("[name=event]", "Item*")
    page.locator("text=2 of 6 messages").wait_for()
    assert names(page) == ["Item Removed", "Item Added"]
    page.check("text=Violations only")
    page.locator("text=1 of 6 messages").wait_for()
    shared = visit(page.url.removeprefix(page.url.partition("/?")[0]), java_script_enabled=False)
    assert names(shared) == names(page) == ["Item Removed"]
    assert shared.input_value("[name=event]") == "Item*"
    assert shared.is_checked("[name=violations]")
    # What arrives is compared with the filter, too.
    application.track.delay("maria", "Item Added", context={"ip": 2})
    page.locator("text=2 of 7 messages").wait_for()


def test_a_row_opens_its_message_by_mouse_and_by_keys(application, visit, debugger):
    buy(application)
    page = visit()
    page.locator("#list th.name", has_text="Item Removed").click()
    opened = page.locator("#opened article")
    opened.locator("text=must be a string, not a number").wait_for()
    assert opened.locator(".violations code").all_inner_texts() == ["context.ip", "context.page"]
    number = number_of(page, "Item Removed")
    assert parse_qs(urlsplit(page.url).query) == {"open": [str(number)]}
    page.keyboard.press("Escape")
    opened.wait_for(state="detached")
    page.go_back()
    opened.wait_for()
    page.go_back()
    opened.wait_for(state="detached")
    # From the row that was clicked to the one below it.
    page.keyboard.press("j")
    page.keyboard.press("Enter")
    opened.locator("h2").wait_for()
    assert opened.locator("h2").inner_text() == f"group {names(page)[1]}" == "group acme"
    page.context.grant_permissions(["clipboard-read", "clipboard-write"])
    opened.locator("text=Copy").click()
    opened.locator("text=Copied").wait_for()
    copied = json.loads(page.evaluate("navigator.clipboard.readText()"))
    number = number_of(page, "acme")
    assert copied == json.loads(debugger.store.message(number).raw)


def test_a_failure_by_button_is_seen_as_a_retry(application, visit):
    page = visit("/failures")
    card = page.locator("form.card", has=page.locator("h2", has_text="Error"))
    card.locator("[name=requests]").fill("2")
    card.locator("button").click()
    page.locator("text=The endpoint now answers 503 for 2 requests.").wait_for()
    application.track.delay("maria", "Retried")
    page.locator("text=The endpoint accepts what Segment would accept.").wait_for(timeout=20_000)
    page.click("nav >> text=Messages")
    page.locator("#list tr", has=page.locator("text=Retried")).locator("text=/^3./").wait_for()
    page.locator("#list th.name", has_text="Retried").click()
    requests = page.locator("#opened .requests li")
    requests.nth(2).wait_for()
    statuses = requests.locator(".status").all_inner_texts()
    assert statuses == ["503", "503", "200"]
    assert "retry 2, batch of 1 message" in requests.nth(2).inner_text()
    requests.nth(2).locator("a").click()
    page.locator("h1", has_text="Request 3").wait_for()


def test_it_is_held_and_goes_on(application, visit):
    page = visit()
    page.click("text=Pause")
    application.track.delay("maria", "Unseen")
    assert application.flush(timeout=20) == 0
    page.wait_for_timeout(1_000)  # longer than a page waits
    assert names(page) == []
    page.click("text=Go on")
    page.locator("#list th.name", has_text="Unseen").wait_for()


def test_a_phone_shows_a_message_in_place_of_the_list(visit, debugger):
    debugger.store.add(*exchange(*(message(n, event=f"Item {n}") for n in range(60))))
    page = visit(width=360)
    page.locator("#list th.name", has_text="Item 5").last.click()
    page.locator("#opened h2").wait_for()
    wait_until(lambda: page.evaluate("scrollY") < 200)
    assert page.locator("#opened h2").is_visible()
    assert not page.locator("#list").is_visible()
    page.click("text=Close")
    wait_until(lambda: page.evaluate("scrollY") > 1000)
    assert page.locator("#list th.name", has_text="Item 5").last.is_visible()


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", SIZES)
def test_pages_fit_and_are_for_everybody(visit, debugger, width, scheme):
    debugger.store.add(
        *exchange(message(EVIL, event=EVIL, userId=EVIL, properties={EVIL: EVIL}), key=WRITE_KEY)
    )
    debugger.store.add(*exchange(message(2, type=EVIL), message(3, event="x" * 300)))
    debugger.failures.add(Failure("reject", event=EVIL))
    page = visit("/", width, scheme)
    for path in PATHS:
        page.goto(debugger.server.url + path)
        assert page.evaluate("document.documentElement.scrollWidth") <= width, path
        found = Axe().run(page).response["violations"]
        serious = [f for f in found if f["impact"] in {"serious", "critical"}]
        assert not serious, (path, serious)
        assert page.locator("img").count() == 0
        assert "\u202e" not in page.locator("main").inner_text()


def test_the_documents_show_it(application, visit, pictures):
    buy(application)
    for scheme in ("light", "dark"):
        page = visit("/", 1280, scheme)
        page.locator("#list th.name", has_text="Item Removed").click()
        page.locator("#opened article").wait_for()
        picture = pictures / f"debugger-{scheme}.png"
        page.screenshot(path=picture)
        assert picture.stat().st_size < LARGEST
