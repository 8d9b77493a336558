"""Typed events as their users' type checkers see them. Checked by mypy, pyright and ty, never run.

As in api.py, every ``type: ignore`` is a mistake that each of the three must find. Where a class
has a metaclass, mypy does not look at the options that it is defined with; the others do.
"""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Literal

from celery_segment import Analytics, group, identify, page, screen, track
from celery_segment import analytics as drop_in
from celery_segment.events import UNSET, Event, Meta, Properties, Traits, UnsetType, field
from celery_segment.testing import Outbox


def use(*_: object) -> None:
    """Take values that the type checker has looked at."""


class Product(Properties):
    """An object within the properties of an event."""

    sku: str
    quantity: Annotated[int, Meta(ge=1)] = 1


class OrderCompleted(Event, name="Order Completed", version=2):
    """An event, with required and optional properties."""

    order_id: str = field(name="Order ID")
    revenue: Annotated[float, Meta(ge=0)]
    currency: Literal["EUR", "USD"] = "EUR"
    coupon: str | None = None
    shipped: datetime | UnsetType | None = UNSET
    products: list[Product] = field(default_factory=list)


class Commerce(Event):
    """A base of events, which has no name."""

    shop: str


class CartViewed(Commerce, name="Cart Viewed", rename="camel"):
    """An event with a property of its base, before one without a default."""

    cart_id: int


class UserTraits(Traits, rename="camel"):
    """The traits of a user."""

    first_name: str
    email: str | None = None


class PageProperties(Properties):
    """The properties of a page."""

    url: str


def events() -> None:
    order = OrderCompleted(order_id="50314b8e", revenue=39.95, products=[Product(sku="a")])
    order_id: str = order.order_id
    amount: int = order.products[0].quantity
    shop: str = CartViewed(shop="Ghent", cart_id=5).shop
    track.delay("019mr8mf4r", order)
    track.delay(user_id="019mr8mf4r", event=order, source="marketing")
    track("019mr8mf4r", order)
    track.s(user_id="u", event=order).apply_async()
    track.delay_on_commit(user_id="u", event=order)
    Analytics("marketing").track.delay("019mr8mf4r", order)
    drop_in.track("u", order)
    drop_in.Client("KEY").track("u", order)
    identify.delay("u", UserTraits(first_name="Ada", email=None))
    group.delay("u", "g", UserTraits(first_name="Ada"))
    page.delay("u", "Docs", "Node", PageProperties(url="/docs"))
    screen.delay("u", properties=PageProperties(url="/docs"))
    track.delay("u", "Docs Viewed", PageProperties(url="/docs"))
    if order.shipped is not UNSET and order.shipped is not None:
        year: int = order.shipped.year
        use(order_id, amount, shop, year)


async def events_on_a_loop() -> None:
    await track.adelay("019mr8mf4r", OrderCompleted(order_id="50314b8e", revenue=39.95))


def mistakes_in_events() -> None:
    OrderCompleted(order_id="a")  # type: ignore[call-arg]  # ty: ignore[missing-argument]
    OrderCompleted(order_id=5, revenue=1)  # type: ignore[arg-type]  # ty: ignore[invalid-argument-type]
    OrderCompleted(order_id="a", revenue="1")  # type: ignore[arg-type]  # ty: ignore[invalid-argument-type]
    OrderCompleted(order_id="a", revenue=1, currency="GBP")  # type: ignore[arg-type]  # ty: ignore[invalid-argument-type]
    OrderCompleted(order_id="a", revenue=1, cupon="x")  # type: ignore[call-arg]  # ty: ignore[unknown-argument]
    OrderCompleted("a", 1)  # type: ignore[call-arg]  # ty: ignore[missing-argument, too-many-positional-arguments]
    Product(sku="a", quantity=None)  # type: ignore[arg-type]  # ty: ignore[invalid-argument-type]
    UserTraits(first_name="Ada").first_name = "Grace"  # type: ignore[misc]  # ty: ignore[invalid-assignment]
    use(OrderCompleted(order_id="a", revenue=1).total)  # type: ignore[attr-defined]  # ty: ignore[missing-attribute]


def mistakes_in_calls() -> None:
    order = OrderCompleted(order_id="a", revenue=1)
    track.delay("u", UserTraits(first_name="Ada"))  # type: ignore[arg-type]  # ty: ignore[invalid-argument-type]
    track.delay("u", Product(sku="a"))  # type: ignore[arg-type]  # ty: ignore[invalid-argument-type]
    track.delay("u", OrderCompleted)  # type: ignore[arg-type]  # ty: ignore[invalid-argument-type]
    track.delay("u", "Order Completed", order)  # type: ignore[arg-type]  # ty: ignore[invalid-argument-type]
    identify.delay("u", order)  # type: ignore[arg-type]  # ty: ignore[invalid-argument-type]
    group.delay("u", "g", Product(sku="a"))  # type: ignore[arg-type]  # ty: ignore[invalid-argument-type]
    page.delay("u", properties=UserTraits(first_name="Ada"))  # type: ignore[arg-type]  # ty: ignore[invalid-argument-type]
    drop_in.track("u", Product(sku="a"))  # type: ignore[arg-type]  # ty: ignore[invalid-argument-type]


class Misnamed(Event, nam="Order Completed"):  # pyright: ignore[reportGeneralTypeIssues]  # ty: ignore[unknown-argument]
    """An event with an option that there is not."""


class TraitsWithName(Traits, name="Ada"):  # pyright: ignore[reportGeneralTypeIssues]  # ty: ignore[unknown-argument]
    """Traits with a name, which only events have."""


class Versioned(Event, name="E", version="2"):  # pyright: ignore[reportArgumentType]  # ty: ignore[invalid-argument-type]
    """An event with a version that is no number."""


def in_tests(segment_outbox: Outbox) -> None:
    order = OrderCompleted(order_id="a", revenue=1)
    message = segment_outbox.assert_tracked(order, user_id="u")
    segment_outbox.assert_tracked(OrderCompleted, user_id="u")
    use(message, len(segment_outbox.tracked(OrderCompleted)))
    segment_outbox.assert_identified("u", traits=UserTraits(first_name="Ada"))
    with segment_outbox.expect_violation(OrderCompleted, path="properties.revenue") as found:
        track.delay("u", order)
    use(found[0].rule, segment_outbox.violations)
    segment_outbox.assert_tracked(Product(sku="a"))  # type: ignore[arg-type]  # ty: ignore[invalid-argument-type]
    segment_outbox.tracked(UserTraits)  # type: ignore[arg-type]  # ty: ignore[invalid-argument-type]
