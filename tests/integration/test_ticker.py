"""A worker asks in one short round trip which of its sources are due."""

from __future__ import annotations

import logging
import select
import socket
import threading
import time

import pytest

from celery_segment.buffer import bounds, connect
from celery_segment.errors import BufferFull
from celery_segment.runtime import runtime_of
from celery_segment.testing import EmbeddedRedis
from celery_segment.worker.ticker import LONGEST, REST, Ticker
from support import buffer_of, let_pass, wait_until

PERIOD = 0.25
NAMES = ("a", "b", "c")


@pytest.fixture
def make_ticker(make_app, redis_server):
    """Make tickers, as those of several workers of an application with some sources."""
    pools = []

    def make(names=NAMES, period=PERIOD, longest=5.0, url=redis_server.url):
        sources = {name: {"write_key": "k"} for name in names}
        make.app = make_app(segment_sources=sources, segment_redis_url=url)
        pools.append(connect(url, longest, rest=REST))
        enabled = [s for s in runtime_of(make.app).settings.enabled if s.name in names]
        return Ticker(enabled, pools[-1], period, longest)

    yield make
    for pool in pools:
        pool.close()


@pytest.fixture
def ticker(make_ticker):
    return make_ticker()


@pytest.fixture
def store(make_ticker):
    """Store a message in each of some sources."""

    def store(*names):
        for name in names:
            buffer_of(make_ticker.app, name).append(b'{"messageId":"m"}')

    return store


@pytest.fixture
def warnings(caplog):
    """The warnings that were logged."""
    caplog.set_level(logging.WARNING, logger="celery_segment")
    return lambda: [record.getMessage() for record in caplog.records]


class Relay:
    """A server between one client and Redis, which counts how often the client asks."""

    def __init__(self, port):
        self.asked = 0
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"redis://127.0.0.1:{self._listener.getsockname()[1]}/0"
        self._upstream = socket.create_connection(("127.0.0.1", port))
        self._thread = threading.Thread(target=self._serve)

    def __enter__(self):
        self._thread.start()
        return self

    def __exit__(self, *_):
        self._upstream.shutdown(socket.SHUT_RDWR)
        self._thread.join()
        self._upstream.close()
        self._listener.close()

    def _serve(self):
        client, _ = self._listener.accept()
        answered = True
        with client:
            while True:
                for ready in select.select([client, self._upstream], [], [])[0]:
                    data = ready.recv(1_000_000)
                    if not data:
                        return
                    # What is sent in pieces, without an answer in between, is one question.
                    self.asked += ready is client and answered
                    answered = ready is not client
                    (self._upstream if ready is client else client).sendall(data)


class TestRoundTrips:
    def test_fifty_sources_take_one(self, make_ticker, make_app, redis_server):
        names = [f"s{n}" for n in range(50)]
        with Relay(redis_server.port) as relay:
            ticker = make_ticker(names, url=relay.url)
            app = make_app(segment_sources={name: {"write_key": "k"} for name in names})
            buffers = [buffer_of(app, name) for name in names[::7]]
            assert ticker.tick() == []  # connects, and loads the script
            for buffer in buffers:
                buffer.append(b"{}")
            before = relay.asked
            assert ticker.tick() == names[::7]
            assert relay.asked == before + 1
            for _ in range(8):  # those that look at the memory among them
                ticker.tick()
            assert relay.asked == before + 9

    def test_one_of_four_is_enough_while_no_process_is_free(self, make_ticker, redis_server):
        with Relay(redis_server.port) as relay:
            ticker = make_ticker(url=relay.url)
            ticker.tick(free=False)
            before = relay.asked
            for _ in range(8):
                ticker.tick(free=False)
            assert relay.asked == before + 2


class TestDue:
    def test_the_sources_in_which_something_waits(self, ticker, store):
        assert ticker.tick() == []
        store("a", "c")
        assert ticker.tick() == ["a", "c"]
        store("b")
        assert ticker.tick() == ["b"]

    def test_those_of_a_worker_that_is_free_rather_than_of_one_that_is_not(
        self, ticker, store, redis, make_ticker
    ):
        assert ticker.tick(free=False) == []
        store("a")
        assert [ticker.tick(free=False) for _ in range(3)] == [[], [], []]
        assert ticker.tick() == ["a"], "this worker is free"
        buffer_of(make_ticker.app, "a").reap()
        let_pass(redis, 10, "a")
        found = [ticker.tick(free=False) for _ in range(4)]
        assert found == [[], [], [], ["a"]], "it may have to wait, but is not forgotten"

    def test_one_of_two_tickers_gets_each_drain(self, make_ticker, store, redis):
        tickers, found, rounds = [make_ticker(), make_ticker()], [], 20
        both = threading.Barrier(3)

        def run(ticker):
            for _ in range(rounds):
                both.wait()
                found.extend(ticker.tick())
                both.wait()

        threads = [threading.Thread(target=run, args=(ticker,)) for ticker in tickers]
        for thread in threads:
            thread.start()
        for number in range(rounds):
            for name in NAMES:
                buffer_of(make_ticker.app, name).reap()  # as the drain does when it begins
                let_pass(redis, PERIOD, name)
            store(*NAMES)
            both.wait()
            both.wait()
            assert sorted(found) == sorted(NAMES * (number + 1))
        for thread in threads:
            thread.join()

    def test_two_drains_are_most_of_a_period_apart(self, make_ticker, store, redis):
        ticker = make_ticker(period=1_000)
        store("a")
        assert ticker.tick() == ["a"]
        for passes, expected in ((790, []), (20, ["a"])):
            buffer_of(make_ticker.app, "a").reap()
            let_pass(redis, passes, "a")
            assert ticker.tick() == expected

    def test_a_drain_that_never_begins_is_asked_for_again(self, make_ticker, store, monkeypatch):
        assert bounds.AGAIN == 2.0
        monkeypatch.setattr(bounds, "AGAIN", 0.4)
        ticker = make_ticker(("a",), period=0.01)
        store("a")
        assert ticker.tick() == ["a"]
        times = [time.monotonic()]
        while len(times) < 3:
            wait_until(lambda: ticker.tick() == ["a"])
            times.append(time.monotonic())
        first, second = times[1] - times[0], times[2] - times[1]
        assert first >= 0.39
        assert second >= 0.79, "its message may wait in a long queue"


class TestMemory:
    @pytest.mark.parametrize("free", [True, False])
    def test_one_tick_of_four_looks_at_it(self, ticker, store, redis, free):
        store("a")
        ticker.tick(free=free)
        redis.setrange("of others", 20_000_000, b"x")
        redis.config_set("maxmemory", int(redis.info("memory")["used_memory"] / 0.9))
        for _ in range(3):
            ticker.tick(free=free)
            store("a")
        ticker.tick(free=free)
        with pytest.raises(BufferFull, match="segment_max_memory_share"):
            store("a")
        redis.config_set("maxmemory", 0)
        for _ in range(4):
            ticker.tick(free=free)
        store("a")


class TestErrors:
    def test_one_sources_leaves_the_others(self, ticker, store, redis, warnings):
        store("b", "c")
        redis.set("{segment:a}:ready", "x")
        assert ticker.tick() == ["b", "c"]
        store("b")
        for name in ("b", "c"):
            let_pass(redis, 2, name)
        assert ticker.tick() == ["b", "c"]
        (text,) = warnings()
        assert text.startswith("a: Redis at ")
        assert "WRONGTYPE" in text
        assert text.endswith("; trying again")
        redis.delete("{segment:a}:ready")
        store("a")
        assert ticker.tick() == ["a"]

    def test_an_error_that_comes_back_is_told_again(self, ticker, redis, warnings):
        for _ in range(2):
            redis.set("{segment:a}:ready", "x")
            ticker.tick()
            ticker.tick()
            redis.delete("{segment:a}:ready")
            ticker.tick()
        assert len(warnings()) == 2

    def test_flushed_scripts_are_loaded_again(self, ticker, store, redis, warnings):
        for name in NAMES:
            store(name)
            redis.script_flush()
            assert ticker.tick() == [name]
        assert warnings() == []

    def test_scripts_are_loaded_for_the_sources_beside_one_that_fails(self, ticker, store, redis):
        store("a", "b", "c")
        redis.set("{segment:b}:ready", "x")
        redis.script_flush()
        assert ticker.tick() == ["a", "c"]


class TestFrozenRedis:
    @pytest.fixture
    def frozen(self, make_ticker):
        """A ticker that has ticked, and its Redis, which stands still from then on."""
        with EmbeddedRedis(appendonly=False) as server:
            ticker = make_ticker(url=server.url)
            assert ticker.tick() == []
            server.pause()
            yield ticker, server
            server.resume()

    @pytest.fixture
    def pass_time(self, monkeypatch):
        """Let time pass for this process."""
        real, passed = time.monotonic, []
        monkeypatch.setattr(time, "monotonic", lambda: real() + sum(passed))
        return passed.append

    def seconds(self, ticker):
        """Return how long a tick takes in which nothing is due."""
        began = time.monotonic()
        assert ticker.tick() == []
        return time.monotonic() - began

    def test_costs_a_moment_and_then_a_rest(self, frozen, warnings):
        ticker, _ = frozen
        assert 0.05 < self.seconds(ticker) < 0.3
        assert ticker.is_cut_off
        assert sum(self.seconds(ticker) for _ in range(100)) < 0.1
        (text,) = warnings()
        assert "did not answer in time" in text

    def test_each_try_costs_a_small_part_of_the_rest_before_it(self, frozen, pass_time, warnings):
        ticker, _ = frozen
        took = [self.seconds(ticker)]
        for _ in range(3):
            pass_time(REST * 0.9)
            assert self.seconds(ticker) < 0.05
            pass_time(REST * 0.2)
            took.append(self.seconds(ticker))
        # The first finds a connection; the others would connect, and the kernel accepts them.
        assert 0.05 < took[0] < 0.3
        assert all(0.05 < each < LONGEST + 0.1 for each in took[1:])
        assert len(warnings()) == 1

    def test_the_next_freeze_costs_no_more_than_the_first(self, frozen, pass_time):
        ticker, server = frozen
        for _ in range(3):
            self.seconds(ticker)
            pass_time(REST)
        server.resume()
        wait_until(lambda: not (ticker.tick() or ticker.is_cut_off))
        server.pause()
        assert self.seconds(ticker) < 0.3

    def test_goes_on_when_it_does(self, frozen, store, warnings):
        ticker, server = frozen
        assert ticker.tick() == []
        server.resume()
        store("b")
        assert wait_until(ticker.tick) == ["b"]
        assert not ticker.is_cut_off
        assert len(warnings()) == 1

    def test_a_drain_of_which_it_did_not_hear_is_not_waited_for(self, make_ticker):
        with EmbeddedRedis(appendonly=False) as server:
            ticker = make_ticker(("a",), url=server.url)
            assert ticker.tick() == []
            buffer_of(make_ticker.app, "a").append(b'{"messageId":"m"}')
            server.pause()
            assert ticker.tick() == []
            server.resume()  # it carries out what it was asked
            began = time.monotonic()
            assert wait_until(ticker.tick) == ["a"]
            assert time.monotonic() - began < bounds.AGAIN / 2

    def test_a_timeout_of_the_user_that_is_shorter_is_kept(self, make_ticker):
        with EmbeddedRedis(appendonly=False) as server:
            ticker = make_ticker(url=server.url, longest=0.1)
            server.pause()
            assert self.seconds(ticker) < 0.2
            server.resume()

    def test_one_that_is_gone_costs_nothing(self, make_ticker, store):
        with EmbeddedRedis(appendonly=False) as server:
            ticker = make_ticker(url=server.url)
            assert ticker.tick() == []
            server.kill()
            assert self.seconds(ticker) < 0.2
            server.start()
            store("a")
            assert wait_until(ticker.tick) == ["a"]
