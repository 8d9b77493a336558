"""Values that are nested too deep, or hold themselves, are refused."""

from __future__ import annotations

import collections
import inspect
import json
import sys
from types import MappingProxyType
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from celery_segment import ValidationError
from celery_segment.messages import encoding
from values import ODD, Slots, Struct, message, raw, refusal, strictly


def nested(depth, wrap, inner=1):
    value = inner
    for _ in range(depth):
        value = wrap(value)
    return value


WRAPS = {
    "list": lambda v: [v],
    "tuple": lambda v: (1, v),
    "dict": lambda v: {"a": v},
    "proxy": lambda v: MappingProxyType({"a": v}),
    "deque": lambda v: collections.deque([v]),
    "dataclass": Slots,
    "struct": Struct,
}


@pytest.mark.parametrize("wrap", WRAPS.values(), ids=WRAPS)
@pytest.mark.parametrize("more", [{}, {"odd": ODD}], ids=["fast", "slow"])
@pytest.mark.parametrize("depth", [250, 800, 3_000])
def test_deeper_than_200_levels_is_refused_on_either_road(wrap, more, depth):
    # A worker's stack may be deeper than the caller's, and must still read the message.
    error = refusal({"a": nested(depth, wrap), **more})
    assert error.field == "properties"
    assert "deeper than 200 levels" in str(error)


@pytest.mark.parametrize("wrap", WRAPS.values(), ids=WRAPS)
@pytest.mark.parametrize("more", [{}, {"odd": ODD}], ids=["fast", "slow"])
def test_90_levels_pass_on_either_road(wrap, more):
    assert strictly(encoding._to_json(message({"a": nested(90, wrap), **more})))


def test_many_shallow_objects_pass():
    items = [{"sku": str(n), "tags": ["[", "{"]} for n in range(400)]
    assert json.loads(raw({"items": items})["items"]) == items


TEXTS = st.text('[{]}"\\a') | st.text()


@given(
    st.recursive(
        st.none() | st.integers() | st.floats(allow_nan=False) | TEXTS,
        lambda inner: st.lists(inner) | st.dictionaries(TEXTS, inner),
    ).flatmap(lambda value: st.sampled_from([[value], {"a": value}]))
)
@example([[[]], {}, [1, [{"a": []}]]])
@example(["\\"])
@example(["]" * 9, [['\\"\\']], "[" * 9])
def test_the_depth_of_a_text_is_that_of_its_value(value):
    def depth(value):
        inner = value.values() if isinstance(value, dict) else value
        return 1 + max((depth(each) for each in inner if isinstance(each, list | dict)), default=0)

    assert encoding._depth(json.dumps(value, ensure_ascii=False).encode()) == depth(value)


@pytest.mark.parametrize("text", ["[]][", '\\"[\\\\"]', "}{"])
def test_brackets_in_texts_hide_no_depth(text):
    value = nested(250, lambda v: [text, v, text])
    assert "deeper than 200 levels" in str(refusal({"a": value}))
    assert raw({"a": [text] * 300})


def cycles():
    items: list[Any] = []
    items.append(items)
    mapping: dict[str, Any] = {}
    mapping["a"] = [mapping]
    data = Slots(None)
    data.a = data
    queue: collections.deque[Any] = collections.deque()
    queue.append(queue)
    struct = Struct(None)
    struct.some_name = [struct]
    return [items, mapping, data, queue, struct]


@pytest.mark.parametrize("cycle", cycles(), ids=lambda c: type(c).__name__)
@pytest.mark.parametrize("more", [{}, {"odd": ODD}], ids=["fast", "slow"])
def test_cycles_are_refused(cycle, more):
    error = refusal({"a": {"b": cycle}, **more})
    assert error.field == "properties"
    assert "contains itself" in str(error)


def test_on_a_deep_stack_a_deep_value_is_refused_and_a_flat_one_passes():
    deep = message({"a": nested(150, WRAPS["dict"], ODD)})

    def descend(levels):
        if levels:
            return descend(levels - 1)
        with pytest.raises(ValidationError) as caught:
            encoding._to_json(deep)
        return caught.value.field, encoding._to_json(message({"a": 1}))

    assert encoding._to_json(deep)
    left = sys.getrecursionlimit() - len(inspect.stack())
    refused, passed = descend(left - 120)
    assert refused == "properties"
    assert passed == encoding._to_json(message({"a": 1}))
