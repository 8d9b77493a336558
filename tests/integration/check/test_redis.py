"""Redis, in the states that the check is to find."""

from __future__ import annotations

import re
import threading
import time
from contextlib import nullcontext
from dataclasses import replace

import pytest

from celery_segment import Analytics, BufferFull
from celery_segment.buffer import connect
from celery_segment.buffer.rights import OPERATOR
from celery_segment.buffer.server_info import read_servers
from celery_segment.operations import health, remote
from celery_segment.operations.server_findings import of_server
from celery_segment.testing import EmbeddedRedis
from checks import findings, rendered, store
from delivering import source_of
from support import buffer_of, free_port, wait_until


def test_redis_away(make_app, ask_workers, monkeypatch):
    monkeypatch.setattr(health, "ask_workers", ask_workers)
    url = f"redis://user:passw0rd@127.0.0.1:{free_port()}/0"
    found = findings(make_app(broker_url=url), status=1)
    assert found["redis"]["hint"] == "check that it runs, and segment_redis_url"
    assert re.search(r"is unreachable \(.*refused\)$", found["redis"]["found"])
    assert rendered(found["workers"]).startswith(
        "fail the broker is unreachable (OperationalError)"
    )
    left = ["settings", "redis", "workers", ("default", "write key"), ("default", "endpoint")]
    assert list(found) == left


def test_a_redis_that_hangs_holds_the_check_up_for_seconds_only(
    make_app, own, ask_workers, monkeypatch
):
    monkeypatch.setattr(health, "ask_workers", ask_workers)
    app = make_app(broker_url=own.url, segment_redis_timeout=60)
    own.pause()
    try:
        started = time.monotonic()
        found = findings(app, status=1)
        assert time.monotonic() - started < 4
    finally:
        own.resume()
    assert "did not answer in time" in found["redis"]["found"]
    assert "raise segment_redis_timeout" in found["redis"]["hint"]
    assert found["workers"]["state"] == "fail"
    assert found["default", "endpoint"]["state"] == "ok"


def test_what_heeds_no_timeout_is_left_behind(app, monkeypatch):
    """As a resolver does, in which no timeout of a socket counts."""
    released = threading.Event()
    asking = [(health, "read_servers"), (health, "ask_workers"), (remote, "reach")]
    for module, name in asking:
        monkeypatch.setattr(module, "LIMIT", 0.4)
        monkeypatch.setattr(module, name, lambda *_: released.wait(60))
    started = time.monotonic()
    found = findings(app, status=1)
    assert time.monotonic() - started < 2
    released.set()
    assert rendered(found["redis"]).startswith("fail no answer within 0.4 s: check the server")
    assert rendered(found["workers"]).startswith("fail no answer from the broker within 0.4 s")
    assert "within 0.4 s" in found["default", "endpoint"]["found"]


def test_a_wrong_password(make_app, redis_server):
    app = make_app(segment_redis_url=redis_server.url.replace("//", "//nobody:passw0rd@"))
    found = findings(app, status=1)
    assert found["redis"]["state"] == "fail"
    assert found["workers"]["state"] == "warn"


@pytest.mark.parametrize("policy", ["allkeys-lru", "volatile-ttl"])
def test_a_policy_that_evicts(make_app, own, own_redis, policy):
    own_redis.config_set("maxmemory-policy", policy)
    found = findings(make_app(broker_url=own.url), status=1)
    assert rendered(found["eviction"]).startswith(f"fail {policy}: set maxmemory-policy noeviction")


def test_memory(make_app, own, own_redis):
    app = make_app(broker_url=own.url)
    assert rendered(findings(app)["memory"]).endswith("MB used, no maxmemory")
    # Much more than a connection's memory, and sent in few bytes, which no buffer has to hold.
    own_redis.setrange("much", 20_000_000, b"x")
    used = own_redis.info("memory")["used_memory"]
    own_redis.config_set("maxmemory", used * 100 // 55)
    assert findings(app)["memory"]["state"] == "ok"
    own_redis.config_set("maxmemory", used * 100 // 65)
    said = rendered(findings(app, status=0)["memory"])
    assert re.fullmatch(
        r"warn \d\d\.\d MB used, 6[45] % of maxmemory \(.* MB\); above segment_max_memory_share"
        r" \(75 %\) calls are refused: let the workers drain it, raise maxmemory, or give .*",
        said,
    )
    own_redis.config_set("maxmemory", used * 100 // 80)
    said = rendered(findings(app, status=1)["memory"])
    assert re.match(
        r"fail .*, (79|80) % of maxmemory .*, more than segment_max_memory_share \(75 %\):"
        r" calls are refused: let the workers drain it",
        said,
    )
    own_redis.config_set("maxmemory", used // 2)
    found = findings(app, status=1)
    assert found["memory"]["state"] == "fail"
    assert found["default", "oldest"]["state"] == "ok"  # figures are read from a full Redis


def test_memory_is_judged_by_the_lowest_share_of_the_enabled_sources(make_app, own, own_redis):
    sources = {
        "eager": {"max_memory_share": 0.3},
        "off": {"max_memory_share": 0.2, "enabled": False},
    }
    app = make_app(broker_url=own.url, segment_sources=sources, segment_max_memory_share=1)
    own_redis.setrange("much", 20_000_000, b"x")
    used = own_redis.info("memory")["used_memory"]
    own_redis.config_set("maxmemory", used * 10 // 4)
    found = findings(app, status=1)["memory"]["found"]
    assert found.endswith("more than segment_max_memory_share (30 %): calls are refused")
    assert findings(app, "--source", "default")["memory"]["state"] == "ok"


def test_calls_are_refused_where_the_check_says_so(make_app, own, own_redis):
    app = make_app(broker_url=own.url)
    own_redis.setrange("much", 20_000_000, b"x")
    buffer = buffer_of(app)
    buffer.admin.pause()  # no worker is missed
    for share, state in ((70, "warn"), (80, "fail"), (70, "warn")):
        used = own_redis.info("memory")["used_memory"]
        own_redis.config_set("maxmemory", used * 100 // share)
        buffer.due(1)
        assert findings(app, status=int(state == "fail"))["memory"]["state"] == state
        assert Analytics(app=app).stats().refusing == (state == "fail")
        with pytest.raises(BufferFull) if state == "fail" else nullcontext():
            store(app)


@pytest.mark.parametrize(
    ("policy", "expected"),
    [
        ("always", "ok always: nothing is lost"),
        ("no", "warn no: a power failure loses what is not on disk yet, up to half a minute"),
    ],
)
def test_fsync(make_app, own, own_redis, policy, expected):
    own_redis.config_set("appendfsync", policy)
    assert rendered(findings(make_app(broker_url=own.url), status=0)["fsync"]).startswith(expected)


def test_no_aof(make_app, own, own_redis):
    app = make_app(broker_url=own.url)
    own_redis.config_set("appendonly", "no")
    found = findings(app, status=0)
    assert rendered(found["aof"]) == (
        "warn off: killing Redis loses everything, since there are no snapshots either:"
        " set appendonly yes"
    )
    assert "fsync" not in found
    own_redis.config_set("save", "3600 1")
    said = findings(app)["aof"]["found"]
    last = r"its last snapshot \(or its start\), \d+ s ago"
    assert re.fullmatch(rf"off: killing Redis loses everything since {last}", said)


def test_a_snapshot_that_failed(make_app, own, own_redis):
    app = make_app(broker_url=own.url)
    target = own.directory / own_redis.config_get("dbfilename")["dbfilename"]
    target.mkdir()
    try:
        own_redis.bgsave()
        wait_until(lambda: own_redis.info("persistence")["rdb_last_bgsave_status"] == "err")
        expected = "fail Redis failed to write a snapshot: see its log, and check"
        assert rendered(findings(app, status=1)["disk"]).startswith(expected)
    finally:
        target.rmdir()
        own_redis.bgsave()
        wait_until(lambda: own_redis.info("persistence")["rdb_last_bgsave_status"] == "ok")


def test_a_replica_and_its_primary(make_app, own, own_redis):
    own_redis.config_set("repl-diskless-sync-delay", 0)
    config = {"replicaof": f"127.0.0.1 {own.port}"}
    # With an append-only file, it would not stop while it writes the first one.
    with EmbeddedRedis(appendonly=False, config=config) as replica:
        wait_until(lambda: own_redis.info("replication").get("slave0", {}).get("state") == "online")
        found = findings(make_app(broker_url=own.url, segment_redis_url=replica.url), status=1)
        assert rendered(found["role"]) == (
            f"fail a read-only replica of 127.0.0.1:{own.port}:"
            " point segment_redis_url at the primary"
        )
        primary = make_app(broker_url=own.url)
        found = findings(primary, status=0)
        assert rendered(found["replicas"]) == "ok 1 replica connected"
        assert rendered(found["broker"]) == (
            "warn it has replicas, and Celery's workers end if one takes over its address: set"
            " broker_channel_error_retry = True"
        )
        assert "broker" not in findings(
            make_app(broker_url=own.url, broker_channel_error_retry=True)
        )
        safe = {"segment_redis_url": own.url, "segment_wait_replicas": 1}
        found = findings(make_app(**safe), status=0)
        assert rendered(found["replicas"]) == "ok 1 replica connected"
        assert "broker" not in found, "it is another server"
        own_redis.config_set("min-replicas-to-write", 1)
        expected = "ok 1 replica connected, 1 needed to write"
        assert rendered(findings(primary, status=0)["replicas"]) == expected
    wait_until(lambda: own_redis.info("replication")["connected_slaves"] == 0)
    found = findings(primary, status=1)
    assert "0 within min-replicas-max-lag, 1 needed to write" in found["replicas"]["found"]
    own_redis.config_set("min-replicas-to-write", 0)
    found = findings(make_app(**safe), status=1)
    assert rendered(found["replicas"]) == (
        "fail 0 replicas connected, and segment_wait_replicas is 1: repair the replicas, or lower"
        " segment_wait_replicas: calls are not confirmed"
    )


def limited(own, client, *rules):
    """Return the URL of a user who may do what the buffer needs, but for these rules."""
    rules = ("reset", "on", ">passw0rd", "~{segment:*", "+@all", *rules)
    client.execute_command("ACL", "SETUSER", "limited", *rules)
    return own.url.replace("//", "//limited:passw0rd@")


def test_a_user_without_config(make_app, own, own_redis):
    url = limited(own, own_redis, "-config")
    found = findings(make_app(broker_url=own.url, segment_redis_url=url), status=0)
    expected = "warn appendfsync could not be read (CONFIG is forbidden): check it yourself"
    assert rendered(found["fsync"]).startswith(expected)
    others = {name: f["state"] for name, f in found.items() if name not in {"fsync", "workers"}}
    assert set(others.values()) == {"ok"}
    own_redis.config_set("appendonly", "no")
    found = findings(make_app(broker_url=own.url, segment_redis_url=url), status=0)
    assert found["aof"]["found"].endswith("whether it makes snapshots could not be read")


def test_a_user_without_info(make_app, own, own_redis):
    url = limited(own, own_redis, "-@dangerous")
    found = findings(make_app(broker_url=own.url, segment_redis_url=url), status=0)
    expected = "warn INFO could not be read: allow the user of segment_redis_url to run INFO"
    assert rendered(found["server"]).startswith(expected)
    assert rendered(found["memory"]) == (
        "warn could not be read: segment_max_memory_share is not kept, so messages may fill Redis:"
        " allow the user of segment_redis_url to run INFO, or set segment_max_buffer_bytes"
    )
    assert "version" not in found
    assert found["redis"]["state"] == found["default", "gate"]["state"] == "ok"


def test_a_user_who_may_not_read_a_source(make_app, own, own_redis):
    url = limited(own, own_redis, "resetkeys", "~{segment:default}*")
    app = make_app(broker_url=own.url, segment_redis_url=url, segment_sources={"b": {}})
    found = findings(app, status=1)
    assert found["default", "gate"]["state"] == "ok"
    assert "refused" in found["b", "figures"]["found"]


SOURCE = source_of("http://127.0.0.1:1")


@pytest.fixture
def facts(redis_server):
    link = connect(redis_server.url, 1.0)
    yield read_servers(link, [SOURCE], OPERATOR)[0]
    link.close()


@pytest.mark.parametrize(
    ("name", "info", "expected"),
    [
        ("version", {"redis_version": "6.0.16"}, "fail Redis 6.0.16: upgrade to Redis 6.2"),
        ("version", {"redis_version": "10.0.1"}, "ok Redis 10.0.1"),
        ("version", {"redis_version": "7.2.4", "valkey_version": "8.1.0"}, "ok Valkey 8.1.0"),
        (
            "redis",
            {"loading": "1", "loading_eta_seconds": "90"},
            "but is loading its data: wait about 1 min 30 s: until",
        ),
        ("eviction", {"maxmemory_policy": None}, "warn maxmemory-policy could not be read"),
        ("memory", {"maxmemory": None}, "warn could not be read: segment_max_memory_share is not"),
        (
            "memory",
            {"used_memory": "90", "maxmemory": "100", "mem_not_counted_for_evict": "40"},
            "ok 0.0 MB used, 50 % of maxmemory",
        ),
        ("disk", {"aof_last_write_status": "err"}, "fail Redis failed to write the AOF"),
        ("role", {"role": "slave", "slave_read_only": "0"}, "fail a replica of"),
    ],
)
def test_states_that_a_test_cannot_bring_about(facts, name, info, expected):
    changed = {k: v for k, v in {**facts.info, **info}.items() if v is not None}
    found = {f.check: f for f in of_server(replace(facts, info=changed), [SOURCE])}[name]
    assert expected in f"{found.state} {found.found}: {found.hint}"


@pytest.mark.parametrize(
    ("ahead", "expected"),
    [(4.9, "ok within 5 s"), (90, "warn 1 min 30 s ahead of"), (-8, "warn 8 s behind")],
)
def test_clocks(facts, ahead, expected):
    assert abs(facts.ahead) < 1
    found = {f.check: f for f in of_server(replace(facts, ahead=ahead), [SOURCE])}["clock"]
    assert f"{found.state} {found.found}".startswith(expected)


@pytest.mark.parametrize(
    ("waits", "expected"),
    [
        ([0], "2 replicas connected"),
        ([2, 0], "2 replicas connected"),
        (
            [2, 1],
            (
                "2 replicas connected; segment_wait_replicas is 1: messages may be lost when a"
                " primary that still runs is replaced"
            ),
        ),
    ],
)
def test_a_wait_for_some_of_the_replicas_is_told(facts, waits, expected):
    sources = [replace(SOURCE, wait_replicas=count) for count in waits]
    two = replace(facts, info={**facts.info, "connected_slaves": "2"})
    found = {f.check: f for f in of_server(two, sources)}["replicas"]
    assert (found.state, found.found) == ("ok", expected)
