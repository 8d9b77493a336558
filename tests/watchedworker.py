"""A worker that notes what becomes of its deliveries, by process and time."""

import os
import time
from pathlib import Path

from celery.signals import task_postrun

from celery_segment.signals import batch_delivered
from workerapp import app

__all__ = ["app"]

FILE = Path(os.environ["WATCHED"])


def note(what):
    with FILE.open("a") as file:
        file.write(f"{time.monotonic()} {os.getpid()} {what}\n")


@batch_delivered.connect(weak=False)
def _delivered(**_):
    note("delivered")


@task_postrun.connect(weak=False)
def _cut_off(retval=None, state=None, **_):
    if state != "SUCCESS" or str(retval).startswith("cut off"):
        note("failed")
