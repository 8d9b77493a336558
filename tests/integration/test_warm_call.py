"""What a call does once everything that it needs has been made."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

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
    way += ["messages/encoding.py", "buffer/appends.py", "buffer/pool.py", "buffer/connection.py"]
    assert [path for path in entered if path in way] == way


FIRST = """
import json, sys
from celery import Celery
app = Celery("web", broker=sys.argv[1])
app.set_default()
from celery_segment import Analytics, track
{prepare}
before = set(sys.modules)
track.delay("u", "E")
print(json.dumps(sorted(set(sys.modules) - before)))
"""


@pytest.mark.parametrize(
    "prepare",
    [
        "Analytics()",
        (
            "from flask import Flask; from celery_segment.contrib.flask import Segment;"
            " Segment(Flask('shop'))"
        ),
        "from celery_segment.contrib.asgi import SegmentMiddleware; SegmentMiddleware(None)",
        (
            "from django.conf import settings; import django;"
            " settings.configure(INSTALLED_APPS=['celery_segment.contrib.django']); django.setup()"
        ),
    ],
    ids=["Analytics", "Flask", "ASGI", "Django"],
)
def test_the_first_call_of_a_prepared_process_imports_no_client(redis, redis_server, prepare):
    program = FIRST.format(prepare=prepare)
    run = subprocess.run(
        [sys.executable, "-c", program, redis_server.url], capture_output=True, check=True
    )
    imported = json.loads(run.stdout)
    assert not [name for name in imported if name.partition(".")[0] in {"redis", "opentelemetry"}]
    assert redis.strlen("{segment:default}:open") > 0
