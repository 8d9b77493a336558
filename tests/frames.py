"""What an error tracker sees of an exception, or of a line in the log: the frames' variables."""

from __future__ import annotations

import logging
import sys
import traceback
from contextlib import contextmanager

#: Below these, nothing is ours, or of a library that works for us.
_PACKAGE = "celery_segment"


def shown_by(error, *, all_frames=False):
    """Yield where, and the repr, of each local variable of an exception's frames and its causes'.

    Args:
        error: The exception.
        all_frames: Whether also those of other libraries, once one of ours has called them.
    """
    seen, todo = set(), [error]
    while todo:
        each = todo.pop()
        if each is None or id(each) in seen:
            continue
        seen.add(id(each))
        yield "str", f"{each} {each!r}"
        frames = [frame for frame, _ in traceback.walk_tb(each.__traceback__)]
        yield from _shown(frames, all_frames=all_frames)
        todo += [each.__cause__, each.__context__]


def _shown(frames, *, all_frames):
    inside = False
    for frame in frames:
        module = frame.f_globals.get("__name__", "")
        ours = module.partition(".")[0] == _PACKAGE
        inside = inside or ours
        if ours or (all_frames and inside):
            for name, value in frame.f_locals.items():
                yield f"{module}.{frame.f_code.co_name}: {name}", f"{value!r} {value!s}"


class _Handler(logging.Handler):
    def __init__(self):
        super().__init__()
        self.shown = []

    def emit(self, record):
        frames, frame = [], sys._getframe()
        while frame is not None:
            frames.append(frame)
            frame = frame.f_back
        self.shown += [("log", record.getMessage()), *_shown(frames, all_frames=False)]
        if record.exc_info:
            self.shown += shown_by(record.exc_info[1])


@contextmanager
def shown_by_logging():
    """Yield a list of what is shown where our frames log something in a block, as above."""
    handler, logger = _Handler(), logging.getLogger(_PACKAGE)
    level = logger.level
    logger.addHandler(handler)
    logger.setLevel(logging.DEBUG)
    try:
        yield handler.shown
    finally:
        logger.removeHandler(handler)
        logger.setLevel(level)
