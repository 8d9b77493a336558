"""What a call takes from the visitor of its request, and what it does not."""

from __future__ import annotations

from dataclasses import dataclass, field
from uuid import UUID

import pytest

from celery_segment.errors import ValidationError
from celery_segment.messages import (
    Alias,
    Group,
    Identify,
    Page,
    Screen,
    Track,
    build_message,
    decode,
    encode,
)


@dataclass
class Visitor:
    user_id: object = "me"
    anonymous_id: str | None = "a1"
    context: dict = field(default_factory=lambda: {"ip": "192.0.2.1", "page": {"path": "/"}})
    new: str | None = None

    def new_anonymous_id(self):
        return self.new


def made(visitor, kind=Track, **arguments):
    arguments = {"user_id": None, "anonymous_id": None, "event": "E", **arguments}
    if kind is not Track:
        del arguments["event"]
    if kind is Alias:
        del arguments["anonymous_id"]
    return decode(encode(build_message(kind, visitor=visitor, **arguments)))


def ids(message):
    return message.get("userId"), message.get("anonymousId")


@pytest.mark.parametrize(
    ("theirs", "given", "expected", "context"),
    [
        # Who is left out is the visitor.
        (("me", "a1"), (None, None), ("me", "a1"), True),
        (("me", None), (None, None), ("me", None), True),
        ((None, "a1"), (None, None), (None, "a1"), True),
        ((7, "a1"), (None, None), ("7", "a1"), True),
        # The visitor by name.
        (("me", "a1"), ("me", None), ("me", "a1"), True),
        ((7, "a1"), (7, None), ("7", "a1"), True),
        ((UUID(int=7), "a1"), (str(UUID(int=7)), None), (str(UUID(int=7)), "a1"), True),
        (("me", "a1"), ("me", "a2"), ("me", "a2"), True),
        (("me", "a1"), (None, "a1"), (None, "a1"), True),
        # Another.
        (("me", "a1"), ("you", None), ("you", None), False),
        (("me", "a1"), ("you", "a1"), ("you", "a1"), False),
        (("me", "a1"), (None, "a2"), (None, "a2"), False),
        # Nobody is logged in: it may be anyone, and two people are not to be made one.
        ((None, "a1"), ("you", None), ("you", None), True),
        ((None, "a1"), ("you", "a2"), ("you", "a2"), True),
        (("me", None), (None, "a2"), (None, "a2"), True),
    ],
)
def test_identities(theirs, given, expected, context):
    visitor = Visitor(*theirs)
    for kind, more in ((Track, {}), (Identify, {}), (Group, {"group_id": "g"})):
        message = made(visitor, kind, user_id=given[0], anonymous_id=given[1], **more)
        assert ids(message) == expected
        assert ("ip" in message["context"]) == context
        assert message["context"]["library"]


def test_an_alias_has_the_visitors_context_and_none_of_the_ids():
    message = made(Visitor(), Alias, previous_id="p", user_id="me")
    assert ids(message) == ("me", None)
    assert message["context"]["ip"] == "192.0.2.1"
    with pytest.raises(ValidationError, match="user_id: is required by alias"):
        made(Visitor(), Alias, previous_id="p")


def test_what_a_call_gives_is_above_key_by_key():
    visitor = Visitor()
    message = made(visitor, context={"page": {"title": "T"}, "locale": "de"})
    del message["context"]["library"]
    assert message["context"] == {"ip": "192.0.2.1", "page": {"title": "T"}, "locale": "de"}
    assert visitor.context == Visitor().context


def test_a_pages_properties_are_those_of_the_visitors_page_as_in_the_browser():
    page = {"url": "https://s/a?q=1", "path": "/a", "search": "?q=1", "referrer": "https://s/"}
    visitor = Visitor(context={"page": page, "ip": "192.0.2.1"})
    assert made(visitor, Page)["properties"] == page
    given = {"path": "/b", "title": "T", "n": 1}
    assert made(visitor, Page, properties=given)["properties"] == {**page, **given}
    assert given == {"path": "/b", "title": "T", "n": 1}
    # What the call says of the page counts, and whose it is.
    titled = made(visitor, Page, context={"page": {"title": "T", "x": 1}})
    assert titled["properties"] == {"title": "T"}
    assert "properties" not in made(visitor, Page, user_id="you")
    assert "properties" not in made(visitor, Page, context={"page": None})
    for kind in (Track, Screen):
        assert "properties" not in made(visitor, kind)


def test_a_visitor_of_whom_nothing_is_known_is_told():
    with pytest.raises(ValidationError) as caught:
        made(Visitor(None, None))
    assert "; this request's visitor has neither: see segment_set_an" in str(caught.value)
    with pytest.raises(ValidationError, match="context: must be a dict"):
        made(Visitor(), context="ip")


@pytest.mark.parametrize(
    ("theirs", "given", "expected"),
    [
        ((None, None), (None, None), (None, "new")),
        (("me", None), (None, None), ("me", "new")),
        (("me", None), ("me", None), ("me", "new")),
        # What says who it is about needs none.
        ((None, "a1"), (None, None), (None, "a1")),
        ((None, None), (None, "a2"), (None, "a2")),
        ((None, None), ("you", None), ("you", None)),
        (("me", None), ("you", None), ("you", None)),
    ],
)
def test_a_new_id_is_the_visitors_and_nobody_elses(theirs, given, expected):
    visitor = Visitor(*theirs, new="new")
    assert ids(made(visitor, user_id=given[0], anonymous_id=given[1])) == expected


def test_an_alias_gives_nobody_a_new_id():
    asked = []

    class Asked(Visitor):
        def new_anonymous_id(self):
            asked.append(self)
            return "new"

    assert ids(made(Asked("me", None), Alias, previous_id="p", user_id="me")) == ("me", None)
    assert not asked
    assert ids(made(Asked("me", None))) == ("me", "new")
    assert asked
