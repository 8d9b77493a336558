"""An application whose settings and base class would change this library's tasks, if they could."""

import json
import os

from celery import Celery, Task


class Base(Task):
    """Options that a project gives to each of its tasks."""

    acks_late = True
    autoretry_for = (Exception,)
    expires = 0.001
    ignore_result = False
    max_retries = 1
    rate_limit = "1/h"
    retry_backoff = True
    serializer = "pickle"
    soft_time_limit = 1
    throws = ()
    time_limit = 1
    track_started = True


app = Celery("tests", task_cls=Base)
app.conf.update(json.loads(os.environ.get("TESTS_CONF", "{}")))
