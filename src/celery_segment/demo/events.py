"""The events of a shop: an endless, seeded stream of calls of all six types."""

from __future__ import annotations

import random
from collections.abc import Iterator
from datetime import datetime, timedelta, timezone
from decimal import Decimal
from typing import Any, NamedTuple
from uuid import UUID

from celery_segment import alias, group, identify, page, screen, track
from celery_segment.calls.task import Call

__all__ = ["Event", "stream"]

#: Number of visitors at the same time.
VISITORS = 25
#: Percentages of the visitors who use the app and who sign up, and of the products that a visitor
#: adds to the cart.
ON_PHONE, SIGN_UP, ADD = 40, 50, 60

PRODUCTS = (
    {"product_id": "tea-01", "name": "Sencha", "price": Decimal("12.90")},
    {"product_id": "tea-02", "name": "Earl Grey", "price": Decimal("8.50")},
    {"product_id": "pot-01", "name": "Cast-iron pot", "price": Decimal("64.00")},
    {"product_id": "cup-04", "name": "Crème cup, set of four", "price": Decimal("39.95")},
)
COMPANIES = ("Köhler & Søn", "Initech", "山田商店", "Hooli")
PLANS = ("free", "plus", "business")


class Event(NamedTuple):
    """A call to make: ``event.call.delay(**event.arguments)``."""

    call: Call[...]
    arguments: dict[str, Any]


def stream(seed: int) -> Iterator[Event]:
    """Yield the events of visitors who view pages, sign up and buy, the same for each seed."""
    chance = random.Random(seed)  # noqa: S311 - repeatable on purpose
    visits = [_visit(chance) for _ in range(VISITORS)]
    while True:
        place = chance.randrange(VISITORS)
        event = next(visits[place], None)
        if event is None:
            visits[place] = _visit(chance)
        else:
            yield event


def _visit(chance: random.Random) -> Iterator[Event]:
    anonymous = str(UUID(int=chance.getrandbits(128), version=4))
    who, phone = {"anonymous_id": anonymous}, _happens(chance, ON_PHONE)
    yield _view(who, "Home", phone=phone)
    if _happens(chance, SIGN_UP):
        user_id = f"user-{chance.getrandbits(32):08x}"
        yield _view(who, "Sign up", phone=phone)
        yield from _sign_up(chance, anonymous, user_id)
        who = {"user_id": user_id}
    cart = []
    for product in chance.sample(PRODUCTS, chance.randint(1, len(PRODUCTS))):
        yield _view(who, str(product["name"]), phone=phone)
        yield Event(track, {**who, "event": "Product Viewed", "properties": product})
        if _happens(chance, ADD):
            cart.append({**product, "quantity": chance.randint(1, 3)})
            yield Event(track, {**who, "event": "Product Added", "properties": cart[-1]})
    if cart:
        yield Event(track, {**who, "event": "Order Completed", "properties": _order(chance, cart)})


def _happens(chance: random.Random, percentage: int) -> bool:
    return chance.randrange(100) < percentage


def _view(who: dict[str, str], name: str, *, phone: bool) -> Event:
    if phone:
        return Event(screen, {**who, "category": "Shop", "name": name})
    path = "/" + name.lower().replace(" ", "-")
    properties = {"path": path, "url": f"https://shop.example{path}", "title": name}
    return Event(page, {**who, "category": "Shop", "name": name, "properties": properties})


def _sign_up(chance: random.Random, anonymous: str, user_id: str) -> Iterator[Event]:
    yield Event(alias, {"previous_id": anonymous, "user_id": user_id})
    traits = {
        "email": f"{user_id}@shop.example",
        "plan": chance.choice(PLANS),
        "createdAt": datetime.now(timezone.utc),
    }
    yield Event(identify, {"user_id": user_id, "traits": traits})
    company = chance.randrange(len(COMPANIES))
    traits = {"name": COMPANIES[company], "employees": 10 * (company + 1)}
    yield Event(group, {"user_id": user_id, "group_id": f"company-{company}", "traits": traits})


def _order(chance: random.Random, cart: list[dict[str, Any]]) -> dict[str, Any]:
    return {
        "order_id": UUID(int=chance.getrandbits(128), version=4),
        "revenue": sum(item["price"] * item["quantity"] for item in cart),
        "currency": "EUR",
        "arrives": datetime.now(timezone.utc) + timedelta(days=chance.randint(1, 5)),
        "products": cart,
    }
