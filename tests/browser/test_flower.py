"""Flower on a running system, as an operator sees it."""

from __future__ import annotations

import base64
import json
import re
from contextlib import ExitStack

import pytest

from celery_segment import Analytics, track
from celery_segment.contrib.flower import tasks_columns
from celery_segment.demo.processes import flower, worker
from celery_segment.testing import Reply
from support import WRITE_KEY, wait_until

USER, PASSWORD = "operator", "an0therS3cret"
MARKETING_KEY = "marketingwritekeys3cr3t"
PAYLOAD = "p4yl04d"

DELIVERED = r"delivered 20 messages in \d+ ms: 200"
DEAD = "dead letter, 1 message: 400 Bad Request"
#: What of the page of tasks has to be readable without scrolling; of the link to a task's own page,
#: so many pixels.
MATTERS, LINK = ("name", "state", "kwargs", "result", "received"), 64
#: Beyond this the pictures weigh on the repository.
LARGEST = 250_000


@pytest.fixture
def address(redis_server, server, make_app, tmp_path):
    """The address of a Flower that watches two workers, all started as the demo starts them."""
    settings = {
        "broker_url": redis_server.url,
        "segment_host": server.url,
        "segment_sources": {"marketing": {"write_key": MARKETING_KEY}},
        "segment_max_batch_messages": 20,
    }
    make_app(**settings)
    with ExitStack() as stack:
        for number in (1, 2):
            child = stack.enter_context(worker(number, settings, WRITE_KEY, tmp_path))
            child.wait_for(r"worker\d@demo ready\.")
        web = stack.enter_context(flower(settings, f"{USER}:{PASSWORD}", tmp_path))
        yield web.wait_for(r"http://127\.0\.0\.1:\d+")


def track_many(source: str, *events: str) -> None:
    analytics = Analytics(source)
    with analytics.batch():
        for number, event in enumerate(events):
            properties = {"plan": "Enterprise", "note": PAYLOAD, "text": "x" * 200}
            analytics.track.delay(f"user{number}", event, properties)


def let_it_happen(server, results) -> str:
    """Have batches delivered, retried, refused and put off; return the id of a broker's call."""

    def wait_for(result: str, count: int = 1):
        wait_until(lambda: sum(bool(re.fullmatch(result, each)) for each in results()) == count)

    server.fail_messages(lambda message: message["event"] == "bad")
    # Longer than a delivery goes on with what waits: each row is of one batch.
    server.rule(lambda _: Reply.slow(0.3))
    track_many("default", *["Item Purchased"] * 60)
    wait_for(DELIVERED, 3)
    server.reply(Reply.status(503))
    track_many("default", *["Item Purchased"] * 20)
    wait_for(DELIVERED, 4)
    call = track.apply_async(("u", "Order Completed", {"note": PAYLOAD}), countdown=0.1)
    wait_for(r"delivered 1 message in \d+ ms: 200")
    track_many("default", "bad")
    wait_for(DEAD)
    server.reply(Reply.status(429, retry_after=60))
    track_many("marketing", *["Item Purchased"] * 20)
    wait_for("429 .*")
    return call.id


def read_tasks(page) -> list[dict]:
    """Load the page of tasks, and return its rows by column."""
    with page.expect_response("**/tasks/datatable"):
        page.reload()
    page.wait_for_selector("#tasks-table tbody td")
    page.wait_for_selector("#tasks-table_processing", state="hidden")
    cells = "rows => rows.map(row => [...row.cells].map(cell => cell.innerText.trim()))"
    rows = page.locator("#tasks-table tbody tr[id]").evaluate_all(cells)
    return [dict(zip(tasks_columns.split(","), row, strict=True)) for row in rows]


def check_nothing_is_cut_off(page) -> None:
    """Check that what matters of each task is visible as a whole."""
    sizes = """rows => rows.map(row => [...row.cells].map(cell => {
        const box = cell.getBoundingClientRect();
        return [cell.scrollWidth - cell.clientWidth, box.left, box.right];
    }))"""
    end = page.locator(".dataTables_scrollBody").bounding_box()
    end = end["x"] + end["width"]
    rows = page.locator("#tasks-table tbody tr[id]").evaluate_all(sizes)
    for row in rows:
        cells = dict(zip(tasks_columns.split(","), row, strict=True))
        for name in MATTERS:
            hidden, _, right = cells[name]
            assert hidden <= 0, name
            assert right <= end, name
        assert cells["uuid"][1] + LINK <= end


def read_task(page, row: dict) -> dict:
    """Open a task from the page of tasks, and return what its own page says of it."""
    page.click(f"#tasks-table a[href$='/task/{row['uuid']}']")
    page.wait_for_selector("#task-page")
    hidden = "cells => cells.map(cell => cell.scrollWidth - cell.clientWidth)"
    assert max(page.locator(".detail-row dd").evaluate_all(hidden)) <= 0
    pair = "rows => rows.map(row => [...row.children].map(cell => cell.innerText.trim()))"
    return dict(page.locator(".detail-row").evaluate_all(pair))


def keep(page, path, *, above: str | None = None) -> None:
    """Take a picture of a page, or of what is above a row of it."""
    size = page.viewport_size
    if above is None:
        height = page.evaluate("document.documentElement.scrollHeight")
    else:
        row = page.locator(".detail-row", has=page.locator("dt", has_text=above))
        height = row.bounding_box()["y"]
    clip = {"x": 0, "y": 0, "width": size["width"], "height": height}
    page.screenshot(path=path, full_page=True, clip=clip)
    assert path.stat().st_size < LARGEST


def test_an_operator_reads_the_deliveries(browser, server, address, pictures, tmp_path):
    archive = tmp_path / "pages.har"
    context = browser.new_context(
        viewport={"width": 1280, "height": 720},
        http_credentials={"username": USER, "password": PASSWORD},
        record_har_path=archive,
    )
    page = context.new_page()
    page.goto(f"{address}/workers")
    page.locator("text=Online").nth(1).wait_for()

    page.goto(f"{address}/tasks")
    call = let_it_happen(server, lambda: [row["result"] for row in read_tasks(page)])

    def read_when_retried():
        rows = read_tasks(page)
        shown = (rows[0]["kwargs"], rows[0]["state"])
        return shown == ("marketing, batch 1, 20 messages", "RETRY") and rows

    # A drain whose batch waits for its retry becomes a delivery of that batch.
    rows = wait_until(read_when_retried)
    check_nothing_is_cut_off(page)
    keep(page, pictures / "flower-tasks.png")
    assert {row["worker"] for row in rows} <= {"worker1@demo", "worker2@demo"}
    by_id = {row["uuid"]: row for row in rows}
    assert (by_id[call]["name"], by_id[call]["kwargs"]) == ("segment.track", "default")
    assert "default" in {row["kwargs"] for row in rows if row["name"] == "segment.drain"}

    # The newest first: what waits, then what was refused.
    waits, refused = (row for row in rows if row["state"] != "SUCCESS")
    assert waits["state"] == "RETRY"
    assert waits["result"] == "429 Too Many Requests, Retry-After 60 s"
    assert (refused["state"], refused["result"]) == ("FAILURE", DEAD)
    told = read_task(page, refused)
    keep(page, pictures / "flower-dead-letter.png", above="Traceback")
    (letter,) = Analytics().dead_letters
    command = "celery -A proj segment dead"
    following = f"next: {command} show {letter.id}, then {command} replay {letter.id}"
    assert told["Exception"] == (
        f"DeliveryFailed('{DEAD}; Segment answers invalid_request; {following}')"
    )
    page.go_back()
    page.wait_for_selector("#tasks-table tbody td")
    of_four = (row for row in rows if row["kwargs"] == "default, batch 4, 20 messages")
    retried = next(row for row in of_four if re.fullmatch(DELIVERED, row["result"]))
    told = read_task(page, retried)
    keep(page, pictures / "flower-task.png", above="Traceback")
    assert told["Status"] == "SUCCESS"
    assert told["Keyword arguments"] == retried["kwargs"]
    assert told["Result"] == retried["result"]
    assert told["Retries"] == "1"
    assert told["Exception"] == "DeliveryError('503 Service Unavailable')"

    page.click("text=Workers")
    page.locator("text=Online").nth(1).wait_for()
    keep(page, pictures / "flower-workers.png")
    page.click("a[aria-label='Worker worker1@demo']")
    page.click("role=tab[name='Config']")
    page.wait_for_selector("text=segment_sources")
    page.click("text=Broker")
    page.wait_for_load_state()
    context.close()
    check_secrets(archive, shown=waits["kwargs"])


def check_secrets(archive, *, shown: str) -> None:
    """Look for keys and payloads in all that the browser was sent."""
    pages = {}
    for entry in json.loads(archive.read_text("utf-8"))["log"]["entries"]:
        content = entry["response"]["content"]
        text = content.get("text", "").encode()
        body = base64.b64decode(text) if content.get("encoding") == "base64" else text
        pages[entry["request"]["url"]] = pages.get(entry["request"]["url"], b"") + body
    assert any(shown.encode() in body for body in pages.values())
    assert any(b"segment_sources" in body for url, body in pages.items() if "/worker/" in url)
    assert any(url.endswith("/broker") for url in pages)
    for url, body in pages.items():
        for secret in (WRITE_KEY, MARKETING_KEY, PAYLOAD):
            assert secret.encode() not in body, f"{secret} is at {url}"
