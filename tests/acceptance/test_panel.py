"""The panel that `segment web` serves, beside real workers and a real endpoint."""

from __future__ import annotations

import re
import signal
import socket
import subprocess
from contextlib import contextmanager

import requests

from celery_segment import Analytics, track
from celery_segment.testing import Reply
from commands import command, environ
from panels import Guest
from support import WRITE_KEY, free_port, settings_of, wait_until

DEAD = "/sources/default/dead"
#: Every address of a host.
ALL = "0.0.0.0"  # noqa: S104 - as in a container


@contextmanager
def serving(app, folder, *options, **more):
    """Serve the panel of an application, as users do; return its address."""
    log = folder / "panel.log"
    program = command("-A", "workerapp", "segment", "web", *options)
    with log.open("wb") as output:
        process = subprocess.Popen(
            program,
            env={**environ(**settings_of(app)), "PYTHONUNBUFFERED": "1", **more},
            stdout=output,
            stderr=subprocess.STDOUT,
            cwd=folder,
        )
    try:
        said = wait_until(
            lambda: re.search(r"^(http://\S+) \((.*)\)$", log.read_text(), re.MULTILINE)
        )
        yield said[1]
    finally:
        process.send_signal(signal.SIGINT)
        assert process.wait(20) == 0
        assert WRITE_KEY not in log.read_text()
        assert "Traceback" not in log.read_text()


def row(guest):
    return guest.open("/").row("default")


def test_the_figures_are_those_of_the_endpoint_and_a_replay_is_delivered(
    app, server, workers, tmp_path
):
    server.fail_messages(lambda message: message.get("event") == "Order Completed")
    server.reply(Reply.status(503))
    worker = workers.start_answering(app)
    options = ("--port", "0", "--allow-changes")
    with serving(app, tmp_path, *options) as url, Guest(url) as guest:
        for n in range(60):
            track(user_id=f"u{n}", event="Order Completed" if n % 20 == 0 else "Item Viewed")
        wait_until(lambda: row(guest)["Waiting"] == "0" and row(guest)["Dead"] == "3")
        assert row(guest)["In flight"] == "0"
        agree(guest, server, delivered=57, dead=3)
        groups = [each for each in guest.open(DEAD).rows if "Kind" in each]
        assert [(g["Messages"], g["Kind"]) for g in groups] == [("3", "track 'Order Completed'")]
        # The cause is removed: the dead letters are replayed by one click.
        server.restore()
        assert "Replayed 3 messages." in guest.press(guest.open(DEAD), "Replay all").text
        assert server.wait_for_messages(60, timeout=20)
        wait_until(lambda: row(guest)["Waiting"] == "0")
        agree(guest, server, delivered=60, dead=0)
        assert server.duplicates == 0
        assert server.violations == []
        track(user_id="u", event="Last")
        flushed = guest.press(guest.open("/sources/default"), "Flush").text
        assert re.search("Flushed 1 message.|Nothing waits.", flushed)
        assert server.wait_for_messages(61, timeout=20)
        workers_page = wait_until(
            lambda: (p := guest.open("/workers")) and worker.name in p.text and p
        )
        facts = workers_page.row(worker.name)
        assert (facts["Application"], facts["Namespace"]) == ("tests", "-")
        assert facts["Sources"] == "default key"
        assert "1 worker answers" in workers_page.text
        assert "the workers deliver from this Redis" in workers_page.text


def agree(guest, server, *, delivered, dead):
    """Check that the panel's figures are those of the endpoint's records."""
    page = guest.open("/sources/default")
    assert len(server.received) == delivered
    for text in (f"Delivered {delivered:,}", f"Dead letters {dead:,}"):
        assert text in page.text
    answered = {}
    for request in server.requests:
        answered[str(request.status)] = answered.get(str(request.status), 0) + 1
    shown = [each for each in page.rows if each.get("Requests: 200")]
    for status, count in answered.items():
        assert sum(int(each[f"Requests: {status}"]) for each in shown) == count
        assert f"{status} {count}" in page.text
    assert sum(int(each["Delivered"]) for each in shown) == delivered


def test_a_panel_that_only_reads(app, server, tmp_path):  # noqa: ARG001 - its address
    track(user_id="u", event="E")
    with serving(app, tmp_path, "--port", str(port := free_port())) as url, Guest(url) as guest:
        assert url == f"http://127.0.0.1:{port}/"
        page = guest.open("/sources/default")
        assert page.forms == []
        assert guest.post("/sources/default/pause").status_code == 403
        assert Analytics(app=app).stats().gate.state == "open"
        # By a name that is not the host's it shows nothing.
        answer = requests.get(url, headers={"Host": "evil.example"}, timeout=20)
        assert answer.status_code == 421


def test_a_password(app, server, tmp_path):  # noqa: ARG001
    more = {"SEGMENT_WEB_PASSWORD": "geheim"}
    with serving(app, tmp_path, "--address", ALL, "--port", "0", **more) as every:
        url = every.replace(ALL, socket.gethostname())
        assert requests.get(url, timeout=20).status_code == 401
        assert requests.get(url, auth=("any", "wrong"), timeout=20).status_code == 401
        assert requests.get(url, auth=("any", "geheim"), timeout=20).status_code == 200
    assert "geheim" not in (tmp_path / "panel.log").read_text()
