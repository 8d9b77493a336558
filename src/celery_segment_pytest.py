"""Pytest plugin: calls are stored in no test that does not ask for it; ``segment_outbox``; plans.

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
_COVERAGE = "--segment-plan-coverage"
_SAID = pytest.StashKey["str | None"]()
_OUTBOX = pytest.StashKey["Outbox"]()
#: What the workers of pytest-xdist have seen: pairs of a message's ``Planned`` and their number.
_SEEN = pytest.StashKey["list[tuple[Any, int]]"]()
#: The key of a worker's output to the process that starts it.
_OUTPUT = "segment_planned"


def pytest_addoption(parser: pytest.Parser) -> None:
    """Declare the options of pytest.ini and the command line."""
    parser.getgroup("celery-segment").addoption(
        _COVERAGE,
        action="store_true",
        help="show which events of the tracking plans the tests have called, and which not",
    )
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
    config.stash[_SEEN] = []
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
def segment_outbox(request: pytest.FixtureRequest) -> Iterator[Outbox]:
    """Record the messages tracked in this test; neither Redis nor a broker is needed."""
    from celery_segment.testing.outbox import Outbox

    outbox = request.node.stash[_OUTBOX] = Outbox()
    outbox.__enter__()
    yield outbox
    outbox.close()


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_call(item: pytest.Item) -> Iterator[None]:
    """Fail a test whose calls violate a tracking plan, unless it has failed already."""
    result: Any = yield
    outbox = item.stash.get(_OUTBOX, None)
    if outbox is not None and result.exception is None:
        try:
            outbox.assert_no_violations()
        except AssertionError as error:
            # Where the call is made is in the text: a traceback would show this function.
            result.force_exception(pytest.fail.Exception(str(error), pytrace=False))


def _planned() -> list[tuple[Any, int]]:
    """Return what was held to tracking plans in this process."""
    watched: Any = sys.modules.get("celery_segment.producer.watched_plans")
    return [] if watched is None else list(watched.planned.items())


def pytest_sessionfinish(session: pytest.Session) -> None:
    """Tell the process that has started a worker of pytest-xdist."""
    output: dict[str, Any] | None = getattr(session.config, "workeroutput", None)
    if output is not None:
        output[_OUTPUT] = [[list(planned), count] for planned, count in _planned()]


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node: Any) -> None:
    """Keep what a worker of pytest-xdist has seen."""
    node.config.stash[_SEEN] += getattr(node, "workeroutput", {}).get(_OUTPUT, [])


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Show which events of the tracking plans were seen."""
    config = terminalreporter.config
    if not config.getoption(_COVERAGE):
        return
    from celery_segment.testing.plan_coverage import report

    terminalreporter.section("tracking plan coverage")
    for line in report([*config.stash[_SEEN], *_planned()]):
        terminalreporter.line(line)
