"""Check the values of a typed event, and return them as they are sent.

The types are those of the JSON that Segment gets: a UUID is a text, and a Decimal a number.
"""

from __future__ import annotations

import re
from contextlib import suppress
from decimal import Decimal
from typing import Any

import msgspec

from celery_segment.errors import ValidationError
from celery_segment.messages import Object, is_shallow
from celery_segment.messages.standing import class_name
from celery_segment.messages.values import encoder, plain_field

__all__ = ["checked"]

#: Values that stay as they are: as a float, a Decimal could lose digits.
_KEPT = (Decimal,)
_decode = msgspec.json.decode
#: Sets and mappings are sorted, so that a task that is run again makes the same message.
_encode = msgspec.json.Encoder(
    enc_hook=encoder.enc_hook, decimal_format="number", order="deterministic"
).encode


def checked(value: msgspec.Struct, field: str) -> Object:
    """Return a struct's values by the names that are sent.

    Args:
        value: The struct.
        field: The field of the message that gets them, for errors.

    Raises:
        ValidationError: A value is not of its type, or has no JSON form. The error has its path.
    """
    try:
        data = _encode(value)
        _decode(data, type=type(value))
        if is_shallow(data):
            return msgspec.Raw(data)
    except Exception:  # noqa: BLE001, S110 - whatever it is, it is told by a closer look
        pass
    return _checked_closely(value, field)


def _checked_closely(value: msgspec.Struct, field: str) -> dict[str, Any]:
    """Do the same for values of any class that a message takes, and say which one is wrong."""
    content: Any = None
    with suppress(Exception):  # plain_field raises it with its path
        content = msgspec.to_builtins(
            value,
            builtin_types=_KEPT,
            str_keys=True,
            enc_hook=encoder.enc_hook,
            order="deterministic",
        )
    content = plain_field(field, value) if content is None else content
    try:
        msgspec.convert(content, type(value), str_keys=True)
    except msgspec.ValidationError as error:
        refusal = _refusal(type(value), field, error)
    else:
        return content  # type: ignore[no-any-return]
    raise refusal  # out of the reach of msgspec's error, which may quote the value


def _refusal(kind: type, field: str, error: msgspec.ValidationError) -> ValidationError:
    """Return the error for a value that is not of its type: the path and the rule, no value."""
    # Such as "Expected `float` >= 0.0 - at `$.products[0].price`".
    problem, _, place = str(error).rpartition(" - at ")
    # Of a mapping's key: "`key` in `$.sizes`".
    path = f"{field}{place.rpartition('$')[2].removesuffix('`')}"
    if not problem:  # the whole
        problem, path = place, field
    return ValidationError(path, f"{kind.__name__} {_rule(kind, problem, path, error)}")


#: What msgspec says of a value without quoting it.
_QUOTES_NONE = re.compile(
    r"Invalid (?:UUID|decimal string|RFC3339 encoded \w+|ISO8601 duration|base64 encoded string)"
    r"|[A-Z][A-Za-z ]+ out of range"
)


def _rule(kind: type, problem: str, path: str, error: msgspec.ValidationError) -> str:
    cause = error.__cause__
    if cause is not None:  # raised by a class's own __post_init__
        return f"raises {class_name(cause)}"
    if problem.startswith("Expected "):
        return f"expects{problem.removeprefix('Expected')}"
    if problem.startswith("Object missing required field "):
        return f"requires{problem.removeprefix('Object missing required field')}"
    if problem.startswith("Object contains unknown field "):  # whose name may be anything
        return "has no such field"
    if _QUOTES_NONE.fullmatch(problem):
        return f"refuses it: {problem[:1].lower()}{problem[1:]}"
    from celery_segment.events.choices import choices

    allowed = choices(kind, path)
    return f"expects one of {', '.join(allowed)}" if allowed else "expects another value"
