"""Compare what was measured with what is simulated."""

from __future__ import annotations

from dataclasses import dataclass

from benchmarks.simulation.appends import append_rate
from benchmarks.simulation.delivery import Delivery, Load
from benchmarks.simulation.parameters import Appending, Costs, Deliveries, Measured, Point

__all__ = ["EXCEPTED", "WITHIN", "Compared", "compare", "delivered", "simulated_rate"]

#: How far a simulated rate may be from the measured one.
WITHIN = 0.2
#: What it does not reproduce: three processes on two cores get between half and all of what the
#: simulation says from one round to the next, as the system places them.
EXCEPTED = {Appending(2, 1)}
#: Simulated seconds that a backlog may take.
LONGEST = 60.0


@dataclass(frozen=True)
class Compared:
    """A measured point, and the simulated rate."""

    point: Point
    rate: float

    @property
    def off(self) -> float:
        """How far the simulation is off, as a part of the measured rate."""
        return self.rate / self.point.rate - 1

    @property
    def is_near(self) -> bool:
        """Whether the simulation reproduces the point."""
        return abs(self.off) <= WITHIN


def compare(measured: Measured) -> list[Compared]:
    """Simulate each point."""
    return [Compared(each, simulated_rate(each, measured)) for each in measured.points]


def simulated_rate(point: Point, measured: Measured) -> float:
    """Simulate a point."""
    if isinstance(point.what, Appending):
        return append_rate(point.what, measured.costs, measured.cores, point.others)
    return delivered(point.what, measured.costs, measured.cores, point.others).rate


def delivered(what: Deliveries, costs: Costs, cores: int, others: float) -> Delivery:
    """Simulate the delivery of a backlog on one machine."""
    load = Load(
        hosts=max(what.hosts, 1),
        processes=what.processes,
        batch_events=what.batch_events or costs.batch_events,
        backlog=what.events,
        redis=what.redis,
        segment=what.segment,
        answer_after=what.answer_after,
        cores=cores,
        others=others,
    )
    delivery = Delivery(load, costs)
    while delivery.waiting >= 1 and delivery.clock.now < LONGEST:
        delivery.run(0.1)
    return delivery
