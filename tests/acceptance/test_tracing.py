"""Spans of deliveries, linked to the spans of their calls, by OpenTelemetry's own SDK."""

from __future__ import annotations

import json

import pytest
from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from celery_segment import Analytics, track
from celery_segment.buffer import Attachments
from celery_segment.delivery.attempt import attempt_delivery
from celery_segment.testing import EmbeddedRedis, Reply
from celery_segment.tracing import trace_context
from support import buffer_of, let_pass, wait_until


@pytest.fixture(scope="session")
def exporter():
    """The spans of this process: OpenTelemetry takes a provider once."""
    exporter = InMemorySpanExporter()
    provider = TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    trace.set_tracer_provider(provider)
    return exporter


@pytest.fixture(autouse=True)
def _no_spans_yet(exporter):
    exporter.clear()


@pytest.fixture
def request_span():
    """Give the way into a span of the application, such as a web framework makes."""
    tracer = trace.get_tracer("tests")
    return lambda name="GET /": tracer.start_as_current_span(name)


def deliver(buffer):
    """Claim all that waits, and try each batch once."""
    for batch in buffer.claim(99):
        attempt_delivery(buffer, batch.id)


def deliveries(exporter):
    return [span for span in exporter.get_finished_spans() if span.name == "segment.deliver"]


def linked(span):
    return [(link.context.trace_id, link.context.span_id) for link in span.links]


def ids(span):
    context = span.get_span_context()
    return context.trace_id, context.span_id


def test_a_delivery_links_to_its_calls(app, exporter, request_span, server):
    with request_span() as first:
        track.delay("u", "one")
    with request_span() as second:
        track("u", "two")
        track.delay("u", "three")
    track.delay("u", "outside of any")
    deliver(buffer_of(app))
    (span,) = deliveries(exporter)
    assert linked(span) == [ids(first), ids(second), ids(second)]
    assert all(link.context.is_remote and link.context.trace_flags.sampled for link in span.links)
    assert span.kind is trace.SpanKind.CLIENT
    assert span.parent is None
    assert span.status.is_unset
    assert span.attributes == {
        "segment.source": "default",
        "segment.batch": "1",
        "segment.messages": 4,
        "segment.bytes": Analytics().stats().delivered.bytes,
        "segment.status": "200",
    }
    assert len(server.received) == 4


def test_the_context_is_kept_as_w3c_has_it(request_span):
    carrier = {}
    with request_span():
        TraceContextTextMapPropagator().inject(carrier)
        assert trace_context() == carrier["traceparent"].encode()
    assert trace_context() == b""


def test_without_a_recording_span_there_is_no_link(app, exporter, redis):
    unsampled = TracerProvider(sampler=ALWAYS_OFF).get_tracer("tests")
    with unsampled.start_as_current_span("GET /"):
        track.delay("u", "E")
    assert not redis.keys("*:traces*")
    deliver(buffer_of(app))
    (span,) = deliveries(exporter)
    assert span.links == ()


def test_what_is_no_trace_context_is_passed_over(app, exporter):
    buffer = buffer_of(app)
    good = b"00-%032x-%016x-00" % (7, 8)
    for each in (b"", b"00-zz-1-1", b"nonsense", good):
        buffer.append_many([b"{}"], {0: Attachments(trace=each)})
    deliver(buffer)
    (span,) = deliveries(exporter)
    assert linked(span) == [(7, 8)]


def test_a_batch_keeps_as_many_as_a_span_takes(app, exporter, request_span):
    with request_span() as request, Analytics().batch():
        for n in range(300):
            track.delay("u", f"E{n}")
    deliver(buffer_of(app))
    (span,) = deliveries(exporter)
    assert linked(span) == [ids(request)] * 128
    assert span.dropped_links == 0


def test_the_link_survives_retry_split_and_replay(app, exporter, request_span, server, redis):
    buffer = buffer_of(app)
    server.reply(Reply.status(503))
    server.fail_messages(lambda message: message["event"] == "bad")
    with Analytics().batch():
        with request_span() as good:
            track.delay("u", "good")
        track.delay("u", "outside of any")
        with request_span() as bad:
            track.delay("u", "bad")
    while Analytics().stats().dead.messages == 0:
        deliver(buffer)
        let_pass(redis, 600)
        buffer.reap()
    retried, split, first, second, last, buried = deliveries(exporter)
    assert linked(retried) == linked(split) == [ids(good), ids(bad)]
    assert linked(first) == [ids(good)]
    assert linked(second) == linked(buried) == [ids(bad)]
    assert linked(last) == []
    assert [
        (s.attributes["segment.status"], s.status.description) for s in (retried, split, buried)
    ] == [
        ("503", "503 Service Unavailable"),
        ("400", "split 3 messages in two: 400 Bad Request"),
        ("400", "dead letter, 1 message: 400 Bad Request"),
    ]
    server.restore()
    Analytics().dead_letters.replay()
    deliver(buffer)
    assert linked(deliveries(exporter)[-1]) == [ids(bad)]
    assert not redis.keys("*:traces*")


def test_a_purged_dead_letter_leaves_nothing(app, request_span, server, redis):
    server.always(Reply.status(400))
    with request_span():
        track.delay("u", "E")
    deliver(buffer_of(app))
    assert redis.keys("*:traces:1")
    Analytics().dead_letters.purge()
    assert not redis.keys("*:traces*")


def test_a_spilled_message_keeps_it(make_app, exporter, request_span, tmp_path):
    with EmbeddedRedis() as own:
        app = make_app(
            segment_redis_url=own.url,
            segment_on_unavailable="spill",
            segment_spill_path=str(tmp_path / "spill"),
        )
        own.kill()
        with request_span() as request:
            track.delay("u", "E")
        own.restart()
        wait_until(lambda: track.delay("u", "E") and Analytics().stats().accepted)
        deliver(buffer_of(app))
        assert ids(request) in [link for span in deliveries(exporter) for link in linked(span)]


@pytest.mark.parametrize("way", ["delay", "countdown"])
def test_under_task_always_eager(make_app, exporter, request_span, way):
    make_app(task_always_eager=True)
    with request_span() as request:
        if way == "delay":
            track.delay("u", "E")
        else:
            track.apply_async(("u", "E"), countdown=1)
    (span,) = deliveries(exporter)
    assert linked(span) == [ids(request)]
    assert span.parent.span_id == ids(request)[1]


def test_a_real_worker_links_to_a_call_of_another_process(
    make_app, request_span, workers, tmp_path
):
    file = tmp_path / "spans"
    workers.start(
        make_app(segment_flush_interval=0.3),
        imports=["celery_segment", "tracedworker"],
        environ={"TESTS_SPANS": str(file)},
    )
    with request_span() as request:
        track.delay("u", "at once")
        track.apply_async(("u", "through the broker"), countdown=0.1)

    def links_of_spans():
        spans = [json.loads(line) for line in file.read_text().splitlines()]
        assert {span["name"] for span in spans} <= {"segment.deliver"}
        return [link["context"] for span in spans for link in span["links"]]

    # Both are delivered at the same tick, or one after the other.
    links = wait_until(lambda: len(found := links_of_spans()) == 2 and found)
    found = [(int(context["trace_id"], 16), int(context["span_id"], 16)) for context in links]
    assert found == [ids(request)] * 2
