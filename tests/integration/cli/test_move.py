"""`celery segment move`: an old buffer is emptied into the configured one."""

from __future__ import annotations

import json
import re

import pytest

from celery_segment import Analytics
from celery_segment.testing import EmbeddedRedis
from commands import environ, failed, ok, process, run
from moving import assert_accounted, fill, stats
from operating import bury
from support import WRITE_KEY, buffer_of
from topologies import Sentinels

SOURCES = {"shop": {"write_key": WRITE_KEY}}
PASSWORD = "s3cr3tpassword"
MOVED = "default: moved 3 messages; nothing remains\nshop: moved 1,202 messages; nothing remains\n"


@pytest.fixture(scope="module")
def old_server():
    with EmbeddedRedis(appendonly=False, password=PASSWORD) as server:
        yield server


@pytest.fixture
def url(old_server):
    return f"redis://:{PASSWORD}@127.0.0.1:{old_server.port}"


@pytest.fixture
def old_redis(old_server):
    client = old_server.client()
    client.flushall()
    yield client
    client.close()


@pytest.fixture
def before(make_app, url, old_redis):  # noqa: ARG001 - an empty Redis
    """The application while it has the old Redis."""
    app = make_app(segment_redis_url=url, segment_sources=SOURCES)
    fill(app, 0, 3, "default")
    bury(app, "a", "b", source="shop")
    fill(app, 5, 1_200, "shop")
    return app


@pytest.fixture
def app(before, make_app):  # noqa: ARG001 - messages in the old Redis
    return make_app(segment_sources=SOURCES)


def test_everything_moves(app, old_redis, redis, url, server):
    assert ok(app, "move", "--from", url, "--yes") == MOVED
    assert ok(app, "move", "--from", url, "--yes") == MOVED.replace("3", "0").replace("1,202", "0")
    assert old_redis.keys() == []
    assert (stats(app, "default").accepted, stats(app, "shop").accepted) == (3, 1_202)
    assert stats(app, "shop").dead.messages == 2
    for source in ("default", "shop"):
        assert_accounted(redis, source)
        assert Analytics(source, app=app).deliver(20) == 0
    assert sum(server.received.values()) == 1_203


@pytest.mark.usefixtures("before")
def test_the_url_of_the_environment(old_redis, redis_server, url, tmp_path):
    env = {
        **environ(broker_url=redis_server.url, segment_sources=SOURCES),
        "SEGMENT_MOVE_FROM": url,
    }
    done = process(["-A", "workerapp", "segment", "move", "--yes"], env, tmp_path)
    assert (done.returncode, done.stdout) == (0, MOVED)
    assert PASSWORD not in done.stdout + done.stderr
    assert old_redis.keys() == []


def test_as_json_and_one_source(app, url, before):
    found = json.loads(ok(app, "move", "shop", "--from", url, "--yes", "--json"))
    assert found == {"shop": {"moved": 1_202, "remaining": 0, "waits_for": ""}}
    assert stats(before, "default").accepted == 3


def test_it_asks_and_names_both_places(app, before, url, old_server, redis_server):
    said = failed(app, "move", "--from", url, answer="n\n")
    assert said.startswith(
        "Move 1,205 messages of default, shop\n"
        f"from 127.0.0.1:{old_server.port}, database 0\n"
        f"to 127.0.0.1:{redis_server.port}, database 0? [y/N]: "
    )
    assert PASSWORD not in said
    assert (stats(before, "shop").accepted, stats(app, "shop").accepted) == (1_202, 0)
    assert ok(app, "move", "--from", url, answer="y\n") == MOVED


def test_a_dry_run_changes_nothing(app, url, old_redis):
    stored = {key: old_redis.dump(key) for key in old_redis.scan_iter()}
    said = ok(app, "move", "--from", url, "--dry-run")
    assert said == "default: would move 3 messages\nshop: would move 1,202 messages\n"
    assert {key: old_redis.dump(key) for key in old_redis.scan_iter()} == stored


def test_what_remains(app, before, url):
    buffer_of(before, "default").claim(1)
    result = run(app, "move", "--from", url, "--yes", "--timeout", "0")
    assert result.exit_code == 1
    waits, done = result.stdout.splitlines()
    assert waits.startswith("default: moved 0 messages; 3 messages remain and wait for a worker")
    assert done == "shop: moved 1,202 messages; nothing remains"


@pytest.mark.usefixtures("before")
def test_sources_that_are_not_configured_here_are_named(make_app, url, old_redis):
    app = make_app(segment_sources={"shop": {"enabled": False}})
    old_redis.hset("{segment:others}:state", "owner", "billing")
    fill(make_app(segment_redis_url=url, segment_sources={"others": {}}), 0, 9, "others")
    said = run(app, "move", "--from", url, "--yes")
    assert said.exit_code == 1
    assert said.stdout.splitlines() == [
        "default: moved 3 messages; nothing remains",
        "shop: 1,202 messages not moved: the source is not in segment_sources here, or not enabled",
    ]
    found = json.loads(run(app, "move", "--from", url, "--yes", "--json").stdout)
    assert found["shop"]["remaining"] == 1_202
    assert run(app, "move", "default", "--from", url, "--yes").exit_code == 0
    said = failed(app, "move", "shop", "--from", url, "--yes")
    assert said.startswith("Error: source 'shop' is not enabled, so that nothing would be")
    said = failed(app, "move", "others", "--from", url, "--yes")
    assert said.startswith("Error: source 'others' is not configured")


def test_another_namespace_of_the_same_redis(make_app, redis):
    before, app = make_app(segment_namespace="shop"), make_app()
    fill(before, 0, 7, "default")
    said = ok(app, "move", "--from-namespace", "shop", "--yes")
    assert said == "default: moved 7 messages; nothing remains\n"
    assert redis.keys("{segment:shop:*") == []
    assert ok(before, "move", "--from-namespace", "", "--yes") == said
    assert stats(before, "default").accepted == 7


def test_another_database_and_namespace(make_app, redis_server):
    own = f"valkey://127.0.0.1:{redis_server.port}"
    before = make_app(segment_redis_url=f"{own}/3", segment_namespace="x")
    app = make_app(segment_redis_url=f"{own}/0")
    fill(before, 0, 7, "default")
    args = ("move", "--from", f"{own}/3", "--from-namespace", "x", "--yes")
    assert ok(app, *args) == "default: moved 7 messages; nothing remains\n"
    assert stats(app, "default").accepted == 7


def test_from_sentinels(make_app):
    with Sentinels(replicas=0) as sentinels:
        fill(make_app(segment_redis_url=sentinels.url), 0, 7, "default")
        app = make_app()
        args = ("move", "--from", sentinels.url, "--yes")
        assert ok(app, *args) == "default: moved 7 messages; nothing remains\n"
        assert stats(app, "default").accepted == 7


# ---------------------------------------------------------------- refusals


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost"])
def test_the_configured_buffer_itself(make_app, redis_server, host):
    app = make_app()
    fill(app, 0, 3, "default")
    said = failed(app, "move", "--from", f"redis://{host}:{redis_server.port}/0", "--yes")
    assert said.startswith(f"Error: the old buffer is the configured one ({host}:")
    assert failed(app, "move", "--from-namespace", "", "--yes") == said.replace(host, "127.0.0.1")


def test_the_configured_buffer_itself_where_it_may_not_be_asked(make_app, redis, redis_server):
    app = make_app()
    fill(app, 0, 3, "default")
    redis.execute_command("ACL", "SETUSER", "x", "on", ">pw", "~*", "+@all", "-info")
    try:
        url = f"redis://x:pw@127.0.0.1:{redis_server.port}/0"
        said = failed(app, "move", "--from", url, "--yes")
    finally:
        redis.execute_command("ACL", "DELUSER", "x")
    assert said.startswith("Error: source 'default' is to be moved into itself, or into a copy")
    assert Analytics(app=app).deliver(20) == 0
    assert stats(app, "default").delivered.messages == 3


def test_a_copy_that_was_made_after_a_move_began(app, before, url, old_redis, redis):
    ok(app, "move", "shop", "--from", url, "--yes")  # as far as default, it was interrupted
    buffer_of(before, "default").admin.start_move()
    for key in old_redis.keys("{segment:default}*"):
        redis.restore(key, 0, old_redis.dump(key))
    said = failed(app, "move", "--from", url, "--yes")
    assert "moved into itself, or into a copy of itself: move it from another" in said
    assert stats(app, "default").accepted == stats(before, "default").accepted == 3


def test_no_old_buffer_is_given(make_app):
    result = run(make_app(), "move", "--yes")
    assert result.exit_code == 2
    assert "Give --from or SEGMENT_MOVE_FROM, or --from-namespace." in result.output


@pytest.mark.parametrize(
    ("url", "said"),
    [
        (f"http://:{PASSWORD}@h/0", "the old buffer's URL must be a URL that starts with one of"),
        (f"redis://:{PASSWORD}/x@h:port/0", "the old buffer's URL must be a valid URL"),
        (f"redis://:{PASSWORD}@h/0?a=b", "the old buffer's URL is not understood: it has no"),
        (f"sentinel://:{PASSWORD}@h:1", "the old buffer's URL names Sentinels without the name"),
        (f"redis+cluster://:{PASSWORD}@h/2", "the old buffer's URL: a Redis Cluster has the"),
    ],
)
def test_a_bad_url(make_app, url, said):
    found = failed(make_app(), "move", "--from", url, "--yes")
    assert found.startswith(f"Error: {said}")
    assert PASSWORD not in found


def test_a_bad_namespace(make_app):
    found = failed(make_app(), "move", "--from-namespace", "a:b", "--yes")
    assert found.startswith("Error: the old buffer's namespace must be up to 64 letters")


def test_an_old_redis_that_does_not_answer_or_refuses(app, url, old_server):
    found = failed(app, "move", "--from", url.replace(PASSWORD, "wrongpassword"), "--yes")
    assert re.match(rf"Error: Redis at 127.0.0.1:{old_server.port} ", found)
    assert "wrongpassword" not in found
    found = failed(app, "move", "--from", f"redis://:{PASSWORD}@127.0.0.1:1", "--yes")
    assert found.startswith("Error: Redis at 127.0.0.1:1 ")
    assert PASSWORD not in found


def test_room_is_left_in_the_new_redis(before, url, make_app, old_redis):
    fill(before, 2_000, 5_000, "shop")
    with EmbeddedRedis(appendonly=False) as new, new.client() as client:
        app = make_app(segment_redis_url=new.url, segment_sources=SOURCES)
        client.config_set("maxmemory", client.info("memory")["used_memory"] * 4 // 3)
        result = run(app, "move", "--from", url, "--yes", "--timeout", "0")
        assert result.exit_code == 1
        assert "wait for room in the new Redis (segment_max_memory_share" in result.stdout
        assert stats(before, "shop").accepted > 0
        assert_accounted(old_redis, "shop")
        client.config_set("maxmemory", 0)
        assert "shop" in ok(app, "move", "--from", url, "--yes", "--timeout", "0")
        assert stats(app, "shop").accepted == 6_202
    assert old_redis.keys() == []
