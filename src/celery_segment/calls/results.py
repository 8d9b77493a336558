"""The results of calls, which do not use a result backend unless a receipt is requested.

Celery's own AsyncResult would ask the backend for a result that no worker writes. With Redis
as the backend, even the deletion of an AsyncResult takes a round trip.
"""

from __future__ import annotations

from typing import Any

from celery.result import AsyncResult, EagerResult
from celery.states import IGNORED, SUCCESS
from kombu.utils.objects import cached_property
from vine import promise

__all__ = ["CallResult", "DroppedResult", "SentResult", "StoredResult"]


class CallResult(AsyncResult):
    """The result of a call. If it is used directly, it is the message's receipt."""

    # Celery declares it as None, which type checkers that read its sources use as the type.
    id: str


class StoredResult(CallResult, EagerResult):
    """The result of a call whose message is stored. ``get()`` returns the messageId immediately."""

    parent = None
    _state = SUCCESS
    _traceback = None
    _name = None

    def __init__(self, task_id: str, message_id: str) -> None:
        self.id = task_id
        self._result: Any = message_id

    @cached_property
    def on_ready(self) -> Any:
        """A promise that is fulfilled already."""
        ready = promise()
        ready(self)
        return ready

    def get(self, *_: Any, **__: Any) -> Any:
        """Return the messageId, without waiting."""
        return self._result

    wait = get

    def __reduce_args__(self) -> tuple[str, Any]:
        return self.id, self._result

    def __repr__(self) -> str:
        return f"<StoredResult: {self.id}>"


class DroppedResult(StoredResult):
    """The result of a call that was not valid, and dropped, in place of an error.

    Its state is "IGNORED", ``get()`` returns None immediately, and no message has its id.
    """

    _state = IGNORED
    _result = None

    def __init__(self, task_id: str) -> None:
        self.id = task_id

    def __reduce_args__(self) -> tuple[str]:  # type: ignore[override]
        return (self.id,)

    def __repr__(self) -> str:
        return f"<DroppedResult: {self.id}>"


class SentResult(CallResult):
    """The result of a call sent through the broker. ``get()`` returns None immediately.

    ``revoke()`` revokes the task, as in Celery.
    """

    supports_native_join = False

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.ignored = True

    def then(self, callback: Any, on_error: Any = None, weak: bool = False) -> Any:  # noqa: ARG002
        """Add a callback for when this result is fulfilled, without asking the backend for it."""
        return self.on_ready.then(callback, on_error)

    def __del__(self) -> None:
        pass
