"""What a visitor of the panel may do, and what comes of it."""

from __future__ import annotations

import io

import pytest

from celery_segment import Analytics, track
from operating import store
from panels import Page, bury, visitor_of
from support import stored

DEAD = "/sources/default/dead"


@pytest.fixture
def visitor(app):
    return visitor_of(app)


@pytest.fixture
def letters(app):
    return Analytics(app=app).dead_letters


def dead(letters):
    return [letter.id for letter in letters]


def test_pause_and_resume(app, visitor):
    page = visitor.press(visitor.open("/sources/default"), "Pause")
    assert "Paused. Calls are still stored" in page.text
    assert Analytics(app=app).stats().gate.state == "paused"
    assert "It was paused already." in visitor.press(page, "Pause").text
    assert "Resumed. Delivery starts at once." in visitor.press(page, "Resume").text
    assert Analytics(app=app).stats().gate.state == "open"


def test_flush_says_what_remains_of_a_paused_source(app, visitor):
    page = visitor.open("/sources/default")
    assert "Nothing waits." in visitor.press(page, "Flush").text
    store(app, "A", "B")
    visitor.press(page, "Pause")
    assert "2 messages of 2 remain: the source is paused." in visitor.press(page, "Flush").text


def test_replay_a_letter(visitor, letters, app):
    one, other = bury(app, "A", "B"), bury(app, "C")
    page = visitor.press(visitor.open(f"{DEAD}/{one}"), "Replay")
    assert "Replayed 2 messages." in page.text
    assert dead(letters) == [other]
    assert Analytics(app=app).stats().ready.messages == 2


def test_replay_a_group(visitor, letters, app):
    one, two = bury(app, "A"), bury(app, "A")
    other = bury(app, "B")
    page = visitor.open(DEAD)
    group = next(g.id for g in letters.groups() if g.event == "A")
    assert "Replayed 2 messages." in visitor.press(page, "Replay", group=group).text
    assert dead(letters) == [other]
    assert {one, two}.isdisjoint(dead(letters))


def test_replay_those_chosen(visitor, letters, app):
    ids = [bury(app, "A") for _ in range(4)]
    page = visitor.open(DEAD)
    form = next(f for f in page.forms if f.boxes)
    assert [value for _, value in form.boxes] == ids[::-1]
    answer = visitor.post("/sources/default/replay", batch=ids[1:3])
    assert answer.status_code == 303
    assert dead(letters) == [ids[0], ids[3]]


def test_the_buttons_below_the_list_act_on_those_chosen(visitor, letters, app):
    ids = [bury(app, "A") for _ in range(3)]
    page = visitor.open(DEAD)
    below = [f for f in page.forms if f.boxes]
    assert [text for text, _ in below[0].buttons] == ["Replay", "Export", "Purge…"]
    page.forms = below
    # An export is no change: its address holds no proof of where the form is from.
    assert "token" not in dict(below[0].fields)
    exported = visitor.press(page, "Export", chosen=ids[:1]).text
    assert exported.count("\n") == 1
    confirm = visitor.press(page, "Purge…", chosen=ids[1:])
    assert "Delete 2 messages permanently?" in confirm.text
    assert "Purged 2 messages." in visitor.press(confirm, "Delete").text
    page = visitor.press(page, "Replay", chosen=ids[:1])
    assert "Replayed 1 message." in page.text
    assert dead(letters) == []


@pytest.mark.parametrize("action", ["replay", "purge"])
def test_where_nothing_is_chosen_nothing_is_done(visitor, letters, app, action):
    bury(app, "A")
    visitor.post(f"/sources/default/{action}", confirmed="1")
    assert "Nothing was changed: choose dead letters first." in visitor.open("/").text
    visitor.post(f"/sources/default/{action}", confirmed="1", reason="HTTP")
    visitor.post(f"/sources/default/{action}", confirmed="1", all="")
    assert len(dead(letters)) == 1
    assert visitor.open("/sources/default/export").status == 400


def test_what_is_gone_is_told(visitor, app):
    batch = bury(app, "A")
    page = visitor.open(f"{DEAD}/{batch}")
    visitor.press(page, "Replay")
    assert "Nothing was changed" in visitor.press(page, "Replay").text


def test_purge_all_that_match_and_that_were_counted(visitor, letters, app):
    bury(app, "A", "B", words="timestamp")
    kept = bury(app, "C", reason="HTTP 413 Payload Too Large")
    confirm = visitor.press(visitor.open(f"{DEAD}?reason=timestamp"), "Purge all…")
    assert "Delete 2 messages permanently?" in confirm.text
    assert "in 1 dead letter of default" in confirm.text
    assert len(dead(letters)) == 2
    later = bury(app, "D", words="timestamp")
    assert "Purged 2 messages." in visitor.press(confirm, "Delete").text
    assert dead(letters) == [kept, later]


def test_purge_all(visitor, letters, app):
    for n in range(3):
        bury(app, "A", f"B{n}")
    confirm = visitor.press(visitor.open(DEAD), "Purge all…")
    assert "Delete 6 messages permanently?" in confirm.text
    later = bury(app, "A")
    assert "Purged 6 messages." in visitor.press(confirm, "Delete").text
    assert dead(letters) == [later]
    figures = Analytics(app=app).stats()
    assert (figures.purged, figures.dead.messages) == (6, 1)


def test_what_takes_too_long_is_ended_and_told(visitor, letters, app, monkeypatch):
    for name, value in (("PATIENCE", -1.0), ("COUNT", -1.0), ("PART", 2)):
        monkeypatch.setattr(f"celery_segment.web.panel.settling.{name}", value)
    for _ in range(5):
        bury(app, "A")
    page = visitor.open(f"{DEAD}?reason=400")
    confirm = visitor.press(page, "Purge all…")
    assert "Delete at least 2 messages permanently?" in confirm.text
    assert "More match than could be counted" in confirm.text
    told = visitor.press(confirm, "Delete")
    assert "Purged 2 messages. This took as long as a page may, and more match" in told.text
    assert "Replayed 2 messages. This took as long" in visitor.press(page, "Replay all").text
    assert "Replayed 1 message." in (last := visitor.press(page, "Replay all").text)
    assert "do it again" not in last
    assert dead(letters) == []


def test_an_export_is_that_of_the_command(visitor, letters, app):
    bury(app, "A", "B", words="timestamp")
    bury(app, "C")
    for query, filters in (("", {}), ("&reason=timestamp", {"reason": "timestamp"})):
        answer = visitor.get(f"/sources/default/export?all=1{query}")
        file = io.BytesIO()
        letters.export(file, **filters)
        assert answer.data == file.getvalue()
        assert answer.data
        assert answer.mimetype == "application/x-ndjson"
        assert answer.headers["Content-Disposition"] == "attachment; filename=dead-default.ndjson"


def test_forget_a_person(visitor, letters, app, redis):
    bury(app, "A")
    for user in ("ada", "bob", "ada"):
        track(user_id=user, event="E")
    track(anonymous_id="shy", event="E")
    ids = {"user_ids": " ada \r\n\r\nu", "anonymous_ids": "shy"}
    page = visitor.press(visitor.open("/sources/default/forget"), "Count", fill=ids)
    assert "would delete 4 messages (3 waiting, 1 in dead letters)" in page.text
    assert len(stored(redis)) == 4
    page = visitor.press(page, "Delete permanently")
    assert "Deleted 4 messages (3 waiting, 1 in dead letters)." in page.text
    assert Analytics(app=app).stats().waiting == 1
    assert dead(letters) == []


def test_forget_nobody(visitor):
    page = visitor.press(visitor.open("/sources/default/forget"), "Count")
    assert page.status == 400
    assert "give a user_id or an anonymous_id" in page.text
    assert visitor.post("/sources/default/forget/delete", user_ids=" \n").status_code == 400


ACTIONS = ("pause", "resume", "flush", "replay", "purge", "forget/count", "forget/delete")


def test_who_may_only_view_sees_no_button_and_is_refused(app, letters):
    batch = bury(app, "A")
    visitor = visitor_of(app, changes=False)
    for path in ("/", "/sources/default", DEAD, f"{DEAD}/{batch}", "/workers"):
        page = visitor.open(path)
        assert page.status == 200
        assert all(form.method == "get" for form in page.forms)
        texts = {text for form in page.forms for text, _ in form.buttons}
        assert texts <= {"Filter", "Export"}
    assert visitor.open("/sources/default/forget").status == 403
    for action in ACTIONS:
        answer = visitor.post(f"/sources/default/{action}", all="1", confirmed="1", user_ids="u")
        assert answer.status_code == 403, action
        assert "You may look at this, but not change it." in Page(answer).text
    assert dead(letters) == [batch]
    assert Analytics(app=app).stats().gate.state == "open"
    assert visitor.get("/sources/default/export?all=1").data.count(b"\n") == 1
