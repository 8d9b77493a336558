"""Keep the messages of a test in memory instead of sending them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, Any, overload

from celery_segment.messages import TypedEvent, decode, opened
from celery_segment.messages.fields import parse
from celery_segment.producer import recorded
from celery_segment.producer.watched_plans import Violated
from celery_segment.testing.expectation import Expectation, Tracked, lines, listed, named
from celery_segment.testing.plan_violations import such, told
from celery_segment.text import counted

if TYPE_CHECKING:
    from typing_extensions import Self

__all__ = ["Outbox"]


class Outbox(Sequence[Tracked]):
    """The messages of the calls that are made within its ``with`` block, in order.

    Calls are validated, get the source's defaults, its ``segment_before_send`` hook and the
    request's context, and return as usual. Then the message is added to the outbox; it is not
    sent to Redis or the broker, regardless of ``segment_enabled``. Countdowns have no effect,
    receipts are fulfilled immediately, and callbacks are not called.

    With pytest, use the fixture ``segment_outbox``.

    A call that violates the tracking plan of its source raises an ``AssertionError`` at the end
    of the block, unless it is expected.

    Attributes:
        violations: The violations of tracking plans that are not expected. A test that empties
            the list does not mind them.
    """

    def __init__(self) -> None:
        self.violations: list[Violated] = []
        self._messages: list[Tracked] = []
        self._awaiting: list[Tracked] = []
        self._dropped: list[str] = []
        self._stack = ExitStack()

    def __enter__(self) -> Self:
        told_of = (self._dropped.append, self.violations.append)
        self._stack.enter_context(recorded(self._keep, self._await, *told_of))
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        __tracebackhide__ = True
        self.close()
        if kind is None:
            self.assert_no_violations()

    def close(self) -> None:
        """Record no more calls; do not look at the violations."""
        self._stack.close()

    def _keep(self, source: str, data: bytes) -> None:
        self._messages.append(Tracked(decode(data), source))

    def _await(self, source: str, data: bytes) -> Callable[[], object]:
        message = Tracked(decode(data), source)
        self._awaiting.append(message)
        return lambda: self._awaiting.remove(message) if message in self._awaiting else None

    def __len__(self) -> int:
        return len(self._messages)

    @overload
    def __getitem__(self, place: int) -> Tracked: ...
    @overload
    def __getitem__(self, place: slice) -> list[Tracked]: ...
    def __getitem__(self, place: int | slice) -> Tracked | list[Tracked]:
        return self._messages[place]

    def __repr__(self) -> str:
        return f"<Outbox:{listed(self._messages)}{self._hint()}>"

    def _hint(self) -> str:
        """Return which calls are no messages: those that await a commit, and are dropped."""
        return self._hint_at_dropped() + self._hint_at_commits()

    def _hint_at_dropped(self) -> str:
        if not self._dropped:
            return ""
        verb = "is" if len(self._dropped) == 1 else "are"
        return f"\n{counted(len(self._dropped), 'call')} {verb} dropped:{lines(self._dropped)}"

    def _hint_at_commits(self) -> str:
        """Return that calls await a commit, which Django's ``TestCase`` never makes."""
        if not self._awaiting:
            return ""
        verb = "awaits" if len(self._awaiting) == 1 else "await"
        return (
            f"\n{counted(len(self._awaiting), 'call')} of delay_on_commit {verb} a commit, or"
            f" {'was' if len(self._awaiting) == 1 else 'were'} rolled back:"
            f"{listed(self._awaiting)}\nDjango's TestCase never commits: see"
            " captureOnCommitCallbacks(execute=True), or use a TransactionTestCase"
        )

    def clear(self) -> None:
        """Remove all messages; the violations stay."""
        self._messages.clear()
        self._awaiting.clear()
        self._dropped.clear()

    def of_type(self, type_: str) -> list[Tracked]:
        """Return the messages of a type: identify, track, page, screen, group or alias."""
        return [message for message in self._messages if message["type"] == type_]

    def tracked(self, event: str | type[TypedEvent] | None = None) -> list[Tracked]:
        """Return the track messages, all or those of an event, given as a name or a class."""
        name = None if event is None else named(event)
        return [m for m in self.of_type("track") if name in (None, m["event"])]

    def identified(self, user_id: Any = None) -> list[Tracked]:
        """Return the identify messages, all or those of a user."""
        wanted = parse("user_id", user_id)
        return [m for m in self.of_type("identify") if wanted in (None, m.get("userId"))]

    def assert_tracked(
        self, event: str | TypedEvent | type[TypedEvent], **expected: Any
    ) -> Tracked:
        """Assert that an event was tracked; otherwise the same as ``assert_sent``.

        Args:
            event: The event's name or its class; or a typed event, whose properties the message
                must have as well.
            expected: As of ``assert_sent``.
        """
        __tracebackhide__ = True
        if not isinstance(event, str | type):
            if "properties" in expected:
                raise TypeError("the properties are those of the typed event: give one of the two")
            _, _, properties = event.__segment_event__()
            expected["properties"] = opened(properties)
        return self.assert_sent("track", event=named(event), **expected)

    def assert_identified(self, user_id: Any, **expected: Any) -> Tracked:
        """Assert that a user was identified; otherwise the same as ``assert_sent``."""
        __tracebackhide__ = True
        return self.assert_sent("identify", user_id=user_id, **expected)

    def assert_sent(self, type_: str, **expected: Any) -> Tracked:
        """Assert that a message of a type was sent, and return the first that matches.

        Args:
            type_: identify, track, page, screen, group or alias.
            expected: Arguments of the call, and ``source``. A dict, such as ``properties``,
                matches if the message contains it.

        Raises:
            AssertionError: No message matches. The text shows the closest message, and all.
            TypeError: The call has no such argument.
        """
        __tracebackhide__ = True
        expectation = Expectation(type_, expected)
        for message in self._messages:
            if not expectation.differences(message):
                return message
        raise AssertionError(expectation.report(self._messages) + self._hint())

    def assert_nothing(self) -> None:
        """Assert that nothing was tracked."""
        __tracebackhide__ = True
        if self._messages:
            raise AssertionError(f"expected no messages, but there are:{listed(self._messages)}")

    def assert_no_violations(self) -> None:
        """Assert that no call violated the tracking plan of its source, but those expected.

        The end of the block does so, and pytest at the end of the test.
        """
        __tracebackhide__ = True
        if self.violations:
            raise AssertionError(told(self.violations))

    @contextmanager
    def expect_violation(
        self,
        event: str | type[TypedEvent] | None = None,
        *,
        path: str | None = None,
        rule: str | None = None,
    ) -> Iterator[list[Violated]]:
        """Expect that a call in the block violates the tracking plan of its source.

        What is expected does not fail the test; any other violation does.

        Args:
            event: The name of the event, page or screen, or the class of the event; by default any.
            path: The path of the value, such as ``properties.revenue``; by default any.
            rule: The rule, such as ``minimum``, ``required`` or ``unplanned``; by default any.

        Yields:
            A list that has the expected violations after the block.

        Raises:
            AssertionError: There was no such violation in the block.
        """
        __tracebackhide__ = True
        before = len(self.violations)
        expected: list[Violated] = []
        yield expected
        name = None if event is None else named(event)
        here = self.violations[before:]
        expected += such(here, name, path, rule)
        if not expected:
            raise AssertionError(told(here, expected=(name, path, rule)))
        self.violations[before:] = [each for each in here if each not in expected]
