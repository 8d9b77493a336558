"""Web processes and workers under load are well within a second of their Redis.

No call raises, since what Redis does not take is spilled, and no message is lost. What was measured
is appended to the file that SEGMENT_TEST_REPORT names.
"""

from __future__ import annotations

import time
from statistics import median

import pytest

from celery_segment.testing import EmbeddedRedis
from front import Front
from recovery import SOURCES, Load, report
from support import wait_until
from topologies import Cluster, Sentinels, command

#: Seconds for which a fault lasts.
OUTAGE = 2.0
#: Seconds after which half of the processes are to be well, and all of them: on busy cores one may
#: have to wait for its turn.
WELL, ALL_WELL = 1.0, 1.5


@pytest.fixture
def load(tmp_path, workers, make_app, server, redis_server):
    """Put processes whose buffer is at a URL, and whose broker is elsewhere, under load."""

    def make(url, conf=(), **environ):
        common = {
            "broker_url": redis_server.url,
            "segment_redis_url": url,
            "segment_on_unavailable": "spill",
            "segment_spill_path": str(tmp_path / "spill.db"),
        }
        app = make_app(**{**common, **dict(conf)})
        return Load(tmp_path, workers, app, server, **environ)

    return make


@pytest.fixture
def pair():
    """A primary, its replica, and a front to the primary."""
    config = {"repl-diskless-sync-delay": 0}
    with (
        EmbeddedRedis(appendonly=False, config=config) as one,
        EmbeddedRedis(appendonly=False, config=config) as two,
        Front(one.port) as front,
    ):
        command(two.port, "REPLICAOF", "127.0.0.1", one.port)
        wait_until(lambda: command(two.port, "INFO")["master_link_status"] == "up")
        yield one, two, front


def demote(one, two):
    """Have the replica take over without loss: the old primary answers READONLY."""
    command(one.port, "FAILOVER", "TO", "127.0.0.1", two.port, "TIMEOUT", 5_000)
    wait_until(lambda: command(one.port, "INFO", "replication")["role"] == "slave")


def readonly(one, two, front):
    demote(one, two)
    time.sleep(OUTAGE)
    front.target = two.port


def hanging(one, two, front):
    demote(one, two)
    front.target = two.port
    front.forget()


def silent(one, two, front):
    front.fall_silent()
    demote(one, two)
    front.target = two.port
    time.sleep(OUTAGE)
    front.be_heard()


def frozen(one, two, front):  # noqa: ARG001 - no other takes over
    one.pause()
    time.sleep(OUTAGE)
    one.resume()


def killed(one, two, front):
    one.kill()
    time.sleep(OUTAGE)
    command(two.port, "REPLICAOF", "NO", "ONE")
    front.target = two.port


@pytest.mark.parametrize("fault", [readonly, hanging, silent, frozen, killed])
def test_demoted_primary_behind_a_stable_address(load, pair, fault):
    # Where connections hang only once the server is well, they are found to by a time-out.
    conf = {"segment_redis_timeout": 0.5} if fault is hanging else {}
    with load(pair[2].url, conf) as processes:
        fault(*pair)
        found = processes.recover(time.monotonic())
    judge(f"primary {fault.__name__}", found)


@pytest.mark.parametrize("fails", ["pause", "kill"])
def test_primary_that_sentinels_replace(load, fails):
    with Sentinels() as sentinels, load(sentinels.url) as processes:
        old = sentinels.primary
        getattr(old, fails)()
        time.sleep(OUTAGE)
        sentinels.replace(old)
        found = processes.recover(time.monotonic())
    judge(f"primary behind Sentinels: {fails}", found)


@pytest.mark.parametrize("seconds", [0.0, OUTAGE])
def test_slot_that_is_moved(load, seconds):
    with Cluster() as cluster, load(cluster.url) as processes:
        for name in SOURCES:
            tag = f"{{segment:{name}}}"
            home = cluster.primary_of(tag)
            other = next(s for s in cluster.servers.values() if s is not home)
            cluster.move(tag, other, seconds=seconds)
        found = processes.recover(time.monotonic())
    judge(f"slot moved in {seconds:g} s", found)


@pytest.fixture
def guarded(tmp_path):
    """A Redis with a password that a file has."""
    with EmbeddedRedis(appendonly=False, password="first") as server:
        path = tmp_path / "password"
        path.write_text("first")
        url = f"redis://127.0.0.1:{server.port}/0?credential_provider=credentials.FromFile"
        yield server, path, url


def write(path, text):
    """Replace a file that others read."""
    new = path.with_suffix(".new")
    new.write_text(text)
    new.replace(path)


def give_both(client, path):
    """Accept the new password beside the old one, until all have it."""
    client.execute_command("ACL", "SETUSER", "default", ">second")
    write(path, "second")
    client.execute_command("ACL", "SETUSER", "default", "<first")
    client.client_kill_filter(_type="normal", skipme=True)


def replace(client, path):
    """Accept the new password alone, before anybody has it."""
    client.config_set("requirepass", "second")
    client.client_kill_filter(_type="normal", skipme=True)
    time.sleep(OUTAGE)
    write(path, "second")


def take_a_right(client, path):  # noqa: ARG001 - the password stays
    client.execute_command("ACL", "SETUSER", "default", "-evalsha")
    time.sleep(OUTAGE)
    client.execute_command("ACL", "SETUSER", "default", "+evalsha")


@pytest.mark.parametrize("rotate", [give_both, replace, take_a_right])
def test_rotated_password(load, guarded, rotate):
    server, path, url = guarded
    client = server.client()
    with load(url, PASSWORD_FILE=str(path)) as processes:
        rotate(client, path)
        found = processes.recover(time.monotonic())
    client.close()
    judge(f"password: {rotate.__name__}", found)


def judge(name, found):
    report(name, found)
    assert not found.errors
    assert found.lost == 0
    assert median(found.seconds) < WELL, found
    assert max(found.seconds) < ALL_WELL, found
