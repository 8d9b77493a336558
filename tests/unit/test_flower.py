"""What Flower's page of tasks is made to show."""

from __future__ import annotations

import runpy
from pathlib import Path

import pytest
from celery.events.state import Task
from flower.options import options

from celery_segment.contrib.flower import format_task

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize(
    ("state", "result", "exception", "shown"),
    [
        ("SUCCESS", "'delivered 1 message'", None, "delivered 1 message"),
        ("SUCCESS", "'delivered 1 message'", "DeliveryError('503')", "delivered 1 message"),
        ("RETRY", None, "DeliveryError('503 Service Unavailable')", "503 Service Unavailable"),
        ("STARTED", None, "DeliveryError('503')", "503"),
        ("FAILURE", None, "DeliveryFailed('dead letter: 400')", "dead letter: 400"),
        (
            "FAILURE",
            None,
            "DeliveryFailed('dead letter: 400; Segment answers x; next: dead show 1')",
            "dead letter: 400",
        ),
        ("FAILURE", None, "DeliveryFailed('dead: 503; given up; next: y')", "dead: 503; given up"),
        ("FAILURE", None, 'TypeError("can\'t")', "can't"),
        ("FAILURE", None, "WorkerLostError()", "WorkerLostError()"),
        ("RECEIVED", None, None, None),
    ],
)
def test_a_column_tells_what_became_of_a_batch(state, result, exception, shown):
    task = Task("1", name="segment.deliver", state=state, result=result, exception=exception)
    assert format_task(task).result == shown


@pytest.mark.parametrize(
    ("kwargs", "shown"),
    [
        ("default", "default"),
        ("default, batch 17, 20 messages, 10,037 bytes", "default, batch 17, 20 messages"),
        ("default, batch 17, 1 message, 1 byte", "default, batch 17, 1 message"),
        ("default, message u-1", "default"),
        ("default, message another", "default, message another"),
        (None, ""),
    ],
)
def test_arguments_are_short_enough_for_their_column(kwargs, shown):
    task = Task("u-1", name="segment.deliver", state="RECEIVED", kwargs=kwargs)
    assert format_task(task).kwargs == shown


@pytest.mark.parametrize("name", ["shop.send_invoice", None])
def test_tasks_of_others_are_left_as_they_are(name):
    task = Task("1", name=name, state="SUCCESS", result="'sent'")
    assert format_task(task).result == "'sent'"


def test_the_configuration_sets_options_of_flower():
    names = runpy.run_path(str(ROOT / "flowerconfig.py"))["__all__"]
    assert names == ["format_task", "tasks_columns"]
    assert all(name in options for name in names)
