"""What was tracked in a test, kept in memory instead of sent."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any, overload

from celery_segment.messages import decode
from celery_segment.messages.fields import identifier
from celery_segment.producer.producer import divert
from celery_segment.testing.expectation import Expectation, Tracked, listed

if TYPE_CHECKING:
    from typing_extensions import Self

__all__ = ["Outbox"]


class Outbox(Sequence[Tracked]):
    """The messages of the calls that were made within its ``with`` block, in their order.

    The calls validate, apply the source's defaults, its hook and the request's context,
    and return as ever; then the message comes here, and goes neither to Redis nor to the
    broker, whatever ``segment_enabled`` says. A countdown is not waited for, a receipt is
    there at once, and callbacks are not called. ``segment_outbox`` is the same as a
    fixture of pytest.
    """

    def __init__(self) -> None:
        self._messages: list[Tracked] = []
        self._stack = ExitStack()

    def __enter__(self) -> Self:
        self._stack.enter_context(divert(self._keep))
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def _keep(self, source: str, data: bytes) -> None:
        self._messages.append(Tracked(decode(data), source))

    def __len__(self) -> int:
        return len(self._messages)

    @overload
    def __getitem__(self, place: int) -> Tracked: ...
    @overload
    def __getitem__(self, place: slice) -> list[Tracked]: ...
    def __getitem__(self, place: int | slice) -> Tracked | list[Tracked]:
        return self._messages[place]

    def __repr__(self) -> str:
        return f"<Outbox:{listed(self._messages)}>"

    def clear(self) -> None:
        """Forget what was tracked so far."""
        self._messages.clear()

    def of_type(self, type_: str) -> list[Tracked]:
        """Return the messages of a type: identify, track, page, screen, group or alias."""
        return [message for message in self._messages if message["type"] == type_]

    def tracked(self, event: str | None = None) -> list[Tracked]:
        """Return the track messages, of an event or of all."""
        return [m for m in self.of_type("track") if event in (None, m["event"])]

    def identified(self, user_id: Any = None) -> list[Tracked]:
        """Return the identify messages, of a user or of all."""
        wanted = None if user_id is None else identifier("user_id", user_id)
        return [m for m in self.of_type("identify") if wanted in (None, m.get("userId"))]

    def assert_tracked(self, event: str, **expected: Any) -> Tracked:
        """Assert that an event was tracked, and return its message; see ``assert_sent``."""
        __tracebackhide__ = True
        return self.assert_sent("track", event=event, **expected)

    def assert_identified(self, user_id: Any, **expected: Any) -> Tracked:
        """Assert that a user was identified, and return the message; see ``assert_sent``."""
        __tracebackhide__ = True
        return self.assert_sent("identify", user_id=user_id, **expected)

    def assert_sent(self, type_: str, **expected: Any) -> Tracked:
        """Assert that a message of a type is there, and return the first that is as expected.

        Args:
            type_: identify, track, page, screen, group or alias.
            expected: Arguments of the call, and ``source``. Of dicts, such as
                ``properties``, the message may have more than is expected.

        Raises:
            AssertionError: There is none; it tells the nearest, and what there is.
        """
        __tracebackhide__ = True
        expectation = Expectation(type_, expected)
        for message in self._messages:
            if not expectation.differences(message):
                return message
        raise AssertionError(expectation.report(self._messages))

    def assert_nothing(self) -> None:
        """Assert that nothing was tracked."""
        __tracebackhide__ = True
        if self._messages:
            raise AssertionError(
                f"nothing was to be tracked, and there is:{listed(self._messages)}"
            )
