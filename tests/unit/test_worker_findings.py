"""How the answers of workers are compared with the configuration of this process."""

from __future__ import annotations

import pytest
from msgspec.structs import replace

from celery_segment.config import Source
from celery_segment.operations.interviews import Answers
from celery_segment.operations.worker_findings import of_agreement, of_key, of_oauth, of_workers
from celery_segment.worker.interview import Facts, SourceFacts, TrustFacts

OWN = Facts(
    version="1.1.0",
    application="shop",
    namespace="",
    redis="r:6379, database 0",
    server="5e12",
    queue="celery",
    sources={"default": SourceFacts(enabled=True, fingerprint="f1")},
    trust=TrustFacts(trusts_all=True),
    idempotency="attempt",
    propagates_visitor=False,
)
WORKER = replace(OWN, consumes=["celery"])


def answers(**workers):
    tasks = {name: ["segment.deliver"] for name in workers}
    return Answers(tasks, workers, OWN)


def told(findings):
    return {f.check: f"{f.state} {f.found}: {f.hint}".rstrip(": ") for f in findings}


def agreement(**workers):
    return told(of_agreement(answers(**workers)))


def with_source(enabled=True, key="f1"):
    return replace(WORKER, sources={"default": SourceFacts(enabled=enabled, fingerprint=key)})


def key(*, own="f1", stray="", **workers):
    mine = replace(OWN, sources={"default": SourceFacts(enabled=True, fingerprint=own)})
    given = Answers({}, workers, mine)
    return told([of_key(Source(name="default"), given, stray)])["write key"]


def test_all_is_well():
    assert agreement(a=WORKER, b=WORKER) == {
        "buffer": "ok the workers deliver from this Redis",
        "queue": "ok 'celery' is consumed by 2 workers",
    }
    assert key(a=WORKER) == "ok present"
    assert key(own=None, a=WORKER) == "ok present in the workers"


@pytest.mark.parametrize(
    ("changes", "check", "expected"),
    [
        (
            {"namespace": "b"},
            "buffer",
            (
                "fail a delivers from namespace 'b'; this process stores in no namespace: give both"
                " the same segment_namespace"
            ),
        ),
        (
            {"database": 1, "redis": "r:6379, database 1"},
            "buffer",
            (
                "fail a delivers from r:6379, database 1; this process stores in"
                " r:6379, database 0: give both the same segment_redis_url"
            ),
        ),
        (
            {"server": "", "redis": "r2:6379, database 0"},
            "buffer",
            "fail a delivers from r2:6379, database 0; this process",
        ),
        ({"server": ""}, "buffer", "ok"),
        ({"redis": "alias:6379, database 0"}, "buffer", "ok"),
        ({"redis": "", "server": ""}, "buffer", "fail a delivers from no Redis; this process"),
        (
            {"problem": "Redis at r:6379 is unreachable", "server": ""},
            "buffer",
            "fail a has no connection: Redis at r:6379 is unreachable: check the network between",
        ),
        (
            {"application": "blog", "namespace": "b"},
            "buffer",
            "fail a of application 'blog' delivers from namespace 'b'",
        ),
        (
            {"version": "1.0.0"},
            "versions",
            "warn a has celery-segment 1.0.0, and this process 1.1.0: install the same version",
        ),
        (
            {"consumes": ["mail", "sms"]},
            "queue",
            (
                "fail no worker consumes 'celery', the queue of segment.drain; a consumes 'mail',"
                " 'sms': start a worker with `celery worker -Q celery`, or change segment_queue"
            ),
        ),
        (
            {"queue": "own", "consumes": ["own"]},
            "queue",
            "warn flush() wakes workers through 'celery', which no worker consumes: set",
        ),
    ],
)
def test_what_differs_is_named_with_its_fix(changes, check, expected):
    assert agreement(a=replace(WORKER, **changes))[check].startswith(expected)


def test_a_worker_that_differs_is_no_failure_while_another_delivers():
    away = replace(WORKER, namespace="b")
    assert agreement(a=WORKER, b=away)["buffer"].startswith("warn b delivers from namespace 'b'")


def test_workers_of_other_applications_do_not_matter():
    other = replace(WORKER, application="blog", namespace="b", version="0.9", sources={})
    assert agreement(a=WORKER, b=other)["buffer"].startswith("ok")
    assert "versions" not in agreement(a=WORKER, b=other)
    assert key(a=WORKER, b=other) == "ok present"


@pytest.mark.parametrize(
    ("workers", "expected"),
    [
        ({"a": replace(WORKER, sources={})}, "fail no worker has this source configured: give"),
        ({"a": with_source(enabled=False)}, "fail the source is off in all workers: set"),
        ({"a": with_source(key=None)}, "fail no worker has it, only this process: give"),
        ({"a": WORKER, "b": with_source(key=None)}, "warn absent in b, which leaves the source"),
        ({"a": WORKER, "b": with_source(key="f2")}, "fail differs between a, b: give all workers"),
        ({"a": with_source(key="f2")}, "warn differs from the workers', which is the one"),
        # One that consumes other queues delivers nothing, whatever it has.
        ({"a": replace(WORKER, consumes=["mail"]), "b": with_source(key=None)}, "fail no worker"),
    ],
)
def test_keys(workers, expected):
    assert key(**workers).startswith(expected)


def test_a_setting_by_another_name_is_the_fix_where_the_key_is_missing():
    assert key(own=None, stray="rename it", a=with_source(key=None)) == (
        "fail no worker has it: rename it"
    )
    assert key(own=None, stray="rename it", a=WORKER) == "ok present in the workers"
    alone = [of_key(Source(name="default"), Answers(), "rename it")]
    assert told(alone)["write key"] == "fail absent: rename it"


def test_a_worker_that_cannot_be_interviewed_is_named():
    found = told(of_workers(Answers({"a": ["segment.deliver"]}, {}, None)))
    assert found["workers"] == "ok 1 worker answers"
    assert found["versions"].startswith("warn a cannot say how it is configured: install the same")


SIGNED, REPLACED = TrustFacts(["k1"]), TrustFacts(["k2", "k1"])
SHARED, APART = TrustFacts(trusts_all=True), TrustFacts()
NAMED = TrustFacts(allowed=["shop.thank"])


def callbacks(own, **workers):
    given = {name: replace(WORKER, trust=trust) for name, trust in workers.items()}
    found = of_agreement(Answers({}, given, replace(OWN, trust=own)))
    return [told([each])["callbacks"] for each in found if each.check == "callbacks"]


@pytest.mark.parametrize("trust", [SHARED, APART])
def test_without_keys_and_names_callbacks_are_no_matter(trust):
    assert callbacks(trust, a=trust, b=SHARED) == []


@pytest.mark.parametrize(
    ("own", "worker"),
    [(SIGNED, SIGNED), (SIGNED, REPLACED), (NAMED, NAMED), (APART, NAMED), (NAMED, SHARED)],
)
def test_callbacks_that_every_worker_runs(own, worker):
    assert callbacks(own, a=worker) == ["ok the workers run those that are stored"]


@pytest.mark.parametrize(
    ("own", "workers", "key", "names"),
    [
        (
            SIGNED,
            {"a": SIGNED, "b": TrustFacts(["k2"])},
            {
                "fail a has another segment_signing_key, so it refuses those of b",
                "fail b has another segment_signing_key, so it refuses those of this process, a",
            },
            set(),
        ),
        (
            REPLACED,
            {"a": REPLACED, "b": SIGNED},
            {"fail b has another segment_signing_key, so it refuses those of this process, a"},
            set(),
        ),
        (
            SIGNED,
            {"a": APART},
            {"fail a has no segment_signing_key, so it refuses those of this process"},
            set(),
        ),
        (
            SIGNED,
            {"a": SHARED, "b": SIGNED},
            {
                "warn a has no segment_signing_key, so it runs unsigned ones, too",
                "warn b refuses unsigned ones, and a has no segment_signing_key",
            },
            set(),
        ),
        (
            SHARED,
            {"a": SIGNED},
            {"warn a refuses unsigned ones, and this process has no segment_signing_key"},
            set(),
        ),
        (
            NAMED,
            {"a": NAMED, "b": TrustFacts(allowed=["shop.other"]), "c": SHARED},
            {
                "warn a refuses unsigned ones, and c has no segment_signing_key",
                "warn b refuses unsigned ones, and c has no segment_signing_key",
            },
            {
                "fail a refuses shop.other, which b may store",
                "fail b refuses shop.thank, which this process may store",
                "fail b refuses shop.thank, which a may store",
            },
        ),
    ],
)
def test_callbacks_that_a_worker_refuses(own, workers, key, names):
    same_key = "give all processes the same SEGMENT_SIGNING_KEY, and restart them"
    same_names = "set segment_allowed_callbacks to the same in all processes, and restart them"
    assert set(callbacks(own, **workers)) == {
        *(f"{found}: {same_key}" for found in key),
        *(f"{found}: {same_names}" for found in names),
    }


def test_a_worker_that_captures_or_keeps_silent_is_named():
    found = agreement(a=WORKER, b=replace(WORKER, captures=True, logs=False))
    assert found["capture"] == (
        "fail calls are captured as in tests, and never delivered: SEGMENT_CAPTURE is 1 in b, for"
        " the calls of its tasks: remove it from the environment, and restart it"
    )
    assert found["log"] == (
        "warn b logs none of this library's errors: its logger is off: name the logger"
        " 'celery_segment' in LOGGING, or set disable_existing_loggers False"
    )


# ---------------------------------------------------------------- the calls of tasks


def test_a_worker_that_gives_the_calls_of_tasks_other_ids_is_named():
    found = agreement(a=WORKER, b=replace(WORKER, idempotency="off"))
    assert found["idempotency"] == (
        "warn b has segment_idempotency 'off'; this process 'attempt': set it alike everywhere, and"
        " restart the workers: what a task tracks counts twice when another worker runs it again"
    )


def visitor(own, worker, **changes):
    mine = replace(OWN, propagates_visitor=own)
    theirs = replace(WORKER, propagates_visitor=worker, **changes)
    return told(of_agreement(Answers({}, {"a": theirs}, mine))).get("visitor")


def test_a_visitor_that_is_sent_or_read_by_one_side_alone():
    assert visitor(own=True, worker=False) == (
        "warn a does not read the visitor that this process sends with a task: set"
        " segment_propagate_visitor there as well, and restart it"
    )
    assert visitor(own=False, worker=True) == (
        "warn this process sends no visitor with a task, and a expects one: set"
        " segment_propagate_visitor in all processes or in none, and restart them"
    )
    assert visitor(own=True, worker=True) is visitor(own=False, worker=False) is None


def test_a_worker_that_runs_no_tasks_of_this_application_may_differ_in_them():
    assert visitor(own=True, worker=False, application="", idempotency="off") is None


# ---------------------------------------------------------------- OAuth


def oauth(own="o1", **workers):
    """What is told of the credentials of OAuth, given their fingerprints."""

    def facts(base, found):
        known = SourceFacts(enabled=True, fingerprint="f1", oauth_fingerprint=found)
        return replace(base, sources={"default": known})

    given = {name: facts(WORKER, found) for name, found in workers.items()}
    answers = Answers({}, given, facts(OWN, own))
    return told(of_oauth(Source(name="default"), answers)).get("oauth")


@pytest.mark.parametrize(
    ("found", "expected"),
    [
        (oauth(None, a=None), None),
        (oauth(None, a="o1", b="o1"), "ok present in the workers"),
        (oauth(a="o1"), "ok present"),
        (oauth(), "ok present"),
        (oauth(a=None), "warn no worker has it, only this process: they use the write key alone"),
        (oauth(None, a="o1", b=None), "warn absent in b, which uses the write key alone"),
        (oauth(a="o1", b="o2"), "warn differs between a, b, as it does while a key is replaced"),
        (oauth(a="o2"), "warn differs from the workers', which is the one that is used"),
    ],
)
def test_credentials_of_oauth(found, expected):
    if expected is None or expected.startswith("ok"):
        assert found == expected
    else:
        assert found.startswith(f"{expected}: give ")


def test_without_workers_nothing_is_compared():
    assert [*of_oauth(Source(name="default"), Answers())] == []
