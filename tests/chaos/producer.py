"""A client process of the chaos: tracks events, and publishes tasks of the application.

Its books are append-only, a line per fact: ``? id`` a call began, ``! id Error`` it
raised and will be repeated with the same messageId, ``+ id`` it returned, ``- id`` it was
refused because the buffer, or the disk, is full, and is not repeated. Refusals have a book
of their own, and so have calls that took long or raised: ``began seconds Error: text``, by
``time.monotonic()``, ``-`` in place of the error for one that returned.
"""

from __future__ import annotations

import base64
import json
import os
import random
import signal
import sys
import threading
import time
from pathlib import Path

from celery_segment import Analytics, track
from celery_segment.errors import BufferFull, SegmentBufferError
from celery_segment.runtime import runtime_of
from celery_segment.text import one_line
from chaos.application import Publisher
from chaos.settings import SLOW
from support import new_app

#: Seconds between two attempts at a call that raised.
PAUSE = 0.05
#: Messages of a ``batch()`` that fills the buffer, and random bytes in each, as base64.
TOGETHER, LARGE = 8, 22_000
TEXTS = ["x" * 40, "Núria " * 30, "漢字" * 200, '"\\\n\u2028' * 100, "🦉" * 300]


class Producer:
    def __init__(self, name: str, load: dict, messages: int, folder: Path) -> None:
        self._name = name
        self._load = load
        self._messages = messages
        self._book, self._refused, self._calls = (
            (folder / f"producer-{name}{end}").open("a")
            for end in (".book", "-refused.book", ".calls")
        )
        self._chance = random.Random(name)
        self._stop = threading.Event()
        self._analytics = Analytics()
        self._made = 0
        self._filling = self._quiet = False
        self.slowest = {"returned": 0.0, "raised": 0.0}
        signal.signal(signal.SIGTERM, lambda *_: self._stop.set())
        signal.signal(signal.SIGUSR1, lambda *_: self._fill(True))
        signal.signal(signal.SIGUSR2, lambda *_: self._fill(False))
        signal.signal(signal.SIGHUP, lambda *_: self._be_quiet(True))
        signal.signal(signal.SIGWINCH, lambda *_: self._be_quiet(False))

    def run(self) -> None:
        due = time.monotonic()
        while self._is_to_go_on(due):
            if self._quiet:
                due = time.monotonic() + PAUSE
            elif self._filling:
                large = base64.b64encode(self._chance.randbytes(LARGE)).decode()
                if not self._until_settled(self._new_ids(TOGETHER), large):
                    self._filling = False
            else:
                ids = self._new_ids(self._size())
                self._until_settled(ids, self._chance.choice(TEXTS))
                # After an outage it goes on at its rate, with a second's worth to catch up.
                due = max(due + len(ids) / self._load["rate"], time.monotonic() - 1)

    def _is_to_go_on(self, due):
        if self._messages and self._made >= self._messages:
            return False
        return not self._stop.wait(max(due - time.monotonic(), 0))

    def _size(self):
        together = self._chance.randrange(self._load["every"]) == 0
        return self._load["together"] if together else 1

    def _fill(self, filling):
        """Call with large messages, as fast as can be, until a call is refused."""
        self._filling = filling

    def _be_quiet(self, quiet):
        """Make no calls."""
        self._quiet = quiet

    def _new_ids(self, count):
        self._made += count
        return [f"{self._name}-{n:07d}" for n in range(self._made - count + 1, self._made + 1)]

    def _until_settled(self, ids, text):
        """Call until the messages are accepted or refused; return whether they are accepted."""
        _note(self._book, "?", ids)
        while (error := self._call(ids, text)) is not None:
            if error == BufferFull.__name__:
                _note(self._refused, "-", ids)
                return False
            _note(self._book, "!", ids, error)
            time.sleep(PAUSE)
        _note(self._book, "+", ids)
        return True

    def _call(self, ids, text):
        began = time.monotonic()
        try:
            if len(ids) == 1:
                track.delay("user", "Ordered", {"text": text}, message_id=ids[0])
            else:
                with self._analytics.batch():
                    for each in ids:
                        track.delay("user", "Ordered", {"text": text}, message_id=each)
        except SegmentBufferError as error:
            self._time("raised", began, f"{_name_of(error)}: {one_line(str(error))}")
            return _name_of(error)
        except Exception as error:  # noqa: BLE001 - told in the report
            return f"unexpected {error!r}"
        self._time("returned", began)
        return None

    def _time(self, outcome, began, error="-"):
        seconds = time.monotonic() - began
        self.slowest[outcome] = max(self.slowest[outcome], seconds)
        if seconds > SLOW or error != "-":
            self._calls.write(f"{began:.6f} {seconds:.6f} {error}\n")
            self._calls.flush()


def _name_of(error):
    """Return an error's name; of a refusal, only if nothing of the call is, or may be, stored."""
    if isinstance(error, BufferFull) and (error.stored or error.unknown):
        return f"{BufferFull.__name__} in part"
    return type(error).__name__


def _note(book, mark, ids, *more):
    book.writelines(" ".join((mark, each, *more)) + "\n" for each in ids)
    book.flush()


def main(name: str, folder: Path, load: dict, messages: int) -> None:
    app = new_app(json.loads(os.environ["TESTS_CONF"]))
    app.set_current()
    app.set_default()  # for the publisher's thread
    publisher = Publisher(name, load["tasks"], folder)
    producer = Producer(name, load, messages, folder)
    publisher.start()
    try:
        producer.run()
    finally:
        publisher.end()
    store = runtime_of(app).producer("default")._store
    figures = {"slowest": producer.slowest, "unknown": getattr(store, "unknown", 0)}
    (folder / f"producer-{name}.json").write_text(json.dumps(figures))


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]), json.loads(sys.argv[3]), int(sys.argv[4]))
