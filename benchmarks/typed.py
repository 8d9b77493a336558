"""A call without its exchange with Redis, whose properties are checked in one way or another."""

from __future__ import annotations

import atexit
import json
import os
from collections.abc import Callable
from functools import partial
from tempfile import NamedTemporaryFile
from typing import Annotated, Any

import jsonschema
import pydantic
from celery import Celery

from benchmarks import stub
from benchmarks.events import EVENT, USER
from celery_segment.events import Event, Meta, Properties, field

SCHEMA = {
    "$schema": "http://json-schema.org/draft-07/schema#",
    "type": "object",
    "properties": {
        "revenue": {"type": "number", "minimum": 0},
        "currency": {"type": "string"},
        "shippingMethod": {"type": "string"},
        "category": {"type": "string"},
        "quantity": {"type": "integer", "minimum": 1},
        "coupon": {"type": "string"},
    },
    "required": ["revenue", "currency", "shippingMethod", "category", "quantity"],
}
validator = jsonschema.Draft7Validator(SCHEMA)


class Purchase(Event, name=EVENT, rename="camel"):
    revenue: Annotated[float, Meta(ge=0)]
    currency: str
    shipping_method: str
    category: str
    quantity: Annotated[int, Meta(ge=1)]
    coupon: str | None = None


class Product(Properties):
    sku: str
    quantity: Annotated[int, Meta(ge=1)]


class Order(Event, name=EVENT):
    order_id: str
    revenue: Annotated[float, Meta(ge=0)]
    currency: str
    coupon: str | None = None
    products: list[Product] = field(default_factory=list)


class PurchaseModel(pydantic.BaseModel):
    revenue: Annotated[float, pydantic.Field(ge=0)]
    currency: str
    shippingMethod: str  # noqa: N815 - as it is sent
    category: str
    quantity: Annotated[int, pydantic.Field(ge=1)]
    coupon: str | None = None


def unchecked() -> dict[str, Any]:
    return {
        "revenue": 39.95,
        "currency": "EUR",
        "shippingMethod": "2-day",
        "category": "books",
        "quantity": 2,
    }


def typed() -> Purchase:
    return Purchase(
        revenue=39.95, currency="EUR", shipping_method="2-day", category="books", quantity=2
    )


def modelled() -> dict[str, Any]:
    purchase = PurchaseModel(
        revenue=39.95, currency="EUR", shippingMethod="2-day", category="books", quantity=2
    )
    return purchase.model_dump(exclude_unset=True)


def by_schema() -> dict[str, Any]:
    properties = unchecked()
    validator.validate(properties)
    return properties


def plan_file() -> str:
    """Write a tracking plan with the schema, and return the path of its file."""
    rule = {"type": "TRACK", "key": EVENT, "version": 1}
    schema = {"type": "object", "properties": {"properties": SCHEMA}}
    with NamedTemporaryFile("w", suffix=".json", delete=False) as file:
        json.dump({"rules": [{**rule, "jsonSchema": schema}]}, file)
    atexit.register(os.unlink, file.name)
    return file.name


def nested() -> dict[str, Any]:
    return {
        "order_id": "50314b8e",
        "revenue": 39.95,
        "currency": "EUR",
        "products": [{"sku": "a-1", "quantity": 2}, {"sku": "b-2", "quantity": 1}],
    }


def typed_nested() -> Order:
    return Order(
        order_id="50314b8e",
        revenue=39.95,
        currency="EUR",
        products=[Product(sku="a-1", quantity=2), Product(sku="b-2", quantity=1)],
    )


def setup(kind: str, redis_url: str) -> Callable[[int], dict[str, float]]:
    """Call once, and return a function that times calls without the exchange."""
    app = Celery("bench", broker="memory://")
    app.conf.update(segment_redis_url=redis_url, imports=["celery_segment"])
    if kind == "planned":
        app.conf.segment_tracking_plan = plan_file()
    app.loader.import_default_modules()
    app.set_default()
    sockets = stub.install()
    from celery_segment import track

    ways: dict[str, Callable[[], Any]] = {
        "dict": lambda: track.delay(USER, EVENT, unchecked()),
        "typed": lambda: track.delay(USER, typed()),
        "pydantic": lambda: track.delay(USER, EVENT, modelled()),
        "planned": lambda: track.delay(USER, EVENT, unchecked()),
        "jsonschema": lambda: track.delay(USER, EVENT, by_schema()),
        "nested": lambda: track.delay(USER, EVENT, nested()),
        "typed nested": lambda: track.delay(USER, typed_nested()),
    }
    one = ways[kind]
    one()

    return partial(stub.percentiles_without_exchange, one, sockets)
