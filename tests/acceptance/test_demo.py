"""The demo, as a user runs it."""

import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import psutil
import pytest
import requests

from celery_segment.demo.processes import LAST_LINES
from support import wait_until


class Demo:
    def __init__(self, folder, arguments, environ):
        self.log = folder / "demo.log"
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "celery_segment.demo", *arguments],
                env={**os.environ, **environ},
                cwd=folder,
                stdout=log,
                stderr=subprocess.STDOUT,
            )
        self.children = []

    @property
    def output(self):
        return self.log.read_text()

    @property
    def folder(self):
        """Where its processes have their logs."""
        (folder,) = re.findall(r"^ +logs +(\S+)$", self.output, re.MULTILINE)
        return Path(folder)

    def wait_tracking(self):
        """Wait until messages are delivered, and remember all that runs then."""
        wait_until(lambda: re.search(r"delivered [1-9]", self.output), 60)
        assert self.has("worker1@demo")

    def has(self, word):
        """Look at all that it runs, and return whether there is such a process."""
        self.children = psutil.Process(self.process.pid).children(recursive=True)
        return self.child(word) is not None

    def child(self, word):
        """Return the first process, a worker before its pool, with this in its command line."""
        return next((child for child in self.children if word in _command(child)), None)

    def ledger(self):
        return {
            name: int(figure.replace(",", ""))
            for name, figure in re.findall(r"^([a-z]+) +([\d,]+)  ", self.output, re.MULTILINE)
        }

    def leaves_nothing(self):
        gone, alive = psutil.wait_procs(self.children, timeout=5)
        assert gone
        assert not alive
        assert not self.folder.exists()


def _command(process):
    try:
        return " ".join(process.cmdline())
    except psutil.Error:  # it has ended
        return ""


@pytest.fixture
def start(tmp_path):
    started = []

    def start_demo(*arguments, **environ):
        started.append(Demo(tmp_path, arguments, environ))
        return started[-1]

    yield start_demo
    for demo in started:
        for process in demo.children:
            if process.is_running():
                process.kill()
        if demo.process.poll() is None:
            demo.process.kill()
            demo.process.wait()


def check_debugger(demo):
    """Look at the page that shows what arrives."""
    (address,) = re.findall(r"^ +debugger +(\S+)$", demo.output, re.MULTILINE)
    arrived = requests.get(f"{address}/api/messages?accepted=yes&wait=20", timeout=30).json()
    (message, *_) = arrived["messages"]
    assert (message["source"], message["violations"]) == ("default", [])
    assert "<h1>Messages</h1>" in requests.get(address, timeout=20).text


def check_balanced(ledger):
    assert ledger["accepted"] > 0
    assert ledger["received"] == ledger["accepted"]
    assert "duplicates" in ledger
    for name in ("lost", "unknown", "remaining", "violations"):
        assert ledger[name] == 0, name


def test_it_ends_by_itself_with_a_balanced_ledger(start):
    demo = start("--seconds", "5")
    demo.wait_tracking()
    check_debugger(demo)
    assert demo.process.wait(90) == 0, demo.output
    ledger = demo.ledger()
    check_balanced(ledger)
    assert 500 < ledger["accepted"] <= 1000
    assert "balanced: nothing was lost" in demo.output
    demo.leaves_nothing()


def test_it_ends_cleanly_at_ctrl_c(start):
    demo = start("--workers", "2")
    demo.wait_tracking()
    assert demo.child("worker1@demo")
    assert demo.child("worker2@demo")
    assert demo.child("redis-server")
    assert demo.child("flower")
    demo.process.send_signal(signal.SIGINT)
    assert demo.process.wait(30) == 0, demo.output
    check_balanced(demo.ledger())
    demo.leaves_nothing()


def test_it_ends_at_once_at_a_second_ctrl_c(start):
    demo = start()
    demo.wait_tracking()
    worker = demo.child("worker1@demo")
    worker.suspend()  # so that the first cannot end it
    demo.process.send_signal(signal.SIGINT)
    wait_until(lambda: "settling" in demo.output)
    demo.process.send_signal(signal.SIGINT)
    assert demo.process.wait(5) == 130, demo.output
    demo.leaves_nothing()


def test_a_worker_that_died_is_shown_with_the_end_of_its_log(start):
    demo = start()
    demo.wait_tracking()
    demo.process.send_signal(signal.SIGSTOP)  # it reads the log when nobody writes there any more
    worker = demo.child("worker1@demo")
    family = [worker, *worker.children(recursive=True)]
    for process in family:
        process.kill()
    wait_until(lambda: all(p.status() == psutil.STATUS_ZOMBIE for p in family if p.is_running()))
    lines = (demo.folder / "worker1.log").read_text().splitlines()
    demo.process.send_signal(signal.SIGCONT)
    assert demo.process.wait(30) == 1, demo.output
    _, shown = demo.output.split("worker1 ended with status -9; the end of its log:\n")
    assert len(lines) > LAST_LINES
    assert shown.splitlines() == lines[-LAST_LINES:]
    demo.leaves_nothing()


def test_it_ignores_the_settings_of_somebody_elses_celery(start):
    demo = start("--seconds", "1", CELERY_BROKER_URL="redis://127.0.0.1:1/0", FLOWER_PORT="1")
    assert demo.process.wait(60) == 0, demo.output
    check_balanced(demo.ledger())


def test_a_worker_that_dies_at_the_start_leaves_nothing(start):
    demo = start()
    wait_until(lambda: demo.has("worker1@demo"), 30)
    demo.child("worker1@demo").kill()
    assert demo.process.wait(30) == 1, demo.output
    assert "worker1 ended with status -9" in demo.output
    assert not psutil.wait_procs(demo.children, timeout=5)[1]


def test_it_goes_on_when_flower_does_not_start(start, tmp_path):
    (tmp_path / "flower.py").write_text("")
    demo = start("--seconds", "1", PYTHONPATH=str(tmp_path))
    assert demo.process.wait(60) == 0, demo.output
    assert "not running: flower ended" in demo.output
    check_balanced(demo.ledger())


def test_a_start_that_fails_is_reported(start):
    demo = start(SEGMENT_REDIS_SERVER="no-such-program")
    assert demo.process.wait(30) == 1
    assert "SEGMENT_REDIS_SERVER is 'no-such-program'" in demo.output
    assert "Traceback" not in demo.output
