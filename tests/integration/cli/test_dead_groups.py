"""``dead list --group``, and what is chosen by ``--in-group``."""

from __future__ import annotations

import json

import pytest

from celery_segment import Analytics
from celery_segment.buffer import Grouped, kinds_of
from commands import failed, ok, run
from operating import cells, store
from support import buffer_of


@pytest.fixture
def groups(app):
    """Two groups of dead letters, by their events."""
    buffer = buffer_of(app)
    for events in (("A", "A", "B"), ("A",)):
        store(app, *events)
        lease = buffer.begin(buffer.claim(1)[0].id, "token")
        grouped = Grouped("400 Bad Request", kinds_of(lease.body))
        buffer.bury(lease, "400 Bad Request", "no", answered=True, grouped=grouped)
    return {group.event: group.id for group in Analytics(app=app).dead_letters.groups()}


def test_the_table(app, groups):
    a, b = cells(ok(app, "dead", "list", "--group"))
    assert a == {
        "messages": "3",
        "letters": "2",
        "what": "track 'A'",
        "reason": "400 Bad Request",
        "oldest": a["oldest"],
        "youngest": a["youngest"],
        "group": groups["A"],
    }
    assert (b["what"], b["messages"], b["letters"]) == ("track 'B'", "1", "1")
    assert a["oldest"] == b["oldest"] == b["youngest"]
    first, second = cells(ok(app, "dead", "list"))
    assert (first["what"], second["what"]) == ("track 'A' and 1 more", "track 'A'")


def test_json(app, groups):
    found = json.loads(ok(app, "dead", "list", "--group", "--json"))
    assert [(each["id"], each["event"], each["messages"]) for each in found] == [
        (groups["A"], "A", 3),
        (groups["B"], "B", 1),
    ]


def test_none(app):
    assert ok(app, "dead", "list", "--group") == "default: no dead letters\n"
    assert json.loads(ok(app, "dead", "list", "--group", "--json")) == []


def test_groups_have_no_filters(app):
    result = run(app, "dead", "list", "--group", "--reason", "400")
    assert result.exit_code == 2
    assert "--group lists all groups: it has no filters" in result.stderr


def test_letters_of_a_group_are_listed_replayed_exported_and_purged(app, groups, tmp_path):
    def listed(group):
        return [x["id"] for x in json.loads(ok(app, "dead", "list", "--json", "--in-group", group))]

    assert (listed(groups["A"]), listed(groups["B"]), listed("unknown")) == (["1", "2"], ["1"], [])
    assert ok(app, "dead", "replay", "--in-group", groups["B"]) == "default: replayed 3 messages\n"
    assert (listed(groups["A"]), listed(groups["B"])) == (["2"], [])
    path = tmp_path / "a.ndjson"
    done = ok(app, "dead", "export", str(path), "--in-group", groups["A"])
    assert done == f"default: exported 1 message to {path}\n"
    said = failed(app, "dead", "purge", "--in-group", groups["A"], answer="n\n")
    assert said.startswith("default: delete 1 message permanently? [y/N]:")
    done = ok(app, "dead", "purge", "--in-group", groups["A"], "--yes")
    assert done == "default: purged 1 message\n"
    assert ok(app, "dead", "list") == "default: no dead letters\n"


@pytest.mark.parametrize("what", ["list", "replay", "purge"])
def test_an_empty_group_chooses_nothing(app, groups, what):
    result = run(app, "dead", what, "--in-group", "")
    assert result.exit_code == 2
    assert "must not be empty: leave the option out to match every group" in result.stderr
    assert len(list(Analytics(app=app).dead_letters)) == len(groups) == 2
