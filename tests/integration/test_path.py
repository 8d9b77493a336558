"""The whole path, once: a call, a worker, the endpoint."""

from celery_segment import Analytics, track


def test_a_call_reaches_segment(make_app, server, workers):
    app = make_app(segment_flush_interval=1.0)
    workers.start(app)
    result = track.delay(
        user_id="019mr8mf4r", event="Item Purchased", properties={"revenue": 39.95}
    )
    assert server.wait_for_messages(1, timeout=10)
    (message,) = server.messages
    assert message["messageId"] == result.id
    assert message["properties"] == {"revenue": 39.95}
    assert result.get() == result.id
    assert Analytics().flush(10) == 0
    assert server.violations == []
