"""An operator's work in the panel, wherever it is shown."""

from __future__ import annotations

from celery_segment import Analytics
from support import wait_until

#: A name that an endpoint refuses, as others may have made it, and as it is shown.
HOSTILE = "Broken <img src=x onerror=alert(1)> \N{RIGHT-TO-LEFT OVERRIDE}\x07"
SHOWN = "Broken <img src=x onerror=alert(1)> \N{REPLACEMENT CHARACTER}\N{REPLACEMENT CHARACTER}"
LOST = "Order Refunded"


def let_die(server, broken=HOSTILE) -> None:
    """Have five messages of two events become dead letters, and ten be delivered."""
    server.fail_messages(lambda message: message.get("event") in {broken, LOST})
    analytics = Analytics()
    with analytics.batch():
        for number in range(10):
            analytics.track.delay(f"user{number}", "Item Purchased", {"price": number})
        for number in range(3):
            analytics.track.delay(f"user{number}", broken, {"coupon": None})
        for number in range(2):
            analytics.track.delay(f"user{number}", LOST, {"price": -1})
    wait_until(lambda: analytics.stats().dead.messages == 5)
    wait_until(lambda: analytics.stats().delivered.messages == 10)
    server.restore()


def settle_by_clicks(window, server, look=lambda _: None, broken=HOSTILE, shown=SHOWN) -> None:
    """Replay one group of dead letters and purge another.

    Args:
        window: It shows the panel's first page.
        server: The endpoint, which accepts now what it has refused.
        look: Called with the name of each page that is seen.
        broken: The event of the group that is replayed.
        shown: How that is shown.
    """
    page = window.page
    groups, letters = page.locator("table.groups tbody tr"), page.locator("table.letters tbody tr")
    of_broken, of_lost = groups.filter(has_text=shown), groups.filter(has_text=LOST)
    page.locator("role=link[name='5']").wait_for()
    look("sources")
    window.click("role=link[name='default']")
    look("source")
    window.click("role=link[name='Dead letters']")
    look("dead")
    assert groups.count() == 2
    assert of_broken.locator("[data-label=Messages]").inner_text().endswith("3")

    window.click(of_broken.locator("role=link").first)
    kinds = letters.locator("[data-label=Holds]").all_inner_texts()
    assert len(kinds) == 3
    assert all(shown in kind for kind in kinds)
    window.click(letters.locator("role=link").first)
    look("letter")
    assert '"coupon": null' in page.inner_text("pre")

    window.click("role=link[name='Dead letters']")
    window.click(of_broken.locator("role=button[name='Replay']"))
    page.locator("text=Replayed 3 messages").wait_for()
    assert server.wait_for_messages(13, timeout=20)
    assert groups.count() == 1
    window.click(of_lost.locator("role=button[name='Purge…']"))
    page.locator("text=Delete 2 messages permanently?").wait_for()
    look("purge")
    window.click("role=button[name='Delete']")
    page.locator("text=Purged 2 messages").wait_for()
    assert groups.count() == 0
    assert window.asked == []  # also by none of the texts
    events = [message.get("event") for message in server.messages]
    assert events.count(broken) == 3
    assert LOST not in events


def check_is_read_only(window) -> None:
    """Check that a page of dead letters changes nothing, whatever its visitor sends."""
    pages = window.page.locator(".segment")
    assert pages.locator("form[method=post], [formmethod=post]").count() == 0
    for name in ("Replay", "Purge", "Pause", "Resume", "Flush"):
        assert pages.locator(f"role=button[name=/{name}/]").count() == 0
