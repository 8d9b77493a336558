"""A source with several shards is one source for those who call and operate it."""

from __future__ import annotations

import json
import os
import random
import threading
import time
from collections import Counter

import pytest

from celery_segment import Analytics, BufferFull, SegmentError, track
from celery_segment.buffer import Attachments, messages_of
from celery_segment.buffer.keys import prefix_of
from celery_segment.importing.run import Import
from celery_segment.operations.admin import admin_of
from celery_segment.operations.metrics import Collector
from celery_segment.operations.moving import rename
from celery_segment.producer import ByUser, Spill
from celery_segment.producer.spill import _turns
from celery_segment.runtime import runtime_of
from celery_segment.signals import batch_delivered
from celery_segment.testing import Reply
from commands import failed, ok, run
from support import wait_until

SHARDS = 4
BREAKER = (1_000, 1.0, 1.0)
#: The least part of segment_max_buffer_bytes that a shard may have.
LEAST = 100_000


def message(number, user="u"):
    about = {"type": "track", "messageId": f"m{number}", "event": "E", "userId": user}
    about |= {"timestamp": "2026-11-26T11:00:00Z", "properties": {"n": number}}
    return json.dumps(about).encode()


def shards_of(app, source="default"):
    return runtime_of(app).shards(source)


def accepted(app):
    return [shard.admin.snapshot().accepted for shard in shards_of(app)]


def fill(shard):
    """Have a shard be as full as it may be."""
    shard.append(message(0).ljust(LEAST - 2))
    with pytest.raises(BufferFull):
        shard.append(message(1))


def bury(shard, *numbers, reason=""):
    """Store messages in a shard as a batch that was given up."""
    shard.append_many([message(n) for n in numbers])
    (batch,) = shard.claim(1)
    shard.bury(shard.begin(batch.id, "t"), reason or f"400 of {numbers[0]}", answered=True)


@pytest.fixture
def app(make_app):
    return make_app(segment_shards=SHARDS)


def test_latencies_and_history_are_those_of_all_shards(app):
    shards = shards_of(app)
    for number, shard in enumerate(shards, 1):
        shard.append_many([message(n) for n in range(number)])
        (batch,) = shard.claim(1)
        shard.ack(shard.begin(batch.id, "t"), "200")
        shard.append(message(0))
        shard.admin.mark()
    total = SHARDS * (SHARDS + 1) // 2
    admin = admin_of(runtime_of(app), "default")
    assert admin.snapshot().latency.count == total
    history = admin.history(1)
    assert [each.start for each in history] == sorted({each.start for each in history})
    assert sum(each.accepted for each in history) == total + SHARDS
    assert sum(each.latency.count for each in history) == total
    assert sum(each.attempts.get("200", 0) for each in history) == SHARDS


class TestCalls:
    def test_they_go_to_each_shard_in_turn(self, app):
        for _ in range(2 * SHARDS):
            track.delay("u", "E")
        assert accepted(app) == [2] * SHARDS
        assert Analytics(app=app).stats().accepted == 2 * SHARDS

    def test_those_of_a_block_are_stored_in_one_round_trip(self, app):
        with Analytics(app=app).batch():
            for _ in range(10):
                track.delay("u", "E")
        assert sorted(accepted(app)) == [0] * (SHARDS - 1) + [10]

    def test_what_a_source_without_shards_held_is_still_there(self, make_app):
        make_app()
        track.delay("u", "E")
        app = make_app(segment_shards=SHARDS)
        assert accepted(app) == [1, 0, 0, 0]

    def test_a_full_shard_is_passed_over(self, make_app):
        app = make_app(segment_shards=SHARDS, segment_max_buffer_bytes=SHARDS * LEAST)
        for full in shards_of(app)[1:]:
            fill(full)
        for _ in range(SHARDS):
            track.delay("u", "E")
        with Analytics(app=app).batch():
            for _ in range(3):
                track.delay("u", "E")
        assert accepted(app) == [SHARDS + 3, 1, 1, 1]

    def test_where_all_are_full_the_call_is_refused(self, make_app):
        app = make_app(segment_shards=2, segment_max_buffer_bytes=200_000)
        with pytest.raises(BufferFull, match="segment_max_buffer_bytes"):
            while True:
                track.delay("u", "E", {"text": "x" * 10_000})
        sizes = [shard.admin.snapshot().buffered.bytes for shard in shards_of(app)]
        assert min(sizes) > 85_000

    def test_of_many_messages_the_rest_goes_to_the_next_shard(self, make_app):
        app = make_app(segment_shards=2, segment_max_buffer_bytes=2_000_000)
        messages = [message(n) + b" " * 1_000 for n in range(2_400)]
        with pytest.raises(BufferFull) as caught:
            runtime_of(app).producer("default").store_many(messages)
        assert sum(accepted(app)) == caught.value.stored > 1_000
        assert min(accepted(app)) > 500


class TestDelivery:
    def test_a_worker_delivers_all_shards(self, app, server, workers):
        workers.start(app, processes=2)
        sent = {track.delay(f"u{n}", "E").id for n in range(40)}
        assert Analytics(app=app).flush(20) == 0
        assert {*server.received} == sent
        figures = Analytics(app=app).stats()
        assert (figures.delivered.messages, figures.waiting) == (40, 0)
        assert all(shard.admin.snapshot().delivered.messages for shard in shards_of(app))

    def test_in_this_process(self, app, server):
        sent = {track.delay("u", "E").id for _ in range(9)}
        assert ok(app, "deliver") == "default: nothing remains\n"
        assert {*server.received} == sent
        assert json.loads(ok(app, "deliver", "--json")) == {"default": {"remaining": 0}}

    def test_what_remains_is_told_as_one_sum(self, app):
        for _ in range(9):
            track.delay("u", "E")
        assert Analytics(app=app).pause()
        assert not Analytics(app=app).pause()
        result = run(app, "deliver")
        assert result.exit_code == 1
        assert result.stdout.startswith("default: 9 messages remain: the source is paused")
        Analytics(app=app).resume()
        assert ok(app, "deliver") == "default: nothing remains\n"

    def test_no_two_batches_have_the_same_name(self, app, server):
        names = []

        def note(batch, **_):
            names.append(batch)

        batch_delivered.connect(note)
        for _ in range(2 * SHARDS):
            track.delay("u", "E")
        ok(app, "deliver")
        assert sorted(names) == ["1", "1/1", "2/1", "3/1"]
        assert len(server.received) == 2 * SHARDS

    def test_callbacks_run_of_every_shard(self, make_app):
        seen = []
        app = make_app(
            segment_shards=2,
            segment_on_delivered=lambda batch: seen.append((batch.source, batch.batch)),
        )
        for _ in range(2):
            track.delay("u", "E")
        ok(app, "deliver")
        assert sorted(seen) == [("default", "1"), ("default", "1/1")]


class TestOperations:
    def test_figures_are_sums(self, app):
        first, second, *_ = shards_of(app)
        first.append(message(1))
        second.append_many([message(2), message(3)])
        second.count_dropped("full", 4)
        bury(first, 7, 8)
        found = json.loads(ok(app, "status", "--json"))
        assert [*found] == ["default"]
        assert found["default"]["accepted"] == 5
        assert found["default"]["dead"]["messages"] == 3
        assert found["default"]["dead"]["batches"] == 1
        assert found["default"]["dropped"]["full"] == 4
        samples = [sample for family in Collector(app).collect() for sample in family.samples]
        (count,) = [each for each in samples if each.name == "segment_messages_accepted_total"]
        assert (count.labels, count.value) == ({"source": "default"}, 5)

    def test_each_shard_may_be_shown_by_itself(self, app):
        shards_of(app)[2].append(message(1))
        found = json.loads(ok(app, "status", "--shards", "--json"))
        assert {name: each["accepted"] for name, each in found.items()} == {
            "default": 0, "default/1": 0, "default/2": 1, "default/3": 0
        }  # fmt: skip

    def test_the_worst_gate_is_shown(self, app):
        shards_of(app)[2].admin.pause()
        assert Analytics(app=app).stats().gate.state == "paused"

    def test_dead_letters_are_those_of_all_shards(self, app):
        for number, shard in enumerate(shards_of(app)):
            bury(shard, 10 * number)
            bury(shard, 10 * number + 1)
        letters = Analytics(app=app).dead_letters
        found = list(letters)
        assert {letter.id for letter in found} == {
            "1", "2", *(f"{shard}/{n}" for shard in (1, 2, 3) for n in (1, 2))
        }  # fmt: skip
        assert [letter.buried for letter in found] == sorted(letter.buried for letter in found)
        (one,) = letters.messages("3/2")
        assert one["messageId"] == "m31"
        assert "2/1" in letters
        assert "7/1" not in letters
        assert letters.messages("7/1") == []
        assert letters.replay(["3/2", "1", "9/9", "nonsense"]) == 2
        assert letters.purge(reason="400 of 20") == 1
        assert len(list(letters)) == 5
        assert letters.purge() == 5
        assert list(letters) == []

    @pytest.mark.parametrize("limit", [1, 2, 3, 100])
    def test_pages_of_them_have_each_once(self, app, redis, limit):
        shards = shards_of(app)
        chance = random.Random(limit)
        for number in range(20):
            shard = chance.choice(shards)
            bury(shard, number)
        for shard in shards:  # many at the same moments
            for batch in redis.zrange(f"{prefix_of(shard.source)}:dead", 0, -1):
                at = chance.randrange(1_000_000, 1_000_003)
                redis.zadd(f"{prefix_of(shard.source)}:dead", {batch: at})
        admin, found = admin_of(runtime_of(app), "default"), []
        while page := admin.dead_letters(found[-1] if found else None, limit=limit):
            found += page
        assert len(found) == len({letter.id for letter in found}) == 20
        assert [letter.buried for letter in found] == sorted(letter.buried for letter in found)
        newest: list = []
        while page := admin.dead_letters(
            newest[-1] if newest else None, limit=limit, newest_first=True
        ):
            newest += page
        assert newest == found[::-1]

    def test_groups_of_them_are_those_of_all_shards(self, app):
        for number, shard in enumerate(shards_of(app)):
            bury(shard, number, reason="400 of all")
        admin = admin_of(runtime_of(app), "default")
        (group,) = admin.dead_groups()
        assert (group.reason, group.messages, group.letters) == ("400 of all", 4, 4)
        letters = admin.dead_letters(group=group.id)
        assert len(letters) == 4
        assert (group.oldest, group.youngest) == (letters[0].buried, letters[-1].buried)

    def test_a_person_is_forgotten_in_all_shards(self, app):
        for shard in shards_of(app):
            shard.append_many([message(1, "them"), message(2, "others")])
        found = Analytics(app=app).forget(user_id="them", dry_run=True)
        assert (found.deleted, found.is_complete) == (SHARDS, True)
        assert Analytics(app=app).forget(user_id="them").deleted == SHARDS
        assert Analytics(app=app).stats().waiting == SHARDS

    def test_an_import_fills_all_shards(self, app, tmp_path):
        path = tmp_path / "many.ndjson"
        path.write_bytes(b"".join(message(n) + b"\n" for n in range(9_000)))
        Import(app, [str(path)]).run()
        assert sum(accepted(app)) == 9_000
        assert min(accepted(app)) > 1_000

    def test_a_check_names_a_worker_with_other_shards(self, app, workers):
        workers.start_answering(app, segment_shards=2)
        result = run(app, "check")
        (line,) = [each for each in result.output.splitlines() if "shards" in each]
        assert "w1@test has 2 shards; this process 4 shards" in line
        assert result.exit_code == 1


class TestFewerShards:
    def test_what_the_last_ones_hold_is_told_and_moved(self, app, make_app):
        for number, shard in enumerate(shards_of(app)):
            shard.append(message(number))
            bury(shard, 10 + number)
        fewer = make_app(segment_shards=2)
        assert Analytics(app=fewer).stats().accepted == 4
        found = json.loads(ok(fewer, "status", "--json"))
        assert {*found} == {"default", "default/2", "default/3"}
        told = run(fewer, "check", "--no-endpoint").output
        assert "if default has fewer segment_shards now" in told
        assert "`celery segment rename default/3 default`" in told.replace("\n", " ")
        for name in ("default/2", "default/3"):
            assert "moved 2 messages" in ok(fewer, "rename", name, "default", "--yes")
        assert Analytics(app=fewer).stats().accepted == 8
        assert accepted(fewer) == [4, 4]

    def test_a_shard_of_its_own_is_not_moved(self, app):
        assert "is a shard of 'default'" in failed(app, "rename", "default/3", "default", "--yes")

    def test_a_renamed_source_takes_its_shards_along(self, make_app, redis):
        sources = {"segment_sources": {"old": {}, "new": {}}}
        before = make_app(**sources, segment_shards=SHARDS)
        for number, shard in enumerate(shards_of(before, "old")):
            shard.append(message(number))
        app = make_app(segment_sources={"new": {"shards": 3}})
        move = rename(app, "old", "new")
        assert move.run(5) == 0
        assert move.moved == SHARDS
        assert [each.admin.snapshot().accepted for each in shards_of(app, "new")] == [2, 1, 1]
        assert not list(redis.scan_iter("{segment:old*"))

    def test_what_their_shards_spilled_is_moved_too(self, make_app, tmp_path):
        path = str(tmp_path / "spill.db")
        Spill(path, 1_000_000, 1.0).put("default/3", [message(1)], {0: Attachments()})
        app = make_app(segment_spill_path=path, segment_on_unavailable="spill", segment_shards=2)
        assert "default/3" in run(app, "check", "--no-endpoint").output
        assert "moved 1 message" in ok(app, "rename", "default/3", "default", "--yes")
        assert Analytics(app=app).stats().accepted == 1


class TestOrdered:
    @pytest.fixture
    def app(self, make_app):
        return make_app(segment_shards=SHARDS, segment_ordered=True)

    def test_each_users_messages_are_in_one_shard(self, app, redis):
        users = [f"user-{n}" for n in range(60)]
        for user in users * 3:
            track.delay(user, "E")
        with Analytics(app=app).batch():
            for user in users:
                track.delay(user, "E")
                track.delay(anonymous_id=user, event="E")
        homes = {}
        for number, shard in enumerate(shards_of(app)):
            for data in _stored(redis, shard):
                user = data.get("userId") or data["anonymousId"]
                assert homes.setdefault(user, number) == number
        assert len(homes) == 60
        assert sorted(Counter(homes.values())) == [0, 1, 2, 3]
        assert sum(accepted(app)) == 5 * 60

    def test_one_batch_of_a_shard_is_under_way_and_none_overtakes_it(self, app):
        shard = shards_of(app)[0]
        for number in range(3):
            shard.append(message(number))
            shard.admin.mark()
        (batch,) = shard.claim(10)
        assert shard.claim(10) == []
        assert not shard.due(0.0)
        lease = shard.begin(batch.id, "t")
        shard.retry(lease, "own", 60.0, "503", "503", breaker=BREAKER)
        assert shard.claim(10) == shard.claim_next(10) == []
        assert not shard.due(0.0)
        shard.admin.resume()
        assert [each.id for each in shard.claim(10)] == ["1"]

    def test_while_the_endpoint_fails_the_oldest_is_still_the_first(self, app):
        shard = shards_of(app)[0]
        for number in range(3):
            shard.append(message(number))
            shard.admin.mark()
        for _ in range(3):
            (batch,) = shard.claim(10)
            assert batch.id == "1"
            lease = shard.begin(batch.id, f"t{_}")
            shard.retry(lease, "failure", 0.0, "503", "503", breaker=(1, 0.001, 0.001))
            wait_until(lambda: shard.admin.snapshot().gate.state != "closed")
            assert shard.begin(batch.id, "again").id == "1"
            assert shard.release(batch.id, "again")

    def test_an_import_keeps_the_order(self, app, redis, tmp_path):
        path = tmp_path / "many.ndjson"
        path.write_bytes(b"".join(message(n, f"u{n % 7}") + b"\n" for n in range(2_000)))
        Import(app, [str(path)]).run()
        assert sum(accepted(app)) == 2_000
        for shard in shards_of(app):
            numbers = [each["properties"]["n"] for each in _stored(redis, shard)]
            assert numbers == sorted(numbers)

    def test_the_halves_of_a_batch_keep_their_order(self, app, server):
        users = ("a", "b", "c")
        for number in range(30):
            track.delay(users[number % 3], "E", {"n": number + 1})
        server.reply(Reply.status(400), times=5)
        ok(app, "deliver")
        _assert_ordered(server)

    def test_workers_keep_the_order_though_the_endpoint_fails(self, app, server, workers):
        server.reply(Reply.status(503), times=6)
        for _ in range(2):
            workers.start(app, processes=2)
        done = threading.Event()
        counts = Counter()

        def call(own):
            while not done.wait(0.002):
                counts[own] += 1
                track.delay(own, "E", {"n": counts[own]})

        threads = [
            threading.Thread(target=call, args=(f"user-{n}",), daemon=True) for n in range(6)
        ]
        for thread in threads:
            thread.start()
        wait_until(lambda: len(server.requests) > 40)
        done.set()
        for thread in threads:
            thread.join()
        wait_until(lambda: len(server.received) == sum(counts.values()))
        _assert_ordered(server)

    def test_what_follows_a_spilled_message_is_spilled_too(self, make_app, tmp_path, redis):
        app = make_app(
            segment_shards=2,
            segment_ordered=True,
            segment_on_unavailable="spill",
            segment_spill_path=str(tmp_path / "spill.db"),
        )
        spill = runtime_of(app).spill
        home = next(s for s in shards_of(app) if _home(app, "u") == s.source.shard)
        name = home.source.shard_name
        spill.put(name, [message(1)], {0: Attachments()})
        with _turns.setdefault((spill.path, os.getpid()), threading.Lock()):
            # Another thread gives back, and has not come to it yet.
            track.delay("u", "Second")
        assert spill.waiting(name) == 2
        assert home.admin.snapshot().accepted == 0
        sent = ["E", "Second"]
        while spill.waiting(name):
            sent.append(f"Event {len(sent)}")
            track.delay("u", sent[-1])
            time.sleep(0.1)
        assert [each["event"] for each in _stored(redis, home)] == sent

    def test_an_error_of_one_shard_is_told_with_what_the_others_store(self, make_app):
        limits = {"segment_max_buffer_bytes": SHARDS * LEAST}
        app = make_app(segment_shards=SHARDS, segment_ordered=True, **limits)
        home = shards_of(app)[_home(app, "a")]
        fill(home)
        users = ["a", *(f"user-{n}" for n in range(20))]
        refused = sum(_home(app, user) == home.source.shard for user in users)
        messages = [message(n, user) for n, user in enumerate(users)]
        with pytest.raises(SegmentError) as caught:
            runtime_of(app).producer("default").store_many(messages)
        assert caught.value.stored == len(users) - refused == sum(accepted(app)) - 1


def _stored(redis, shard):
    content = redis.get(f"{prefix_of(shard.source)}:open")
    return [json.loads(bytes(each)) for each in messages_of(content)] if content else []


def _home(app, user):
    ((shard, _),) = ByUser(shards_of(app)).split([message(1, user)])
    return shard.source.shard


def _assert_ordered(server):
    last = Counter()
    for request in server.requests:
        for each in request.messages if request.accepted else ():
            number, user = each["properties"]["n"], each["userId"]
            assert number > last[user], f"{user}: {number} after {last[user]}"
            last[user] = number
    assert last
