"""What a call returns: results that never wait for a result backend.

Celery's own AsyncResult asks the backend for a result that no worker writes, and
with Redis as the backend even its deletion costs a round trip.
"""

from __future__ import annotations

from typing import Any

from celery.result import AsyncResult, EagerResult
from celery.states import SUCCESS
from kombu.utils.objects import cached_property
from vine import promise

__all__ = ["SentResult", "StoredResult"]


class StoredResult(EagerResult):
    """The result of a call whose message is stored; ``get()`` returns its messageId at once."""

    parent = None
    _state = SUCCESS
    _traceback = None
    _name = None

    def __init__(self, task_id: str, message_id: str) -> None:
        self.id = task_id
        self._result = message_id

    @cached_property
    def on_ready(self) -> Any:
        """A promise that is kept already."""
        ready = promise()
        ready(self)
        return ready

    def get(self, *_: Any, **__: Any) -> Any:
        """Return the messageId; there is nothing to wait for."""
        return self._result

    wait = get

    def __reduce_args__(self) -> tuple[str, Any]:
        return self.id, self._result

    def __repr__(self) -> str:
        return f"<StoredResult: {self.id}>"


class SentResult(AsyncResult):
    """The result of a call that travels through the broker; ``get()`` returns None at once.

    ``revoke()`` revokes the task, as ever.
    """

    supports_native_join = False

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.ignored = True

    def then(self, callback: Any, on_error: Any = None, weak: bool = False) -> Any:  # noqa: ARG002
        """Call back, if ever this result is fulfilled, without asking the backend for it."""
        return self.on_ready.then(callback, on_error)

    def __del__(self) -> None:
        pass
