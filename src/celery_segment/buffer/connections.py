"""The connections of one process to one Redis: those that are idle, and room for further ones.

Each step is one atomic operation of a deque, for threads and greenlets alike. A forked
child makes an object of its own, so that no lock is left locked in it.
"""

from __future__ import annotations

import os
import threading
from collections import deque

from celery_segment.aio.waits import BLOCKING, Lock, Waits
from celery_segment.buffer.connection import Connection

__all__ = ["Connections"]

#: Idle connections beyond ``FEW`` are closed after so many seconds, by the next call. A process
#: that makes none keeps them: a thread that closes them would cost more than they do.
AGE = 30.0
FEW = 2


class _Waiter:
    """A caller who waits for a connection."""

    __slots__ = ("connection", "given")

    def __init__(self, given: Lock) -> None:
        self.connection: Connection | None = None
        self.given = given
        self.given.acquire()


class Connections:
    """The connections of the process that makes this object.

    Args:
        limit: The maximum number of connections.
        rest: Seconds between two tries while Redis does not answer; 0 to try each time.
        waits: How callers wait.

    Attributes:
        pid: The process.
        idle: Connections that nobody uses, the one used last at the right end.
        waiters: Callers who wait for a connection.
        generation: Changes when all connections are to be closed: also those in use, once
            they are given back.
        allowed: The names of the scripts of which the user has all rights, as Redis said since
            connections were closed the last time.
        proving: Whether a caller is finding out if an idle connection still works.
        is_resting: Whether Redis did not answer in time, and has not answered since.
        watching: Held while ``watch`` asks it.
        waits: How callers wait.
        ages_at: When old connections are closed next.
    """

    def __init__(self, limit: int, rest: float, waits: Waits = BLOCKING) -> None:
        self.pid = os.getpid()
        self.idle: deque[Connection] = deque()
        self.waiters: deque[_Waiter] = deque()
        self.generation = 0
        self.allowed: set[str] = set()
        self.proving = False
        self.is_resting = False
        self.watching = threading.Lock()
        self.ages_at = 0.0
        self._room: deque[None] = deque([None] * limit)
        self._rest_seconds = rest
        self._turns: deque[float] = deque(maxlen=1)
        # No command is sent on it any more. The lock is held for no wait of any kind.
        self._unanswered: Connection | None = None
        self._looking = waits.lock()
        self.waits = waits

    def wait(self, seconds: float) -> Connection | None:
        """Return an idle connection, or None where the caller may make one.

        Raises:
            TimeoutError: All were in use for so many seconds.
        """
        waiter = _Waiter(self.waits.lock())
        self.waiters.append(waiter)
        # What was given back before the caller stood in line went to nobody.
        self.serve()
        try:
            given = waiter.given.acquire(timeout=seconds)
        except BaseException:  # such as the end of a greenlet
            if not self._leave(waiter):
                self._put_back(waiter.connection)
                self.serve()
            raise
        if not given and self._leave(waiter):
            raise TimeoutError
        return waiter.connection

    def _leave(self, waiter: _Waiter) -> bool:
        """Leave the line; return False where the caller was given something just now."""
        try:
            self.waiters.remove(waiter)
        except ValueError:
            waiter.given.acquire(timeout=1.0)
            return False
        return True

    def serve(self) -> None:
        """Give what is free to those who wait, in their order."""
        while self.waiters and (self.idle or self._room):
            try:
                free = self.idle.pop() if self.idle else self._room.pop()
            except IndexError:  # another thread was faster
                continue
            try:
                waiter = self.waiters.popleft()
            except IndexError:
                self._put_back(free)  # nobody waits any more
                continue
            waiter.connection = free
            waiter.given.release()

    def _put_back(self, free: Connection | None) -> None:
        if free is None:
            self._room.append(None)
        else:
            self.idle.append(free)

    def discard(self, connection: Connection) -> None:
        """Close a connection that the caller holds."""
        connection.close()
        self.free()

    def free(self) -> None:
        """Let another caller make a connection in place of one that is closed or failed."""
        self._room.append(None)
        self.serve()

    def close(self) -> None:
        """Close the idle connections now, and those in use once they are given back."""
        self.generation += 1
        self.allowed = set()
        while self.idle:
            try:
                connection = self.idle.pop()
            except IndexError:
                return
            self.discard(connection)

    def age(self, now: float) -> None:
        """Close idle connections that were not used for long, but for a few."""
        self.ages_at = now + AGE / 4
        while len(self.idle) > FEW:
            try:
                oldest = self.idle.popleft()
            except IndexError:
                return
            if now - oldest.since < AGE:
                self.idle.appendleft(oldest)
                self.serve()
                return
            self.discard(oldest)

    def rest(self, now: float) -> None:
        """Note that Redis did not answer in time."""
        if self._rest_seconds:
            self._turns.append(now + self._rest_seconds)
            self.is_resting = True

    def end_rest(self) -> None:
        """Note that Redis answers."""
        with self._looking:
            self._end_rest()

    def _end_rest(self) -> None:
        self.is_resting = False
        if self._unanswered is not None:
            self._unanswered.close()
            self._unanswered = None

    def give_up(self, connection: Connection, error: BaseException) -> None:
        """Give up a connection on which a command failed.

        One that was not answered in time is kept for ``is_to_try``: what comes on it tells
        that Redis is back.
        """
        done: Connection | None = connection
        if self._rest_seconds and isinstance(error, TimeoutError):
            with self._looking:
                done, self._unanswered = self._unanswered, connection
        if done is not None:
            done.close()
        self.free()

    def is_to_try(self, now: float) -> bool:
        """Return whether a caller is to try although Redis did not answer in time.

        So are all once Redis, or the network, made itself heard; else one a second.
        """
        return self._is_heard() or self._begin_turn(now)

    def _is_heard(self) -> bool:
        with self._looking:
            if self._unanswered is not None and not self._unanswered.is_silent():
                self._end_rest()
            return not self.is_resting

    def _begin_turn(self, now: float) -> bool:
        """Return whether this caller is the one to try again. Another has the next turn."""
        try:
            turn = self._turns.pop()
        except IndexError:
            return False  # another thread is looking
        self._turns.append(turn if turn > now else now + self._rest_seconds)
        return turn <= now
