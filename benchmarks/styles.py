"""A call without its exchange with Redis, in an application that is configured in one style."""

from __future__ import annotations

import os
from collections.abc import Callable
from functools import partial
from typing import Any

from celery import Celery

from benchmarks import stub
from benchmarks.events import EVENT, PROPERTIES, USER


def setup(style: str) -> Callable[[int], dict[str, float]]:
    """Call once, and return a function that times calls without the exchange."""
    app = STYLES[style]()
    app.loader.import_default_modules()
    app.set_default()
    sockets = stub.install()
    from celery_segment import track

    def one() -> None:
        track.delay(USER, EVENT, PROPERTIES)

    one()

    return partial(stub.percentiles_without_exchange, one, sockets)


def update() -> Any:
    app = Celery("bench")
    app.conf.update(
        broker_url=os.environ["SEGMENT_BENCH_BROKER"],
        segment_redis_url=os.environ["SEGMENT_BENCH_REDIS"],
        imports=["celery_segment"],
        segment_host=os.environ["SEGMENT_BENCH_HOST"],
        segment_write_key="key",
    )
    return app


def config_from_object() -> Any:
    app = Celery("bench")
    app.config_from_object("benchmarks.celeryconfig")
    return app


def django() -> Any:
    os.environ["DJANGO_SETTINGS_MODULE"] = "benchmarks.web.settings"
    import django as installed

    installed.setup()
    from benchmarks.web.celery import app

    return app


STYLES = {"update": update, "config_from_object": config_from_object, "django": django}
