"""Run a state machine of hypothesis against real servers, which take the time they take."""

from __future__ import annotations

import os

from hypothesis import HealthCheck, Phase, settings
from hypothesis.stateful import run_state_machine_as_test

#: What hypothesis does not do with a failure: to explain it takes many more runs, and so does
#: to make it shorter, which SEGMENT_TEST_SHRINK=0 leaves out too.
_LEFT_OUT = {Phase.explain}
if os.environ.get("SEGMENT_TEST_SHRINK") == "0":
    _LEFT_OUT.add(Phase.shrink)


def run_machine(machine, examples: int, steps: int) -> None:
    """Run so many examples of so many steps, which ``machine`` makes without arguments."""
    run_state_machine_as_test(
        machine,
        settings=settings(
            max_examples=examples,
            stateful_step_count=steps,
            deadline=None,
            phases=set(settings.default.phases) - _LEFT_OUT,
            suppress_health_check=list(HealthCheck),
        ),
    )
