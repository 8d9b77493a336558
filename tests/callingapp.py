"""A web application of which each request makes a call, and tells what became of it."""

import json
import os
import time
from itertools import count

from celery import Celery
from flask import Flask

from celery_segment import Analytics, SegmentError
from celery_segment.runtime import runtime_of

conf = json.loads(os.environ["TESTS_CONF"])
# Each process has a file of its own, so that it is seen what this one has in it.
conf["segment_spill_path"] += f".{os.getpid()}"
app = Celery("tests")
app.conf.update(conf)
app.loader.import_default_modules()
web = Flask(__name__)
sources = [Analytics(name, app=app) for name in conf["segment_sources"]]
numbers = count()


@web.get("/")
def call():
    began, source = time.monotonic(), sources[next(numbers) % len(sources)]
    found = {"id": "", "error": ""}
    try:
        found["id"] = source.track.delay("u", "E").id
    except SegmentError as error:
        found["error"] = str(error)
    ended, spill = time.monotonic(), runtime_of(app).spill
    waiting = sum(spill.waiting(name) for name in conf["segment_sources"])
    return {"pid": os.getpid(), "began": began, "ended": ended, "waiting": waiting, **found}
