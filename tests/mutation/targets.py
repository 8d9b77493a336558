"""Which tests run for which file: those that are quick, and most likely to notice, first."""

from __future__ import annotations

from pathlib import Path

_BUFFER = "tests/integration/buffer/test_{}.py"
STATE_MACHINE = "tests/fault/test_state_machine.py"


def _buffer(*names: str) -> list[str]:
    return [_BUFFER.format(name) for name in names]


_CONNECTIONS = [
    "tests/unit/test_answers.py",
    *_buffer("append", "server_states", "limits", "failover", "idle"),
]
_STORED = [*_buffer("append", "stored"), "tests/fault/test_lost_replies.py", *_buffer("idle")]
_DELIVERY = [
    *("tests/integration/test_settle.py", "tests/integration/test_deliver.py"),
    "tests/fault/test_damage.py",
]
_SPILL = ["tests/fault/test_spill.py", "tests/fault/test_unavailable.py"]

#: From a file's path, or that of its folder, to its tests.
TESTS = {
    "buffer/body.py": ["tests/unit/test_body.py", *_buffer("compression")],
    "buffer/buffer.py": [STATE_MACHINE, *_buffer("claim", "append", "compression"), *_DELIVERY],
    "buffer/appends.py": [*_buffer("room"), *_STORED],
    "buffer/connection.py": _CONNECTIONS,
    "buffer/connections.py": _CONNECTIONS,
    "buffer/forgetting.py": ["tests/integration/test_forget.py", STATE_MACHINE],
    "buffer/history.py": _buffer("history"),
    "buffer/latency.py": ["tests/unit/test_latency.py", *_buffer("latency")],
    "buffer/groups.py": _buffer("groups"),
    "buffer/kinds.py": [*_buffer("groups"), "tests/integration/test_dead_log.py"],
    "buffer/tail.py": ["tests/integration/test_tail.py", STATE_MACHINE],
    "buffer/watch.py": _buffer("watch"),
    "buffer/pool.py": [*_CONNECTIONS, "tests/fault/test_lost_replies.py"],
    "delivery/attempt.py": [
        *("tests/integration/test_metrics.py", *_DELIVERY, "tests/integration/test_oauth.py"),
    ],
    "delivery/authority.py": ["tests/integration/test_oauth.py"],
    "delivery/authorization.py": ["tests/unit/test_request.py"],
    "delivery/deadline.py": ["tests/unit/test_request.py", "tests/integration/test_transport.py"],
    "delivery/key.py": ["tests/unit/test_key.py"],
    "delivery/oauth": ["tests/unit/test_oauth.py", "tests/integration/test_oauth.py"],
    "delivery/pause.py": ["tests/unit/test_outcome.py"],
    "delivery/outcome.py": ["tests/unit/test_outcome.py", "tests/unit/test_oauth.py"],
    "delivery/request.py": ["tests/unit/test_request.py"],
    "delivery/settle.py": ["tests/fault/test_lost_replies.py", *_DELIVERY],
    "delivery/transport.py": ["tests/integration/test_transport.py"],
    "producer/fallback.py": ["tests/integration/test_runtime.py", *_SPILL],
    "producer/held.py": ["tests/integration/test_producer.py", "tests/integration/test_calls.py"],
    "producer/note.py": ["tests/unit/test_note.py"],
    "producer/producer.py": [
        "tests/integration/test_producer.py",
        "tests/integration/test_calls.py",
    ],
    "producer/spill.py": _SPILL,
    "producer/spill_file.py": _SPILL,
    "worker/callbacks.py": [
        *("tests/integration/test_dead_letters.py", "tests/acceptance/test_callbacks.py"),
    ],
    "worker/slots.py": ["tests/integration/test_slots.py"],
    "worker/stint.py": _DELIVERY,
    "worker/ticker.py": ["tests/integration/test_ticker.py"],
    **{
        f"buffer/lua/{name}.lua": [f"tests/integration/test_{tests}.py", STATE_MACHINE]
        for name, tests in (
            ("expire", "dead_retention"),
            ("forget", "forget"),
            ("place", "forget"),
            ("tail", "tail"),
            ("_keep_for_tail", "tail"),
            ("violations", "plan_violations"),
            ("_count_kind", "plan_violations"),
        )
    },
    "buffer/lua": [
        STATE_MACHINE,
        *_buffer("claim", "gate", "concurrency", "compression", "server_states"),
    ],
    **{
        f"buffer/lua/{name}.lua": [*_buffer(*tests, "server_states"), STATE_MACHINE]
        for names, tests in (
            (("append", "_seal", "_open_count"), ("room", "append")),
            (("_keep_room", "_memory"), ("room",)),
            (("due",), ("claim", "room", "concurrency", "compression")),
            (
                ("bury", "dead", "_purge", "purge", "replay", "split"),
                ("dead_letters", "compression"),
            ),
            (("groups", "_join_groups", "_leave_groups", "_thin_groups"), ("groups",)),
            (("compress", "compressible", "_compressible_range", "_count_saved"), ("compression",)),
            (("called", "uncalled", "_add", "_keep_callbacks", "_now"), ()),
            (("snapshot",), ("room", "gate")),
            (("_latencies",), ("latency",)),
            (("_add_to_history", "history"), ("history",)),
            (("mark", "remaining", "take"), ("claim",)),
            (("reserve", "_set_pace", "unreserve"), ("server_states", "pace")),
        )
        for name in names
    },
    "buffer/lua/_batch_size.lua": [STATE_MACHINE, "tests/fault/test_damage.py"],
    "buffer/lua/_held.lua": [STATE_MACHINE, "tests/fault/test_damage.py"],
    "buffer/lua/damage.lua": [
        *_buffer("gate", "claim", "server_states"),
        "tests/fault/test_damage.py",
    ],
    "buffer/lua/repair.lua": [*_buffer("server_states"), "tests/fault/test_damage.py"],
    "buffer/lua/stored.lua": [*_buffer("stored"), "tests/fault/test_lost_replies.py"],
}


def suite_of(path: str) -> list[str]:
    """Return the tests of a file: its own, or those of its folder."""
    return TESTS.get(path) or TESTS[str(Path(path).parent)]


def files_of(library: Path, modules: list[str]) -> list[str]:
    """Return the files that have tests, in order; those of some files or folders where named."""
    paths = [str(path.relative_to(library)) for path in sorted(library.rglob("*"))]
    known = [path for path in paths if path in TESTS or str(Path(path).parent) in TESTS]
    files = [path for path in known if (library / path).is_file() and not path.endswith(".pyc")]
    chosen = [
        path
        for path in files
        if not modules or any(path == m or path.startswith(f"{m.rstrip('/')}/") for m in modules)
    ]
    if not chosen:
        raise SystemExit(f"no file has tests of mutation: {' '.join(modules)}")
    return chosen
