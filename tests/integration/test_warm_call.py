"""What a call does once everything that it needs has been made."""

from __future__ import annotations

import sys
from pathlib import Path

import celery_segment
from celery_segment import track

ROOT = Path(celery_segment.__file__).parent


def test_a_warm_call_enters_a_dozen_files_and_no_more(app):  # noqa: ARG001 - the current one
    for _ in range(3):
        track.delay("u", "E", {"revenue": 39.95})
    entered = {}

    def note(frame, event, _):
        path = Path(frame.f_code.co_filename)
        if event == "call" and path.is_relative_to(ROOT):
            entered.setdefault(str(path.relative_to(ROOT)), []).append(frame.f_code.co_name)

    sys.setprofile(note)
    try:
        track.delay("u", "E", {"revenue": 39.95})
    finally:
        sys.setprofile(None)
    assert 5 < len(entered) <= 12, entered
    # In the order of the message's way.
    way = ["calls/api.py", "calls/task.py", "messages/build.py", "producer/producer.py"]
    way += ["messages/encoding.py", "buffer/buffer.py", "buffer/pool.py", "buffer/connection.py"]
    assert [path for path in entered if path in way] == way
