"""Typed events, traits and properties in every way to call, beside the same calls with dicts."""

from __future__ import annotations

import asyncio
import json
from base64 import b64decode
from decimal import Decimal
from typing import Annotated

import celery
import pytest
from kombu.serialization import dumps, loads

from celery_segment import Analytics, ValidationError, group, identify, page, track
from celery_segment.analytics import Client
from celery_segment.events import Event, Meta, Properties, Traits, field
from celery_segment.producer import places
from celery_segment.testing import Outbox
from support import drops, run_as_worker, stored

SECRET = "ann@example.com"


class Product(Properties):
    sku: str


class OrderCompleted(Event, name="Order Completed", version=2):
    order_id: str
    revenue: Annotated[Decimal, Meta(description="In euros")]
    coupon: str | None = None
    products: list[Product] = field(default_factory=list)


class Base(Event):
    order_id: str


class UserTraits(Traits):
    plan: str


ORDER = OrderCompleted(
    order_id="50314b8e", revenue=Decimal("39.95"), products=[Product(sku="a"), Product(sku="b")]
)
#: The same by a name and dicts, the properties in another order.
PLAIN = {
    "event": "Order Completed",
    "properties": {
        "products": [{"sku": "a"}, {"sku": "b"}],
        "revenue": Decimal("39.95"),
        "order_id": "50314b8e",
    },
    "context": {"protocols": {"event_version": 2}},
}
BAD = OrderCompleted(order_id=SECRET, revenue=SECRET)


def _in_batch(event):
    with Analytics().batch():
        track.delay("u", event)


def _in_group(event):
    celery.group([track.s("u", event)]).delay()


def _carried(*signatures):
    """Run signatures as a worker does that got them as JSON."""
    for each in signatures:
        celery.signature(json.loads(json.dumps(each))).apply(throw=True)


async def _awaited(event):
    await track.adelay("u", event)


async def _in_abatch(event):
    async with Analytics().abatch():
        await track.adelay("u", event)


WAYS = {
    "delay": lambda event: track.delay("u", event),
    "by name": lambda event: track.delay(user_id="u", event=event),
    "direct": lambda event: track("u", event),
    "apply_async": lambda event: track.apply_async(("u", event), priority=3),
    "signature": lambda event: track.s("u", event).delay(),
    "signature by name": lambda event: track.s(event=event).delay("u"),
    "immutable": lambda event: track.si("u", event=event)(),
    "filled in": lambda event: track.s("u").clone(kwargs={"event": event}).delay(),
    "group": _in_group,
    "bound": lambda event: Analytics().track.delay("u", event),
    "starmap": lambda event: _carried(track.starmap([("u", event)])),
    "chunks": lambda event: _carried(*track.chunks([("u", event)], 5).group().tasks),
    "mapped": lambda event: Analytics().track.starmap([("u", event)]).delay(),
    "batch": _in_batch,
    "awaited": lambda event: asyncio.run(_awaited(event)),
    "awaited batch": lambda event: asyncio.run(_in_abatch(event)),
    "drop-in": lambda event: Client(source="default").track("u", event),
}


@pytest.fixture(autouse=True)
def _nothing_logged(monkeypatch):
    monkeypatch.setattr(places, "_logged", set())


def content(message):
    return {**message, "messageId": None, "timestamp": None}


@pytest.mark.usefixtures("app")
@pytest.mark.parametrize("way", [*WAYS, "apply"])
def test_each_way_stores_what_the_same_call_with_a_dict_does(redis, way):
    ways = {**WAYS, "apply": lambda event: track.apply(("u",), {"event": event})}
    ways[way](ORDER)
    track.delay("u", **PLAIN)
    typed, plain = stored(redis)
    assert content(typed) == content(plain)


@pytest.mark.usefixtures("app")
@pytest.mark.parametrize("way", WAYS)
def test_each_way_refuses_a_value_that_is_not_valid(redis, way):
    with pytest.raises(ValidationError) as caught:
        WAYS[way](BAD)
    assert caught.value.field == "properties.revenue"
    assert SECRET not in str(caught.value)
    assert stored(redis) == []


@pytest.mark.parametrize("way", WAYS)
def test_each_way_logs_and_counts_it_where_the_settings_say_so(make_app, redis, caplog, way):
    make_app(segment_on_invalid="log")
    WAYS[way](BAD)
    assert stored(redis) == []
    assert Analytics().stats().dropped == drops(invalid=1)
    (text,) = [r.getMessage() for r in caplog.records if r.levelname == "ERROR"]
    assert text.startswith(f"track at {__file__}:")
    assert "is dropped: properties.revenue: OrderCompleted " in text
    assert SECRET not in text


@pytest.mark.usefixtures("app")
def test_traits_and_properties(redis):
    identify.delay("u", UserTraits(plan="pro"))
    group.s("u", "g", traits=UserTraits(plan="pro")).delay()
    page.delay("u", name="Docs", properties=Product(sku="a"))
    page.s("u", "Docs", "Node", Product(sku="a")).delay()
    assert [m.get("traits") or m["properties"] for m in stored(redis)] == [
        *({"plan": "pro"}, {"plan": "pro"}, {"sku": "a"}, {"sku": "a"}),
    ]


@pytest.mark.usefixtures("app")
def test_a_plain_message_travels_through_the_broker(redis):
    track.apply_async(("u", ORDER), countdown=3_600)
    task = json.loads(redis.lindex("celery", 0))
    _, kwargs, _ = json.loads(b64decode(task["body"]))
    assert kwargs["event"] == "Order Completed"
    assert kwargs["properties"]["order_id"] == "50314b8e"


@pytest.mark.usefixtures("app")
@pytest.mark.parametrize(
    ("make", "expected"),
    [
        (lambda: track.s("u", ORDER), PLAIN),
        (lambda: track.si(user_id="u", event=ORDER), PLAIN),
        (lambda: Analytics().track.s("u", ORDER), PLAIN),
        (
            lambda: track.signature(("u", "E"), {"properties": Product(sku="a")}, countdown=5),
            {"event": "E", "properties": {"sku": "a"}},
        ),
    ],
)
def test_a_signature_travels_through_the_broker(redis, make, expected):
    content_type, encoding, data = dumps(make(), "json")
    celery.signature(loads(data, content_type, encoding)).clone(countdown=None).delay()
    track.delay("u", **expected)
    sent, plain = stored(redis)
    assert content(sent) == content(plain)


@pytest.mark.usefixtures("app")
@pytest.mark.parametrize(
    "make",
    [
        lambda: track.s("u", ORDER, {"a": 1}),
        lambda: track.s("u", ORDER, properties={"a": 1}),
        lambda: track.s(event=ORDER, properties={"a": 1}, user_id="u"),
    ],
)
def test_properties_beside_an_event_are_refused_by_the_call(make):
    signature = make()
    with pytest.raises(ValidationError, match="properties: are those of the typed event"):
        signature.delay()


def test_its_id_in_a_task_is_that_of_the_same_call_with_a_dict(app, redis):
    run_as_worker(app, lambda _: track.delay("u", ORDER))
    run_as_worker(app, lambda _: track.delay("u", **PLAIN))
    run_as_worker(app, lambda _: track.s("u", ORDER).delay())
    run_as_worker(app, lambda _: track.delay("u", OrderCompleted(order_id="b", revenue=Decimal(1))))
    first, second, third, other = (m["messageId"] for m in stored(redis))
    assert first == second == third != other


@pytest.mark.usefixtures("app")
class TestTheOutbox:
    def test_an_event_is_asserted_by_its_class_or_with_its_properties(self):
        with Outbox() as outbox:
            track.delay("u", ORDER)
            track.delay("u", "Other")
        (message,) = outbox.tracked(OrderCompleted)
        for event in (ORDER, OrderCompleted, "Order Completed"):
            assert outbox.assert_tracked(event, user_id="u") is message
        fewer = OrderCompleted(order_id="50314b8e", revenue=Decimal("39.95"), products=[])
        with pytest.raises(AssertionError, match=r"properties\.products: expected \[\], was"):
            outbox.assert_tracked(fewer)
        with pytest.raises(AssertionError, match="user_id: expected 'v', was 'u'"):
            outbox.assert_tracked(ORDER, user_id="v")

    def test_traits(self):
        with Outbox() as outbox:
            identify.delay("u", UserTraits(plan="pro"))
        outbox.assert_identified("u", traits=UserTraits(plan="pro"))
        with pytest.raises(AssertionError, match=r"traits\.plan: expected 'free', was 'pro'"):
            outbox.assert_identified("u", traits=UserTraits(plan="free"))

    def test_mistakes_in_an_assertion(self):
        with Outbox() as outbox:
            track.delay("u", ORDER)
        with pytest.raises(TypeError, match="give one of the two"):
            outbox.assert_tracked(ORDER, properties={})
        with pytest.raises(ValidationError, match=r"properties\.revenue"):
            outbox.assert_tracked(BAD)
        with pytest.raises(TypeError, match="Base has no name"):
            outbox.assert_tracked(Base)
