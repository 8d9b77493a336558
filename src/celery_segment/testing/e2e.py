"""Sends events as a JSON input says, and tells whether all of them were delivered.

    python -m celery_segment.testing.e2e --input '{"writeKey": "KEY", "apiHost": "http://127.0.0.1:8765",
        "sequences": [{"delayMs": 0, "events": [{"type": "track", "userId": "u", "event": "E"}]}],
        "config": {"flushAt": 20, "flushInterval": 1000, "maxRetries": 3, "timeout": 15}}'

The contract is that of the ``e2e-cli`` which Segment's own libraries have, so that one
suite of tests can drive them all: one line of JSON on standard output, ``{"success",
"sentBatches", "error"}``, and the exit status 0 or 1. Logs go to standard error. A Redis
(SEGMENT_REDIS_URL, else an embedded one) and a Celery worker run for as long as it takes.
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
from celery_segment.config.settings import MAX_BATCH_MESSAGES
from celery_segment.errors import SegmentError, ValidationError
from celery_segment.operations.source import Analytics
from celery_segment.testing import EmbeddedRedis

logger = logging.getLogger("celery_segment.testing.e2e")

#: Seconds between two looks at why messages remain.
LOOK = 0.5
#: Seconds beyond one request's that a worker has to end.
GRACE = 10.0

Positive = Annotated[int, msgspec.Meta(ge=1)]
Milliseconds = Annotated[float, msgspec.Meta(ge=0)]


class Config(msgspec.Struct, rename="camel"):
    """The options of the client. A batch holds at most ``flush_at`` messages."""

    flush_at: Positive = 20
    flush_interval: Milliseconds = 10_000
    #: Retries after which a batch is given up, however soon.
    max_retries: Annotated[int, msgspec.Meta(ge=0)] = 10
    #: Seconds for one request.
    timeout: float = 15


class Sequence(msgspec.Struct, rename="camel"):
    """Events in their wire form, and how long to wait before them."""

    events: list[msgspec.Raw]
    delay_ms: Milliseconds = 0


class Input(msgspec.Struct, rename="camel"):
    """What to send, where to, and how."""

    write_key: str
    sequences: list[Sequence]
    api_host: str = "https://api.segment.io"
    config: Config = msgspec.field(default_factory=Config)


def main() -> int:
    """Run the input and print the outcome."""
    arguments = _parse()
    sent, error = 0, None
    try:
        sent, error = run(_read(arguments.input), arguments.timeout)
    except (SegmentError, OSError) as problem:
        error = str(problem)
    except msgspec.MsgspecError as problem:
        error = f"the input is not as it must be: {problem}"
    except Exception as problem:
        logger.exception("the run ended")
        error = f"{type(problem).__name__}: {problem}"
    outcome = {"success": error is None, "sentBatches": sent, "error": error}
    sys.stdout.write(json.dumps(outcome) + "\n")
    return 0 if error is None else 1


def _parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m celery_segment.testing.e2e",
        description="Send events as a JSON input says; print whether all were delivered.",
    )
    parser.add_argument("--input", required=True, help="JSON, or @FILE, or - for standard input")
    parser.add_argument(
        "--timeout",
        type=float,
        default=60.0,
        metavar="SECONDS",
        help="wait so long at the most for the delivery (60)",
    )
    return parser.parse_args()


def _read(text: str) -> Input:
    if text == "-":
        text = sys.stdin.read()
    elif text.startswith("@"):
        text = Path(text[1:]).read_text("utf-8")
    return msgspec.json.decode(text, type=Input)


def run(given: Input, timeout: float) -> tuple[int, str | None]:
    """Send the events and wait for their delivery, ``timeout`` seconds at the most.

    Returns:
        The number of batches that were delivered; why not all were, else None.
    """
    with ExitStack() as stack:
        url = os.environ.get("SEGMENT_REDIS_URL")
        if not url:
            url = stack.enter_context(EmbeddedRedis(password=token_hex(16))).url
        # A name of its own: a Redis that is shared may hold another run's messages.
        name = f"e2e-{token_hex(4)}"
        app = _application(name, url, given)
        stack.callback(app.close)
        analytics = Analytics(name, app=app)
        analytics.stats()  # says at once, and clearly, that Redis is out of reach
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
        # Seconds for which a worker that ends waits for one more task.
        broker_transport_options={"polling_interval": 0.1},
        imports=["celery_segment"],
        task_default_queue=name,
        segment_sources={name: {"write_key": given.write_key}},
        segment_host=given.api_host,
        # What tests an endpoint runs next to it, often in a container of its own.
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
        # Says in the input's own terms what is wrong with it; the call validates again.
        messages.from_wire(content)
        getattr(analytics, content["type"]).delay(**messages.call_arguments(event))
    except (ValidationError, msgspec.ValidationError) as error:
        raise SegmentError(f"{where}: {error}") from None


def _settle(analytics: Analytics, timeout: float) -> tuple[int, str | None]:
    deadline = time.monotonic() + timeout
    remaining, stats = analytics.flush(0), analytics.stats()
    # A refused configuration does not mend itself.
    while remaining and not stats.refused and (left := deadline - time.monotonic()) > 0:
        remaining, stats = analytics.flush(min(left, LOOK)), analytics.stats()
    error = None
    if stats.dead:
        error = f"{stats.dead} given up: {next(iter(analytics.dead_letters)).reason}"
    elif remaining:
        why = stats.gate if stats.closed else f"not delivered within {timeout:g} s"
        error = f"{remaining} remain: {why}"
    return stats.delivered_batches, error


if __name__ == "__main__":
    sys.exit(main())
