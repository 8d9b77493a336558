"""A client process of the chaos: tracks events until SIGTERM, and keeps a book of its calls.

The book is append-only, a line per fact: ``? id`` a call began, ``! id Error`` it
raised and will be repeated with the same messageId, ``+ id`` it returned.
"""

from __future__ import annotations

import json
import os
import random
import signal
import sys
import threading
import time
from pathlib import Path

from celery_segment import Analytics, track
from celery_segment.errors import SegmentBufferError
from support import new_app

#: Every so many rounds, a round is a ``batch()`` of messages.
BATCH_EVERY, BATCH_OF = 25, 10
#: Seconds between two attempts at a call that raised.
PAUSE = 0.05
TEXTS = ["x" * 40, "Núria " * 30, "漢字" * 200, '"\\\n\u2028' * 100, "🦉" * 300]


class Producer:
    def __init__(self, number: int, rate: float, book) -> None:
        self._number = number
        self._rate = rate
        self._book = book
        self._chance = random.Random(number)
        self._stop = threading.Event()
        self._analytics = Analytics()
        self._made = 0
        self.slowest = {"returned": 0.0, "raised": 0.0}
        signal.signal(signal.SIGTERM, lambda *_: self._stop.set())

    def run(self) -> None:
        due = time.monotonic()
        while not self._stop.wait(max(due - time.monotonic(), 0)):
            ids = [self._new_id() for _ in range(self._size())]
            self._until_accepted(ids)
            # After an outage it goes on at its rate, with a second's worth to catch up.
            due = max(due + len(ids) / self._rate, time.monotonic() - 1)

    def _size(self):
        return BATCH_OF if self._chance.randrange(BATCH_EVERY) == 0 else 1

    def _new_id(self):
        self._made += 1
        return f"p{self._number}-{self._made:07d}"

    def _until_accepted(self, ids):
        self._note("?", ids)
        while (error := self._call(ids)) is not None:
            self._note("!", ids, error)
            time.sleep(PAUSE)
        self._note("+", ids)

    def _call(self, ids):
        began = time.monotonic()
        text = self._chance.choice(TEXTS)
        try:
            if len(ids) == 1:
                track.delay("user", "Ordered", {"text": text}, message_id=ids[0])
            else:
                with self._analytics.batch():
                    for each in ids:
                        track.delay("user", "Ordered", {"text": text}, message_id=each)
        except SegmentBufferError as error:
            self._time("raised", began)
            return type(error).__name__
        except Exception as error:  # noqa: BLE001 - told in the report
            return f"unexpected {error!r}"
        self._time("returned", began)
        return None

    def _time(self, outcome, began):
        self.slowest[outcome] = max(self.slowest[outcome], time.monotonic() - began)

    def _note(self, mark, ids, *more):
        self._book.writelines(" ".join((mark, each, *more)) + "\n" for each in ids)
        self._book.flush()


def main(number: int, rate: float, folder: Path) -> None:
    app = new_app(json.loads(os.environ["TESTS_CONF"]))
    app.set_current()
    with (folder / f"producer-{number}.book").open("a") as book:
        producer = Producer(number, rate, book)
        producer.run()
    (folder / f"producer-{number}.json").write_text(json.dumps(producer.slowest))


if __name__ == "__main__":
    main(int(sys.argv[1]), float(sys.argv[2]), Path(sys.argv[3]))
