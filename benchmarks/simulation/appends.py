"""Appends to one Redis by callers that each wait for the answer to their last one."""

from __future__ import annotations

import math

from benchmarks.simulation.engine import Clock, Machine, Queue, Steps
from benchmarks.simulation.parameters import Appending, Costs

__all__ = ["append_rate"]

#: Simulated seconds: the first are not counted, as all callers begin at the same time.
#: The turns of others are as short as a call: what wakes up is preferred by the system.
TURN = 20e-6
#: Seconds for which a core that waits stays awake.
AWAKE = 10e-6
WARM_UP, SECONDS = 0.05, 0.2


def append_rate(who: Appending, costs: Costs, cores: int, others: float) -> float:
    """Return the appends per second that one Redis takes on the machine of its callers."""
    clock = Clock()
    run = _Run(clock, costs, Machine(clock, cores, others=others, turn=TURN))
    crowd = math.log2(who.processes)
    clock.start(run.redis(costs.redis_append + crowd * costs.redis_crowd))
    if who.tool:
        clock.start(run.caller("tool", who.threads, costs.tool_wake, costs.tool_request))
    else:
        call = costs.call if who.threads == 1 else costs.call_of_thread
        for process in range(who.processes):
            clock.start(
                run.caller(f"caller {process}", who.threads, 0.0, call + crowd * costs.caller_crowd)
            )
    clock.run(WARM_UP)
    before = run.appends
    clock.run(WARM_UP + SECONDS)
    return (run.appends - before) / SECONDS


class _Run:
    def __init__(self, clock: Clock, costs: Costs, machine: Machine) -> None:
        self._clock, self._costs, self._machine = clock, costs, machine
        self._commands = Queue(clock)
        self.appends = 0

    def redis(self, append: float) -> Steps:
        """Run the commands that have arrived, and answer them together, as Redis does."""
        while True:
            callers = yield from self._next(self._commands)
            seconds = self._costs.redis_wake + len(callers) * append
            yield from self._machine.use("redis", seconds)
            self.appends += len(callers)
            for caller in callers:
                caller.put(None)

    def caller(self, name: str, connections: int, wake: float, request: float) -> Steps:
        """Send a request on each connection whose last one is answered.

        A process with several threads does so, too, since one of them runs at a time.
        """
        answers, count = Queue(self._clock), connections
        while True:
            yield from self._machine.use(name, wake)
            for _ in range(count):
                yield from self._machine.use(name, request)
                self._commands.put(answers)
            count = len((yield from self._next(answers)))

    def _next(self, queue: Queue) -> Steps:
        """Wait for what comes; a core that waits for long sleeps, and has to wake up."""
        began = self._clock.now
        found = yield from queue.get_all()
        if self._clock.now - began > AWAKE:
            yield self._costs.doze
        return found
