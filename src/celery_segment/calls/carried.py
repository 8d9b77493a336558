"""The visitor of a request as a header of the task messages that the request publishes.

The header is the visitor's data in JSON and base64, so that no log shows it as text, and its
signature. It is bound to its task: copied to another one, it counts for nothing.
"""

from __future__ import annotations

from base64 import b64decode, b64encode
from collections.abc import Iterator, Mapping
from typing import Any

from celery_segment.messages import decode, encode_value, parse, plain_field
from celery_segment.trust import Trust
from celery_segment.visitor import Block, Known, Visitor, outer_of

__all__ = ["MOST", "VISITOR", "decoded", "encoded"]

#: The header's name.
VISITOR = "segment_visitor"
#: The longest header, in bytes.
MOST = 4_096


def encoded(visitor: Visitor, task_id: str, trust: Trust) -> str | None:
    """Return the header of a task's message; None where the visitor's ids alone are too long.

    Of a context that is too large, what takes the most is left out.
    """
    layers = list(_layers(visitor))
    while True:
        content = b64encode(encode_value({"layers": layers}))
        header = f"{trust.signature_of_visitor(task_id, content)}:{content.decode()}"
        if len(header) <= MOST:
            return header
        largest = max(_parts(layers), key=_size, default=None)
        if largest is None:
            return None
        holder, name = largest
        del holder[name]


def decoded(header: Any, task_id: str, trust: Trust) -> Known | None:
    """Return the visitor of a task message's header; None where it is not one of ours."""
    if not isinstance(header, str) or len(header) > MOST:
        return None
    signature, _, content = header.partition(":")
    if not trust.is_visitor(task_id, content.encode(), signature):
        return None
    visitor = None
    try:
        for layer in reversed(decode(b64decode(content, validate=True))["layers"]):
            kind = Block if layer.pop("block") else Known
            given = {name: parse(name, value) for name, value in layer.items()}
            visitor = kind(**given, outer=visitor)
    except Exception:  # noqa: BLE001 - a program in another language may have made it
        return None
    return visitor


def _layers(visitor: Visitor | None) -> Iterator[dict[str, Any]]:
    """Yield what a visitor, and each around it, gives calls."""
    while visitor is not None:
        anonymous_id = visitor.anonymous_id or visitor.new_anonymous_id()
        yield {
            "block": isinstance(visitor, Block),
            "user_id": parse("user_id", visitor.user_id),
            "anonymous_id": parse("anonymous_id", anonymous_id),
            "context": plain_field("context", dict(visitor.context)),
            "integrations": dict(visitor.integrations) if isinstance(visitor, Known) else {},
        }
        visitor = outer_of(visitor)


def _parts(layers: list[dict[str, Any]]) -> Iterator[tuple[dict[str, Any], str]]:
    """Yield what may be left out of contexts: of a page, one part after the other."""
    for layer in layers:
        context = layer["context"]
        for name, value in context.items():
            if name == "page" and isinstance(value, Mapping) and value:
                yield from ((context["page"], part) for part in value)
            else:
                yield context, name


def _size(part: tuple[dict[str, Any], str]) -> int:
    holder, name = part
    return len(encode_value(holder[name]))
