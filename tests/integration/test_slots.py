"""How many processes, or threads, of a worker deliver at once."""

from __future__ import annotations

import os
import signal
import threading
import warnings
from contextlib import ExitStack

import pytest

from celery_segment.worker.slots import Slots
from support import in_child, wait_until


class Process:
    """A process of a worker, which holds a slot until it is told to end; ``free``: it got one."""

    def __init__(self, slots, source):
        answer, tell = os.pipe()
        wait, self._end = os.pipe()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)  # xdist's threads do not matter
            self.pid = os.fork()
        if self.pid == 0:
            try:
                with slots.taken(source) as free:
                    os.write(tell, b"1" if free else b"0")
                    os.read(wait, 1)
            finally:
                os._exit(0)
        self.free = os.read(answer, 1) == b"1"
        for end in (answer, tell, wait):
            os.close(end)

    def end(self, number=None):
        """End it, if it has not ended: by a signal if one is given."""
        if not self.pid:
            return
        if number:
            os.kill(self.pid, number)
        else:
            os.write(self._end, b".")
        os.waitpid(self.pid, 0)
        os.close(self._end)
        self.pid = 0


class Later:
    """A call by a process that exists from now on, and makes it when its result is asked for."""

    def __init__(self, call):
        began, begin = os.pipe()
        told, self._tell = os.pipe()

        def wait_and_call():
            os.write(begin, b".")
            os.read(told, 1)
            return call()

        self._ends, self._result = (began, begin, told, self._tell), []
        self._thread = threading.Thread(target=lambda: self._result.append(in_child(wait_and_call)))
        self._thread.start()
        os.read(began, 1)

    def result(self):
        os.write(self._tell, b".")
        self._thread.join()
        for end in self._ends:
            os.close(end)
        return self._result == [True]


@pytest.fixture
def start():
    """Start processes one after the other; all are ended at last."""
    started = []

    def start(slots, *sources):
        new = [Process(slots, source) for source in sources]
        started.extend(new)
        return new

    yield start
    for process in started:
        process.end()


def slots_for(processes, share=1.0, sources=("default",)):
    slots = Slots({name: name for name in sources}, share)
    slots.resize(processes)
    return slots


def took(processes):
    return [process.free for process in processes]


class TestProcesses:
    def test_share_them(self, start):
        slots = slots_for(8, share=0.5)
        assert took(start(slots, *["default"] * 6)) == [True] * 4 + [False] * 2
        assert not slots.any_free()
        with slots.taken("default") as free:
            assert not free

    @pytest.mark.parametrize("number", [None, signal.SIGKILL, signal.SIGTERM])
    def test_however_one_ends_its_slot_is_free_again(self, start, number):
        slots = slots_for(3)
        processes = start(slots, *["default"] * 3)
        assert not slots.any_free()
        processes[1].end(number)
        assert slots.any_free()
        assert took(start(slots, "default", "default")) == [True, False]

    def test_one_that_got_none_takes_nobody_elses_when_it_ends(self, start):
        slots = slots_for(2)
        *_, late = start(slots, *["default"] * 3)
        assert not late.free
        late.end()
        assert not slots.any_free()

    def test_one_that_began_later_knows_of_the_others(self, start):
        slots = slots_for(2)
        with slots.taken("default") as free:
            assert free
            assert took(start(slots, "default", "default")) == [True, False]
            assert not in_child(slots.any_free)

    def test_asking_leaves_them_free(self, start):
        slots = slots_for(2)
        assert [slots.any_free() for _ in range(10)] == [True] * 10
        assert took(start(slots, "default", "default")) == [True, True]

    def test_two_workers_do_not_share(self, start):
        one, other = slots_for(1), slots_for(1)
        assert took(start(one, "default")) == took(start(other, "default")) == [True]


class TestThreads:
    def test_share_them_and_give_back_their_own_alone(self, start):
        slots = slots_for(3)

        def takes_two_of_three():
            with ExitStack() as held:
                taken = [held.enter_context(slots.taken("default")) for _ in range(3)]
            return taken == [True, True, False]

        other = Later(takes_two_of_three)
        with ExitStack() as held:
            assert held.enter_context(slots.taken("default"))
            with slots.taken("default") as second:
                assert second
            with slots.taken("default") as second, slots.taken("default") as third:
                assert second
                assert third
                with slots.taken("default") as fourth:
                    assert not fourth
                assert took(start(slots, "default")) == [False]
            assert other.result(), "the first is still held"
        assert slots.any_free()

    def test_never_more_at_once_than_there_are_slots(self):
        slots, lock = slots_for(3), threading.Lock()
        under_way, most, done = 0, 0, 0

        def deliver():
            nonlocal under_way, most, done
            while done < 200:
                with slots.taken("default") as free:
                    if free:
                        with lock:
                            under_way += 1
                            most = max(most, under_way)
                        with lock:
                            under_way -= 1
                            done += 1

        threads = [threading.Thread(target=deliver) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert 1 <= most <= 3
        assert slots.any_free()

    def test_an_exception_gives_it_back(self):
        slots = slots_for(1)
        with pytest.raises(KeyError), slots.taken("default"):
            raise KeyError
        assert slots.any_free()


class TestSources:
    def test_none_of_several_takes_all(self, start):
        slots = slots_for(4, sources=("a", "b"))
        assert took(start(slots, *"aaaa")) == [True, True, True, False]
        assert slots.any_free()
        assert took(start(slots, *"bb")) == [True, False]

    def test_between_them_they_take_no_more_than_there_are(self, start):
        slots = slots_for(4, sources=("a", "b"))
        assert took(start(slots, *"abab")) == [True] * 4
        *_, late = start(slots, *"ab")
        assert not late.free
        assert not slots.any_free()

    def test_one_that_is_refused_for_the_others_leaves_its_own_place(self, start):
        slots = slots_for(2, sources=("a", "b"))
        one, *_ = start(slots, *"ab")
        assert took(start(slots, *"ab")) == [False, False]
        one.end()
        assert took(start(slots, "a")) == [True]

    def test_a_single_source_takes_all(self, start):
        assert took(start(slots_for(3, sources=("a",)), *"aaaa")) == [True] * 3 + [False]

    def test_a_single_slot_is_for_whichever_comes(self, start):
        slots = slots_for(1, sources=("a", "b"))
        (one,) = start(slots, "b")
        assert one.free
        assert took(start(slots, "a")) == [False]
        one.end()
        assert took(start(slots, "a")) == [True]


class TestSize:
    @pytest.mark.parametrize(
        ("processes", "share", "total"),
        [(1, 0.5, 1), (2, 0.5, 1), (3, 0.5, 1), (4, 0.5, 2), (8, 1.0, 8), (8, 0.01, 1), (1, 1, 1)],
    )
    def test_is_the_share_of_the_processes_and_one_at_least(self, processes, share, total):
        assert slots_for(processes, share).total == total

    def test_follows_the_pool_in_processes_that_began_before(self, start):
        slots = slots_for(1)
        other = Later(lambda: slots.total == 3 and slots.any_free())
        slots.resize(3)
        assert other.result()
        assert took(start(slots, *["default"] * 4)) == [True] * 3 + [False]

    def test_a_smaller_pool_lets_those_under_way_end(self, start):
        slots = slots_for(4)
        processes = start(slots, *["default"] * 4)
        slots.resize(2)
        for process in processes[2:]:
            process.end()
            assert not slots.any_free()
        processes[0].end()
        wait_until(slots.any_free)
        assert took(start(slots, "default", "default")) == [True, False]


class TestWaiting:
    """A source that got no slot is the next to be asked for."""

    @pytest.fixture
    def slots(self):
        return slots_for(1, sources=("a", "b", "c"))

    def test_nobody_does(self, slots, start):
        assert slots.next_waiting() is None
        assert took(start(slots, "a")) == [True]
        assert slots.next_waiting() is None

    def test_the_one_that_waits_for_the_longest_is_the_first_and_each_once(self, slots, start):
        assert took(start(slots, *"acbac")) == [True, False, False, False, False]
        # All of it happened in other processes.
        assert [slots.next_waiting() for _ in range(4)] == ["c", "b", "a", None]

    def test_one_that_got_a_slot_waits_no_longer(self, slots, start):
        (holder,) = start(slots, "a")
        assert took(start(slots, "b")) == [False]
        holder.end()
        assert took(start(slots, "b")) == [True]
        assert slots.next_waiting() is None


class TestNotes:
    """What the processes of a worker note for each other, by source."""

    @pytest.fixture
    def slots(self):
        return slots_for(1, sources=("a", "b"))

    def test_a_source_that_is_left_to_other_workers(self, slots):
        assert not slots.rests("a")
        slots.rest("a", 60)
        assert slots.rests("a")
        assert in_child(lambda: slots.rests("a") and not slots.rests("b"))
        slots.rest("a", 0)
        assert not slots.rests("a")

    def test_when_a_key_was_accepted_and_refused(self, slots):
        times, others = slots.key_times("a"), slots.key_times("b")
        assert (times.accepted, times.refused) == (0, 0)
        times.accepted, times.refused = 2.5, 3.5
        for batch in (7, 8, 15):
            times.set_refused_with(batch, batch + 0.5)
        slots.rest("a", 60)
        assert in_child(lambda: (times.accepted, times.refused) == (2.5, 3.5))
        found = {batch: times.refused_with(batch) for batch in (0, 7, 8, 15, 16, 23)}
        assert in_child(lambda: times.refused_with(7) == 7.5)
        assert found == {0: 0, 7: 7.5, 8: 8.5, 15: 15.5, 16: 0, 23: 0}
        assert (others.accepted, others.refused, slots.rests("b")) == (0, 0, False)
        assert [others.refused_with(batch) for batch in found] == [0] * len(found)
        assert slots.total == 1
