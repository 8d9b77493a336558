"""Values of every kind that a message may hold, and their JSON: for tests/unit/encoding."""

from __future__ import annotations

import collections
import dataclasses
import enum
import json
from dataclasses import field
from datetime import date, datetime, timedelta, timezone
from decimal import Decimal
from ipaddress import IPv4Address
from pathlib import PurePosixPath
from typing import Any, ClassVar, NamedTuple
from uuid import UUID

import attrs
import msgspec
import pydantic
import pydantic.dataclasses
import pytest

from celery_segment import ValidationError
from celery_segment.messages import Track, encoding

UTC = timezone.utc
#: A value that the encoder itself gets wrong, so that its message takes the slow road.
ODD = Decimal("NaN")


class Kind(enum.Enum):
    TEXT = "text"
    NUMBER = 2
    NOTHING = None
    PAIR = (1, float("nan"))
    INNER = {"a": [1]}  # noqa: RUF012 - an enum's value


class Level(enum.IntEnum):
    HIGH = 3


class Color(str, enum.Enum):
    RED = "red"


class Text(str):
    __slots__ = ()

    def __str__(self):
        return "wrong"


class Int(int):
    def __repr__(self):
        return "wrong"


class Float(float):
    def __repr__(self):
        return "wrong"


class Dict(dict):
    pass


class List(list):
    pass


class Stamp(datetime):
    """As pandas', pendulum's and freezegun's are."""


class Day(date):
    pass


class NaT(datetime):
    """As pandas' NaT is: a datetime that equals nothing."""

    def __eq__(self, other):
        return False

    def __hash__(self):
        return 0

    def isoformat(self, *_):
        return "NaT"


class Money(Decimal):
    pass


class Delta(timedelta):
    pass


class Id(UUID):
    pass


class Bytes(bytes):
    pass


Point = collections.namedtuple("Point", "x y")  # noqa: PYI024 - the plain one


@dataclasses.dataclass
class Data:
    constant: ClassVar[int] = 9
    once: dataclasses.InitVar[int] = 0
    a: Any = 1
    never: int = field(init=False, repr=False)


@dataclasses.dataclass(slots=True)
class Slots:
    a: Any


class Struct(msgspec.Struct, rename="camel"):
    some_name: Any
    left_out: Any = msgspec.UNSET


class Tagged(msgspec.Struct, tag="tagged", tag_field="kind"):
    a: Any


class Row(msgspec.Struct, array_like=True):
    a: Any
    b: Any


class Model(pydantic.BaseModel):
    a: int
    price: Decimal
    when: datetime
    ratio: float = float("nan")


class Root(pydantic.RootModel[list[int]]):
    pass


class Account(pydantic.BaseModel):
    """Has what pydantic writes in its JSON mode only, or otherwise."""

    model_config = pydantic.ConfigDict(serialize_by_alias=True)

    site: pydantic.HttpUrl
    address: IPv4Address
    folder: PurePosixPath
    password: pydantic.SecretStr
    token: pydantic.SecretBytes
    plan: Level
    waits: timedelta
    given_name: str = pydantic.Field(serialization_alias="givenName")
    only_json: int

    @pydantic.field_serializer("only_json", when_used="json")
    def _as_text(self, value):
        return f"number {value}"


ACCOUNT = Account(
    site="https://example.com/a?b=c",
    address="192.0.2.1",
    folder="/srv/a",
    password="s3cret",
    token=b"s3cret",
    plan=3,
    waits=timedelta(seconds=90),
    given_name="Zoë",
    only_json=5,
)


@pydantic.dataclasses.dataclass
class Login:
    user: str
    password: pydantic.SecretStr


@attrs.define
class Attrs:
    a: Any


class Named(NamedTuple):
    a: Any
    b: Any = None


class Indexed:
    def __index__(self):
        return 5


NOON = datetime(2026, 11, 23, 12, 0, 0, 5000)  # noqa: DTZ001
EAST = timezone(timedelta(hours=5, minutes=30))


def message(properties):
    return Track(
        message_id="m", timestamp="2026-11-23T07:00:00.000Z", event="E", properties=properties
    )


def refuse_constant(text):
    raise AssertionError(f"{text} is not JSON")


def strictly(data):
    return json.loads(data.decode(), parse_constant=refuse_constant, parse_float=Decimal)


def raw(properties):
    """Return the JSON of each property, byte for byte."""
    data = encoding._to_json(message(properties))
    strictly(data)
    fields = msgspec.json.decode(data, type=dict[str, msgspec.Raw])
    parts = msgspec.json.decode(fields["properties"], type=dict[str, msgspec.Raw])
    return {name: bytes(part).decode() for name, part in parts.items()}


def refusal(properties):
    with pytest.raises(ValidationError) as caught:
        encoding._to_json(message(properties))
    return caught.value
