"""The containers of deploy/kubernetes at work, as processes, and what their probes say."""

from __future__ import annotations

import os
import re
import signal
import time

import pytest
import requests
from prometheus_client.parser import text_string_to_metric_families

from celery_segment import Analytics, track
from celery_segment.testing import Reply
from manifests import Container, container, pod, resources
from support import WRITE_KEY, free_port, wait_until

#: The longest that `segment check` takes.
LIMIT = 10


@pytest.fixture
def contained(tmp_path, redis_server, server):
    """Make containers on the test's Redis and endpoint, which are killed at the end."""
    made = []

    def make(name, **secrets):
        secrets = {"REDIS_URL": redis_server.url, **secrets}
        made.append(Container(tmp_path, name, secrets, SEGMENT_HOST=server.url))
        return made[-1]

    yield make
    for each in made:
        each.kill()


@pytest.mark.usefixtures("app")
def test_the_probes_tell_a_worker_that_works_hangs_and_stops(server, contained):
    worker = contained("segment-worker", SEGMENT_WRITE_KEY=WRITE_KEY)
    worker.start()
    wait_until(lambda: " ready." in worker.output, 60, "the worker does not start")
    wait_until(lambda: worker.probe("startupProbe") == 0, 60)

    os.killpg(worker.process.pid, signal.SIGSTOP)
    began = time.monotonic()
    assert worker.probe("livenessProbe") == 1
    assert time.monotonic() - began < LIMIT
    os.killpg(worker.process.pid, signal.SIGCONT)
    wait_until(lambda: worker.probe("livenessProbe") == 0, 60)

    # SIGTERM, as the kubelet sends it to the first process alone, while a request is under way.
    server.always(Reply.slow(3))
    track.delay("u", "E")
    assert server.wait_for(lambda: len(server.requests) == 1, timeout=20)
    worker.process.terminate()
    wait_until(lambda: "Warm shutdown" in worker.output)
    assert worker.probe("readinessProbe") == 1
    assert worker.process.wait(pod("segment-worker")["terminationGracePeriodSeconds"]) == 0
    assert Analytics().stats().delivered.messages == len(server.requests) == 1
    assert WRITE_KEY not in worker.output


@pytest.mark.usefixtures("redis")
def test_the_metrics_have_no_write_key_and_what_the_scaling_asks_for(contained):
    metrics = contained("segment-metrics")
    (port,) = container("segment-metrics")["ports"]
    given = free_port()
    metrics.start(**{str(port["containerPort"]): str(given)})
    url = f"http://127.0.0.1:{given}"
    path = container("segment-metrics")["livenessProbe"]["httpGet"]["path"]

    def healthy():
        assert metrics.process.poll() is None, metrics.output
        try:
            return requests.get(url + path, timeout=5).status_code == 200
        except requests.ConnectionError:
            return False

    wait_until(healthy, 60)
    (endpoint,) = resources()["ServiceMonitor segment-metrics"]["spec"]["endpoints"]
    families = text_string_to_metric_families(requests.get(url + endpoint["path"], timeout=5).text)
    told = {(s.name, s.labels.get("state")) for family in families for s in family.samples}
    (trigger,) = resources()["ScaledObject segment-worker"]["spec"]["triggers"]
    asked = re.findall(r'(segment_\w+)(?:\{state="(\w+)"\})?', trigger["metadata"]["query"])
    assert len(asked) == 2
    assert {(name, state or None) for name, state in asked} <= told
    metrics.process.terminate()
    assert metrics.process.wait(30) == 0
