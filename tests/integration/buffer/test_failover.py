"""A Redis that answers that it does not serve: not this node, or not now."""

from __future__ import annotations

import shutil
from collections import deque

import pytest

from celery_segment import Analytics, BufferUnavailable, track
from celery_segment.buffer import connect
from celery_segment.buffer.scripts import Script
from celery_segment.testing import EmbeddedRedis
from front import Front
from support import TLSFront, at_once, buffer_of, free_port, wait_until


class OldestFirst(deque):
    """Idle connections while other threads use them as well: each time another is next."""

    pop = deque.popleft


@pytest.fixture
def pair():
    """Two servers, and a front to the first."""
    with (
        EmbeddedRedis(appendonly=False) as one,
        EmbeddedRedis(appendonly=False) as two,
        Front(one.port) as front,
    ):
        yield one, two, front


def config(server, *arguments):
    client = server.client()
    try:
        return client.execute_command(*arguments)
    finally:
        client.close()


def demote(server, primary):
    config(server, "REPLICAOF", "127.0.0.1", primary.port)


class TestReadOnly:
    def test_a_demoted_primary_is_left_at_the_first_call(self, make_app, pair):
        one, two, front = pair
        app = make_app(segment_redis_url=front.url)
        at_once(4, lambda: [track.delay("u", "before") for _ in range(5)])
        demote(one, two)
        front.target = two.port
        for _ in range(20):
            track.delay("u", "after")
        assert Analytics(app=app).stats().accepted == 20
        assert int(config(two, "STRLEN", "{segment:default}:open")) > 0

    def test_threads_leave_it_as_well(self, make_app, pair):
        one, two, front = pair
        app = make_app(segment_redis_url=front.url)
        at_once(8, lambda: track.delay("u", "before"))
        demote(one, two)
        front.target = two.port
        at_once(8, lambda: [track.delay("u", "after") for _ in range(25)])
        assert Analytics(app=app).stats().accepted == 200

    def test_a_script_is_loaded_where_it_is_run(self, pair):
        """While a failover lasts, some connections lead to one server and some to the other."""
        *servers, front = pair
        pool = connect(front.url, 5.0).server("")
        connections = []
        for server in servers:
            front.target = server.port
            pool.execute("PING")
            connections.append(pool._connections.idle.pop())
        pool._connections.idle = OldestFirst(connections)
        one, many, both = (Script("new", f"return {text}") for text in ("1", "2", "{3}"))
        assert pool.run(one, "key") == 1
        assert pool.run_all(many, [many.encode_command("key")]) == [2]
        assert pool.run_and_get(both, both.encode_command("key"), "key") == ([3], b"")
        pool.close()

    def test_many_at_once_and_the_workers_transitions_leave_it(self, make_app, pair):
        one, two, front = pair
        buffer = buffer_of(make_app(segment_redis_url=front.url))
        for old, new in ((one, two), (two, one)):
            config(new, "REPLICAOF", "NO", "ONE")
            front.target = new.port
            demote(old, new)
            buffer.append_many([b'{"messageId":"m"}'] * 3)
            # The new primary may have got what the drain before was noted as.
            wait_until(lambda: buffer.due(1.0))
            buffer.reap()
        assert buffer.admin.snapshot().accepted >= 3

    def test_a_tick_leaves_one_that_has_lost_its_primary(self, make_app, pair):
        """Let nothing wait there: it answers the tick from what it had, and for ever."""
        one, two, front = pair
        buffer = buffer_of(make_app(segment_redis_url=front.url))
        assert not buffer.due(1.0)
        config(one, "REPLICAOF", "127.0.0.1", free_port())
        front.target = two.port
        buffer_of(make_app(segment_redis_url=two.url)).append(b'{"messageId":"m"}')
        assert buffer.due(1.0)

    def test_a_transition_with_a_content_leaves_it(self, pair):
        one, two, front = pair
        write = Script("write", "redis.call('INCR', KEYS[1]) return {1, 2}")
        pool = connect(front.url, 2.0).server("")
        command = write.encode_command("key")
        assert pool.run_and_get(write, command, "key") == ([1, 2], b"1")
        demote(one, two)
        front.target = two.port
        assert pool.run_and_get(write, command, "key") == ([1, 2], b"1")
        pool.close()

    def test_a_primary_that_cannot_write_its_disk_is_left(self, make_app, pair):
        one, two, front = pair
        app = make_app(segment_redis_url=front.url)
        track.delay("u", "before")
        config(one, "CONFIG", "SET", "save", "3600 1")
        shutil.rmtree(one.directory)
        config(one, "BGSAVE")
        wait_until(lambda: config(one, "INFO", "persistence")["rdb_last_bgsave_status"] != "ok")
        with pytest.raises(BufferUnavailable, match="MISCONF"):
            track.delay("u", "E")
        front.target = two.port
        for _ in range(3):
            track.delay("u", "after")
        assert Analytics(app=app).stats().accepted == 3
        one.kill()  # asked to stop, it would go on, as it cannot save

    def test_without_another_it_is_unavailable(self, make_app, pair):
        one, two, front = pair
        make_app(segment_redis_url=front.url)
        track.delay("u", "before")
        demote(one, two)
        for _ in range(3):
            with pytest.raises(BufferUnavailable, match="read-only replica"):
                track.delay("u", "E")
        config(one, "REPLICAOF", "NO", "ONE")
        track.delay("u", "after")

    def test_and_is_dropped_where_so_configured(self, make_app, pair):
        one, two, front = pair
        app = make_app(segment_redis_url=front.url, segment_on_unavailable="drop")
        track.delay("u", "before")
        demote(one, two)
        for _ in range(3):
            track.delay("u", "E")
        config(one, "REPLICAOF", "NO", "ONE")
        wait_until(lambda: track.delay("u", "E").id and Analytics(app=app).stats().accepted >= 2)
        assert Analytics(app=app).stats().dropped["unavailable"] >= 3


#: A script that reads, and then writes twice by different commands.
TWO_WRITES = Script(
    "two",
    "redis.call('GET', KEYS[1]) redis.call('INCR', KEYS[1])"
    " redis.call('RPUSH', KEYS[1] .. ':list', 'x') return 1",
)


def refuse(server, how, other):
    """Make a server refuse scripts that write."""
    if how == "replica":
        demote(server, other)
    elif how == "no master":
        config(server, "CONFIG", "SET", "replica-serve-stale-data", "no")
        config(server, "REPLICAOF", "127.0.0.1", 1)
    else:
        config(server, "ACL", "SETUSER", "default", "-rpush")


@pytest.mark.parametrize(("how", "writes"), [("replica", 0), ("no master", 0), ("permission", 1)])
def test_an_answer_in_a_scripts_middle_is_repeated_only_without_effect(pair, how, writes):
    one, two, front = pair
    pool = connect(front.url, 2.0).server("")
    pool.execute("SCRIPT", "LOAD", TWO_WRITES.text)
    refuse(one, how, two)
    with pytest.raises(BufferUnavailable):
        pool.run(TWO_WRITES, "key", once=True)
    config(one, "REPLICAOF", "NO", "ONE")
    config(one, "ACL", "SETUSER", "default", "+@all")
    content = pool.execute("GET", "key")
    assert int(content or 0) == writes, "a write that took effect was not repeated"
    pool.close()


class TestRefused:
    def test_a_rotated_password(self, make_app, pair):
        one, _, front = pair
        make_app(segment_redis_url=front.url, segment_redis_timeout=10)
        track.delay("u", "before")
        client = one.client()
        client.config_set("requirepass", "new")
        client.execute_command("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")
        client.close()
        with pytest.raises(BufferUnavailable, match="refused the user"):
            track.delay("u", "E")

    @pytest.fixture
    def guarded(self, make_app, tmp_path, monkeypatch):
        """A client of a Redis with a password, which a provider reads from a file, and the file."""
        path = tmp_path / "password"
        path.write_text("first")
        monkeypatch.setenv("PASSWORD_FILE", str(path))
        with EmbeddedRedis(appendonly=False, password="first") as server:
            make_app(segment_redis_url=f"{server.url}?credential_provider=credentials.FromFile")
            at_once(4, lambda: track.delay("u", "before"))
            client = server.client()
            yield client, path
            client.close()

    def test_a_provider_is_asked_for_the_rotated_password(self, guarded):
        client, path = guarded
        client.config_set("requirepass", "second")
        client.client_kill_filter(_type="normal", skipme=True)
        for _ in range(3):
            with pytest.raises(BufferUnavailable, match="refused the user"):
                track.delay("u", "E")
        path.write_text("second")
        at_once(4, lambda: [track.delay("u", "after") for _ in range(5)])

    def test_two_passwords_at_a_time_fail_no_call(self, guarded):
        client, path = guarded
        client.execute_command("ACL", "SETUSER", "default", ">second")
        client.client_kill_filter(_type="normal", skipme=True)
        at_once(4, lambda: track.delay("u", "E"))
        path.write_text("second")
        client.execute_command("ACL", "SETUSER", "default", "<first")
        at_once(4, lambda: track.delay("u", "E"))  # they are logged in
        client.client_kill_filter(_type="normal", skipme=True)
        at_once(4, lambda: track.delay("u", "E"))

    def test_a_permission_that_was_taken_away_and_given_back(self, make_app, pair):
        one, _, front = pair
        make_app(segment_redis_url=front.url, segment_redis_timeout=10)  # a machine may be busy
        track.delay("u", "before")
        config(one, "ACL", "SETUSER", "default", "-evalsha")
        with pytest.raises(BufferUnavailable, match="refused the user"):
            track.delay("u", "E")
        config(one, "ACL", "SETUSER", "default", "+evalsha")
        track.delay("u", "E")

    def test_a_cluster_that_is_down_or_moved(self, make_app):
        # A node's second port is 10,000 above its first.
        port = next(port for port in iter(free_port, None) if port < 55_000)
        config = {"cluster-enabled": "yes"}
        with EmbeddedRedis(appendonly=False, port=port, config=config) as node:
            make_app(segment_redis_url=node.url)
            with pytest.raises(BufferUnavailable, match="CLUSTERDOWN"):
                track.delay("u", "E")


def test_an_idle_connection_over_tls_is_proved(tmp_path, redis_server):
    with TLSFront(redis_server.port, tmp_path) as front:
        url = f"rediss://localhost:{front.port}/0?ssl_ca_certs={front.bundle}"
        pool = connect(url, 5.0).server("")
        pool.execute("SET", "key", "1")
        (connection,) = pool._connections.idle
        connection.since -= 60
        assert pool.execute("GET", "key") == b"1"
        assert pool._connections.idle[0] is connection
        connection.since -= 60
        connection._sock.shutdown(2)
        assert pool.execute("GET", "key") == b"1"
        assert pool._connections.idle[0] is not connection
        pool.close()
