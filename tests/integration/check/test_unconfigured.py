"""Sources that are stored in Redis, or spilled on this host, and are not configured."""

from __future__ import annotations

import pytest

from celery_segment.operations import unconfigured
from celery_segment.runtime import runtime_of
from checks import findings, rendered, run
from moving import AFTER, BEFORE, fill, message, move
from operating import bury


@pytest.fixture
def app(make_app):
    before = make_app(**BEFORE)
    fill(before, 0, 3)
    bury(before, "a", "b", source="old")
    fill(before, 5, 1_200)
    return make_app(**AFTER)


def test_check_names_the_source_and_the_command(app, redis):
    redis.hincrby("{segment:old}:state", "since", -7_200_000)
    found = findings(app, "--no-endpoint", status=0)
    assert rendered(found["old", "configured"]) == (
        "warn not configured, so nobody delivers 1,200 messages waiting, the oldest for 2 h;"
        " 5 messages in dead letters: if it was renamed, `celery segment rename old NEW` moves"
        " them; if not, add it to segment_sources"
    )
    assert "sources" not in found
    assert run(app, "--no-endpoint", "--strict").exit_code == 1
    move(app)
    found = findings(app, "--no-endpoint", status=1)  # since none of these tests has a worker
    assert ("old", "configured") not in found
    assert rendered(found["sources"]) == "ok no other source has messages here"


def test_it_is_found_among_many_keys(app, redis):
    redis.eval("for i = 1, 50000 do redis.call('SET', 'other:' .. i, 1) end", 0)
    assert ("old", "configured") in findings(app, "--no-endpoint", status=0)


def test_in_a_database_too_large_to_search_the_workers_note_helps(app, redis, monkeypatch):
    redis.eval("for i = 1, 50000 do redis.call('SET', 'other:' .. i, 1) end", 0)
    redis.hset("{segment:}:sources", "old", 1)
    monkeypatch.setattr(unconfigured, "SEARCH", 0.0)
    assert ("old", "configured") in findings(app, "--no-endpoint", status=0)
    move(app)
    # After a second it fails as well, since there is no worker.
    assert rendered(findings(app, "--no-endpoint")["sources"]) == (
        "ok no other source has messages here, as far as could be searched: the database has too"
        " many keys for more"
    )


@pytest.mark.usefixtures("app")
def test_a_user_who_may_not_search(redis, redis_server, make_app):
    redis.acl_setuser(
        "narrow",
        enabled=True,
        passwords=["+p"],
        keys=["*"],
        categories=["+@all"],
        commands=["-scan"],
    )
    url = redis_server.url.replace("redis://", "redis://narrow:p@")
    narrow = make_app(**AFTER, segment_redis_url=url)
    try:
        found = findings(narrow, "--no-endpoint", status=0)["sources"]
        assert found["found"].startswith("no other source has messages here, as far as could be")
        redis.hset("{segment:}:sources", "old", 1)
        assert ("old", "configured") in findings(narrow, "--no-endpoint", status=0)
    finally:
        redis.acl_deluser("narrow")


def test_what_another_application_delivers_is_left_to_it(app, redis):
    redis.hset("{segment:old}:state", "owner", "billing")
    found = findings(app, "--no-endpoint", status=0)["old", "configured"]
    assert rendered(found) == "ok not here: application 'billing' delivers it"
    redis.hincrby("{segment:old}:state", "since", -7_200_000)
    found = rendered(findings(app, "--no-endpoint", status=0)["old", "configured"])
    assert found.startswith("warn not configured here; application 'billing' has not delivered 1,2")
    assert ": see its workers; if it was renamed, `celery segment rename old NEW`" in found


def test_check_tells_what_this_host_has_spilled_for_an_old_name(make_app, tmp_path):
    spill = {"segment_spill_path": str(tmp_path / "spill"), "segment_on_unavailable": "spill"}
    app = make_app(**AFTER, **spill)
    runtime_of(app).spill.put("old", [message(1)], {})
    found = findings(app, "--no-endpoint", status=0)["old", "spilled"]
    assert rendered(found) == (
        "warn 1 message is in segment_spill_path of this host: run `celery segment rename old NEW`"
        " on this host, too"
    )
    assert move(app).moved == 1
    assert ("old", "spilled") not in findings(app, "--no-endpoint", status=0)
