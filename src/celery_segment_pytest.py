"""Pytest plugin: no test stores a call, unless it asks for the buffer; ``segment_outbox``.

pytest imports this module at every start, in every project of the environment. It is a
module outside the package, so that Celery is not imported before a test does so.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from celery_segment.testing import Outbox

__all__ = ["segment_outbox"]

_OPTION = "segment_buffer"
#: The variable of celery_segment.producer.recording, which reads it when it is loaded.
_CAPTURE = "SEGMENT_CAPTURE"
_SAID = pytest.StashKey["str | None"]()


def pytest_addoption(parser: pytest.Parser) -> None:
    """Declare the option of pytest.ini."""
    parser.addini(
        _OPTION,
        "Store the calls of all tests in the buffer, rather than of those marked segment_buffer.",
        type="bool",
        default=False,
    )


@pytest.hookimpl(tryfirst=True)
def pytest_configure(config: pytest.Config) -> None:
    """Capture calls from now on; in xdist's workers as well."""
    config.addinivalue_line(
        "markers", f"{_OPTION}: store the calls of this test in the buffer, in Redis."
    )
    config.stash[_SAID] = os.environ.get(_CAPTURE)
    _say("0" if config.getini(_OPTION) else "1")


def pytest_unconfigure(config: pytest.Config) -> None:
    """Leave the process as it was."""
    _say(config.stash[_SAID])


@pytest.hookimpl(hookwrapper=True, tryfirst=True)
def pytest_runtest_protocol(item: pytest.Item) -> Iterator[None]:
    """Store the calls of a test that is marked, and those of its fixtures."""
    said = os.environ.get(_CAPTURE)
    if item.get_closest_marker(_OPTION):
        _say("0")
    yield
    if said != os.environ.get(_CAPTURE):
        _say(said)


def _say(value: str | None) -> None:
    """Set the variable; have the library follow it, if it is loaded."""
    if value is None:
        os.environ.pop(_CAPTURE, None)
    else:
        os.environ[_CAPTURE] = value
    recording: Any = sys.modules.get("celery_segment.producer.recording")
    if recording is not None:
        recording.follow_environment()


@pytest.fixture
def segment_outbox() -> Iterator[Outbox]:
    """Record the messages tracked in this test; neither Redis nor a broker is needed."""
    from celery_segment.testing.outbox import Outbox

    with Outbox() as outbox:
        yield outbox
