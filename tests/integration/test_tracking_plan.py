"""Calls under a tracking plan: what is stored, logged and refused, by each way of calling."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from celery_segment import (
    Analytics,
    ConfigurationError,
    ValidationError,
    analytics,
    identify,
    track,
)
from celery_segment.events import Event
from celery_segment.operations.plan_findings import of_plans
from celery_segment.producer import places
from celery_segment.runtime import runtime_of
from celery_segment.signals import plan_violated
from commands import run
from support import drops, stored

PLAN = Path(__file__).parents[1] / "plans" / "shapes.json"
SECRET = "ann@example.com"
GOOD, BAD = {"call number": "Folio 3"}, {"call number": SECRET}
SAID = "properties.call number: must match the pattern Folio|Quarto"
UNPLANNED = "event: the tracking plan has no such event"


@pytest.fixture(autouse=True)
def _nothing_logged(monkeypatch):
    monkeypatch.setattr(places, "_logged", set())


@pytest.fixture
def planned(make_app):
    """An application with a source for each policy."""
    on = {name: {"on_violation": name, "on_unplanned": name} for name in ("allow", "log", "raise")}
    return make_app(
        segment_tracking_plan=str(PLAN),
        segment_sources={
            **on,
            "quiet": {**on["raise"], "on_invalid": "log"},
            "omits": {**on["raise"], "omit_unplanned_properties": True},
            "free": {"tracking_plan": None, **on["raise"]},
        },
    )


def texts(caplog):
    return [r.getMessage() for r in caplog.records if r.levelname == "ERROR"]


@pytest.mark.parametrize("source", ["allow", "log", "raise", "free", "default"])
def test_what_is_planned_is_stored(planned, redis, caplog, source):  # noqa: ARG001 - the current one
    track.delay("u", "Own Handler", GOOD, source=source)
    assert [m["properties"] for m in stored(redis, source)] == [GOOD]
    assert texts(caplog) == []


@pytest.mark.parametrize(("event", "said"), [("Own Handler", SAID), ("Nobody's", UNPLANNED)])
def test_each_policy_is_kept(planned, redis, caplog, event, said):  # noqa: ARG001 - the current one
    def calls(source):
        for _ in range(3):
            track.delay("u", event, BAD, source=source)

    calls("allow")
    calls("free")
    assert texts(caplog) == []
    for source in ("log", "default"):
        caplog.clear()
        places._logged.clear()
        calls(source)
        (text,) = texts(caplog)
        assert text.startswith(f"track at {__file__}:")
        assert text.endswith(f" violates the tracking plan: {said}")
        assert SECRET not in text
    with pytest.raises(ValidationError) as raised:
        track.delay("u", event, BAD, source="raise")
    assert str(raised.value) == said
    assert SECRET not in repr(raised.value)
    caplog.clear()
    calls("quiet")
    (text,) = texts(caplog)
    assert text.endswith(f" is dropped: {said}")
    assert Analytics("quiet").stats().dropped == drops(invalid=3)
    counts = {name: len(stored(redis, name)) for name in ("allow", "free", "log", "default")}
    assert set(counts.values()) == {3}
    assert stored(redis, "raise") == stored(redis, "quiet") == []


class OwnHandler(Event, name="Own Handler"):
    call_number: str


WAYS = {
    "directly": lambda: track("u", "Own Handler", BAD, source="raise"),
    "apply_async": lambda: track.apply_async(("u", "Own Handler", BAD), {"source": "raise"}),
    "countdown": lambda: track.apply_async(
        ("u", "Own Handler", BAD), {"source": "raise"}, countdown=9
    ),
    "a signature": lambda: track.s("u", "Own Handler", BAD, source="raise").delay(),
    "bound": lambda: Analytics("raise").track.delay("u", "Own Handler", BAD),
    "the drop-in": lambda: analytics.Client(source="raise").track("u", "Own Handler", BAD),
    "an event": lambda: track.delay("u", OwnHandler(call_number="x"), source="raise"),
}


@pytest.mark.parametrize("way", WAYS)
def test_each_way_of_calling_is_held_to_the_plan(planned, redis, way):  # noqa: ARG001 - the current one
    with pytest.raises(ValidationError, match=r"properties\."):
        WAYS[way]()
    assert stored(redis, "raise") == []


def test_each_violation_is_sent_as_a_signal(planned):  # noqa: ARG001 - the current one
    heard = []

    def hear(sender, **said):
        names = ("action", "type", "name", "path", "rule", "problem")
        heard.append((sender, *map(said.get, names)))

    plan_violated.connect(hear)
    track.delay("u", "Own Handler", GOOD)
    track.delay("u", "Own Handler", BAD, source="allow")
    with pytest.raises(ValidationError):
        track.delay("u", "Nobody's", BAD, source="raise")
    path, problem = SAID.split(": ")
    assert heard == [
        ("allow", "allow", "track", "Own Handler", path, "pattern", problem),
        ("raise", "raise", "track", "Nobody's", "event", "unplanned", UNPLANNED.split(": ")[1]),
    ]


def test_what_is_not_planned_is_omitted(planned, redis):  # noqa: ARG001 - the current one
    track.delay("u", "Own Handler", {**GOOD, "email": SECRET}, source="omits")
    track.delay("u", "Blank Event", {"email": SECRET}, source="omits")
    assert [m["properties"] for m in stored(redis, "omits")] == [GOOD, {"email": SECRET}]


def test_a_type_without_rules_is_not_judged(planned, redis):  # noqa: ARG001 - the current one
    identify.delay("u", {"email": SECRET}, source="raise")
    assert len(stored(redis, "raise")) == 1


def test_the_hook_is_called_before(make_app, redis):
    def mend(message):
        message["properties"] = GOOD
        return message

    conf = {"segment_tracking_plan": str(PLAN), "segment_on_violation": "raise"}
    make_app(segment_before_send=mend, **conf)
    track.delay("u", "Own Handler", BAD)
    assert [m["properties"] for m in stored(redis)] == [GOOD]


def test_what_is_imported_is_rejected_with_its_path(planned, redis, tmp_path):
    rows = [
        {
            "type": "track",
            "userId": "u",
            "timestamp": "2026-03-01T09:30:00Z",
            "event": "Own Handler",
            "properties": properties,
        }
        for properties in (GOOD, BAD)
    ]
    file = tmp_path / "rows.ndjson"
    file.write_text("".join(f"{json.dumps(row)}\n" for row in rows), "utf-8")
    run(planned, "import", str(file), "--source", "raise")
    (rejected,) = Path(f"{file}.rejects").read_text("utf-8").splitlines()
    rejected = json.loads(rejected)
    assert (rejected["line"], f"{rejected['field']}: {rejected['reason']}") == (2, SAID)
    assert [m["properties"] for m in stored(redis, "raise")] == [GOOD]


def test_the_check_says_whether_a_plan_can_be_used(make_app, tmp_path):
    path = tmp_path / "plan.json"
    path.write_text("{}", "utf-8")
    bad = {"tracking_plan": str(path)}
    app = make_app(segment_tracking_plan=str(PLAN), segment_sources={"bad": bad, "off": {}})
    runtime = runtime_of(app)
    good, bad, _ = found = list(of_plans(runtime.plans, [*runtime.settings.sources.values()]))
    assert [each.source for each in found] == ["default", "bad", "off"]
    assert (good.state, bad.state) == ("ok", "fail")
    assert str(path) in bad.found


def test_a_plan_that_is_none_is_an_error_of_the_setting(make_app, tmp_path):
    path = tmp_path / "plan.json"
    path.write_text("{}", "utf-8")
    make_app(segment_tracking_plan=str(path))
    with pytest.raises(
        ConfigurationError, match=r"segment_tracking_plan of source 'default': .*not"
    ):
        track.delay("u", "E")
