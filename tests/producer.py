"""A client process of the acceptance tests: tracks mixed events, prints what was accepted."""

from __future__ import annotations

import json
import os
import sys
from decimal import Decimal

from celery_segment import alias, group, identify, page, screen, track
from support import new_app


def main(number: int, events: int) -> None:
    app = new_app(json.loads(os.environ["TESTS_CONF"]))
    app.set_current()
    for n in range(events):
        user = f"user-{number}-{n % 977}"
        match n % 12:
            case 0:
                result = identify.delay(user, {"name": f"Núria {n}", "plan": "free", "n": n})
            case 1:
                result = page.delay(user, "Docs", "Start", {"url": f"https://example.com/{n}"})
            case 2:
                result = screen.delay(user, name="Home", properties={"n": n})
            case 3:
                result = group.delay(user, 7, {"name": "Initech"})
            case 4:
                result = alias.delay(f"anonymous-{n}", user)
            case _:
                items = [{"sku": f"s{i}", "price": Decimal("19.95")} for i in range(n % 5)]
                result = track.delay(user, "Order Completed", {"items": items, "n": n})
        sys.stdout.write(f"{result.id}\n")


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]))
