"""Send the events of a JSON input, and report whether all of them were delivered.

    python -m celery_segment.testing.e2e --input '{"writeKey": "KEY", "apiHost": "http://127.0.0.1:8765",
        "sequences": [{"delayMs": 0, "events": [{"type": "track", "userId": "u", "event": "E"}]}],
        "config": {"flushAt": 20, "flushInterval": 1000, "maxRetries": 3, "timeout": 15}}'

The interface is that of the ``e2e-cli`` of Segment's own libraries, so that one test suite can
drive all of them: it prints one line of JSON, ``{"success", "sentBatches", "error"}``, and exits
with status 0 or 1. Logs go to standard error. The command uses the Redis of SEGMENT_REDIS_URL,
by default an embedded one, and runs a Celery worker.
"""

from __future__ import annotations

import argparse
import json
import logging
import os
import sys
import time
from contextlib import ExitStack
from pathlib import Path
from secrets import token_hex
from typing import Annotated

import msgspec
from celery import Celery
from celery.contrib.testing.worker import start_worker

from celery_segment import messages
from celery_segment.config.source import MAX_BATCH_MESSAGES
from celery_segment.errors import SegmentError, ValidationError
from celery_segment.operations.flush import Flush, wait_for
from celery_segment.operations.source import Analytics
from celery_segment.runtime import runtime_of
from celery_segment.testing import EmbeddedRedis

logger = logging.getLogger("celery_segment.testing.e2e")

#: Seconds between two queries of the messages that remain.
LOOK = 0.1
#: Seconds, on top of the timeout of a request, for the worker to shut down.
GRACE = 10.0

Positive = Annotated[int, msgspec.Meta(ge=1)]
Milliseconds = Annotated[float, msgspec.Meta(ge=0)]


class Config(msgspec.Struct, rename="camel"):
    """The configuration of the client. A batch has at most ``flush_at`` messages."""

    flush_at: Positive = 20
    flush_interval: Milliseconds = 10_000
    #: Retries after which a batch is given up, regardless of the time they took.
    max_retries: Annotated[int, msgspec.Meta(ge=0)] = 10
    #: Timeout of a request, in seconds.
    timeout: float = 15


class Sequence(msgspec.Struct, rename="camel"):
    """Events in their wire form, and the wait before them in milliseconds."""

    events: list[msgspec.Raw]
    delay_ms: Milliseconds = 0


class Input(msgspec.Struct, rename="camel"):
    """The input: the events, the endpoint, and the client's configuration."""

    write_key: str
    sequences: list[Sequence]
    api_host: str = "https://api.segment.io"
    config: Config = msgspec.field(default_factory=Config)


def main() -> int:
    """Run the input, print the outcome, and return the exit status."""
    arguments = _parse()
    sent, error = 0, None
    try:
        sent, error = run(_read(arguments.input), arguments.timeout)
    except (SegmentError, OSError) as problem:
        error = str(problem)
    except msgspec.MsgspecError as problem:
        error = f"the input is invalid: {problem}"
    except Exception as problem:
        logger.exception("the run failed")
        error = f"{type(problem).__name__}: {problem}"
    outcome = {"success": error is None, "sentBatches": sent, "error": error}
    sys.stdout.write(json.dumps(outcome) + "\n")
    return 0 if error is None else 1


def _parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m celery_segment.testing.e2e",
        description="Send the events of a JSON input; print whether all were delivered.",
    )
    parser.add_argument("--input", required=True, help="JSON text, @FILE, or - for standard input")
    parser.add_argument(
        "--timeout",
        type=float,
        default=60.0,
        metavar="SECONDS",
        help="maximum wait for the delivery, in seconds (60)",
    )
    return parser.parse_args()


def _read(text: str) -> Input:
    if text == "-":
        text = sys.stdin.read()
    elif text.startswith("@"):
        text = Path(text[1:]).read_text("utf-8")
    return msgspec.json.decode(text, type=Input)


def run(given: Input, timeout: float) -> tuple[int, str | None]:
    """Send the events, and wait for their delivery for at most ``timeout`` seconds.

    Returns:
        The number of delivered batches, and an error if not all events were delivered.
    """
    with ExitStack() as stack:
        url = os.environ.get("SEGMENT_REDIS_URL")
        if not url:
            url = stack.enter_context(EmbeddedRedis(password=token_hex(16))).url
        # The name is unique, since a shared Redis may contain the messages of another run.
        name = f"e2e-{token_hex(4)}"
        app = _application(name, url, given)
        stack.callback(app.close)
        analytics = Analytics(name, app=app)
        analytics.stats()  # fails early, with a clear error, if Redis is unreachable
        patience = given.config.timeout + GRACE
        stack.enter_context(
            start_worker(app, loglevel="INFO", perform_ping_check=False, shutdown_timeout=patience)
        )
        for number, sequence in enumerate(given.sequences):
            time.sleep(sequence.delay_ms / 1000)
            for place, event in enumerate(sequence.events):
                _send(analytics, event, f"sequences[{number}].events[{place}]")
        return _settle(analytics, timeout)


def _application(name: str, redis_url: str, given: Input) -> Celery:
    config = given.config
    app = Celery("celery_segment.testing.e2e")
    app.conf.update(
        broker_url=redis_url,
        broker_connection_retry_on_startup=True,
        # Seconds for which a worker that shuts down waits for another task.
        broker_transport_options={"polling_interval": 0.1},
        imports=["celery_segment"],
        task_default_queue=name,
        segment_sources={name: {"write_key": given.write_key}},
        segment_host=given.api_host,
        # A test endpoint has no TLS, and often runs in another container.
        segment_allow_http=True,
        segment_flush_at=config.flush_at,
        segment_max_batch_messages=min(config.flush_at, MAX_BATCH_MESSAGES),
        segment_flush_interval=max(config.flush_interval / 1000, 0.1),
        segment_max_retries=config.max_retries,
        segment_retry_for=0,
        segment_timeout=config.timeout,
        segment_lease=config.timeout + GRACE,
    )
    return app


def _send(analytics: Analytics, event: msgspec.Raw, where: str) -> None:
    try:
        content = messages.decode(event)
        # Checks the event in its wire form, for errors with its own field names. The call
        # validates it again.
        messages.from_wire(content)
        getattr(analytics, content["type"]).delay(**messages.call_arguments(event))
    except (ValidationError, msgspec.ValidationError) as error:
        raise SegmentError(f"{where}: {error}") from None


def _settle(analytics: Analytics, timeout: float) -> tuple[int, str | None]:
    flush = Flush(runtime_of(analytics.app), analytics.source)
    try:
        remaining = wait_for([flush], timeout, poll=LOOK, watch=_unless_refused)
    except _Refused:
        remaining = flush.remaining
    stats = analytics.stats()
    error = None
    if stats.dead.messages:
        reason = next(iter(analytics.dead_letters)).reason
        error = f"{stats.dead.messages} given up: {reason}"
    elif remaining:
        why = stats.gate.reason or f"not delivered within {timeout:g} s"
        error = f"{remaining} remain: {why}"
    return stats.delivered.batches, error


class _Refused(Exception):  # noqa: N818 - a state
    """The endpoint refuses the configuration, so that waiting is useless."""


def _unless_refused(flush: Flush) -> None:
    if flush.gate().refused:
        raise _Refused


if __name__ == "__main__":
    sys.exit(main())
