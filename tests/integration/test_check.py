"""`celery segment check`, against real servers in the states that it is to find."""

import json
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from dataclasses import replace
from itertools import groupby

import pytest
from celery.bin.base import CLIContext
from celery.utils.nodenames import gethostname
from click.testing import CliRunner

from celery_segment import Analytics, track
from celery_segment.buffer import buffer_of
from celery_segment.buffer.pool import Pool
from celery_segment.buffer.server_info import look_at_server
from celery_segment.cli import check
from celery_segment.cli.verdicts import of_server
from celery_segment.testing import EmbeddedRedis
from celery_segment_cli import segment
from support import DEFAULTS, TESTS, WRITE_KEY, TLSFront, wait_until

SERVER = [
    *("settings", "redis", "clock", "version", "role", "memory", "eviction"),
    *("aof", "fsync", "disk", "replicas", "workers"),
]
SOURCE = ["write key", "endpoint", "gate", "oldest", "dead letters"]


@pytest.fixture(autouse=True)
def ask_workers(monkeypatch):
    """Spare the tests the second that workers have to answer; give what asks them."""
    ask = check._ask_workers
    monkeypatch.setattr(check, "_ask_workers", lambda _: {})
    return ask


@pytest.fixture(scope="module")
def own():
    """A Redis of this module's own, whose configuration the tests change."""
    with EmbeddedRedis() as server:
        yield server


@pytest.fixture
def own_redis(own):
    """A client of it, in its first state."""
    client = own.client()
    before = client.config_get("*")
    yield client
    changed = client.config_get("*")
    for name in before:
        if changed[name] != before[name]:
            client.config_set(name, before[name])
    client.flushall()
    client.close()


def run(app, *args):
    """Run the command in this process; nothing of it shows a secret."""
    context = CLIContext(app=app, no_color=False, workdir=None)
    result = CliRunner().invoke(
        segment, ["check", *args], obj=context, catch_exceptions=False, prog_name="segment"
    )
    assert WRITE_KEY not in result.output
    assert "passw0rd" not in result.output
    return result


def findings(app, *args, status=None):
    """Return what was found, by check, and by source and check."""
    result = run(app, "--json", *args)
    found = json.loads(result.stdout)
    failed = any(finding["state"] == "fail" for finding in found)
    assert result.exit_code == (failed if status is None else status), result.output
    assert result.stderr == ""
    for finding in found:
        assert set(finding) == {"check", "source", "state", "found", "mend"}
        assert finding["found"]
        assert bool(finding["mend"]) == (finding["state"] != "ok"), finding
    return {(f["source"], f["check"]) if f["source"] else f["check"]: f for f in found}


def told(finding):
    return f"{finding['state']} {finding['found']}: {finding['mend']}".rstrip(": ")


def closed_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


@pytest.fixture
def silent():
    """The port of a server that takes connections and never says a word."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        yield listener.getsockname()[1]


# ---------------------------------------------------------------- output


def test_a_line_for_each_check_in_a_constant_order(make_app):
    app = make_app(segment_sources={"marketing": {"enabled": False}, "eu": {}})
    result = run(app)
    assert result.exit_code == 0
    assert "\x1b" not in result.output
    lines = result.stdout.splitlines()
    assert lines == [line.rstrip() for line in lines]
    rows = [re.split(r" {2,}", line) for line in lines]
    assert [row[2] for row in rows] == [*SERVER, *SOURCE, "enabled", *SOURCE]
    sources = ["-", "default", "marketing", "eu"]
    assert [source for source, _ in groupby(row[1] for row in rows)] == sources
    assert {len(row) for row in rows} == {4}
    assert len({line.index(row[3]) for line, row in zip(lines, rows, strict=True)}) == 1
    absent = rows[-len(SOURCE)]
    assert absent[0] == "warn"
    assert absent[3].startswith("absent; only workers need it: if this is a worker's")


def test_all_that_is_well(app, redis_server, server):
    found = findings(app)
    assert list(found) == [*SERVER, *(("default", name) for name in SOURCE)]
    assert {name: f["state"] for name, f in found.items() if f["state"] != "ok"} == {
        "workers": "warn"
    }
    address = f"127.0.0.1:{redis_server.port}"
    assert re.fullmatch(rf"ok {address} answers in \d+\.\d\d ms", told(found["redis"]))
    assert re.fullmatch(r"ok Redis \d+\.\d+\.\d+", told(found["version"]))
    assert told(found["fsync"]).startswith("ok everysec: a power cut loses about a second,")
    answered = rf"ok {server.url} answers in \d+ ms \(HTTP 405\)"
    assert re.fullmatch(answered, told(found["default", "endpoint"]))
    assert told(found["default", "oldest"]) == "ok nothing waits"


def test_warnings_fail_when_strict(app):
    assert run(app).exit_code == 0
    assert run(app, "--strict").exit_code == 1


def test_nothing_is_sent_but_a_question_without_a_key(make_app, server):
    app = make_app(segment_sources={"a": {}, "b": {"timeout": 3.0}})
    findings(app)
    # Sources that share an endpoint share the question.
    assert [request.method for request in server.requests] == ["GET", "GET"]
    assert {request.write_key for request in server.requests} == {None}
    assert {request.bytes for request in server.requests} == {0}
    assert server.requests[0].headers["User-Agent"].startswith("celery-segment/")


def test_named_sources_alone(make_app):
    app = make_app(segment_sources={"a": {}, "b": {}})
    found = findings(app, "--source", "b", "--source", "b")
    assert [name for name in found if isinstance(name, tuple)] == [("b", name) for name in SOURCE]
    result = run(app, "--source", "sales")
    assert result.exit_code == 1
    assert result.stderr.startswith("Error: source 'sales' is not configured")


def test_a_wrong_setting(make_app):
    (finding,) = findings(make_app(segment_flush_at=0), status=1).values()
    expected = "fail segment_flush_at must be at least 1, not 0: correct what it names"
    assert told(finding) == expected


def test_a_disabled_application_needs_no_redis(make_app):
    found = findings(make_app(broker_url="memory://", segment_enabled=False), status=0)
    assert list(found) == ["settings", ("default", "enabled")]


def test_no_redis_configured(make_app):
    found = findings(make_app(broker_url="memory://"), status=1)
    assert told(found["redis"]).startswith("fail segment_redis_url is needed")


# ---------------------------------------------------------------- Redis


def test_redis_away(make_app, ask_workers, monkeypatch):
    monkeypatch.setattr(check, "_ask_workers", ask_workers)
    url = f"redis://user:passw0rd@127.0.0.1:{closed_port()}/0"
    found = findings(make_app(broker_url=url), status=1)
    assert found["redis"]["mend"] == "check that it runs, and segment_redis_url"
    assert re.search(r"is out of reach \(.*refused\)$", found["redis"]["found"])
    assert told(found["workers"]).startswith("fail the broker is out of reach (OperationalError)")
    left = ["settings", "redis", "workers", ("default", "write key"), ("default", "endpoint")]
    assert list(found) == left


def test_a_redis_that_hangs_holds_the_check_up_for_seconds_only(
    make_app, own, ask_workers, monkeypatch
):
    monkeypatch.setattr(check, "_ask_workers", ask_workers)
    app = make_app(broker_url=own.url, segment_redis_timeout=60)
    own.pause()
    try:
        started = time.monotonic()
        found = findings(app, status=1)
        assert time.monotonic() - started < 4
    finally:
        own.resume()
    assert "did not answer in time" in found["redis"]["found"]
    assert "raise segment_redis_timeout" in found["redis"]["mend"]
    assert found["workers"]["state"] == "fail"
    assert found["default", "endpoint"]["state"] == "ok"


def test_what_heeds_no_timeout_is_left_behind(app, monkeypatch):
    """As a resolver does, in which no timeout of a socket counts."""
    released = threading.Event()
    monkeypatch.setattr(check, "LIMIT", 0.4)
    for name in ("look_at_server", "_ask_workers", "reach"):
        monkeypatch.setattr(check, name, lambda _: released.wait(60))
    started = time.monotonic()
    found = findings(app, status=1)
    assert time.monotonic() - started < 2
    released.set()
    assert told(found["redis"]).startswith("fail no answer within 0.4 s: check the server")
    assert told(found["workers"]).startswith("fail the broker hangs for 0.4 s")
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
    assert told(found["eviction"]).startswith(f"fail {policy}: set maxmemory-policy noeviction")


def test_memory(make_app, own, own_redis):
    app = make_app(broker_url=own.url)
    assert told(findings(app)["memory"]).endswith("MB used, no maxmemory")
    own_redis.set("much", b"x" * 20_000_000)  # beside which a connection's memory is nothing
    used = own_redis.info("memory")["used_memory"]
    own_redis.config_set("maxmemory", used * 10)
    assert findings(app)["memory"]["state"] == "ok"
    own_redis.config_set("maxmemory", used * 10 // 9)
    said = told(findings(app, status=0)["memory"])
    assert re.fullmatch(r"warn \d\d\.\d MB used, (89|90) % of maxmemory \(.* MB\): raise .*", said)
    own_redis.config_set("maxmemory", used // 2)
    found = findings(app, status=1)
    assert "calls are refused" in found["memory"]["mend"]
    assert found["default", "oldest"]["state"] == "ok"  # figures are read from a full Redis


@pytest.mark.parametrize(
    ("policy", "expected"),
    [
        ("always", "ok always: nothing is lost"),
        ("no", "warn no: a power cut loses what the system had not written, up to half a minute"),
    ],
)
def test_fsync(make_app, own, own_redis, policy, expected):
    own_redis.config_set("appendfsync", policy)
    assert told(findings(make_app(broker_url=own.url), status=0)["fsync"]).startswith(expected)


def test_no_aof(make_app, own, own_redis):
    app = make_app(broker_url=own.url)
    own_redis.config_set("appendonly", "no")
    found = findings(app, status=0)
    assert told(found["aof"]) == (
        "warn off: a kill of Redis loses everything, for there are no snapshots either:"
        " set appendonly yes"
    )
    assert "fsync" not in found
    own_redis.config_set("save", "3600 1")
    said = findings(app)["aof"]["found"]
    last = r"its last snapshot \(or its start\), \d+ s ago"
    assert re.fullmatch(rf"off: a kill of Redis loses all since {last}", said)


def test_a_snapshot_that_failed(make_app, own, own_redis):
    app = make_app(broker_url=own.url)
    target = own.directory / own_redis.config_get("dbfilename")["dbfilename"]
    target.mkdir()
    try:
        own_redis.bgsave()
        wait_until(lambda: own_redis.info("persistence")["rdb_last_bgsave_status"] == "err")
        expected = "fail Redis failed to write a snapshot: look at its log and its disk"
        assert told(findings(app, status=1)["disk"]).startswith(expected)
    finally:
        target.rmdir()
        own_redis.bgsave()
        wait_until(lambda: own_redis.info("persistence")["rdb_last_bgsave_status"] == "ok")


def test_a_replica_and_its_primary(make_app, own, own_redis):
    own_redis.config_set("repl-diskless-sync-delay", 0)
    config = {"replicaof": f"127.0.0.1 {own.port}"}
    with EmbeddedRedis(config=config) as replica:
        wait_until(lambda: own_redis.info("replication").get("slave0", {}).get("state") == "online")
        found = findings(make_app(broker_url=own.url, segment_redis_url=replica.url), status=1)
        assert told(found["role"]) == (
            f"fail a read-only replica of 127.0.0.1:{own.port}:"
            " point segment_redis_url at the primary"
        )
        primary = make_app(broker_url=own.url)
        assert told(findings(primary, status=0)["replicas"]) == "ok 1 replica connected"
        own_redis.config_set("min-replicas-to-write", 1)
        expected = "ok 1 replica connected, 1 needed to write"
        assert told(findings(primary, status=0)["replicas"]) == expected
    wait_until(lambda: own_redis.info("replication")["connected_slaves"] == 0)
    found = findings(primary, status=1)
    assert "0 in time, below min-replicas-to-write (1)" in found["replicas"]["found"]


def limited(own, client, *rules):
    """Return the URL of a user who may do what the buffer needs, but for these rules."""
    rules = ("reset", "on", ">passw0rd", "~{segment:*", "+@all", *rules)
    client.execute_command("ACL", "SETUSER", "limited", *rules)
    return own.url.replace("//", "//limited:passw0rd@")


def test_a_user_without_config(make_app, own, own_redis):
    url = limited(own, own_redis, "-config")
    found = findings(make_app(broker_url=own.url, segment_redis_url=url), status=0)
    expected = "warn appendfsync could not be read (CONFIG is forbidden): see to it by hand"
    assert told(found["fsync"]).startswith(expected)
    others = {name: f["state"] for name, f in found.items() if name not in {"fsync", "workers"}}
    assert set(others.values()) == {"ok"}
    own_redis.config_set("appendonly", "no")
    found = findings(make_app(broker_url=own.url, segment_redis_url=url), status=0)
    assert found["aof"]["found"].endswith("whether it makes any could not be read")


def test_a_user_without_info(make_app, own, own_redis):
    url = limited(own, own_redis, "-@dangerous")
    found = findings(make_app(broker_url=own.url, segment_redis_url=url), status=0)
    expected = "warn INFO could not be read: let the user of segment_redis_url run INFO"
    assert told(found["server"]).startswith(expected)
    assert "version" not in found
    assert found["redis"]["state"] == found["default", "gate"]["state"] == "ok"


def test_a_user_who_may_not_read_a_source(make_app, own, own_redis):
    url = limited(own, own_redis, "resetkeys", "~{segment:default}*")
    app = make_app(broker_url=own.url, segment_redis_url=url, segment_sources={"b": {}})
    found = findings(app, status=1)
    assert found["default", "gate"]["state"] == "ok"
    assert "refused" in found["b", "figures"]["found"]


@pytest.fixture
def facts(redis_server):
    link = Pool(redis_server.url, 1.0)
    yield look_at_server(link)
    link.close()


@pytest.mark.parametrize(
    ("name", "info", "expected"),
    [
        ("version", {"redis_version": "6.0.16"}, "fail Redis 6.0.16: upgrade to Redis 6.2"),
        ("version", {"redis_version": "10.0.1"}, "ok Redis 10.0.1"),
        ("version", {"redis_version": "7.2.4", "valkey_version": "8.1.0"}, "ok Valkey 8.1.0"),
        ("redis", {"loading": "1", "loading_eta_seconds": "90"}, "and loads its data: wait: it"),
        ("eviction", {"maxmemory_policy": None}, "warn maxmemory-policy could not be read"),
        ("disk", {"aof_last_write_status": "err"}, "fail Redis failed to write the AOF"),
        ("role", {"role": "slave", "slave_read_only": "0"}, "fail a replica of"),
    ],
)
def test_states_that_a_test_cannot_bring_about(facts, name, info, expected):
    changed = {k: v for k, v in {**facts.info, **info}.items() if v is not None}
    found = {f.check: f for f in of_server(replace(facts, info=changed))}[name]
    assert expected in f"{found.state} {found.found}: {found.mend}"


@pytest.mark.parametrize(
    ("ahead", "expected"),
    [(4.9, "ok within 5 s"), (90, "warn 1 min 30 s ahead of"), (-8, "warn 8 s behind")],
)
def test_clocks(facts, ahead, expected):
    assert abs(facts.ahead) < 1
    found = {f.check: f for f in of_server(replace(facts, ahead=ahead))}["clock"]
    assert f"{found.state} {found.found}".startswith(expected)


# ---------------------------------------------------------------- endpoint


def test_any_answer_of_the_endpoint_will_do(make_app, server):
    found = findings(make_app(segment_host=f"{server.url}/elsewhere"), status=0)
    assert found["default", "endpoint"]["found"].endswith("(HTTP 404)")


def test_the_endpoint_down_is_told_unless_not_asked(app, server):
    server.stop()
    found = findings(app, status=1)["default", "endpoint"]
    assert "refused" in found["found"]
    assert found["mend"].startswith("check segment_host, the name server, the firewall")
    assert ("default", "endpoint") not in findings(app, "--no-endpoint", status=0)


def test_a_host_that_does_not_exist(make_app):
    found = findings(make_app(segment_host="https://api.segment.invalid"), status=1)
    assert "https://api.segment.invalid" in found["default", "endpoint"]["found"]


def test_an_endpoint_that_hangs(make_app, silent):
    sources = {"eu": {"host": f"https://127.0.0.1:{silent}", "timeout": 0.5}}
    started = time.monotonic()
    found = findings(make_app(segment_sources=sources), status=1)
    assert time.monotonic() - started < 2
    assert found["default", "endpoint"]["state"] == "ok"
    assert found["eu", "endpoint"]["found"].endswith("within 0.5 s")


def test_a_certificate_is_trusted_by_its_bundle_only(make_app, server, tmp_path):
    with TLSFront(server.port, tmp_path) as front:
        url = f"https://localhost:{front.port}"
        bundle = {"host": url, "ca_bundle": str(front.bundle)}
        found = findings(make_app(segment_host=url, segment_sources={"b": bundle}), status=1)
    assert found["default", "endpoint"]["mend"].startswith("set segment_ca_bundle to")
    assert found["b", "endpoint"]["state"] == "ok"


def test_the_way_leads_through_the_proxy(make_app, server):
    login = server.url.replace("//", "//user:passw0rd@")
    away = f"http://user:passw0rd@127.0.0.1:{closed_port()}"
    conf = {"segment_host": "http://segment.invalid", "segment_allow_http": True}
    sources = {"b": {"proxies": {"http": away}}, "c": {"proxies": {"http": "passw0rd"}}}
    app = make_app(**conf, segment_proxies={"http": login}, segment_sources=sources)
    found = findings(app, status=1)
    states = [found[source, "endpoint"]["state"] for source in ("default", "b", "c")]
    assert states == ["ok", "fail", "fail"]


# ---------------------------------------------------------------- sources


def store(app, source="default"):
    track(user_id="u", event="E", source=source)
    return buffer_of(app, source)


def test_a_paused_source(app):
    Analytics(app=app).pause()
    found = findings(app, status=0)["default", "gate"]
    expected = "warn paused by an operator: `celery segment resume --source default` opens it"
    assert told(found) == expected


def test_a_source_that_its_endpoint_closed(app):
    buffer = store(app)
    (batch,) = buffer.claim(1, whatever_waits=True)
    held = buffer.begin(batch.id, "token")
    buffer.retry(held, "refused", 0.0, "404 Not\x1b Found", breaker=(1, 90.0, 90.0))
    found = findings(app, status=0)["default", "gate"]
    assert told(found).startswith("warn closed for 1 min 30 s: 404 Not\N{REPLACEMENT CHARACTER}")
    buffer.resume()
    assert findings(app, status=0)["default", "gate"]["state"] == "ok"


def test_messages_that_no_worker_takes(make_app, redis):
    app = make_app(segment_flush_interval=0.1, segment_lease=1.5, segment_timeout=0.5)
    buffer = store(app)
    redis.hincrby("{segment:default}:state", "since", -250)
    found = findings(app, status=0)["default", "oldest"]
    expected = "warn 1 message, the oldest for 0 s, and no worker takes them: start a worker"
    assert told(found).startswith(expected)
    redis.hincrby("{segment:default}:state", "since", -3_000)
    found = findings(app, status=1)["default", "oldest"]
    assert re.match("fail 1 message, the oldest for [34] s, and no worker takes them", told(found))
    # Not the workers' fault: nobody may take them.
    buffer.pause()
    assert told(findings(app, status=0)["default", "oldest"]).endswith("open the gate")
    buffer.resume()
    # Nor when a worker is at it, as with a backlog, or a batch that is being retried …
    buffer.claim(1, whatever_waits=True)
    found = findings(app, status=0)["default", "oldest"]
    assert re.match("warn 1 message, the oldest for [34] s: workers are at it", told(found))
    # … until it dies.
    redis.zadd("{segment:default}:inflight", {"1": 1_000}, xx=True)
    assert findings(app, status=1)["default", "oldest"]["state"] == "fail"


def test_dead_letters(make_app):
    app = make_app(segment_sources={"b": {}})
    buffer = store(app, "b")
    (batch,) = buffer.claim(1, whatever_waits=True)
    buffer.bury(buffer.begin(batch.id, "token"), "400 Bad Request", answered=True)
    found = findings(app, status=0)
    assert told(found["b", "dead letters"]) == (
        "warn 1 message: `celery segment dead list --source b` tells why"
    )
    assert told(found["default", "dead letters"]) == "ok none"


# ---------------------------------------------------------------- workers and processes


def test_a_worker_answers_and_a_container_may_ask(app, workers, ask_workers, tmp_path):
    workers.start(app, processes=1)
    (tasks,) = ask_workers(app).values()
    assert check.DELIVER in tasks
    conf = {**DEFAULTS, "broker_url": app.conf.broker_url, "segment_host": app.conf.segment_host}
    env = {**os.environ, "TESTS_CONF": json.dumps(conf), "PYTHONPATH": str(TESTS)}
    command = [sys.executable, "-W", "error", "-m", "celery", "-A", "workerapp", "segment", "check"]
    done = subprocess.run(
        [*command, "--strict"], env=env, cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert {line.split()[0] for line in done.stdout.splitlines()} == {"ok"}
    assert "1 worker answers" in done.stdout
    assert WRITE_KEY not in done.stdout


def test_one_worker_is_judged_by_what_is_its_own(app, workers, ask_workers, monkeypatch, server):
    monkeypatch.setattr(check, "_ask_workers", ask_workers)
    workers.start(app, processes=1)  # it answers for itself
    worker = workers.start(app, processes=1)
    server.stop()  # which no restart of a worker mends
    started = time.monotonic()
    found = findings(app, "--worker", worker.name)
    assert time.monotonic() - started < check.WORKER - 1
    assert list(found) == ["settings", "worker", ("default", "write key")]
    assert told(found["worker"]) == f"ok {worker.name} answers"
    worker.signal(signal.SIGSTOP)
    found = findings(app, "--worker", worker.name, status=1)
    assert told(found["worker"]).startswith(f"fail {worker.name} does not answer: start it again")


def test_one_worker_is_named_as_it_is_started(app, monkeypatch):
    def answers(_, name):
        return {name: ["segment.deliver" if name.startswith("celery@") else "t"]}

    monkeypatch.setattr(check, "_ask_workers", answers)
    host = gethostname()
    assert told(findings(app, "--worker", "celery@%h")["worker"]) == f"ok celery@{host} answers"
    found = findings(app, "--worker", "other@%h", status=1)["worker"]
    assert told(found) == (
        f"fail other@{host} without segment.deliver: give it imports = ['celery_segment']"
    )


def test_no_worker_answers_without_the_broker(make_app, ask_workers, monkeypatch):
    monkeypatch.setattr(check, "_ask_workers", ask_workers)
    app = make_app(broker_url=f"redis://:passw0rd@127.0.0.1:{closed_port()}/0")
    found = findings(app, "--worker", "celery@%h", status=1)
    assert told(found["workers"]).startswith("fail the broker is out of reach (OperationalError)")


@pytest.mark.parametrize(
    ("answers", "expected"),
    [
        ({"a": ["segment.deliver"], "b": ["t", "segment.deliver"]}, "ok 2 workers answer"),
        ({"a": ["t"], "b": ["segment.deliver"]}, "ok 1 worker answers"),
        (
            {"a": ["segment.delivered"], "b": {"error": "segment.deliver"}},
            "warn 2 workers without segment.deliver: give them imports = ['celery_segment']",
        ),
    ],
)
def test_what_workers_answer(app, monkeypatch, answers, expected):
    monkeypatch.setattr(check, "_ask_workers", lambda _: answers)
    assert told(findings(app, status=0)["workers"]) == expected
