"""A pytest plugin: Segment's own tests, judged strictly, on celery-segment's client.

    PYTHONPATH=tests:tests/acceptance python -m pytest -c /dev/null --rootdir . -p dropin_plugin \
        --pyargs segment.analytics.test.test_client

``--library segment`` judges Segment's own client by the same measure.

What its tests ask of the consumer thread is asked of a real Celery worker here. It
works while a test waits (in a flush, a shutdown, a sleep) and at no other moment, so
that "the consumer does not upload" is certain, and no test depends on who is faster.
"""

from __future__ import annotations

import gzip
import json
import os
import sys
import time
import unittest
from contextlib import ExitStack
from pathlib import Path
from types import SimpleNamespace
from unittest import mock

import pytest
from celery.contrib.testing.worker import start_worker
from requests.sessions import Session
from segment.analytics import consumer, request

from celery_segment import Analytics, analytics
from celery_segment.analytics.source import WORKERS_SETTINGS
from celery_segment.delivery import transport
from celery_segment.delivery.answer import Answer, Failure
from celery_segment.testing import EmbeddedRedis, SegmentServer
from support import new_app

# The tests need the back-port of what Python has had since 3.3.
sys.modules.setdefault("mock", mock)

WRITE_KEY = "testsecret"
SEGMENT = "https://api.segment.io"

outcomes: dict[str, tuple[str, str]] = {}


def pytest_addoption(parser):
    parser.addoption("--library", choices=["celery-segment", "segment"], default="celery-segment")
    parser.addoption("--outcomes", type=Path, help="write each test's outcome here, as JSON")


def pytest_configure(config):
    stage = {"celery-segment": OurStage, "segment": TheirStage}[config.getoption("--library")]
    config.pluginmanager.register(stage(), "stage")


def pytest_collection_modifyitems(items):
    for item in items:
        if "fail" in vars(item.cls):
            item.cls.fail = _fail


def _fail(self, *arguments):
    """Both what TestClient gives to ``on_error``, and unittest's own, which that one shadows."""
    if len(arguments) == 2:
        self.failed = True
    else:
        unittest.TestCase.fail(self, *arguments)


def pytest_runtest_logreport(report):
    if report.when == "call" or report.failed:
        crash = getattr(report.longrepr, "reprcrash", None)
        name = report.nodeid.partition("::")[2]
        outcomes[name] = (report.outcome, crash.message if crash else "")


def pytest_sessionfinish(session):
    file = session.config.getoption("--outcomes")
    if file:
        file.write_text(json.dumps(outcomes))


# ---------------------------------------------------------------- Segment's own


class TheirStage:
    """Segment's library, its requests redirected to an endpoint of this machine."""

    def pytest_sessionstart(self):
        self.server = SegmentServer(write_keys={WRITE_KEY}, strict_keys=False)
        self.server.start()
        request._session = _Redirected(self.server.url)

    def pytest_sessionfinish(self, exitstatus):
        self.status = int(exitstatus)

    def pytest_unconfigure(self):
        self.server.stop()
        # Its clients wait at the exit, one after the other, for their idle threads.
        sys.stdout.flush()
        os._exit(self.status)


class _Redirected(Session):
    def __init__(self, url):
        super().__init__()
        self._url = url

    def post(self, url, **kwargs):
        return super().post(url.replace(SEGMENT, self._url), **kwargs)


# ---------------------------------------------------------------- ours


class OurStage:
    """A web process without a write key, a worker with one, Redis, and an endpoint."""

    def __init__(self):
        self._stack = ExitStack()
        self._worker = ExitStack()
        self._settings = None
        self._apps = []

    def pytest_sessionstart(self):
        self.redis = self._stack.enter_context(EmbeddedRedis())
        # Segment answers 200 to a wrong key as well.
        server = SegmentServer(write_keys={WRITE_KEY}, strict_keys=False)
        self.server = self._stack.enter_context(server)
        self.wire = Wire()
        Analytics.flush = self.while_it_works(Analytics.flush)
        self.deploy({})

    def pytest_collection_modifyitems(self, items):
        for module in {item.module for item in items}:
            module.analytics = analytics
            module.Client = self._deployed
            if hasattr(module, "time"):
                module.time = SimpleNamespace(sleep=self.while_it_works(time.sleep))

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_call(self):
        self.deploy({})
        Analytics().flush()
        self.wire.errors.clear()
        yield
        if self.wire.errors:
            raise self.wire.errors[0]

    def pytest_unconfigure(self):
        self._worker.close()
        for app in self._apps:
            app.close()
        self._stack.close()

    def _deployed(self, *args, **kwargs):
        """Make a client, with a worker set as docs/how-to/drop-in.md says."""
        client = analytics.Client(*args, **kwargs)
        given = {option: getattr(client, option) for option in WORKERS_SETTINGS}
        self.deploy(
            {
                f"segment_{WORKERS_SETTINGS[option]}": value
                for option, value in given.items()
                if value != getattr(analytics.Client, option)
            }
        )
        return client

    def deploy(self, settings):
        """Have a worker with these settings, and an application for the callers."""
        if settings == self._settings:
            return
        self._settings = settings
        self._worker.close()
        settings = {
            "broker_url": self.redis.url,
            # Seconds for which a worker that ends waits for one more task.
            "broker_transport_options": {"polling_interval": 0.1},
            "segment_host": self.server.url,
            **settings,
        }
        worker = new_app({**settings, "segment_write_key": WRITE_KEY})
        self._worker.enter_context(start_worker(worker, perform_ping_check=False))
        web = new_app({**settings, "segment_write_key": None})
        # This thread's; the worker's, in its own, runs the default application's tasks.
        web.set_current()
        self._apps += [worker, web]
        Analytics().pause()

    @staticmethod
    def while_it_works(wait):
        """Let the worker deliver while this function waits."""

        def wait_while_it_works(*args, **kwargs):
            Analytics().resume()
            try:
                return wait(*args, **kwargs)
            finally:
                Analytics().pause()

        return wait_while_it_works


class Wire:
    """Leads our requests through the two functions of Segment's that its tests replace."""

    def __init__(self):
        self.errors = []
        self._send = transport.post
        transport.post = self.post
        consumer.post = self._consumer_post
        request._session = SimpleNamespace(post=self._session_post)

    def post(self, ours, source):
        self._ours = (ours, source)
        body = gzip.decompress(ours.data) if source.gzip else ours.data
        try:
            key = source.write_key.reveal()
            result = consumer.post(key, source.host, batch=json.loads(body)["batch"])
        except Exception as error:
            self.errors.append(error)  # an assertion of the test's stand-in
            raise
        return result if isinstance(result, Answer | Failure) else Answer(200, {})

    def _consumer_post(self, *_, **__):
        ours, source = self._ours
        options = {"headers": ours.headers, "timeout": source.timeout, "proxies": source.proxies}
        return request._session.post(ours.url, data=ours.data, **options)

    def _session_post(self, *_, **__):
        return self._send(*self._ours)
