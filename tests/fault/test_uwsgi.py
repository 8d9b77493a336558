"""Under uWSGI, which forks in C: no hook of Python's runs in its children."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import requests

from celery_segment import Analytics
from support import free_port, wait_until

UWSGI = shutil.which("uwsgi", path=str(Path(sys.executable).parent))
APPLICATION = """
import os
from celery import Celery
from celery_segment import track

app = Celery("shop", broker=os.environ["R"])
app.set_default()
track.delay(anonymous_id="server", event="Started")


def application(environ, start_response):
    start_response("200 OK", [("X-Pid", str(os.getpid()))])
    return [track.delay(user_id="u", event="Seen").id.encode()]
"""
PROCESSES, REQUESTS = 4, 300


class Server:
    """uWSGI with a few processes."""

    def __init__(self, folder, redis_url, *options):
        (folder / "shop.py").write_text(APPLICATION)
        self._at = f"127.0.0.1:{free_port()}"
        command = [UWSGI, "--http-socket", self._at, "--master", "--need-app", "--die-on-term"]
        command += ["--workers", str(PROCESSES), "--wsgi-file", "shop.py", *options]
        environ = {**os.environ, "R": redis_url, "PYTHONPATH": ":".join(filter(None, sys.path))}
        with (folder / "uwsgi.log").open("wb") as log:
            self._process = subprocess.Popen(
                command,
                cwd=folder,
                env=environ,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    def __enter__(self):
        wait_until(self._answers)
        return self

    def __exit__(self, *_):
        os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait(10)

    def _answers(self):
        assert self._process.poll() is None
        try:
            return self.ask()
        except requests.ConnectionError:
            return None

    def ask(self, _=0):
        """Make a request; return the message's id and the process that stored it."""
        response = requests.get(f"http://{self._at}/", timeout=10)
        response.raise_for_status()
        return response.text, int(response.headers["X-Pid"])


@pytest.mark.usefixtures("app")
@pytest.mark.skipif(UWSGI is None, reason="uWSGI is not installed: it has no wheel here")
@pytest.mark.parametrize("lazy", [(), ("--lazy-apps",)], ids=["forked", "lazy-apps"])
def test_no_id_is_made_twice_and_no_socket_is_shared(redis_server, tmp_path, lazy):
    with Server(tmp_path, redis_server.url, *lazy) as server, ThreadPoolExecutor(16) as pool:
        found = list(pool.map(server.ask, range(REQUESTS)))
        for pid in {pid for _, pid in found}:
            os.kill(pid, signal.SIGKILL)  # the master forks others in their place
        wait_until(server._answers)
        found += pool.map(server.ask, range(REQUESTS))
    ids = Counter(message_id for message_id, _ in found)
    assert len(ids) == 2 * REQUESTS
    assert len({pid for _, pid in found}) > 1, "others came in their place"
    # Those of the waits for an answer are not counted, nor the ones made at the start.
    assert Analytics().stats().accepted >= 2 * REQUESTS + 1
