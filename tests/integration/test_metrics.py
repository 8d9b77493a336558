"""The figures as Prometheus reads them, held to what the endpoint received."""

from __future__ import annotations

import json
import os
import re
import socket
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections import Counter
from contextlib import ExitStack, contextmanager
from itertools import accumulate

import pytest
from celery.bin.base import CLIContext
from click.testing import CliRunner
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.parser import text_string_to_metric_families

from celery_segment import Analytics, track
from celery_segment.buffer import BUCKETS, Violations
from celery_segment.cli.metrics import CONNECTIONS, _Handler, _listen
from celery_segment.delivery.attempt import attempt_delivery
from celery_segment.operations.metrics import METRICS, UNCONFIGURED, UP, Collector
from celery_segment.testing import EmbeddedRedis, Reply
from celery_segment_cli import segment
from support import DEFAULTS, TESTS, WRITE_KEY, allow, buffer_of, drops, let_pass, wait_until

BREAKER = (5, 1.0, 60.0)


def parsed(text, source="default"):
    """Return a source's figures: a number, or numbers by the metric's other label."""
    found = {}
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            labels = dict(sample.labels)
            if labels.pop("source") != source:
                continue
            if labels:
                (label,) = labels.values()
                found.setdefault(sample.name, {})[label] = sample.value
            else:
                found[sample.name] = sample.value
    return found


def scraped(app, source="default"):
    registry = CollectorRegistry()
    registry.register(Collector(app))
    return parsed(generate_latest(registry).decode(), source)


def run(app, *args):
    context = CLIContext(app=app, no_color=False, workdir=None)
    return CliRunner().invoke(
        segment, ["metrics", *args], obj=context, catch_exceptions=False, prog_name="segment"
    )


def claim_all(buffer):
    return [batch.id for batch in buffer.claim(99)]


def statuses(server):
    """Count the requests as the library does: this server's other failures are the network's."""
    return Counter(str(r.status or "network") for r in server.requests)


# ---------------------------------------------------------------- the figures


def test_names_follow_prometheus_conventions():
    names = [metric.name for metric in (UP, *METRICS, UNCONFIGURED)]
    assert len(set(names)) == len(names)
    for metric in (UP, *METRICS, UNCONFIGURED):
        assert metric.name.startswith("segment_")
        assert metric.name.endswith("_total") == (metric.kind == "counter")
        assert metric.help.endswith(".")
        assert metric.label in {None, "state", "status", "reason", "rule", "le"}
        assert (metric.label == "le") == (metric.kind == "histogram")


def test_every_figure_is_the_snapshots(make_app, redis):
    app = make_app(segment_max_batch_messages=2, segment_max_buffer_bytes=200_000)
    buffer = buffer_of(app)
    with Analytics().batch():
        for n in range(15):
            track.delay("u", f"E{n}")
    allow(buffer, 32)
    one, two, three, four, five = claim_all(buffer)[:5]
    buffer.ack(buffer.begin(one, "t"), "200")
    buffer.bury(buffer.begin(two, "t"), "400", status="400", answered=True)
    buffer.bury(buffer.begin(three, "t"), "400", status="400", answered=True)
    buffer.admin.purge([two])
    redis.zadd("{segment:default}:inflight", {five: 1})
    buffer.reap()
    assert claim_all(buffer) == [five]
    buffer.split(buffer.begin(four, "t"), "413")
    buffer.retry(buffer.begin(five, "t"), "asked", 90, "429", "429", breaker=BREAKER)
    buffer.count_dropped("full", 3)
    buffer.count_dropped("unavailable", 4)
    buffer.count_violations([Violations.of("track", "E", "properties.a", "type")])
    redis.zadd("{segment:default}:settled", {"delivered:1": 1})
    track.delay("u", "another")
    let_pass(redis, 30)

    found, s = scraped(app), buffer.admin.snapshot()
    assert found.pop("segment_oldest_message_age_seconds") == pytest.approx(30, abs=5)
    assert found.pop("segment_last_delivery_timestamp_seconds") == pytest.approx(
        redis.time()[0] - 30, abs=5
    )
    assert found.pop("segment_gate_closed_seconds") == pytest.approx(60, abs=5)
    latency = found.pop("segment_delivery_latency_seconds_bucket")
    assert [*map(float, latency)] == [*BUCKETS]
    assert [*latency.values()] == [*accumulate(s.latency.counts)]
    assert found == {
        "segment_up": 1,
        "segment_delivery_latency_seconds_count": 2,
        "segment_delivery_latency_seconds_sum": s.latency.sum,
        "segment_stored_messages": {
            "buffered": s.buffered.messages,
            "ready": s.ready.messages,
            "inflight": s.inflight.messages,
            "dead": s.dead.messages,
        },
        "segment_stored_bytes": {
            "buffered": s.buffered.bytes,
            "ready": s.ready.bytes,
            "inflight": s.inflight.bytes,
            "dead": s.dead.bytes,
        },
        "segment_saved_bytes": 0,
        "segment_stored_batches": {"ready": 2, "inflight": 4, "dead": 1},
        "segment_uncalled_batches": 1,
        "segment_gate": {"open": 0, "probing": 0, "closed": 1, "paused": 0},
        "segment_max_buffer_bytes": 200_000,
        "segment_max_memory_share": 0.75,
        "segment_calls_refused": 0,
        "segment_concurrency_limit": 16,
        "segment_max_dead_bytes": 100_000_000,
        "segment_messages_accepted_total": 16,
        "segment_messages_delivered_total": 2,
        "segment_delivered_bytes_total": s.delivered.bytes,
        "segment_batches_delivered_total": 1,
        "segment_messages_buried_total": 4,
        "segment_messages_purged_total": 2,
        "segment_messages_damaged_total": 0,
        "segment_callbacks_refused_total": 0,
        "segment_messages_dropped_total": drops(full=3, unavailable=4),
        "segment_plan_violations_total": {"type": 1},
        "segment_attempts_total": {"200": 1, "400": 2, "413": 1, "429": 1},
        "segment_retries_total": 1,
        "segment_splits_total": 1,
        "segment_takeovers_total": 1,
    }
    stored = found["segment_stored_messages"]
    assert sum(stored.values()) + 2 + 2 == 16
    assert all(stored.values())
    assert all(found["segment_stored_bytes"].values())


def test_the_gates_states(app, redis):
    buffer = buffer_of(app)

    def gate():
        (state,) = [state for state, on in scraped(app)["segment_gate"].items() if on]
        return state, scraped(app)["segment_gate_closed_seconds"]

    assert gate() == ("open", 0)
    track.delay("u", "E")
    held = buffer.begin(claim_all(buffer)[0], "t")
    buffer.retry(held, "refused", 0, "401", breaker=(1, 50, 300))
    assert gate() == ("closed", pytest.approx(50, abs=5))
    let_pass(redis, 60)
    assert gate() == ("probing", 0)
    buffer.admin.pause()
    assert gate() == ("paused", float("inf"))


def test_a_source_that_is_not_enabled_has_no_figures(make_app):
    sources = {"second": {"write_key": "k"}, "off": {"write_key": "k", "enabled": False}}
    app = make_app(segment_sources=sources)
    Analytics("second").track("u", "E")
    assert scraped(app, "second")["segment_messages_accepted_total"] == 1
    assert scraped(app, "default")["segment_messages_accepted_total"] == 0
    assert scraped(app, "off") == {}


# ---------------------------------------------------------------- and the endpoint's ledger


def test_attempts_are_the_requests_that_the_endpoint_saw(make_app, server, redis):
    app = make_app(segment_max_batch_messages=4, segment_max_inflight=100, segment_timeout=0.3)
    buffer = buffer_of(app)
    with Analytics().batch():
        for n in range(40):
            track.delay("u", "bad" if n in {5, 6, 33} else f"E{n}")
    server.fail_messages(lambda message: message["event"] == "bad")
    for reply in (
        *(Reply.status(500), Reply.status(429, retry_after=1), Reply.close()),
        *(Reply.status(401), Reply.status(503), Reply.hang(30), Reply.ok()),
    ):
        server.reply(reply)
    while Analytics().stats().delivered.messages + Analytics().stats().dead.messages < 40:
        buffer.reap()  # whose retry is overdue
        for batch in claim_all(buffer):
            attempt_delivery(buffer, batch)
        let_pass(redis, 600)

    found = scraped(app)
    seen = Counter(statuses(server))
    seen["network"] -= 1  # the one that hung
    assert found["segment_attempts_total"] == {**seen, "timeout": 1}
    assert set(seen) == {"200", "400", "401", "429", "500", "503", "network"}
    assert found["segment_messages_delivered_total"] == len(server.received) == 37
    assert found["segment_batches_delivered_total"] == seen["200"]
    accepted = sum(r.bytes for r in server.requests if r.accepted)
    envelope = accepted - found["segment_delivered_bytes_total"]
    assert envelope == seen["200"] * (len('{"batch":[],"sentAt":"2026-11-23T07:00:00.000Z"}') - 1)
    assert found["segment_messages_buried_total"] == found["segment_stored_messages"]["dead"] == 3
    assert found["segment_retries_total"] == 6
    assert found["segment_splits_total"] == seen["400"] - 3


def test_what_asks_nothing_is_no_attempt(make_app, server):
    app = make_app(segment_write_key=None)
    track.delay("u", "E")
    buffer = buffer_of(app)
    attempt_delivery(buffer, claim_all(buffer)[0])
    assert server.requests == []
    found = scraped(app)
    assert "segment_attempts_total" not in found
    assert found["segment_retries_total"] == 0
    assert found["segment_stored_messages"]["ready"] == 1, "it is put back"


# ---------------------------------------------------------------- the command


def environ(**conf):
    return {
        **os.environ,
        "TESTS_CONF": json.dumps({**DEFAULTS, **conf}),
        "PYTHONPATH": str(TESTS),
    }


@contextmanager
def serving(folder, *options, **conf):
    """Run the command as users do; give the address that it prints."""
    command = [sys.executable, "-W", "error", "-m", "celery", "-A", "workerapp", "segment"]
    process = subprocess.Popen(
        [*command, "metrics", "--port", "0", *options],
        env=environ(**conf),
        cwd=folder,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        serves = re.fullmatch(
            r"serving (http://127\.0\.0\.1:\d+)/metrics\n", process.stdout.readline()
        )
        yield serves[1].removeprefix("http://")
        process.terminate()
        rest, errors = process.communicate(timeout=10)
        assert (process.returncode, rest, errors) == (0, "", "")
    finally:
        process.kill()
        process.communicate()


def get(address):
    with urllib.request.urlopen(f"http://{address}", timeout=10) as answer:
        return answer.read().decode(), answer.headers


def test_real_workers_and_a_scrape_agree_with_the_endpoint(
    make_app, redis_server, server, workers, tmp_path
):
    app = make_app(segment_flush_interval=0.3, segment_max_batch_messages=20)
    scripted = [Reply.status(500), Reply.close(), Reply.status(429, retry_after=1)] * 2
    lock = threading.Lock()

    def at_times(_request):
        with lock:
            return scripted.pop() if scripted and len(server.requests) % 3 == 2 else None

    server.rule(at_times)
    server.fail_messages(lambda message: message["event"] == "bad")
    workers.start(app)
    with Analytics().batch():
        ids = {track.delay("u", "bad" if n == 177 else f"E{n}").id for n in range(400)}
    wait_until(lambda: not scripted or Analytics().flush(1) == 0)
    assert Analytics().flush(30) == 0

    with serving(tmp_path, broker_url=redis_server.url) as address:
        text, headers = get(f"{address}/metrics")
        assert headers["Content-Type"].startswith("text/plain; version=")
        assert WRITE_KEY not in text
        found = parsed(text)
        assert found["segment_attempts_total"] == statuses(server)
        assert set(statuses(server)) == {"200", "400", "429", "500", "network"}
        assert found["segment_messages_accepted_total"] == len(ids)
        assert found["segment_messages_delivered_total"] == len(server.received) == 399
        assert found["segment_stored_messages"]["dead"] == 1
        assert server.duplicates == 0
        assert get(f"{address}/health")[0] == "ok\n"
        with pytest.raises(urllib.error.HTTPError, match="404") as refused:
            get(f"{address}/")
        refused.value.close()


def test_without_redis_the_scrape_succeeds_and_says_so(tmp_path):
    with EmbeddedRedis() as own, serving(tmp_path, broker_url=own.url) as address:
        assert parsed(get(f"{address}/metrics")[0])["segment_stored_messages"]["ready"] == 0
        own.stop()
        assert parsed(get(f"{address}/metrics")[0]) == {"segment_up": 0}
        assert get(f"{address}/health")[0] == "ok\n"
        own.start()
        assert parsed(get(f"{address}/metrics")[0])["segment_up"] == 1


@pytest.fixture
def listening():
    """Serve metrics in a thread of this process; yield the port."""
    with _listen(CollectorRegistry(), "127.0.0.1", 0) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        yield server.server_port
        server.shutdown()
        thread.join()


@pytest.mark.parametrize("sent", [b"", b"GET /metr", b"GET /metrics HTTP/1.1\r\nHost: h\r\n"])
def test_clients_that_send_nothing_keep_none_away(listening, sent):
    before = threading.active_count()
    with ExitStack() as stack:
        for _ in range(5 * CONNECTIONS):
            client = socket.create_connection(("127.0.0.1", listening))
            stack.enter_context(client).sendall(sent)
        assert get(f"127.0.0.1:{listening}/health")[0] == "ok\n"
        wait_until(lambda: threading.active_count() <= before + CONNECTIONS)
    wait_until(lambda: threading.active_count() <= before)


def test_a_client_that_is_slow_is_left(listening, monkeypatch):
    monkeypatch.setattr(_Handler, "timeout", 0.1)
    with socket.create_connection(("127.0.0.1", listening), timeout=5) as client:
        client.sendall(b"GET /health")
        assert client.recv(100) == b""


def test_a_redis_that_hangs_is_waited_for_once_however_many_sources(make_app):
    with socket.create_server(("127.0.0.1", 0)) as deaf:
        url = f"redis://127.0.0.1:{deaf.getsockname()[1]}"
        sources = {f"s{n}": {"write_key": "k"} for n in range(15)}
        app = make_app(segment_redis_url=url, segment_redis_timeout=0.4, segment_sources=sources)
        started = time.monotonic()
        assert scraped(app, "s3") == {"segment_up": 0}
        assert time.monotonic() - started < 2


def test_once_prints_the_figures_of_the_sources_that_are_named(make_app):
    app = make_app(segment_sources={"second": {"write_key": "k"}})
    done = run(app, "--once", "--source", "second", "--source", "second")
    assert done.exit_code == 0
    assert parsed(done.stdout, "second")["segment_up"] == 1
    assert parsed(done.stdout) == {}
    for metric in (UP, *METRICS, UNCONFIGURED):
        assert f"# HELP {metric.name} {metric.help}\n" in done.stdout
        assert f"# TYPE {metric.name} {metric.kind}\n" in done.stdout
    refused = run(app, "--once", "--source", "third")
    assert refused.exit_code == 1
    assert refused.stderr.startswith("Error: source 'third' is not configured")


def test_a_port_that_is_taken_is_told_with_the_mend(app):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        done = run(app, "--port", port)
    assert done.exit_code == 1
    assert done.stderr == (
        f"Error: cannot listen on 127.0.0.1:{port} (Address already in use):"
        " choose another with --address and --port\n"
    )


def test_without_the_extra_it_says_what_to_install(app, monkeypatch):
    monkeypatch.setitem(sys.modules, "prometheus_client", None)
    done = run(app, "--once")
    assert done.exit_code == 1
    assert done.stderr == (
        "Error: prometheus_client is not installed: pip install 'celery-segment[metrics]'\n"
    )
