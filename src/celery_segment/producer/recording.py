"""A test records what is called, in place of storing it.

Under pytest, ``python -m unittest`` and Django's test runner, nobody has to ask for that: the calls
of a test are validated, and then discarded. Whether they are is decided for the whole process, as
any of its threads may call.
"""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

from celery_segment.buffer import NO_ATTACHMENTS, Attachments, AttachmentsByPlace, Violations
from celery_segment.config import Source
from celery_segment.messages import Message, encode
from celery_segment.producer.plans import PlanDecision, PlanStep, Quarantine
from celery_segment.producer.producer import Producer
from celery_segment.producer.watched_plans import Violated, WatchedPlan

__all__ = [
    "CAPTURE",
    "RecordingProducer",
    "current_record",
    "detect",
    "discard",
    "follow_environment",
    "is_test_run",
    "is_view_alone",
    "note_dropped",
    "real_buffer",
    "record",
    "recorded",
    "warn_once",
    "watch",
]

logger = logging.getLogger("celery_segment")

#: The environment variable that says "1" where calls are captured and "0" where they are not.
#: It is the environment's, so that the processes that a test starts do the same.
CAPTURE = "SEGMENT_CAPTURE"
#: What pytest sets for its whole run, and what earlier versions set for each test: the processes
#: that a test starts have it as well.
_PYTEST = ("PYTEST_VERSION", "PYTEST_CURRENT_TEST")
#: The modules whose code runs while tests of unittest do, also under other runners.
_UNITTEST = frozenset(f"unittest.{name}" for name in ("case", "main", "runner", "suite"))

#: Gets a source's name and a message's bytes.
Record = Callable[[str, bytes], None]
#: Gets the same of a message that awaits a commit; returns what is called at the commit.
Await = Callable[[str, bytes], Callable[[], object]]


def _captures() -> bool:
    """Return whether the environment, or the program that runs, has calls captured."""
    given = os.environ.get(CAPTURE)
    if given is not None:
        return given == "1"
    spec = getattr(sys.modules.get("__main__"), "__spec__", None)
    return spec is not None and spec.name == "unittest.__main__"


def discard(_source: str, _data: bytes) -> None:
    """Discard a message: that of a test that looks at none."""


#: Gets the messages of all applications of this process; None where they are stored.
record: Record | None = discard if _captures() else None
#: Gets those that await a commit, if anything does.
awaiting: Await | None = None
#: Gets a text about each call that is dropped, if anything does.
dropping: Callable[[str], object] | None = None
#: Gets each violation of a tracking plan, if anything does.
violating: Callable[[Violated], object] | None = None

#: Returns whether tests are running; asked at each call. None where it is known without.
detect: Callable[[], bool] | None = None

_detect: Callable[[], bool] | None = None
_is_view_alone: Callable[[], bool] = bool
_has_warned = False


def watch(is_testing: Callable[[], bool], is_view_alone: Callable[[], bool]) -> None:
    """Let a web framework say what it knows of tests.

    Args:
        is_testing: Returns whether its test environment is set up. It is not asked where the
            environment variable decides.
        is_view_alone: Returns whether a test has called the running view without the
            middleware, so that its calls have no visitor.
    """
    global _detect, _is_view_alone
    _detect, _is_view_alone = is_testing, is_view_alone
    _set_detect()


def current_record() -> Record | None:
    """Return what gets the messages at present; None where they are stored."""
    if record is None and detect is not None and detect():
        return discard
    return record


def is_view_alone() -> bool:
    """Return whether a test has called the running view without the middleware."""
    return current_record() is not None and _is_view_alone()


def is_test_run() -> bool:
    """Return whether tests run: in this process, or in one of pytest's that has started it."""
    if any(os.environ.get(name) for name in _PYTEST) or (_detect is not None and _detect()):
        return True
    for frame in sys._current_frames().values():  # noqa: SLF001 - Python's documented way
        caller = frame
        while caller is not None:
            if caller.f_globals.get("__name__") in _UNITTEST:
                return True
            caller = caller.f_back  # type: ignore[assignment]
    return False


def warn_once() -> None:
    """Warn, once in this process, if calls are captured and no tests run."""
    global _has_warned  # noqa: PLW0603 - the process'
    if _has_warned:
        return
    _has_warned = True
    if not is_test_run():
        logger.warning(
            "%s is 1, and no tests run: calls are captured as in tests, and never delivered; remove"
            " it from the environment",
            CAPTURE,
        )


def follow_environment() -> None:
    """Capture calls, or not, as the environment variable says now."""
    global record  # noqa: PLW0603 - the process'
    _set_detect()
    if record in (None, discard):  # an outbox stays
        record = discard if _captures() else None


def _set_detect() -> None:
    global detect  # noqa: PLW0603 - the process'
    detect = None if CAPTURE in os.environ else _detect


@contextmanager
def recorded(
    by: Record,
    awaited_by: Await | None = None,
    dropped_by: Callable[[str], object] | None = None,
    violated_by: Callable[[Violated], object] | None = None,
) -> Iterator[None]:
    """Have the calls of this process recorded: none reaches Redis, or the broker.

    Args:
        by: Gets each message.
        awaited_by: Gets each message that is to be recorded once a transaction commits.
        dropped_by: Gets a text about each call that is dropped, without its data.
        violated_by: Gets each violation of a tracking plan, but those that a call raises.
    """
    global record, awaiting, dropping, violating
    outer = record, awaiting, dropping, violating
    record, awaiting, dropping, violating = by, awaited_by, dropped_by, violated_by
    try:
        yield
    finally:
        record, awaiting, dropping, violating = outer


@contextmanager
def real_buffer() -> Iterator[None]:
    """Store the calls of a block, or of a decorated test, in Redis, also while tests run.

    It applies to all threads of the process, and to the processes that it starts.
    """
    # The process', as any of its threads may call.
    global record, awaiting, dropping, violating  # noqa: PLW0603
    outer, said = (record, awaiting, dropping, violating), os.environ.get(CAPTURE)
    os.environ[CAPTURE] = "0"
    record = awaiting = dropping = violating = None
    _set_detect()
    try:
        yield
    finally:
        if said is None:
            del os.environ[CAPTURE]
        else:
            os.environ[CAPTURE] = said
        record, awaiting, dropping, violating = outer
        _set_detect()


def note_dropped(text: str) -> None:
    """Tell what records calls, if anything does, of one that is dropped."""
    if dropping is not None:
        dropping(text)


class _Recorder:
    """The store of a source whose messages are recorded."""

    def __init__(self, source: str, record: Record) -> None:
        self._source = source
        self._record = record

    def append(self, message: bytes) -> None:
        """Record one message."""
        self._record(self._source, message)

    def append_many(
        self, messages: Sequence[bytes], _attachments: AttachmentsByPlace = NO_ATTACHMENTS
    ) -> None:
        """Record messages in their order."""
        for message in messages:
            self._record(self._source, message)

    def quarantine(self, _message: bytes, cause: str, _reason: str) -> None:
        """Note why a message would become a dead letter."""
        note_dropped(f"a message is quarantined: it {cause}")

    def count_dropped(self, _reason: str, _count: int) -> None:
        """Count nothing: a test's calls do not appear in the figures."""

    def count_violations(self, _found: Sequence[Violations]) -> None:
        """Count nothing, likewise."""


class RecordingProducer(Producer):
    """A producer whose messages are recorded at once, those of a ``batch()`` among them.

    Args:
        source: The source, enabled or not.
        record: Gets each message.
        awaiting: Gets each message that awaits a commit.
        plan: Holds the messages to the source's tracking plan, if it has one.
    """

    def __init__(
        self,
        source: Source,
        record: Record,
        awaiting: Await | None = None,
        plan: PlanStep | None = None,
    ) -> None:
        recorder = _Recorder(source.name, record)
        watched = None if plan is None else WatchedPlan(source, plan, violating)
        super().__init__(source, recorder, lambda: None, eager=False, delivers=False, plan=watched)
        self._awaiting = awaiting

    def prepare(self, message: Message, quarantine: Quarantine | None = None) -> bytes | None:
        """Do the same as for a message that is stored, and note one that the hook drops."""
        is_kept = False

        def keep(data: bytes, decision: PlanDecision) -> None:
            nonlocal is_kept
            is_kept = True
            (quarantine or self.quarantine)(data, decision)

        data = super().prepare(message, keep)
        if data is None and not is_kept:
            kind = type(message).__name__.lower()
            note_dropped(f"{kind} is dropped: segment_before_send returned None")
        return data

    def await_commit(self, message: Message) -> Callable[[], bytes | None]:
        """Note that a message awaits a commit, until that."""
        if self._awaiting is None:
            return super().await_commit(message)
        committed = self._awaiting(self.source, encode(message))
        prepare = super().await_commit(message)

        def at_commit() -> bytes | None:
            committed()
            return prepare()

        return at_commit

    def store(self, data: bytes, attachments: Attachments | None = None) -> None:  # noqa: ARG002
        """Record a prepared message, and hold none back."""
        self._store.append(data)
