"""Users of Redis who have the rights of a role and no others, and users who lack one of them."""

from __future__ import annotations

import re
from contextlib import closing
from pathlib import Path

import pytest

from batches import BREAKER, assert_conserved, claim_one, hold, message
from celery_segment import Analytics, track
from celery_segment.buffer import STORES, Lease, RightsMissing, connect, register_sources
from celery_segment.buffer.pace import Pace
from celery_segment.buffer.rights import OPERATOR, PRODUCER, WORKER, refused
from celery_segment.buffer.scripts import script
from celery_segment.errors import BufferFull, BufferUnavailable, ValidationError
from celery_segment.producer import violations
from celery_segment.runtime import runtime_of
from celery_segment.testing import EmbeddedRedis, Reply
from checks import findings
from commands import ok
from operating import bury, store
from support import Worker, buffer_of, wait_until

PLAN = Path(__file__).parents[1] / "plans" / "shapes.json"
ROLES = {"web": PRODUCER, "worker": WORKER, "operator": OPERATOR}
#: What is given by its own name, and not tried by a script.
RUNNING = ("EVALSHA", "SCRIPT")


@pytest.fixture(scope="module")
def own():
    """A Redis with a user for each role."""
    with EmbeddedRedis(appendonly=False) as server, closing(server.client()) as client:
        for name, role in ROLES.items():
            allow(client, name, role.rules)
        yield server


@pytest.fixture
def redis(own):
    """A client of it, empty, that may do everything."""
    with closing(own.client()) as client:
        client.flushall()
        client.script_flush()
        yield client


@pytest.fixture
def app_as(own, make_app, redis):  # noqa: ARG001 - an empty Redis
    """Make an application that connects to the buffer as a user; its broker is elsewhere."""

    def make(name, **conf):
        return make_app(segment_redis_url=url_of(own, name), **conf)

    return make


def allow(client, user, rules):
    client.execute_command(
        "ACL", "SETUSER", user, "reset", "on", ">pw", "~{segment:*", *rules.split()
    )


def url_of(server, user):
    return server.url.replace("//", f"//{user}:pw@")


def keys_of(redis):
    """Return all that Redis holds."""
    return {key: redis.dump(key) for key in redis.keys("*")}


# ---------------------------------------------------------------- enough


def test_a_web_process_makes_calls_of_all_kinds(app_as, redis):
    app = app_as(
        "web",
        segment_on_full="drop",
        segment_max_buffer_bytes=600_000,
        segment_signing_key="k" * 32,
    )
    track.delay("u", "one")
    track.s("u", "with a callback").apply_async(link=track.si("u", "linked"))
    with Analytics(app=app).batch():
        for number in range(2_600):  # more than a batch
            track(user_id="u", event=f"E{number}")
    buffer = buffer_of(app)
    buffer._server.run(script("stored"), "{segment:default}", b"x,", 0, "")
    for _ in range(9):
        track.delay("u", "too much", {"x": "x" * 30_000})
    buffer.count_dropped("full", 7)
    operator = buffer_of(app_as("operator"))
    assert_conserved(redis, operator)
    figures = operator.admin.snapshot()
    assert 2_602 < figures.accepted < 2_611
    assert figures.dropped["full"] == 7


def test_a_web_process_does_nothing_else(app_as, redis):
    buffer = buffer_of(app_as("web"))
    buffer.append(message(1))
    before = keys_of(redis)
    for forbidden in (lambda: buffer.claim(1), buffer.reap, buffer.admin.pause, buffer.admin.mark):
        with pytest.raises(RightsMissing, match=r"may not run .*ZREM.*: allow what the docs list"):
            forbidden()
    with pytest.raises(BufferUnavailable, match="refused the user"):
        buffer.admin.last_buried()
    assert keys_of(redis) == before


def test_a_worker_makes_every_transition(app_as, redis):
    app = app_as("worker", segment_on_failed="hooks.failed")
    buffer = buffer_of(app)
    buffer.check_rights()
    register_sources(runtime_of(app).topology, "", ["default"])
    pace = Pace(runtime_of(app).topology, 1_000.0)
    assert pace.wait(1)
    pace.give_back()
    buffer.admin.claim_ownership("tests")
    assert buffer.admin.note_format(STORES) == STORES
    buffer.append_many([message(n) for n in range(4)])
    assert buffer.due(0.0)
    buffer.split(hold(buffer), "400")
    buffer.bury(hold(buffer), "400 Bad Request", answered=True)
    held = hold(buffer)
    buffer.retry(held, "failure", 0.0, "500", "500", breaker=BREAKER)
    again = buffer.begin(held.id, "t2")
    assert isinstance(again, Lease)
    buffer.traces(again)
    buffer.ack(again, "200", 0.1)
    buffer.append(message(5))
    buffer.release(claim_one(buffer))
    batch = claim_one(buffer)
    redis.delete(f"{{segment:default}}:meta:{batch}")
    repaired = hold(buffer, batch)
    assert repaired.count == 1
    settled = buffer.damage(repaired, "damaged")
    redis.zadd("{segment:default}:settled", {settled.name: 0})
    for each in buffer.uncalled():
        buffer.called(each)
    buffer.count_refused(1)
    buffer.reap()
    buffer.append(message(6))
    newest = buffer.admin.mark()
    assert buffer.compressible() == []
    assert buffer.compress(str(newest))
    assert buffer.admin.remaining(newest) == 1
    assert_conserved(redis, buffer_of(app_as("operator")))


def test_a_worker_process_delivers(app_as, own, server, workers, redis):
    server.reply(Reply.status(500))
    server.fail_messages(lambda one: one.get("event") == "bad")
    app = app_as("worker", segment_flush_interval=0.5)
    workers.start(app, segment_redis_url=url_of(own, "worker"), segment_flush_interval=0.5)
    store(app, "good", "bad", "good")
    figures = Analytics(app=app_as("operator"))
    wait_until(lambda: figures.stats().dead.messages == 1 and figures.stats().waiting == 0)
    assert len(server.received) == 2
    assert_conserved(redis, buffer_of(app))


@pytest.mark.usefixtures("redis")
def test_an_operator_runs_every_command(app_as, server, tmp_path):
    app = app_as("operator", segment_sources={"old": {"write_key": "k" * 20}})
    for event in ("replayed", "purged"):
        bury(app, event)
    store(app, "waiting")
    store(app, "moved", source="old")
    assert findings(app, "--no-endpoint")["rights"]["state"] == "ok"
    ok(app, "status")
    ok(app, "metrics", "--once")
    ok(app, "pause")
    ok(app, "resume")
    ok(app, "dead", "list")
    first, second = (letter.id for letter in Analytics(app=app).dead_letters)
    ok(app, "dead", "show", first)
    ok(app, "dead", "export", str(tmp_path / "dead.ndjson"))
    ok(app, "dead", "replay", first)
    ok(app, "dead", "purge", second)
    ok(app, "forget", "--user-id", "nobody", "--yes")
    ok(app, "rename", "old", "default", "--yes")
    ok(app, "move", "--from-namespace", "former", "--yes")
    ok(app, "deliver", "--timeout", "20")
    ok(app, "flush", "--timeout", "20")
    assert len(server.received) == 3


# ---------------------------------------------------------------- too few


@pytest.fixture
def taken(redis):
    """Take a command from a user; it is given back at the end, or by a call."""
    names = []

    def take(name, command):
        names.append(name)
        allow(redis, name, f"{ROLES[name].rules} -{command.lower()}")
        return lambda: allow(redis, name, ROLES[name].rules)

    yield take
    for name in names:
        allow(redis, name, ROLES[name].rules)


@pytest.mark.parametrize("command", [*RUNNING, *PRODUCER.commands])
def test_a_call_without_a_right_is_refused_as_a_whole(app_as, redis, taken, command):
    buffer = buffer_of(app_as("operator"))
    buffer.append_many([message(n) for n in range(3)])
    redis.script_flush()
    before = keys_of(redis)
    give_back = taken("web", command)
    app = app_as("web", segment_max_batch_messages=3)
    for _ in range(2):
        with pytest.raises(BufferUnavailable, match=f"refused the user.*{command[:6]}|this user"):
            track.delay("u", "E")
    assert keys_of(redis) == before
    give_back()
    track.delay("u", "E")
    with Analytics(app=app).batch():
        track(user_id="u", event="E")
    assert buffer.admin.snapshot().accepted == 5
    assert_conserved(redis, buffer)


@pytest.mark.parametrize("command", ["HEXISTS", "HLEN"])
def test_where_all_calls_violate_the_plan_it_is_logged_that_none_is_counted(
    app_as, taken, caplog, monkeypatch, command
):
    monkeypatch.setattr(violations, "PERIOD", 0.0)
    give_back = taken("web", command)
    app_as("web", segment_tracking_plan=str(PLAN), segment_on_violation="raise")
    violation = {"call number": "ann@example.com"}
    for _ in range(2):
        with pytest.raises(ValidationError):
            track.delay("u", "Own Handler", violation)
    (line,) = (r.getMessage() for r in caplog.records if r.name == "celery_segment")
    assert line.startswith("violations of the tracking plan are not counted: Redis at ")
    assert f"may not run {command}: allow what the docs list" in line
    give_back()
    with pytest.raises(ValidationError):
        track.delay("u", "Own Handler", violation)
    assert buffer_of(app_as("operator")).admin.snapshot().violations == {"pattern": 3}


@pytest.mark.parametrize("command", [*RUNNING, *WORKER.commands])
def test_a_worker_without_a_right_claims_and_changes_nothing(app_as, own, redis, taken, command):
    full = buffer_of(app_as("operator"))
    full.append_many([message(n) for n in range(4)])
    (claimed,) = full.claim(1)
    redis.script_flush()
    before = keys_of(redis)
    give_back = taken("worker", command)
    buffer = buffer_of(app_as("worker"))
    named = rf"may not run {command}: allow" if command not in RUNNING else "refused the user"
    for forbidden in (
        buffer.check_rights,
        lambda: buffer.claim(1),
        lambda: buffer.begin(claimed.id, "t1"),
        buffer.reap,
        lambda: buffer.due(0.0),
        lambda: buffer.release(claimed.id),
    ):
        with pytest.raises(BufferUnavailable, match=named):
            forbidden()
    assert keys_of(redis) == before
    with closing(connect(url_of(own, "worker"), 2.0)) as topology:
        if command not in RUNNING:
            assert refused(topology.server(""), "{segment:default}", WORKER) == [command]
    give_back()
    buffer.ack(hold(buffer, claimed.id), "200")
    figures = full.admin.snapshot()
    assert (figures.accepted, figures.delivered.messages, figures.waiting) == (4, 4, 0)
    assert_conserved(redis, full)


def test_a_worker_process_without_a_right_does_not_start(app_as, own, taken, tmp_path):
    taken("worker", "HSETNX")
    app = app_as("worker")
    conf = {**app.conf.changes, "segment_redis_url": url_of(own, "worker")}
    conf = {name: value for name, value in conf.items() if isinstance(value, str | bool | list)}
    worker = Worker(tmp_path, conf, "w", ("--pool", "solo"))
    assert worker.process.wait(30) != 0
    assert re.search(
        r"ConfigurationError: Redis at \S+ refused the user, who may not run HSETNX", worker.output
    )


def test_the_check_names_what_is_missing(app_as, redis, taken):
    taken("operator", "HINCRBY")
    found = findings(app_as("operator"), "--no-endpoint", status=1)["rights"]
    assert (found["state"], found["found"]) == ("fail", "the user may not run HINCRBY")
    allow(redis, "operator", f"{OPERATOR.rules} -evalsha")
    found = findings(app_as("operator"), "--no-endpoint", status=1)["rights"]
    assert found["state"] == "fail"
    assert "evalsha" in found["found"]


def test_several_missing_rights_are_named_together(app_as, redis):
    allow(redis, "web", f"{PRODUCER.rules} -del -append -zadd")
    with pytest.raises(RightsMissing, match="may not run DEL, ZADD: allow"):
        buffer_of(app_as("web")).append(message(1))
    allow(redis, "web", f"{PRODUCER.rules} -append -zadd")
    with pytest.raises(RightsMissing, match="may not run APPEND, ZADD: allow"):
        buffer_of(app_as("web")).append(message(1))
    allow(redis, "web", PRODUCER.rules)
    assert keys_of(redis) == {}


def test_another_sources_keys_are_refused_as_a_whole(app_as, redis):
    redis.execute_command("ACL", "SETUSER", "web", "resetkeys", "~{segment:other}*")
    with pytest.raises(BufferUnavailable, match="refused the user"):
        buffer_of(app_as("web")).append(message(1))
    allow(redis, "web", PRODUCER.rules)
    assert keys_of(redis) == {}


def test_rights_are_looked_up_in_a_full_redis_too(app_as, redis):
    buffer = buffer_of(app_as("worker"))
    buffer.append(message(1))
    redis.script_flush()
    other = buffer_of(app_as("worker"))
    redis.config_set("maxmemory", 1)
    try:
        with pytest.raises(BufferFull):
            other.append(message(2))
        other.ack(hold(other), "200")
    finally:
        redis.config_set("maxmemory", 0)
    assert_conserved(redis, buffer)


def test_a_user_for_figures_alone(app_as, redis):
    store(app_as("web"), "E")
    allow(redis, "operator", "+evalsha +script|load +@read +ping +time +info")
    app = app_as("operator")
    assert "default" in ok(app, "status")
    assert 'segment_messages_accepted_total{source="default"} 1' in ok(app, "metrics", "--once")
    with pytest.raises(RightsMissing):
        Analytics(app=app).pause()
    allow(redis, "operator", OPERATOR.rules)


@pytest.mark.parametrize("command", ["APPEND", "INCR"])
def test_after_a_refusal_the_rights_are_asked_for_again(app_as, redis, taken, command):
    app_as("web")
    track.delay("u", "while all is well")
    give_back = taken("web", command)
    with pytest.raises(BufferUnavailable, match="refused the user") as caught:
        track.delay("u", "refused in the script's middle")
    assert not isinstance(caught.value, RightsMissing)
    before = keys_of(redis)
    for _ in range(3):
        with pytest.raises(RightsMissing, match=f"may not run {command}: allow"):
            track.delay("u", "refused as a whole")
    assert keys_of(redis) == before
    give_back()
    track.delay("u", "E")


def test_a_user_of_one_namespace_reaches_no_other(app_as, redis):
    redis.execute_command("ACL", "SETUSER", "worker", "resetkeys", "~{segment:staging:*")
    app = app_as("worker", segment_namespace="staging")
    runtime = runtime_of(app)
    buffer = buffer_of(app)
    buffer.append(message(1))
    buffer.ack(hold(buffer), "200")
    register_sources(runtime.topology, "staging", ["default"])
    assert Pace(runtime.topology, 1_000.0, "staging").wait(1)
    before = keys_of(redis)
    for namespace in ("", "live"):
        other = app_as("worker", segment_namespace=namespace)
        with pytest.raises(BufferUnavailable, match="refused the user"):
            buffer_of(other).append(message(2))
        with pytest.raises(BufferUnavailable, match="refused the user"):
            register_sources(runtime_of(other).topology, namespace, ["default"])
    assert keys_of(redis) == before
    allow(redis, "worker", WORKER.rules)
