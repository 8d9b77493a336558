"""A client process of the chaos: tracks events, and keeps a book of its calls.

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

#: Seconds between two attempts at a call that raised.
PAUSE = 0.05
TEXTS = ["x" * 40, "Núria " * 30, "漢字" * 200, '"\\\n\u2028' * 100, "🦉" * 300]


class Producer:
    def __init__(self, number: int, load: dict, messages: int, book) -> None:
        self._number = number
        self._load = load
        self._messages = messages
        self._book = book
        self._chance = random.Random(number)
        self._stop = threading.Event()
        self._analytics = Analytics()
        self._made = 0
        self.slowest = {"returned": 0.0, "raised": 0.0}
        signal.signal(signal.SIGTERM, lambda *_: self._stop.set())

    def run(self) -> None:
        due = time.monotonic()
        while self._is_to_go_on(due):
            ids = [self._new_id() for _ in range(self._size())]
            self._until_accepted(ids)
            # After an outage it goes on at its rate, with a second's worth to catch up.
            due = max(due + len(ids) / self._load["rate"], time.monotonic() - 1)

    def _is_to_go_on(self, due):
        if self._messages and self._made >= self._messages:
            return False
        return not self._stop.wait(max(due - time.monotonic(), 0))

    def _size(self):
        together = self._chance.randrange(self._load["every"]) == 0
        return self._load["together"] if together else 1

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


def main(number: int, folder: Path, load: dict, messages: int) -> None:
    app = new_app(json.loads(os.environ["TESTS_CONF"]))
    app.set_current()
    with (folder / f"producer-{number}.book").open("a") as book:
        producer = Producer(number, load, messages, book)
        producer.run()
    (folder / f"producer-{number}.json").write_text(json.dumps(producer.slowest))


if __name__ == "__main__":
    main(int(sys.argv[1]), Path(sys.argv[2]), json.loads(sys.argv[3]), int(sys.argv[4]))
