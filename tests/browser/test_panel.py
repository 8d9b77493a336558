"""The panel in a browser: of a source with a history, with texts of strangers, without Redis."""

from __future__ import annotations

import math
import threading
import time
from contextlib import ExitStack, closing, contextmanager
from urllib.parse import urljoin

import pytest
from werkzeug.serving import make_server

from celery_segment import Analytics
from celery_segment.buffer import keys
from celery_segment.buffer.history import SECONDS
from celery_segment.testing import EmbeddedRedis
from celery_segment.web.panel import panel_site
from celery_segment.web.wsgi import LOOPBACK, WebApplication
from operating import SOURCES
from panels import bury
from support import new_app
from windows import WIDTHS, Window

EVIL = "<img src=x onerror=alert(1)>\u202eevil\u0007"
DEAD = "/sources/default/dead"


@contextmanager
def serving(app, *, changes=True):
    """Serve the panel of an application; yield its address."""
    pages = WebApplication(panel_site(app), may_change=lambda _: changes, hosts=LOOPBACK)
    server = make_server("127.0.0.1", 0, pages, threaded=True)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


@pytest.fixture
def open_window(browser):
    """Open windows on the panels of applications."""
    with ExitStack() as stack:

        def open_window(app, width=1280, **options):
            address = stack.enter_context(serving(app, **options))
            return stack.enter_context(closing(Window(browser, address, width)))

        yield open_window


def fill(app, redis):
    """Give a source a day's history, as the scripts would have counted it, and dead letters."""
    now, source = int(time.time()) // SECONDS, keys.prefix("default")
    for back in range(288):
        stored = round(4_000 * (0.6 + 0.4 * math.sin(back / 45) + 0.05 * math.sin(back * 1.7)))
        is_out, is_after = 20 <= back < 26, 17 <= back < 20
        delivered = 0 if is_out else stored * 3 if is_after else stored
        counts = {"accepted": stored, "delivered": delivered, "latency_sum": delivered * 240}
        counts["attempts:200"] = delivered // 80
        counts |= {"attempts:503": 31, "attempts:timeout": 4} if is_out else {}
        counts |= {"buried": 12} if back % 50 == 7 else {}
        buckets = {14: 0.5, 15: 0.5} if is_after else {2: 0.62, 3: 0.3, 5: 0.06, 8: 0.02}
        counts |= {f"latency:{n}": round(delivered * share) for n, share in buckets.items()}
        redis.hset(f"{source}:history:{now - back}", mapping=counts)
        buried = counts.get("buried", 0)
        totals = {**counts, "accepted": delivered + buried, "purged": buried}
        for name, count in totals.items():
            redis.hincrby(f"{source}:stats", name, count)
    for n in range(5):
        bury(app, "Order Completed", "Order Completed", words=f"invalid timestamp in event {n}")
    for _ in range(3):
        bury(app, "Product List Viewed", reason="HTTP 413 Payload Too Large")


@pytest.mark.parametrize("width", WIDTHS)
def test_each_page_fits_and_shows_the_texts_of_strangers_as_text(
    make_app, redis, open_window, width
):
    app = make_app(segment_sources={"shop": {**SOURCES["marketing"], "shards": 2}})
    fill(app, redis)
    letter = bury(app, EVIL, reason=f"HTTP 400 {EVIL}", words=EVIL)
    window = open_window(app, width)
    for path in ("/", "/sources/default?hours=24", "/sources/shop", DEAD, f"{DEAD}/{letter}"):
        window.go(path)
        window.look()
        assert window.page.locator("img").count() == 0
        assert "\u202e" not in window.page.locator("main").inner_text()
    window.go("/workers")
    window.page.locator("text=no worker answers").wait_for()
    window.look()


def test_who_may_only_look(make_app, open_window):
    app = make_app()
    batch = bury(app, "A")
    window = open_window(app, changes=False)
    for path in ("/", "/sources/default", DEAD, f"{DEAD}/{batch}", "/workers"):
        window.go(path)
        assert set(window.page.locator("main button").all_inner_texts()) <= {
            "Filter", "Export", "Copy"
        }  # fmt: skip
        assert window.page.locator("form[method=post]").count() == 0
    # As with a form that somebody made by hand.
    (token,) = (c["value"] for c in window.page.context.cookies() if c["name"] == "segment_token")
    form = {"token": token, "all": "1", "confirmed": "1"}
    answer = window.page.request.post(urljoin(window.page.url, "/sources/default/purge"), form=form)
    assert answer.status == 403
    assert Analytics(app=app).stats().dead.messages == 1


def test_a_page_is_renewed_under_the_keyboard(make_app, open_window):
    app = make_app()
    window = open_window(app)
    page = window.page
    window.go("/")
    page.focus("#source-1")
    Analytics(app=app).track.delay("maria", "Item Added")
    page.locator("[data-label=Waiting]", has_text="1").wait_for()
    assert page.evaluate("document.activeElement.id") == "source-1"
    page.keyboard.press("Enter")
    page.wait_for_url("**/sources/default")
    page.keyboard.press("Tab")
    page.keyboard.press("Enter")
    assert page.evaluate("document.activeElement.id") == "content"


def test_redis_goes_and_comes_back(open_window):
    with EmbeddedRedis() as redis:
        app = new_app({"broker_url": redis.url, "segment_host": "http://127.0.0.1:1"})
        window, late = open_window(app), open_window(app)
        window.go("/")
        late.go("/sources/default")
        redis.stop()
        notice = window.page.locator("[data-notice]", has_text="is unreachable")
        notice.wait_for()
        late.page.reload()
        assert late.page.locator("h1").inner_text() == "Not available"
        redis.start()
        notice.wait_for(state="detached")
        late.page.locator("h1", has_text="default").wait_for()
        # As a browser has it of each answer of the kind.
        for each in (window, late):
            assert {"503" in text for text in each.complaints} == {True}
            each.complaints.clear()


def test_the_documents_show_it(make_app, redis, workers, open_window, pictures):
    app = make_app(segment_sources={"shop": SOURCES["marketing"]})
    fill(app, redis)
    workers.start(app)
    window = open_window(app)
    for name, path in (("panel-source", "/sources/default"), ("panel-dead", DEAD)):
        window.go(path)
        window.keep(pictures, name)
