"""The simulation reproduces what was measured, and the page shows it."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT))
try:
    from benchmarks.simulation import page, parameters
    from benchmarks.simulation.comparing import EXCEPTED, WITHIN, simulated_rate
    from benchmarks.simulation.delivery import Delivery, Load
    from benchmarks.simulation.engine import Clock, Machine, Queue, Resource
    from benchmarks.simulation.planning import needs
finally:
    sys.path.remove(str(ROOT))

MEASURED = parameters.load()
COSTS = MEASURED.costs


@pytest.mark.parametrize("point", MEASURED.points, ids=lambda each: each.what.text)
def test_each_measured_rate_is_reproduced_but_for_what_is_said_to_be_missed(point):
    is_near = simulated_rate(point, MEASURED) == pytest.approx(point.rate, rel=WITHIN)
    assert is_near == (point.what not in EXCEPTED)


def test_some_rates_are_predicted():
    appends, deliveries = (
        [p for p in MEASURED.points if isinstance(p.what, kind) and not p.calibrates]
        for kind in (parameters.Appending, parameters.Deliveries)
    )
    assert len(appends) >= 4
    assert len(deliveries) >= 4
    assert any(point.what.hosts > 1 for point in deliveries)


def test_the_page_has_the_tables_of_what_was_measured():
    shown = page.PAGE.read_text("utf-8")
    assert shown == page.renewed(shown, MEASURED), "run: python -m benchmarks.simulation --renew"


def test_what_is_stored_is_loaded(tmp_path):
    parameters.store(MEASURED, tmp_path / "measured.json")
    assert parameters.load(tmp_path / "measured.json") == MEASURED


def load(**changes):
    kept = {"hosts": 1, "processes": 2, "batch_events": 1_000, "answer_after": 0.1}
    return Load(**{**kept, **changes})


def test_each_event_is_delivered_once():
    delivery = Delivery(load(backlog=50_500), COSTS)
    delivery.run(30)
    assert delivery.events == 50_500
    assert delivery.requests == 51
    assert delivery.waiting == 0


def test_no_more_requests_are_made_than_are_allowed():
    delivery = Delivery(load(processes=20, backlog=1_000_000, requests=50), COSTS)
    delivery.run(10)
    assert 480 < delivery.requests <= 10 * 50 + 1


def test_a_source_keeps_to_its_max_inflight():
    delivery = Delivery(load(processes=20, backlog=1_000_000, max_inflight=4), COSTS)
    most = 0
    for _ in range(100):
        delivery.run(0.1)
        most = max(most, *(shard.inflight for shard in delivery.shards))
    assert most == 4


def test_more_events_need_more_of_everything():
    few, many = (needs(rate, 1_000, COSTS) for rate in (50_000, 200_000))
    assert few.delivered == pytest.approx(50_000, rel=0.02)
    assert many.delivered == pytest.approx(200_000, rel=0.02)
    assert few.shards < many.shards
    assert few.processes < many.processes
    assert few.busy <= 0.6
    assert many.memory == pytest.approx(4 * few.memory)


class TestEngine:
    def test_time_goes_on_where_nothing_happens(self):
        clock = Clock()
        clock.run(2.5)
        assert clock.now == 2.5

    def test_a_resource_is_used_in_turn(self):
        clock, done = Clock(), []
        resource = Resource(clock, 2)

        def user(name):
            yield from resource.use(1.0)
            done.append((name, clock.now))

        for name in "abc":
            clock.start(user(name))
        clock.run(10)
        assert done == [("a", 1.0), ("b", 1.0), ("c", 2.0)]

    def test_an_item_is_waited_for(self):
        clock, found = Clock(), []
        queue = Queue(clock)

        def reader():
            found.append(((yield from queue.get()), clock.now))
            found.append(((yield from queue.get_all()), clock.now))

        def writer():
            yield 1.0
            queue.put("a")
            yield 1.0
            queue.put("c")
            queue.put("b", first=True)

        clock.start(reader())
        clock.start(writer())
        clock.run(10)
        assert found == [("a", 1.0), (["b", "c"], 2.0)]

    def test_others_get_what_they_used(self):
        clock = Clock()
        machine = Machine(clock, 1, others=0.4)

        def busy():
            while True:
                yield from machine.use("ours", 0.003)

        clock.start(busy())
        clock.run(10)
        assert machine.busy["ours"] == pytest.approx(6.0, rel=0.05)
