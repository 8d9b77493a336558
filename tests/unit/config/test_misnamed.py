"""Settings that are not read as they are spelt."""

from __future__ import annotations

import pytest
from celery import Celery

from celery_segment.config import load


class Project:
    """The attributes of a module of settings."""

    SEGMENT_WRITE_KEY = "k"
    SEGMENT_FLUSH_AT = 5
    SEGMENT_JS_KEY = "another library's"


class Given(Project):
    CELERY_SEGMENT_WRITE_KEY = "k"
    segment_write_key = "k"


@pytest.mark.parametrize(
    ("settings", "namespace", "expected"),
    [
        (
            Project,
            "CELERY",
            {
                "SEGMENT_FLUSH_AT": "CELERY_SEGMENT_FLUSH_AT",
                "SEGMENT_WRITE_KEY": "CELERY_SEGMENT_WRITE_KEY",
            },
        ),
        (Given, "CELERY", {"SEGMENT_FLUSH_AT": "CELERY_SEGMENT_FLUSH_AT"}),
        (
            Project,
            None,
            {"SEGMENT_FLUSH_AT": "segment_flush_at", "SEGMENT_WRITE_KEY": "segment_write_key"},
        ),
        (Given, None, {"SEGMENT_FLUSH_AT": "segment_flush_at"}),
    ],
)
def test_the_right_name_is_told(settings, namespace, expected):
    app = Celery("stray", set_as_current=False)
    app.config_from_object(settings, namespace=namespace)
    assert load(app.conf, {}).misnamed == expected
