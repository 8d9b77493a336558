"""Calls under a tracking plan: what is stored, logged and refused, by each way of calling."""

from __future__ import annotations

import asyncio
import json
import re
from contextlib import suppress
from pathlib import Path

import msgspec
import pytest

from celery_segment import (
    Analytics,
    BufferFull,
    ConfigurationError,
    ValidationError,
    analytics,
    identify,
    track,
)
from celery_segment.events import Event
from celery_segment.events.plan.judging import Judge
from celery_segment.events.plan.reading import read_plan
from celery_segment.importing import fast_path
from celery_segment.importing.checkpoint import Checkpoint
from celery_segment.messages import TYPES, build_message
from celery_segment.operations.plan_findings import of_plans
from celery_segment.producer import places
from celery_segment.runtime import runtime_of
from celery_segment.signals import messages_dropped, plan_violated
from commands import run
from support import WRITE_KEY, drops, free_port, stored

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
    policies = ("allow", "log", "raise", "quarantine")
    on = {
        name: {"on_violation": name, "on_unplanned": name, "write_key": WRITE_KEY}
        for name in policies
    }
    return make_app(
        segment_tracking_plan=str(PLAN),
        segment_sources={
            **on,
            "quiet": {**on["raise"], "on_invalid": "log"},
            "small": {**on["quarantine"], "max_dead_bytes": 1_000_000},
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


def letters(source="quarantine"):
    return list(Analytics(source).dead_letters)


def groups_of(app):
    return runtime_of(app).buffer("quarantine").admin.dead_groups()


def test_a_quarantined_message_is_a_dead_letter_and_can_be_replayed(planned, redis, server):  # noqa: ARG001 - the current one
    for n in range(3):
        track.delay("u", "Own Handler", {**BAD, "n": n}, source="quarantine")
    track.delay("u", "Nobody's", source="quarantine")
    track.delay("u", "Own Handler", GOOD, source="quarantine")
    source = Analytics("quarantine")
    found = letters()
    assert [letter.messages for letter in found] == [1, 1, 1, 1]
    assert found[0].reason == f"violates the tracking plan: {SAID}"
    assert SECRET not in repr(found)
    groups = {(each.reason, each.event): each.messages for each in groups_of(planned)}
    assert groups == {
        (f"violates the tracking plan: {SAID}", "Own Handler"): 3,
        (f"violates the tracking plan: {UNPLANNED}", "Nobody's"): 1,
    }
    figures = source.stats()
    assert (figures.accepted, figures.dead.messages) == (5, 4)
    assert source.dead_letters.replay() == 4
    source.deliver()
    assert sorted(m["event"] for m in server.messages) == ["Nobody's", *["Own Handler"] * 4]
    assert letters() == []


@pytest.mark.parametrize("policy", ["allow", "log", "raise", "quarantine"])
def test_ten_thousand_events_of_which_each_hundredth_violates_the_plan(planned, server, policy):  # noqa: ARG001 - the current one
    source, called = Analytics(policy), set()
    ledger = {n: BAD if n % 100 == 7 else GOOD for n in range(10_000)}
    with source.batch():
        for n, properties in ledger.items():
            with suppress(ValidationError):
                source.track.delay("u", "Own Handler", {**properties, "n": n})
                called.add(n)
    bad = {n for n, properties in ledger.items() if properties == BAD}
    kept = {*ledger} - bad if policy in ("raise", "quarantine") else {*ledger}
    assert called == ({*ledger} - bad if policy == "raise" else {*ledger})
    assert source.stats().dead.messages == (len(bad) if policy == "quarantine" else 0)
    source.deliver()
    assert sorted(m["properties"]["n"] for m in server.messages) == sorted(kept)
    if policy == "quarantine":
        assert source.dead_letters.replay() == len(bad)
        source.deliver()
        assert sorted(m["properties"]["n"] for m in server.messages) == sorted(ledger)


def test_what_a_path_counts_makes_no_other_group(planned, redis):  # noqa: ARG001 - the current one
    for n in range(3):
        lists = {"string": [*["x"] * n, 5]}
        track.delay("u", "Simple Lists", lists, source="quarantine")
    assert [letter.reason for letter in letters()] == [
        f"violates the tracking plan: properties.string[{n}]: must be a string" for n in range(3)
    ]
    (group,) = groups_of(planned)
    assert group.reason == "violates the tracking plan: properties.string[]: must be a string"


def test_what_is_quarantined_in_a_block_or_for_later_is_so_at_once(planned, redis):  # noqa: ARG001 - the current one
    with Analytics("quarantine").batch():
        track.delay("u", "Own Handler", BAD, source="quarantine")
        track.delay("u", "Own Handler", GOOD, source="quarantine")
        assert len(letters()) == 1
    result = track.apply_async(("u", "Own Handler", BAD), {"source": "quarantine"}, countdown=9)
    assert len(letters()) == 2
    assert result.id
    assert [m["properties"] for m in stored(redis, "quarantine")] == [GOOD]


def test_dead_letters_that_are_full_are_a_full_buffer(planned, redis):  # noqa: ARG001 - the current one
    big = {**BAD, "text": "x" * 30_000}
    with pytest.raises(BufferFull, match="segment_max_dead_bytes"):
        for _ in range(40):
            track.delay("u", "Own Handler", big, source="small")
    assert len(letters("small")) == 33


def test_what_awaits_a_commit_is_quarantined_at_the_commit(planned):
    producer = runtime_of(planned).producer("quarantine")
    message = build_message(TYPES["track"], user_id="u", event="Own Handler", properties=BAD)
    at_commit = producer.await_commit(message)
    assert letters() == []
    assert at_commit() is None
    assert len(letters()) == 1


@pytest.mark.parametrize("ordered", [False, True])
def test_a_shard_has_what_is_quarantined(make_app, ordered):
    conf = {"segment_shards": 3, "segment_ordered": ordered, "segment_on_violation": "quarantine"}
    make_app(segment_tracking_plan=str(PLAN), **conf)
    for n in range(6):
        track.delay(f"u{n}", "Own Handler", BAD)
    assert len(letters("default")) == 6


def test_on_an_event_loop_it_is_the_same(planned):  # noqa: ARG001 - the current one
    asyncio.run(track.adelay("u", "Own Handler", BAD, source="quarantine"))
    assert len(letters()) == 1


@pytest.mark.parametrize("on_unavailable", ["drop", "spill"])
def test_where_redis_is_away_it_is_dropped_and_never_spilled(make_app, tmp_path, on_unavailable):
    policy = {"segment_on_violation": "quarantine", "segment_on_unavailable": on_unavailable}
    path = tmp_path / "spilled"
    url = f"redis://127.0.0.1:{free_port()}/0"
    make_app(
        segment_tracking_plan=str(PLAN),
        segment_spill_path=str(path),
        segment_redis_url=url,
        **policy,
    )
    heard = []

    def hear(reason, **_):
        heard.append(reason)

    messages_dropped.connect(hear)
    track.delay("u", "Own Handler", BAD)
    assert heard == ["unavailable"]
    assert not path.exists() or SECRET.encode() not in path.read_bytes()


def test_the_outbox_says_what_would_be_quarantined(planned, segment_outbox):  # noqa: ARG001 - the current one
    with segment_outbox.expect_violation("Own Handler", path="properties.call number"):
        track.delay("u", "Own Handler", BAD, source="quarantine")
    assert list(segment_outbox) == []
    with pytest.raises(AssertionError, match="quarantined: it violates the tracking plan"):
        segment_outbox.assert_tracked("Own Handler")


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
    (rejected,) = rejects_of(file)
    assert (rejected["line"], f"{rejected['field']}: {rejected['reason']}") == (2, SAID)
    assert rejected["rule"] == "pattern"
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


def rows_of(tmp_path):
    """Write rows for the fast path and for the other one, half of them bad."""
    row = {"userId": "u", "timestamp": "2026-03-01T09:30:00Z", "event": "Own Handler"}
    rows = [
        {"type": "track", **row, "properties": GOOD},
        {"type": "track", **row, "properties": BAD},
        {"type": "track", **row, "properties": GOOD, "receivedAt": "2026-03-01T09:30:00Z"},
        {"type": "track", **row, "properties": BAD, "receivedAt": "2026-03-01T09:30:00Z"},
        {"type": "track", **row, "event": "Nobody's"},
        {"type": "identify", "userId": "u", "timestamp": row["timestamp"], "traits": BAD},
    ]
    file = tmp_path / "rows.ndjson"
    file.write_text("".join(f"{json.dumps(row)}\n" for row in rows), "utf-8")
    return file


def rejects_of(file):
    return [json.loads(line) for line in Path(f"{file}.rejects").read_text("utf-8").splitlines()]


@pytest.mark.parametrize("source", ["allow", "raise"])
def test_an_import_with_a_plan_rejects_whatever_the_policy_is(planned, redis, tmp_path, source):
    file = rows_of(tmp_path)
    result = run(planned, "import", str(file), "--source", source, "--plan")
    assert result.exit_code == 1
    assert [(r["line"], r["field"], r["rule"]) for r in rejects_of(file)] == [
        (2, "properties.call number", "pattern"),
        (4, "properties.call number", "pattern"),
        (5, "event", "unplanned"),
    ]
    assert len(stored(redis, source)) == 3


def refused(app, *command):
    """Run a command that cannot start as requested; return what it says."""
    result = run(app, *command)
    assert result.exit_code == 2
    return " ".join(result.stderr.split())


def test_what_an_import_decodes_is_accepted_at_little_cost(tmp_path):
    judge = Judge(read_plan(str(PLAN)))
    lines = rows_of(tmp_path).read_bytes().splitlines()
    messages = [fast_path.decode(line, lambda _: "id") for line in lines]
    assert [message and judge.accepts(message) for message in messages] == [
        *(True, False, None, None, False, False)
    ]


def test_an_import_is_held_to_another_plan(planned, redis, tmp_path):
    other = str(PLAN.with_name("library.json"))
    file = rows_of(tmp_path)
    shown = run(planned, "import", str(file), "--source", "free", "--dry-run", "--plan", other)
    line = f"{file}:1: event: the tracking plan has no such event [unplanned]"
    assert line in " ".join(shown.stderr.split())
    assert shown.exit_code == 1
    assert stored(redis, "free") == []
    said = refused(planned, "import", str(file), "--source", "free", "--plan")
    assert "source 'free' has no tracking plan: set segment_tracking_plan, or give" in said
    none = tmp_path / "none.json"
    said = refused(planned, "import", str(file), "--plan", str(none))
    assert said.startswith(f"Error: --plan: {none} cannot be read")


def test_an_import_is_resumed_with_the_same_plan_alone(planned, tmp_path):
    file = rows_of(tmp_path)
    Path(f"{file}.checkpoint").write_bytes(msgspec.json.encode(checkpoint_of(file, PLAN)))
    other = str(PLAN.with_name("library.json"))
    for options in ((), ("--plan", other)):
        said = refused(planned, "import", str(file), "--resume", *options)
        assert "the plan of the earlier import was" in said
    assert run(planned, "import", str(file), "--resume", "--plan").exit_code == 1


def checkpoint_of(file, plan):
    options = {"format": "ndjson", "type": None, "texts": [], "plan": str(plan)}
    size = file.stat().st_size
    return Checkpoint(file=str(file), size=size, options={**options, "source": "default"})


def test_a_plan_that_is_none_is_an_error_of_the_setting(make_app, tmp_path):
    path = tmp_path / "plan.json"
    path.write_text("{}", "utf-8")
    make_app(segment_tracking_plan=str(path))
    with pytest.raises(
        ConfigurationError, match=r"segment_tracking_plan of source 'default': .*not"
    ):
        track.delay("u", "E")


def test_the_plan_that_the_page_has_one_write_is_one(make_app, tmp_path):
    page = (PLAN.parents[2] / "docs/how-to/tracking-plans.md").read_text("utf-8")
    (plan,) = re.findall(r"^```json\n(.*?)^```$", page, re.MULTILINE | re.DOTALL)
    path = tmp_path / "plan.json"
    path.write_text(plan, "utf-8")
    make_app(segment_tracking_plan=path, segment_on_violation="raise")
    track.delay("u", "Order Completed", {"order_id": "50314b8e", "revenue": 39.95})
    with pytest.raises(ValidationError, match=r"^properties\.revenue: must be at least 0$"):
        track.delay("u", "Order Completed", {"order_id": "50314b8e", "revenue": -1})
