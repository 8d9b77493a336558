"""Keep secrets and payloads out of the frames that an error tracker captures with an exception.

Trackers such as Sentry send the local variables of each frame of a traceback. Those of an
HTTP client, for one, hold the header ``Authorization`` and the body of the request. Here they
are cleared; the traceback keeps its files, lines and functions.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from traceback import clear_frames

__all__ = ["hidden_locals"]


@contextmanager
def hidden_locals() -> Iterator[None]:
    """Clear the local variables of the frames that an exception leaves in a block.

    So are those of its causes. The frame of the block itself still runs and keeps its own, and
    an exception that was being handled before the block is left as it is.
    """
    outer = sys.exc_info()[1]
    try:
        yield
    except BaseException as error:
        _clear(error, outer)
        raise


def _clear(error: BaseException, outer: BaseException | None) -> None:
    seen: set[int] = {id(outer)}
    todo: list[BaseException | None] = [error]
    while todo:
        each = todo.pop()
        if each is None or id(each) in seen:
            continue
        seen.add(id(each))
        clear_frames(each.__traceback__)
        todo += [each.__cause__, each.__context__]
