"""Typed events, traits and properties: what is sent of them, and what is refused."""

from __future__ import annotations

import copy
import enum
import json
import pickle
from datetime import date, datetime, timezone
from decimal import Decimal
from typing import Annotated, Any, ClassVar, Literal
from uuid import UUID

import msgspec
import numpy as np
import pytest
from django.utils.safestring import mark_safe

from building import KINDS, UTC
from celery_segment import ValidationError
from celery_segment.calls.api import CALLS
from celery_segment.events import UNSET, Event, Meta, Properties, Traits, UnsetType, field
from celery_segment.messages import encode
from celery_segment.messages.values import MAX_DEPTH
from celery_segment.visitor import Known, acting

SECRET = "ann@example.com"


class Color(enum.Enum):
    RED = "red"
    GREEN = "green"


class Product(Properties):
    sku: str
    quantity: Annotated[int, Meta(ge=1)] = 1
    color: Literal["red", "green"] | None = None


class OrderCompleted(Event, name="Order Completed"):
    order_id: str = field(name="Order ID")
    revenue: Annotated[float, Meta(ge=0)] = 0
    coupon: str | None = None
    gift: bool = False
    note: str | None = field(default=None, name="note: customer's")
    shipped: datetime | UnsetType | None = UNSET
    code: Annotated[str, Meta(pattern="^[A-Z]+$", max_length=3)] = "A"
    color: Color = Color.RED
    products: list[Product] = field(default_factory=list)
    sizes: dict[str, int] = field(default_factory=dict)
    extra: Any = UNSET


class UserTraits(Traits, rename="camel"):
    first_name: str
    email: str | None = None


class Card(Properties, tag="card", forbid_unknown_fields=True):
    number: str

    def __post_init__(self):
        if not self.number.isalnum():
            raise ValueError(self.number)


class Cash(Properties, tag="cash"):
    """A way to pay that needs no more."""


class Paid(Event, name="Paid"):
    by: Card | Cash | UnsetType = UNSET
    card: Card | UnsetType = UNSET


class OrderPage(Properties):
    title: str
    total: Decimal


class Nothing(Event, name="Nothing"):
    """An event without properties."""


def sent(call, **arguments):
    """Return the message that a call sends."""
    _, message = CALLS[call].build(**{"user_id": "u", **arguments})
    assert type(message) is KINDS[call]
    return json.loads(encode(message))


def properties(**values):
    event = OrderCompleted(**{"order_id": "50314b8e", **values})
    return sent("track", event=event)["properties"]


BARE = {
    "Order ID": "50314b8e",
    "revenue": 0,
    "gift": False,
    "code": "A",
    "color": "red",
    "products": [],
    "sizes": {},
}


def pickled(value):
    return pickle.loads(pickle.dumps(value))  # noqa: S301 - its own


class TestWhatIsSent:
    def test_the_name_and_the_properties(self):
        message = sent("track", event=OrderCompleted(order_id="50314b8e"))
        assert message["event"] == "Order Completed"
        assert message["properties"] == BARE

    def test_an_event_without_properties(self):
        message = sent("track", event=Nothing())
        assert (message["event"], message["properties"]) == ("Nothing", {})

    @pytest.mark.parametrize("name", ["identify", "group"])
    def test_traits(self, name):
        own = {"group_id": "g"} if name == "group" else {}
        message = sent(name, traits=UserTraits(first_name="Ada"), **own)
        assert message["traits"] == {"firstName": "Ada"}

    @pytest.mark.parametrize("name", ["page", "screen", "track"])
    def test_properties(self, name):
        own = {"event": "E"} if name == "track" else {}
        message = sent(name, properties=Product(sku="a"), **own)
        assert message["properties"] == {"sku": "a", "quantity": 1}

    def test_none_that_was_given_is_null(self):
        given = properties(coupon=None, note=None, shipped=None, products=[{"sku": "a"}])
        assert given == {
            **BARE,
            "coupon": None,
            "note: customer's": None,
            "shipped": None,
            "products": [{"sku": "a"}],
        }

    def test_what_is_left_out_within_another_is_not_sent_either(self):
        given = properties(products=[Product(sku="a"), Product(sku="b", color=None)])
        assert given["products"] == [
            {"sku": "a", "quantity": 1},
            {"sku": "b", "quantity": 1, "color": None},
        ]

    @pytest.mark.parametrize(
        ("name", "value", "expected"),
        [
            ("revenue", 39.95, 39.95),
            ("revenue", 39, 39),
            ("revenue", Decimal("39.95"), 39.95),
            ("revenue", np.float64(39.95), 39.95),
            ("order_id", UUID(int=1), str(UUID(int=1))),
            ("order_id", mark_safe("<b>"), "<b>"),
            ("order_id", date(2026, 11, 26), "2026-11-26"),
            ("shipped", datetime(2026, 11, 26, tzinfo=timezone.utc), "2026-11-26T00:00:00Z"),
            ("shipped", "2026-11-26T00:00:00Z", "2026-11-26T00:00:00Z"),
            ("color", Color.GREEN, "green"),
            ("color", "green", "green"),
            ("products", ({"sku": "a", "more": 1},), [{"sku": "a", "more": 1}]),
            ("sizes", {1: 2}, {"1": 2}),
            ("extra", {"a": {1}}, {"a": [1]}),
            ("extra", np.array([1, 2]), [1, 2]),
        ],
    )
    def test_values_in_the_forms_of_json(self, name, value, expected):
        sent_name = "Order ID" if name == "order_id" else name
        assert properties(**{name: value})[sent_name] == expected

    def test_a_decimal_keeps_its_digits(self):
        exact = Decimal("0.1234567890123456789")
        _, message = CALLS["track"].build("u", OrderCompleted(order_id="a", revenue=exact))
        assert b'"revenue":0.1234567890123456789,' in encode(message)

    def test_a_set_is_sorted(self):
        texts = [f"{number}" for number in range(20)]
        assert properties(extra=set(texts))["extra"] == sorted(texts)
        # 1 as a key is seen by the closer look only, which does the same.
        assert properties(extra=set(texts), sizes={1: 2})["extra"] == sorted(texts)

    def test_a_page_has_what_is_known_of_the_visitors(self):
        visitor = Known(user_id="u", context={"page": {"path": "/a", "title": "A"}})
        given = OrderPage(title="B", total=Decimal("0.1234567890123456789"))
        with acting(visitor):
            _, message = CALLS["page"].build(properties=given)
        assert b'"properties":{"path":"/a","title":"B","total":0.1234567890123456789}' in encode(
            message
        )

    def test_a_version_is_sent_in_the_context(self):
        class Second(OrderCompleted, version=2):
            pass

        event = Second(order_id="a")
        context = sent("track", event=event, context={"ip": "12.0.0.1"})["context"]
        assert context["protocols"] == {"event_version": 2}
        assert context["ip"] == "12.0.0.1"
        given = {"protocols": {"sourceId": "s", "event_version": 3}}
        context = sent("track", event=event, context=given)["context"]
        assert context["protocols"] == {"sourceId": "s", "event_version": 3}
        assert given == {"protocols": {"sourceId": "s", "event_version": 3}}
        assert "protocols" not in sent("track", event=OrderCompleted(order_id="a"))["context"]


class TestWhatIsRefused:
    @pytest.mark.parametrize(
        ("values", "path", "rule"),
        [
            ({"order_id": 5}, "Order ID", "expects `str`, got `int`"),
            ({"order_id": None}, "Order ID", "expects `str`, got `null`"),
            ({"revenue": -1}, "revenue", "expects `float` >= 0.0"),
            ({"revenue": SECRET}, "revenue", "expects `float`, got `str`"),
            ({"gift": 1}, "gift", "expects `bool`, got `int`"),
            ({"shipped": SECRET}, "shipped", "refuses it: invalid RFC3339 encoded datetime"),
            ({"code": SECRET}, "code", "expects `str` of length <= 3"),
            ({"code": "a"}, "code", "expects `str` matching regex '^[A-Z]+$'"),
            ({"color": SECRET}, "color", "expects one of 'red', 'green'"),
            ({"products": [Product(sku=5)]}, "products[0].sku", "expects `str`, got `int`"),
            (
                {"products": [Product(sku="a"), Product(sku="a", color=SECRET)]},
                "products[1].color",
                "expects one of 'green', 'red'",
            ),
            ({"products": [{}]}, "products[0]", "requires `sku`"),
            ({"products": Product(sku="a")}, "products", "expects `array`, got `object`"),
            ({"sizes": {SECRET: "a"}}, "sizes[...]", "expects `int`, got `str`"),
        ],
    )
    def test_a_value_that_is_not_of_its_type(self, values, path, rule):
        with pytest.raises(ValidationError) as caught:
            properties(**values)
        assert caught.value.field == f"properties.{path}"
        assert caught.value.problem == f"OrderCompleted {rule}"
        assert (caught.value.__cause__, caught.value.__context__) == (None, None)
        assert SECRET not in str(caught.value)

    @pytest.mark.parametrize(
        ("values", "path"),
        [
            ({"extra": object()}, "properties.extra"),
            ({"order_id": "\ud800"}, "properties.Order ID"),
            ({"extra": [{"a": "\ud800"}]}, "properties.extra[0].a"),
            ({"products": [Product(sku=object())]}, "properties.products[0].sku"),
        ],
    )
    def test_a_value_that_has_no_json_form(self, values, path):
        with pytest.raises(ValidationError) as caught:
            properties(**values)
        assert caught.value.field == path

    @pytest.mark.parametrize("levels", [MAX_DEPTH // 2 + 10, 5 * MAX_DEPTH])
    def test_one_that_is_nested_deeper_than_others_may_be(self, levels):
        value: Any = []
        for _ in range(levels):
            value = [value]
        if levels > MAX_DEPTH:
            with pytest.raises(ValidationError, match=r"properties.*is nested deeper than"):
                properties(extra=value)
        else:
            assert properties(extra=value)["extra"] == value

    def test_traits(self):
        with pytest.raises(ValidationError, match=r"^traits\.firstName: UserTraits expects `str`"):
            sent("identify", traits=UserTraits(first_name=5))

    def test_properties(self):
        with pytest.raises(ValidationError, match=r"^properties\.quantity: .*expects `int` >= 1$"):
            sent("page", properties=Product(sku="a", quantity=0))

    def test_fields_that_a_class_forbids(self):
        with pytest.raises(ValidationError) as caught:
            sent("track", event=Paid(card={"number": "a", SECRET: 1}))
        assert str(caught.value) == "properties.card: Paid has no such field"

    def test_what_a_class_refuses_itself(self):
        with pytest.raises(ValidationError) as caught:
            sent("track", event=Paid(card={"type": "card", "number": SECRET}))
        assert str(caught.value) == "properties.card: Paid raises ValueError"

    def test_an_unknown_kind_of_several(self):
        assert sent("track", event=Paid(by=Cash()))["properties"] == {"by": {"type": "cash"}}
        with pytest.raises(ValidationError) as caught:
            sent("track", event=Paid(by={"type": SECRET}))
        assert str(caught.value) == "properties.by.type: Paid expects another value"

    def test_properties_beside_an_event(self):
        with pytest.raises(ValidationError, match=r"^properties: are those of the typed event"):
            sent("track", event=Nothing(), properties={})

    @pytest.mark.parametrize(
        ("call", "arguments", "text"),
        [
            ("track", {"event": UserTraits(first_name="a")}, "event: must be a string"),
            ("track", {"event": Nothing}, "event: must be a string, not a class: pass an object"),
            ("identify", {"traits": UserTraits}, "traits: must be a dict, not a class: pass an"),
            ("page", {"properties": Product}, "properties: must be a dict, not a class: pass"),
            ("track", {"event": Product(sku="a")}, "event: must be a string"),
            ("track", {"event": "E", "properties": Nothing()}, "properties: Nothing is an event"),
            ("page", {"properties": UserTraits(first_name="a")}, "properties: must be a dict"),
            ("identify", {"traits": Product(sku="a")}, "traits: must be a dict"),
            ("identify", {"traits": Nothing()}, "traits: must be a dict"),
            ("track", {"event": "E", "context": Product(sku="a")}, "context: must be a dict"),
        ],
    )
    def test_one_in_the_place_of_another(self, call, arguments, text):
        with pytest.raises(ValidationError) as caught:
            sent(call, **arguments)
        assert str(caught.value).startswith(text)

    def test_an_event_without_a_name(self):
        class Base(Event):
            pass

        with pytest.raises(ValidationError, match=r"^event: Base has no name: define it as class"):
            sent("track", event=Base())

    @pytest.mark.parametrize("version", [-1, True, "2", 1.5])
    def test_a_version_that_is_none(self, version):
        with pytest.raises(TypeError, match="Bad: version must be a whole number from 0 on"):
            type(Event)("Bad", (Event,), {}, name="E", version=version)

    @pytest.mark.parametrize("name", ["", 5])
    def test_a_name_that_is_none(self, name):
        with pytest.raises(TypeError, match="Bad: name must be a text that is not empty"):
            type(Event)("Bad", (Event,), {}, name=name)

    def test_a_type_that_no_property_has(self):
        with pytest.raises(TypeError, match="all Struct types must be tagged"):
            type(Event)("Bad", (Event,), {"__annotations__": {"a": Product | OrderCompleted}})


class TestTheClasses:
    def test_names_and_versions_are_those_of_the_base_unless_given(self):
        class First(Event, name="First", version=3):
            pass

        class Same(First):
            pass

        class Newer(First, version=4):
            pass

        class Other(First, name="Other"):
            pass

        found = [(c.__segment_name__, c.__segment_version__) for c in (First, Same, Newer, Other)]
        assert found == [("First", 3), ("First", 3), ("First", 4), ("Other", None)]

    def test_a_base_gives_its_properties(self):
        class Commerce(Event):
            shop: str
            site: str | None = None

        class CartViewed(Commerce, name="Cart Viewed"):
            cart: int

        message = sent("track", event=CartViewed(cart=5, shop="Ghent"))
        assert message["properties"] == {"shop": "Ghent", "cart": 5}

    def test_a_class_attribute_is_no_property(self):
        class Marked(Event, name="Marked"):
            owner: ClassVar[str | None] = None
            team = None

        assert (Marked.owner, Marked.team) == (None, None)
        assert sent("track", event=Marked())["properties"] == {}

    def test_a_class_may_name_one_that_is_defined_below_it(self):
        assert sent("track", event=Tree(root=Node(leaves=[Node()])))["properties"] == {
            "root": {"leaves": [{"leaves": []}]}
        }

    def test_they_are_given_by_name_and_cannot_be_changed(self):
        with pytest.raises(TypeError):
            UserTraits("Ada")
        with pytest.raises(AttributeError):
            UserTraits(first_name="Ada").first_name = "Grace"
        event = OrderCompleted(order_id="a", revenue=1)
        assert msgspec.structs.replace(event, revenue=2) == OrderCompleted(order_id="a", revenue=2)

    def test_they_are_equal_where_they_send_the_same(self):
        assert UserTraits(first_name="a") == UserTraits(first_name="a")
        assert UserTraits(first_name="a") != UserTraits(first_name="a", email=None)
        assert hash(UserTraits(first_name="a")) == hash(UserTraits(first_name="a"))

    def test_their_repr_has_no_values(self):
        traits = UserTraits(first_name=SECRET)
        assert repr(traits) == "UserTraits(first_name=…)"
        assert traits.__rich_repr__() == []

    @pytest.mark.parametrize("again", [copy.copy, copy.deepcopy, pickled])
    def test_they_can_be_copied(self, again):
        event = OrderCompleted(order_id="a", products=[Product(sku="b")])
        assert again(event) == event


class Tree(Event, name="Tree"):
    root: Node


class Node(Properties):
    leaves: list[Node] = field(default_factory=list)


def test_the_time_zone_is_utc():
    assert properties(shipped=datetime(2026, 1, 1, tzinfo=UTC))["shipped"] == "2026-01-01T00:00:00Z"
