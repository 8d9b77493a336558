"""How a worker answers the broker for this library's tasks.

A Redis that is full refuses an acknowledgement, which is a transaction, and takes no message
back. Celery's own requests then end the worker.
"""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable
from functools import partial
from typing import Any

from celery.worker.request import Request
from kombu.exceptions import MessageStateError

from celery_segment.text import one_line

__all__ = ["KeptRequest", "answer_again", "forget_answers"]

logger = logging.getLogger("celery_segment")

#: The answers of this worker that the broker has refused.
_refused: deque[Callable[[], None]] = deque()


class KeptRequest(Request):
    """A request whose message stays unacknowledged while the broker refuses the answer."""

    def __init__(self, message: Any, *args: Any, **kwargs: Any) -> None:
        super().__init__(message, *args, **kwargs)
        # Celery calls these from its event loop, where an exception ends the worker.
        for name in ("ack", "reject"):
            setattr(message, name, partial(self._answer, getattr(message, name)))

    def _answer(self, answer: Callable[..., None], *args: Any, **kwargs: Any) -> None:
        try:
            answer(*args, **kwargs)
        except (OSError, MessageStateError, *self._connection_errors):
            raise  # Celery knows what to do
        except Exception as error:  # noqa: BLE001 - whatever the broker's client raises
            logger.warning(
                "%s: the broker is answered later: %s", self.humaninfo(), one_line(str(error))
            )
            _refused.append(partial(answer, *args, **kwargs))


def answer_again() -> None:
    """Give the broker the answers that it refused, until it refuses one."""
    while _refused:
        try:
            _refused[0]()
        except Exception:  # noqa: BLE001 - as above; it is logged already
            return
        _refused.popleft()


def forget_answers() -> None:
    """Forget what was refused over a connection that is gone: the broker sends it again."""
    _refused.clear()
