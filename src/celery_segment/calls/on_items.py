"""Calls for each of many items, which a worker makes: Celery's ``starmap`` and ``chunks``."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any, Generic, ParamSpec

from celery_segment.calls.on_loop import CallOnLoop
from celery_segment.calls.plain import plain_positional
from celery_segment.calls.refusal import is_refused
from celery_segment.errors import ValidationError

__all__ = ["CallOnItems"]

P = ParamSpec("P")


class CallOnItems(CallOnLoop[P], Generic[P]):
    """The part of a call's task that returns signatures of many calls.

    What is sent to a worker has the names and properties of typed events, which are checked here.
    ``map`` gives each call its first argument alone, which is never a typed event.
    """

    abstract = True

    def starmap(self, it: Iterable[Iterable[Any]]) -> Any:
        """Return Celery's signature of the calls with each item's elements as arguments."""
        return super().starmap(list(self._all_plain(it)))

    def chunks(self, it: Iterable[Iterable[Any]], n: int) -> Any:
        """Do the same as ``starmap``, in parts of ``n`` calls."""
        return super().chunks(list(self._all_plain(it)), n)

    def _all_plain(self, it: Iterable[Iterable[Any]]) -> Iterator[tuple[Any, ...]]:
        """Return the arguments of each call, without those that are not valid and dropped."""
        for each in it:
            if (plain := self._plain(tuple(each))) is not None:
                yield plain

    def _plain(self, args: tuple[Any, ...]) -> tuple[Any, ...] | None:
        try:
            return plain_positional(self.build, args)
        except ValidationError as error:
            if not is_refused(self._runtime, self.build, args, {}, error):
                raise
            return None
