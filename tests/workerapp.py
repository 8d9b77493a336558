"""The application that the tests' worker processes run, configured by the environment."""

import json
import os

from celery import Celery

app = Celery("tests")
app.conf.update(json.loads(os.environ["TESTS_CONF"]))
