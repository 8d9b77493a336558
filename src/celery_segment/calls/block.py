"""Ids, context and destinations that a program gives the calls of a block."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from celery_segment.calls.arguments import Identifier, Json
from celery_segment.calls.identity import current_person
from celery_segment.calls.refusal import is_block_refused
from celery_segment.errors import ValidationError
from celery_segment.messages import parse, plain_field
from celery_segment.visitor import Block, acting

__all__ = ["context"]


@contextmanager
def context(
    *,
    user_id: Identifier = None,
    anonymous_id: Identifier = None,
    context: Json = None,
    integrations: Json = None,
) -> Iterator[None]:
    """Give the calls of a block what they leave out: ids, context and destinations.

    What a call gives wins, key by key in the context and the destinations. A block within
    another, or within a web request, adds to that one's. A call about another person than the
    block's gets nothing of it. Other threads are not affected, and neither are other tasks of
    asyncio.

    Args:
        user_id: The id of the user, as in a call.
        anonymous_id: The anonymous id.
        context: Context of the calls.
        integrations: Destinations of the calls.

    Raises:
        ValidationError: A value is invalid; the error has the argument, or the path in it. With
            ``segment_on_invalid = "log"``, it is logged, and the block gives its calls nothing.
    """
    given: dict[str, Any] = {
        "user_id": user_id,
        "anonymous_id": anonymous_id,
        "context": context or {},
        "integrations": integrations or {},
    }
    try:
        given = {name: plain_field(name, parse(name, value)) for name, value in given.items()}
    except ValidationError as error:
        if not is_block_refused(error):
            raise
        given = {}
    with acting(Block(**given, outer=current_person())):
        yield
