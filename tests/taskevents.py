"""Celery's events of tasks, as Flower receives them."""

from __future__ import annotations

import threading
from contextlib import contextmanager

from support import WRITE_KEY


@contextmanager
def listening(app):
    """Collect the events of the tasks, as Flower does."""
    events = []
    with app.connection_for_read() as connection:
        receiver = app.events.Receiver(connection, handlers={"*": events.append})
        ready = threading.Event()
        receiver.on_consume_ready = lambda *_, **__: ready.set()
        thread = threading.Thread(target=lambda: receiver.capture(wakeup=False))
        thread.start()
        assert ready.wait(10)
        try:
            yield lambda kind: [e for e in list(events) if e["type"] == f"task-{kind}"]
        finally:
            receiver.should_stop = True
            thread.join()
    for event in events:
        shown = repr(event)
        assert WRITE_KEY not in shown
        assert "p4yl04d" not in shown
