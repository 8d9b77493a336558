"""Tests of applications under a tracking plan: what fails, what is expected, and what was seen."""

from __future__ import annotations

import os
import re
import subprocess
from pathlib import Path

import pytest

from celery_segment import ValidationError, track
from celery_segment.events import Event
from celery_segment.testing import Outbox
from support import PYTEST, free_port, new_app

PLAN = Path(__file__).parents[1] / "plans" / "library.json"
SECRET = "ann@example.com"


class BookLent(Event, name="Book Lent"):
    isbn: int


@pytest.fixture
def planned():
    """An application with a source for each policy, whose Redis is not there."""
    policies = ("allow", "log", "raise")
    on = {name: {"on_violation": name, "on_unplanned": name} for name in policies}
    quiet = {**on["raise"], "on_invalid": "log"}
    app = new_app({
        "broker_url": f"redis://127.0.0.1:{free_port()}/0",
        "segment_tracking_plan": str(PLAN),
        "segment_context": {"app": {"name": "library"}},
        "segment_sources": {**on, "quiet": quiet},
    })  # fmt: skip
    app.set_current()
    app.set_default()
    yield app
    app.close()


def lend(source, isbn=5):
    track.delay("u", "Book Lent", {"isbn": isbn}, source=source)


@pytest.mark.usefixtures("planned")
class TestViolations:
    @pytest.mark.parametrize("source", ["allow", "log", "quiet"])
    def test_a_call_that_violates_fails_the_test_whatever_the_policy_is(self, source):
        with pytest.raises(AssertionError) as raised, Outbox() as outbox:
            track.delay("u", "Book Lent", {"isbn": [SECRET]}, source=source)
        (violated,) = outbox.violations
        assert violated[:5] == (source, "track", "Book Lent", "properties.isbn", "type")
        assert violated.place.startswith(f"{__file__}:")
        assert str(raised.value) == (
            "1 violation of the tracking plan:\n"
            f"    track 'Book Lent' at {violated.place}: properties.isbn: must be a string [type]\n"
            "Where a test means one: with segment_outbox.expect_violation('Book Lent',"
            " path='properties.isbn'):"
        )
        assert SECRET not in repr(violated)
        assert len(outbox) == (source != "quiet")

    def test_what_the_policy_raises_is_raised_alone(self, segment_outbox):
        with pytest.raises(ValidationError) as raised:
            lend("raise")
        assert (raised.value.field, raised.value.rule) == ("properties.isbn", "type")
        segment_outbox.assert_no_violations()

    def test_an_event_that_is_not_planned_fails_the_test_unless_that_is_allowed(self):
        with Outbox():
            track.delay("u", "Nobody's", source="allow")
        with (
            pytest.raises(AssertionError, match=r"event: .* no such event \[unplanned\]"),
            Outbox(),
        ):
            track.delay("u", "Nobody's", source="log")

    def test_a_block_that_raises_is_not_looked_at(self):
        with pytest.raises(KeyError), Outbox():
            lend("log")
            raise KeyError

    def test_what_is_expected_fails_nothing(self, segment_outbox):
        with segment_outbox.expect_violation() as found:
            lend("log")
        assert [each.rule for each in found] == ["type"]
        with segment_outbox.expect_violation(BookLent, path="properties.isbn", rule="type"):
            lend("allow")
        assert segment_outbox.violations == []

    def test_another_than_the_expected_fails(self, segment_outbox):
        with segment_outbox.expect_violation("Book Lent"):
            lend("log")
            track.delay("u", "Nobody's", source="log")
        (other,) = segment_outbox.violations
        assert (other.event, other.rule) == ("Nobody's", "unplanned")
        with (
            pytest.raises(AssertionError) as raised,
            segment_outbox.expect_violation("Book Lent", rule="required"),
        ):
            lend("log")
        assert str(raised.value).startswith(
            "no call violates the tracking plan (event 'Book Lent', rule 'required'); there are:\n"
            "    track 'Book Lent' at "
        )
        with (
            pytest.raises(AssertionError, match=r"^no call violates the tracking plan$"),
            segment_outbox.expect_violation(),
        ):
            lend("log", isbn="978-3")
        segment_outbox.clear()
        assert len(segment_outbox.violations) == 2
        segment_outbox.violations.clear()


CONFTEST = """
import pytest
from celery import Celery

@pytest.fixture(autouse=True)
def app():
    app = Celery("app", broker="redis://127.0.0.1:1/0", include=["celery_segment"])
    app.conf.segment_tracking_plan = {plan!r}
    app.conf.segment_context = {{"app": {{}}}}
    app.set_default()
    yield
    app.close()
"""
TESTS = """
from celery_segment import identify, track
import pytest

def test_no_outbox():
    track.delay("u", "Book Lent", {"isbn": "978-3"})

def test_good(segment_outbox):
    track.delay("u", "Book Lent", {"isbn": "978-3"})
    track.delay("u", "Book Lent", {"isbn": "978-3", "days": 3},
                context={"protocols": {"event_version": 2}})

def test_bad(segment_outbox):
    track.delay("u", "Book Lent", {"isbn": 5})

def test_worse(segment_outbox):
    track.delay("u", "Book Lent", {"isbn": 5})
    assert segment_outbox.tracked() == "its own failure"

def test_unplanned(segment_outbox):
    with segment_outbox.expect_violation("Book Burnt", rule="unplanned"):
        track.delay("u", "Book Burnt")
"""


def run_pytest(folder, *options):
    (folder / "conftest.py").write_text(CONFTEST.format(plan=str(PLAN)), "utf-8")
    (folder / "test_it.py").write_text(TESTS, "utf-8")
    command = [*PYTEST, "-W", "error", *options]
    env = {name: value for name, value in os.environ.items() if name != "SEGMENT_CAPTURE"}
    env.pop("PYTEST_XDIST_WORKER", None)
    run = subprocess.run(
        command, cwd=folder, env=env, capture_output=True, text=True, timeout=60, check=False
    )
    assert run.stderr == ""
    return run.stdout


@pytest.mark.parametrize("options", [(), ("-n", "2")], ids=["alone", "xdist"])
def test_a_run_of_tests_says_what_failed_and_what_was_seen(tmp_path, options):
    output = run_pytest(tmp_path, "--segment-plan-coverage", *options)
    assert "2 failed, 3 passed" in output
    # Once, without a traceback.
    assert len(re.findall(r"^1 violation of the tracking plan:$", output, re.MULTILINE)) == 1
    assert "celery_segment_pytest.py" not in output
    assert "its own failure" in output
    assert " at teardown" not in output
    summary = output.partition("tracking plan coverage")[2].splitlines()[1:]
    assert summary[:7] == [
        f"{PLAN}: 2 of 5 rules seen",
        "  not seen  group",
        "  not seen  identify",
        '  not seen  page "Catalogue"',
        '  seen      track "Book Lent", 4 calls',
        '  seen      track "Book Lent" version 2, 1 call',
        '  unplanned track "Book Burnt", 1 call',
    ]


def test_a_run_without_the_option_or_a_plan_says_nothing(tmp_path):
    assert "tracking plan coverage" not in run_pytest(tmp_path)
    output = run_pytest(tmp_path, "--segment-plan-coverage", "-k", "nothing")
    assert "\nno call was held to a tracking plan\n" in output
