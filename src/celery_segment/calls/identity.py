"""The ids of messages that a Celery task tracks: the same ones when the task runs again.

A worker that is killed, a visibility timeout or a lost acknowledgement makes the broker deliver a
task once more, and its calls are made once more. Segment drops a message whose id it has seen. So
a message's id is made from the task and from what the message says.
"""

from __future__ import annotations

from bisect import insort
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from functools import cached_property
from hashlib import blake2b
from typing import Any

from celery._state import _task_stack
from celery.utils.threads import get_ident

from celery_segment.aio.bridge import awaiting
from celery_segment.calls.carried import VISITOR, decoded
from celery_segment.errors import SegmentBufferError
from celery_segment.messages import Message, content_of, message_id_from
from celery_segment.runtime import runtime_of
from celery_segment.visitor import Known, Visitor, current_visitor

__all__ = ["STACKS", "current_attempt", "current_person", "given_id", "repeatable", "take_back"]

#: Kinds of messages that are counted for one attempt, some 15 MB. Those beyond have random ids:
#: nothing is lost, but a task that tracks so many may track some twice.
MOST = 100_000
#: Where an attempt's state is kept: on Celery's request, which lives as long as the attempt.
_ATTRIBUTE = "_segment_attempt"

#: Celery's stacks of running tasks, by thread or greenlet. It has none while no task runs in this
#: process, which is found out in a fraction of the time that a look at the top of one takes.
STACKS = getattr(getattr(_task_stack, "_local", None), "__storage__", True)


#: An id that a message was given, the message's kind, and its place among those of the kind.
_Given = tuple[str, bytes, int]
#: The ids that were given in the present block of ``repeatable``.
_block: ContextVar[list[_Given] | None] = ContextVar("block", default=None)


class Attempt:
    """One attempt to run a task, which gives the messages of its calls their ids, and a visitor.

    Args:
        task: The Celery task.
        request: Its request.

    Attributes:
        task_id: The task's id.
        header: The header of its message that carries a visitor; None where there is none.
    """

    def __init__(self, task: Any, request: Any) -> None:
        self.task_id = str(request.id)
        headers = request.headers
        self.header = headers.get(VISITOR) if isinstance(headers, Mapping) else None
        self._runtime = runtime_of(task.app)
        mode = self._runtime.settings.idempotency
        #: What gives a message its id; None where that is to be a random one.
        self.identify = None if mode == "off" else self._identify
        # A task that replaces itself keeps its id.
        named = [task.name, request.id, request.replaced_task_nesting]
        if mode == "attempt":
            named.append(request.retries)
        self._key = blake2b(repr(named).encode(), digest_size=32).digest()
        self._counts: dict[bytes, int] = {}
        #: The places whose messages are to be made again, by kind.
        self._again: dict[bytes, list[int]] = {}
        self._last: _Given | None = None

    @cached_property
    def visitor(self) -> Known | None:
        """The visitor whose request has started the task, as its message says."""
        if self.header is None or not self._runtime.settings.propagate_visitor:
            return None
        return decoded(self.header, self.task_id, self._runtime.trust)

    def _identify(self, message: Message) -> str | None:
        """Return the id of a message, and count it among equal ones; None where it has none.

        Args:
            message: The message, without an id and a timestamp.
        """
        kind = digest = blake2b(self._key + content_of(message), digest_size=16).digest()
        place = self._counts.get(kind, 0)
        if again := self._again.get(kind):
            place = again.pop(0)
        elif place or len(self._counts) < MOST:
            self._counts[kind] = place + 1
        else:
            return None
        if place:
            digest = blake2b(b"%b%d" % (kind, place), digest_size=16).digest()
        message_id = message_id_from(digest)
        self._last = given = message_id, kind, place
        if (block := _block.get()) is not None:
            block.append(given)
        return message_id

    def take_back(self, message_id: str) -> None:
        """Give a message's id to the next equal one: this one's call has failed.

        A program that calls again after an error means the same message, which may be stored.
        """
        last, block = self._last, _block.get()
        if last is None or last[0] != message_id:
            return
        if block and block[-1] is last:
            block.pop()
        self._last = None
        self.give_again([last])

    def give_again(self, given: list[_Given]) -> None:
        """Give ids to the next equal messages, in their order."""
        for _, kind, place in given:
            insort(self._again.setdefault(kind, []), place)


@contextmanager
def repeatable() -> Iterator[None]:
    """Give the ids of a block's messages again, if Redis does not take all of them.

    A program that runs the block again means the same messages, of which some may be stored.
    """
    attempt, outer, given = current_attempt(), _block.get(), list[_Given]()
    if attempt is None:
        yield
        return
    token = _block.set(given)
    try:
        yield
    except SegmentBufferError:
        attempt.give_again(given)
        given.clear()
        raise
    finally:
        if outer is not None:
            outer += given
        # A generator that has the block may be ended in another context.
        with suppress(ValueError):
            _block.reset(token)


def current_attempt() -> Attempt | None:
    """Return the attempt in which a call is made in this thread; None outside of a task.

    It is a worker's: a task that is called directly, or eagerly, within another gets no id that
    it would have again.
    """
    task = _top(_task_stack) if STACKS else None
    if task is None:
        return None
    request = _top(task.request_stack)
    if request is None or request.called_directly or request.is_eager or request.id is None:
        task, request = _outer()
        if request is None:
            return None
    try:
        return request.__dict__[_ATTRIBUTE]  # type: ignore[no-any-return]
    except KeyError:
        return request.__dict__.setdefault(_ATTRIBUTE, Attempt(task, request))  # type: ignore[no-any-return]


def current_person() -> Visitor | None:
    """Return the visitor of the block, the request or the task in which a call is made."""
    visitor = current_visitor()
    if visitor is None and STACKS and (attempt := current_attempt()) is not None:
        return attempt.visitor
    return visitor


def take_back(message_id: str) -> None:
    """Give a message's id to the next equal one of the task: this one's call has failed."""
    attempt = current_attempt()
    if attempt is not None:
        attempt.take_back(message_id)


def given_id(task_id: str | None, options: Mapping[str, Any]) -> str | None:
    """Return the id that a caller gives a message by naming the id of the call's task.

    Returns:
        None where no task id is given, and within a task also where a canvas has made it up: it
        would have another one the next time. Celery freezes the tasks of a canvas, which gives
        them a ``reply_to``.
    """
    if task_id is not None and "reply_to" in options:
        attempt = current_attempt()
        if attempt is not None and attempt.identify is not None:
            return None
    return task_id


def _outer() -> tuple[Any, Any]:
    """Return the task that a worker runs, and its request; else the innermost eager one."""
    found = None, None
    for task in reversed(_whole(_task_stack)):
        for request in reversed(_whole(task.request_stack)):
            if request.called_directly or request.id is None:
                continue
            if not request.is_eager:
                return task, request
            found = found if found[0] else (task, request)
    return found


def _top(stack: Any) -> Any:
    """Return what is on top of one of Celery's stacks; None where it is empty."""
    try:
        # This is ``stack.top``, in a quarter of its time.
        return stack._local.__storage__[get_ident()]["stack"][-1]  # noqa: SLF001
    except (AttributeError, KeyError):  # another kind of stack, an empty one, or an awaited call
        found = _whole(stack)
        return found[-1] if found else None


def _whole(stack: Any) -> list[Any]:
    """Return one of Celery's stacks; of an awaited call, that of the greenlet which awaits it."""
    caller = awaiting()
    if caller is None:
        return list(stack.stack)
    own = getattr(stack, "_local", None)
    return list(getattr(own, "__storage__", {}).get(caller, {}).get("stack", ()))
