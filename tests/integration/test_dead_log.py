"""What is given up is logged by kind, not one by one."""

from __future__ import annotations

import logging

import pytest

from celery_segment import Analytics, track
from celery_segment.buffer import kinds_of
from celery_segment.delivery import settle
from celery_segment.delivery.dead_log import MOST_KINDS, DeadLog, label_of
from support import in_child

BODY = b'{"type":"track","event":"Order Completed","userId":"p3rson"},'


@pytest.fixture
def errors(caplog):
    """Return the errors that were logged so far."""
    caplog.set_level(logging.INFO, "celery_segment")
    return lambda: [r.getMessage() for r in caplog.records if r.levelname == "ERROR"]


@pytest.fixture
def log(monkeypatch):
    log = DeadLog(interval=60)
    monkeypatch.setattr(settle, "dead_log", log)
    return log


def add(log, *, source="default", status="400", cause="400 Bad Request", body=BODY, count=1):
    label = label_of(kinds_of(body))
    log.add(source, "7", count, status=status, cause=cause, hint="see it", label=label)


def test_letters_of_one_kind_are_one_error(app, server, errors, log, caplog):
    server.fail_messages(lambda message: message["event"] != "good")
    with Analytics(app=app).batch():
        for n in range(63):
            track("p3rson", "100% \x1b[31mbad", {"n": n})
        track("p3rson", "good")
        track("p3rson", "worse")
    Analytics(app=app).deliver(timeout=60)
    assert Analytics(app=app).stats().dead.messages == 64
    hint = "given up: 400 Bad Request; see `celery segment dead list --source default`"
    bad = "default: track '100% \N{REPLACEMENT CHARACTER}[31mbad'"
    assert sorted(errors()) == [
        f"{bad}: 1 message {hint}",
        f"default: track 'worse': 1 message {hint}",
    ]
    log.report_rest()
    assert len(errors()) == 3
    assert errors()[2].startswith(f"{bad}: 62 more messages given up in ")
    assert caplog.text.count(", 1 message, was given up: 400 Bad Request") == 64
    assert "p3rson" not in caplog.text
    assert "\x1b" not in caplog.text
    # Trackers group by the text before its arguments are filled in.
    assert {r.msg for r in caplog.records if r.levelname == "ERROR"} == set(errors())


def test_an_interval_with_more_ends_with_one_summary(errors):
    now = [0.0]
    log = DeadLog(interval=60, clock=lambda: now[0])
    add(log)
    add(log, count=20)
    add(log, status="503", cause="503 in 7 s")
    assert len(errors()) == 2
    now[0] = 59.0
    log.report_due()
    assert len(errors()) == 2
    now[0] = 61.0
    log.report_due()
    said = "track 'Order Completed': 20 more messages given up in 1 min 1 s, the last: 400"
    assert said in errors()[2]
    now[0] = 122.0  # an interval without any: the next is a first one again
    log.report_due()
    assert len(errors()) == 3
    add(log)
    assert "1 message given up: 400 Bad Request; see it" in errors()[3]


def test_names_that_vary_do_not_bring_the_flood_back(errors):
    log = DeadLog()
    for n in range(100):
        add(log, body=b'{"type":"track","event":"Visit %d %s"},' % (n, b"x" * 100))
    add(log, source="b")
    assert len(errors()) == MOST_KINDS + 2
    assert errors()[MOST_KINDS].startswith("default: other messages: 1 message given up")
    assert max(map(len, errors())) < 200
    log.report_rest()
    assert errors()[-1].startswith("default: other messages: 79 more messages")


@pytest.mark.parametrize(
    ("body", "label"),
    [
        (BODY * 2 + b'{"type":"identify"},', "track 'Order Completed', identify"),
        (
            b"".join(b'{"type":"track","event":"%d"},' % n for n in range(9)),
            "track '0', track '1', track '2' and 6 more",
        ),
        (b'{"type":5},', "message"),
        (b'{"type":"tr\\u001b[31m","event":"E"},', "tr\N{REPLACEMENT CHARACTER}[31m 'E'"),
        (None, "other messages"),
        # What a stranger may have written into Redis.
        (b"\xff{],", "other messages"),
        (b"[" * 20_000 + b"]" * 20_000 + b",", "other messages"),
        (b"\x1f\x00,", "other messages"),
    ],
)
def test_what_a_batch_is_called(errors, body, label):
    add(DeadLog(), body=body)
    assert errors()[0].startswith(f"default: {label}: 1 message given up: ")


def test_a_forked_process_reports_nothing_of_its_parent(errors):
    log = DeadLog()
    add(log)
    add(log)
    assert in_child(lambda: (log.report_rest(), len(errors()) == 1)[1])
    log.report_rest()
    assert len(errors()) == 2
