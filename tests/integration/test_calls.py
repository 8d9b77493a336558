"""The six calls as Celery tasks: each way of calling stores one message."""

from __future__ import annotations

import base64
import datetime as dt
import gc
import json
import os
import threading
import time
from contextvars import copy_context

import celery
import freezegun
import pytest
import time_machine
from celery.result import GroupResult

from celery_segment import (
    Analytics,
    BufferUnavailable,
    ConfigurationError,
    MessageTooLarge,
    ValidationError,
    alias,
    group,
    identify,
    page,
    screen,
    track,
)
from celery_segment.testing import EmbeddedRedis, Reply
from support import TLSFront, buffer_of, free_port, stored, wait_until

TAG = "{segment:default}"


def queued(redis):
    """Return the task messages that wait in the broker."""
    return [json.loads(m) for m in redis.lrange("celery", 0, -1)]


@pytest.fixture
def quiet(make_app):
    """An application whose first call was made: the next one wakes nobody."""
    app = make_app()
    buffer_of(app).admin.mark()
    Analytics().track(user_id="u", event="first")
    buffer_of(app)._server.execute("DEL", f"{TAG}:open", "celery")
    return app


SIX = [
    (identify, {"user_id": "u", "traits": {"a": 1}}, {"userId": "u", "traits": {"a": 1}}),
    (track, {"user_id": "u", "event": "E"}, {"userId": "u", "event": "E"}),
    (page, {"anonymous_id": "a", "name": "N"}, {"anonymousId": "a", "name": "N"}),
    (screen, {"user_id": "u", "category": "C"}, {"userId": "u", "category": "C"}),
    (group, {"user_id": "u", "group_id": 56}, {"userId": "u", "groupId": "56"}),
    (alias, {"previous_id": "p", "user_id": "u"}, {"previousId": "p", "userId": "u"}),
]


@pytest.mark.usefixtures("quiet")
class TestEveryWayOfCalling:
    @pytest.mark.parametrize(("call", "arguments", "fields"), SIX)
    def test_delay(self, redis, call, arguments, fields):
        result = call.delay(**arguments)
        (message,) = stored(redis)
        assert fields.items() <= message.items()
        assert message["type"] == call.name.removeprefix("segment.")
        assert message["messageId"] == result.id
        assert queued(redis) == []

    def test_delay_takes_segments_order_of_arguments(self, redis):
        track.delay(
            "u", "E", {"p": 1}, {"ip": "1.2.3.4"}, "2026-01-01T00:00:00Z", "a", {"All": True}
        )
        (message,) = stored(redis)
        assert message["context"].pop("library")["name"] == "celery-segment"
        del message["messageId"]
        assert message == {
            "type": "track",
            "userId": "u",
            "event": "E",
            "properties": {"p": 1},
            "context": {"ip": "1.2.3.4"},
            "timestamp": "2026-01-01T00:00:00.000Z",
            "anonymousId": "a",
            "integrations": {"All": True},
        }

    def test_a_direct_call_returns_the_message_id(self, redis):
        assert track("u", "E") == stored(redis)[0]["messageId"]

    def test_apply_async(self, redis):
        result = track.apply_async(("u", "E"), {"properties": {"a": 1}}, priority=3, time_limit=9)
        assert stored(redis)[0]["messageId"] == result.id
        assert queued(redis) == []

    def test_a_task_id_becomes_the_message_id(self, redis):
        assert track.apply_async(("u", "E"), task_id="mine").id == "mine"
        assert stored(redis)[0]["messageId"] == "mine"

    def test_a_message_id_that_is_given_stays_however_it_is_given(self, redis):
        eight = ("u", "E", None, None, None, None, None, "mine")
        assert track.apply_async(eight, task_id="task").get() == "mine"
        track.apply_async(("u", "E"), {"message_id": None}, task_id="task2")
        celery.group(track.s(*eight)).delay()
        assert [m["messageId"] for m in stored(redis)] == ["mine", "task2", "mine"]

    def test_signatures(self, redis):
        track.s("u", event="E").delay(properties={"a": 1})
        track.si(user_id="u", event="F").apply_async()
        track.s("u", event="G")()
        assert [m["event"] for m in stored(redis)] == ["E", "F", "G"]
        assert stored(redis)[0]["properties"] == {"a": 1}

    def test_a_group(self, redis):
        result = celery.group(track.s("u", f"E{n}") for n in range(3)).delay()
        assert isinstance(result, GroupResult)
        assert result.get(timeout=5) == [None] * 3
        assert [m["messageId"] for m in stored(redis)] == [r.id for r in result.results]
        assert queued(redis) == []

    def test_a_result_is_the_message_id_at_once(self):
        result = track.delay("u", "E")
        assert result.get(timeout=5) == result.id
        assert (result.ready(), result.successful(), result.state) == (True, True, "SUCCESS")
        called = []
        result.then(called.append)
        assert called == [result]

    def test_batch_sends_all_in_one_round_trip(self, redis):
        analytics = Analytics()
        before = redis.info("commandstats")["cmdstat_evalsha"]["calls"]
        with analytics.batch():
            analytics.track.delay("u", "A")
            track.delay("u", "B")
            with analytics.batch():
                analytics.identify("u")
            assert stored(redis) == []
        assert [m.get("event") for m in stored(redis)] == ["A", "B", None]
        assert redis.info("commandstats")["cmdstat_evalsha"]["calls"] == before + 1

    def test_batch_keeps_the_calls_made_before_an_error(self, redis):
        with pytest.raises(ZeroDivisionError), Analytics().batch():
            track.delay("u", "A")
            raise ZeroDivisionError
        assert [m["event"] for m in stored(redis)] == ["A"]

    def test_a_thread_that_outlives_the_batch_is_part_of_it_until_then(self, redis):
        context = None
        with Analytics().batch():
            context = copy_context()
            context.run(track.delay, "u", "within")
            assert stored(redis) == []
        context.run(track.delay, "u", "after")
        assert [m["event"] for m in stored(redis)] == ["within", "after"]

    def test_batch_of_another_thread_is_its_own(self, redis):
        with Analytics().batch():
            thread = threading.Thread(target=track.delay, args=("u", "A"))
            thread.start()
            thread.join()
            assert [m["event"] for m in stored(redis)] == ["A"]


@pytest.mark.usefixtures("quiet")
class TestThroughTheBroker:
    def test_a_countdown_keeps_the_id_and_the_time_of_the_call(self, redis):
        result = track.apply_async(("u", "E"), countdown=60)
        (task,) = queued(redis)
        assert stored(redis) == []
        assert task["headers"]["id"] == result.id
        _, kwargs, _ = json.loads(base64.b64decode(task["body"]))
        assert kwargs["message_id"] == result.id
        assert kwargs["timestamp"].endswith("Z")
        assert kwargs["event"] == "E"

    @pytest.mark.parametrize("option", [{"queue": "celery"}, {"expires": 60}, {"eta": None}])
    def test_options_that_need_a_broker_get_one(self, redis, option):
        track.apply_async(("u", "E"), **option)
        through = bool(next(iter(option.values())))
        assert (len(queued(redis)), len(stored(redis))) == ((1, 0) if through else (0, 1))

    def test_bad_input_is_refused_here_all_the_same(self, redis):
        with pytest.raises(ValidationError):
            track.apply_async(("u",), countdown=60)
        assert queued(redis) == []

    def test_a_chain_and_a_chord_run_on_workers(self, make_app, redis_server, server, workers):
        app = make_app(result_backend=redis_server.url, segment_flush_interval=0.5)
        workers.start(app)
        (track.s("u", "chained") | identify.si("u", {"a": 1})).delay()
        header = [track.s("u", f"header{n}") for n in range(3)]
        celery.chord(header)(track.si("u", "body"))
        assert server.wait_for_messages(6, timeout=15)
        events = [m.get("event") for m in server.messages]
        assert sorted(filter(None, events)) == ["body", "chained", "header0", "header1", "header2"]

    def test_another_service_sends_by_name(self, make_app, server, workers):
        app = make_app(segment_flush_interval=0.5)
        workers.start(app)
        other = celery.Celery("other", broker=app.conf.broker_url, set_as_current=False)
        sent = other.send_task("segment.track", kwargs={"user_id": "u", "event": "E"})
        other.send_task("segment.identify", args=["u", {"plan": "free"}])
        assert server.wait_for_messages(2, timeout=15)
        assert {m["type"] for m in server.messages} == {"track", "identify"}
        assert sent.id in server.received
        other.close()


@pytest.mark.usefixtures("quiet")
class TestRefusals:
    @pytest.mark.parametrize(
        ("arguments", "error", "field"),
        [
            ({"event": "E"}, ValidationError, "user_id"),
            ({"user_id": "u"}, ValidationError, "event"),
            (
                {"user_id": "u", "event": "E", "properties": {"a": object()}},
                ValidationError,
                "properties.a",
            ),
            ({"user_id": "u", "event": "E" * 33_000}, MessageTooLarge, "event"),
        ],
    )
    @pytest.mark.parametrize("way", ["delay", "__call__", "apply_async"])
    def test_nothing_is_stored(self, redis, way, arguments, error, field):
        with pytest.raises(error) as caught:
            track.apply_async((), arguments) if way == "apply_async" else getattr(track, way)(
                **arguments
            )
        assert caught.value.field == field
        assert stored(redis) == []
        assert queued(redis) == []

    def test_a_result_backend_is_never_asked(self, make_app, redis_server):
        with EmbeddedRedis(appendonly=False) as backend:
            app = make_app(result_backend=backend.url, segment_redis_url=redis_server.url)
            client = backend.client()
            before = client.info("stats")["total_commands_processed"]
            for _ in range(10):
                track.delay("u", "E").get()
                track.apply_async(("u", "E"), countdown=60).get()
            celery.group(track.s("u", "E") for _ in range(3)).delay().get()
            gc.collect()
            assert client.info("stats")["total_commands_processed"] == before + 1
            client.close()
            assert app.conf.result_backend == backend.url

    def test_an_unknown_argument_is_a_type_error(self):
        with pytest.raises(TypeError, match="evnt"):
            track.delay(user_id="u", evnt="E")

    def test_an_unknown_source_is_named_with_those_there_are(self):
        with pytest.raises(ConfigurationError, match=r"'nope'.*default"):
            track.delay(user_id="u", event="E", source="nope")

    def test_a_bound_call_has_its_source(self):
        with pytest.raises(TypeError, match="source"):
            Analytics().track.delay("u", "E", source="default")


class TestSources:
    def test_each_source_has_a_buffer_of_its_own(self, make_app, redis):
        make_app(segment_sources={"marketing": {"write_key": "k2"}})
        track.delay("u", "A")
        track.delay("u", "B", source="marketing")
        Analytics("marketing").track.delay("u", "C")
        assert [m["event"] for m in stored(redis)] == ["A"]
        assert [m["event"] for m in stored(redis, "marketing")] == ["B", "C"]

    def test_a_disabled_source_validates_and_stores_nothing(self, make_app, redis):
        make_app(segment_enabled=False)
        assert track.delay("u", "A").id
        with pytest.raises(ValidationError):
            track.delay("u")
        assert redis.keys("*") == []

    def test_disabled_needs_no_redis(self, make_app):
        make_app(segment_enabled=False, broker_url=f"redis://127.0.0.1:{free_port()}/0")
        assert track.delay("u", "A").id
        assert track.apply_async(("u", "A"), countdown=60).id
        with Analytics().batch():
            assert Analytics().track("u", "A")
        assert Analytics().flush() == 0

    def test_a_broker_that_is_not_redis_needs_a_redis_url(self, make_app):
        make_app(broker_url="memory://")
        with pytest.raises(ConfigurationError, match="segment_redis_url"):
            track.delay("u", "A")

    def test_a_broker_whose_transport_cannot_load_is_not_needed(
        self, make_app, redis_server, redis
    ):
        make_app(broker_url="nosuch://", segment_redis_url=redis_server.url)
        track.delay("u", "A")
        track("u", "B")
        track.apply_async(("u", "C"), priority=3)
        with Analytics().batch():
            track.delay("u", "D")
        assert [message["event"] for message in stored(redis)] == ["A", "B", "C", "D"]
        with pytest.raises(KeyError, match="nosuch"):
            track.apply_async(("u", "E"), countdown=60)
        assert len(stored(redis)) == 4


def test_a_generator_may_end_its_batch_in_another_context(make_app, redis):
    make_app()

    def calls():
        with Analytics().batch():
            track.delay("u", "E")
            yield

    generator = calls()
    copy_context().run(next, generator)
    copy_context().run(generator.close)
    assert [m["event"] for m in stored(redis)] == ["E"]


class TestEager:
    def test_a_call_is_delivered_before_it_returns(self, make_app, server):
        make_app(task_always_eager=True)
        result = track.delay("u", "E", {"a": 1})
        assert [m["event"] for m in server.messages] == ["E"]
        assert result.get() == server.messages[0]["messageId"]

    def test_each_call_is_whatever_the_thresholds(self, make_app, server):
        make_app(task_always_eager=True)
        for number in range(3):
            track.delay("u", f"E{number}")
            assert len(server.messages) == number + 1
        with Analytics().batch():
            identify.delay("u")
            page.apply_async(("u",))
        assert len(server.messages) == 5

    @pytest.mark.parametrize("propagates", [False, True])
    @pytest.mark.parametrize(
        ("reply", "conf", "cause"),
        [
            (Reply.status(500), {}, "500"),
            (Reply.status(401), {}, "waiting: 2 messages, as the source is closed"),
            (Reply.status(400), {}, "dead letter"),
            (Reply.close(), {}, "no answer"),
            (Reply.status(200), {"segment_write_key": None}, "no write key"),
        ],
    )
    def test_a_delivery_that_fails_is_logged_as_failed(
        self, make_app, server, caplog, propagates, reply, conf, cause
    ):
        caplog.set_level("INFO")
        make_app(task_always_eager=True, task_eager_propagates=propagates, **conf)
        server.always(reply)
        for _ in range(2):
            assert track.delay("u", "E").get()
        figures = Analytics().stats()
        assert figures.waiting + figures.dead.messages == 2
        texts = [r.getMessage() for r in caplog.records]
        assert any("not delivered" in t and cause in t for t in texts)
        assert not [t for t in texts if "segment.drain" in t and "succeeded" in t]


class TestFaults:
    def test_redis_down_is_a_clear_error_within_a_second(self, make_app):
        make_app(segment_redis_url=f"redis://127.0.0.1:{free_port()}/0")
        started = time.monotonic()
        with pytest.raises(BufferUnavailable, match="segment_redis_url"):
            track.delay("u", "E")
        assert time.monotonic() - started < 1

    def test_redis_hanging_is_a_clear_error_within_a_second(self, make_app):
        with EmbeddedRedis(appendonly=False) as own:
            make_app(segment_redis_url=own.url, broker_url=own.url)
            track.delay("u", "E")
            own.pause()
            try:
                for _ in range(2):  # on a known connection, then on a new one
                    started = time.monotonic()
                    with pytest.raises(BufferUnavailable, match="did not answer in time"):
                        track.delay("u", "E")
                    assert time.monotonic() - started < 1
            finally:
                own.resume()
            wait_until(self.is_accepted, timeout=5)  # it is asked again each second

    def is_accepted(self):
        try:
            return track.delay("u", "E").id
        except BufferUnavailable:
            return False

    def test_redis_restarted_is_no_event_for_the_caller(self, make_app):
        with EmbeddedRedis() as own:
            make_app(segment_redis_url=own.url, broker_url=own.url)
            for number in range(3):
                track.delay("u", f"E{number}")
                own.stop()
                own.restart()
            track.delay("u", "last")
            assert Analytics().stats().accepted == 4

    def test_connections_killed_are_no_event_for_the_caller(self, app, redis):
        track.delay("u", "E")
        for _ in range(3):
            for client in redis.client_list():
                if client["id"] != str(redis.client_id()):
                    redis.client_kill_filter(_id=client["id"])
            track.delay("u", "E")
        assert Analytics(app=app).stats().accepted == 4

    def test_the_broker_down_costs_no_call(self, make_app, redis_server, redis):
        make_app(
            broker_url=f"redis://127.0.0.1:{free_port()}/0", segment_redis_url=redis_server.url
        )
        started = time.monotonic()
        for number in range(50):
            track.delay("u", f"E{number}")
        assert time.monotonic() - started < 3
        assert len(stored(redis)) == 50

    def test_redis_behind_tls_with_a_password_and_a_user(self, make_app, tmp_path):
        with (
            EmbeddedRedis(password="s3cret", appendonly=False) as own,
            TLSFront(own.port, tmp_path) as front,
        ):
            client = own.client()
            client.acl_setuser(
                "app", enabled=True, passwords=["+pw"], keys=["*"], commands=["+@all"]
            )
            url = f"rediss://app:pw@localhost:{front.port}/0"
            make_app(segment_redis_url=f"{url}?ssl_ca_certs={front.bundle}")
            for _ in range(3):
                track.delay("u", "E")
            assert Analytics().stats().accepted == 3
            make_app(segment_redis_url=url)
            with pytest.raises(BufferUnavailable, match=r"(?i)certificate"):
                track.delay("u", "E")
            client.close()

    def test_an_acl_user_needs_the_sources_keys_alone(self, make_app):
        with EmbeddedRedis(appendonly=False) as own:
            client = own.client()
            client.acl_setuser(
                "app", enabled=True, passwords=["+pw"], keys=["{segment:*"], commands=["+@all"]
            )
            make_app(segment_redis_url=f"redis://app:pw@127.0.0.1:{own.port}/0")
            track.delay("u", "E")
            assert Analytics().stats().accepted == 1
            client.acl_setuser("app", enabled=True, reset_keys=True, keys=["other:*"])
            with pytest.raises(BufferUnavailable, match="ACL"):
                track.delay("u", "E")
            client.close()

    def test_a_replica_is_told_as_such(self, make_app):
        with EmbeddedRedis(appendonly=False) as own:
            make_app(segment_redis_url=own.url)
            client = own.client()
            client.replicaof("127.0.0.1", free_port())
            with pytest.raises(BufferUnavailable, match="read-only replica"):
                track.delay("u", "E")
            client.close()

    def test_a_wrong_password_is_told_without_showing_it(self, make_app):
        with EmbeddedRedis(password="right", appendonly=False) as own:
            make_app(segment_redis_url=f"redis://:wr0ng@127.0.0.1:{own.port}/0")
            with pytest.raises(BufferUnavailable) as caught:
                track.delay("u", "E")
            assert "wr0ng" not in str(caught.value)
            assert "refused the user" in str(caught.value)
            make_app(segment_redis_url=f"redis://127.0.0.1:{own.port}/0")
            with pytest.raises(BufferUnavailable, match="check the user, password"):
                track.delay("u", "E")

    def test_a_forked_child_has_connections_of_its_own(self, app, redis):
        track.delay("u", "parent")
        children = []
        for number in range(4):
            child = os.fork()
            if child == 0:
                try:
                    for _ in range(50):
                        track.delay("u", f"child{number}")
                    os._exit(0)
                except BaseException:  # noqa: BLE001 - a child ends here, whatever happens
                    os._exit(1)
            children.append(child)
            for _ in range(10):
                track.delay("u", "parent")
        assert [os.waitpid(child, 0)[1] for child in children] == [0] * 4
        assert Analytics(app=app).stats().accepted == 1 + 4 * 60
        events = [m["event"] for m in stored(redis)]
        assert len(events) == 1 + 4 * 60

    def test_threads_share_without_mixing(self, app):
        ids, lock = [], threading.Lock()

        def work():
            mine = [track.delay("u", "E").id for _ in range(100)]
            with lock:
                ids.extend(mine)

        threads = [threading.Thread(target=work) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert len(set(ids)) == 800
        assert Analytics(app=app).stats().accepted == 800


class TestTheBrokerIsLeftAlone:
    def test_by_calls_of_every_kind(self, make_app, redis_server):
        with EmbeddedRedis(appendonly=False) as broker:
            app = make_app(broker_url=broker.url, segment_redis_url=redis_server.url)
            client = broker.client()

            def contacts():
                stats = client.info("commandstats")
                ours = {"cmdstat_info", "cmdstat_ping", "cmdstat_llen"}
                commands = sum(s["calls"] for name, s in stats.items() if name not in ours)
                return commands, client.info("stats")["total_connections_received"]

            client.llen("celery")
            before = contacts()
            for _ in range(2):
                for number in range(500):
                    track.delay("u", f"E{number}")
                with Analytics().batch():
                    for number in range(3_000):
                        track.delay("u", f"E{number}")
                buffer_of(app).claim(1)
            assert contacts() == before
            assert client.llen("celery") == 0
            client.close()


@pytest.mark.parametrize("freeze", [freezegun.freeze_time, time_machine.travel])
def test_calls_are_stored_while_time_is_frozen(make_app, redis, freeze):
    make_app(segment_before_send=lambda message: message)
    with freeze("2020-01-01T12:00:00Z"):
        track.delay("u", "E", timestamp="2019-12-31T23:00:00-01:00")
        with Analytics().batch():
            track.delay("u", "E", {"on": dt.date(2020, 1, 1)})
    first, second = stored(redis)
    assert first["timestamp"] == "2020-01-01T00:00:00.000Z"
    assert second["timestamp"].startswith("2020-01-01T12:00:00.")
    assert second["properties"] == {"on": "2020-01-01"}
