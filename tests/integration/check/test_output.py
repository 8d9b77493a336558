"""What the check prints, its exit codes and which sources it checks."""

from __future__ import annotations

import re
from itertools import groupby

from checks import SERVER, SOURCE, findings, rendered, run


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
    assert re.fullmatch(rf"ok {address} answers in \d+\.\d\d ms", rendered(found["redis"]))
    assert re.fullmatch(r"ok Redis \d+\.\d+\.\d+", rendered(found["version"]))
    assert rendered(found["fsync"]).startswith("ok everysec: a power failure loses about a second;")
    answered = rf"ok {server.url} answers in \d+ ms \(HTTP 405\)"
    assert re.fullmatch(answered, rendered(found["default", "endpoint"]))
    assert rendered(found["default", "oldest"]) == "ok no message is waiting"


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
    expected = "fail segment_flush_at must be at least 1, not 0: correct it, and check again"
    assert rendered(finding) == expected


def test_a_disabled_application_needs_no_redis(make_app):
    found = findings(make_app(broker_url="memory://", segment_enabled=False), status=0)
    assert list(found) == ["settings", ("default", "enabled")]


def test_no_redis_configured(make_app):
    found = findings(make_app(broker_url="memory://"), status=1)
    assert rendered(found["redis"]).startswith("fail segment_redis_url is needed")
