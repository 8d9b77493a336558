"""`celery segment check`, run in this process: for tests/integration/check."""

from __future__ import annotations

import json

from celery.bin.base import CLIContext
from click.testing import CliRunner

from celery_segment import track
from celery_segment_cli import segment
from support import WRITE_KEY, buffer_of

SERVER = [
    *("settings", "redis", "rights", "clock", "version", "role", "memory", "eviction"),
    *("aof", "fsync", "disk", "replicas", "sources", "workers"),
]
SOURCE = ["write key", "endpoint", "owner", "format", "gate", "oldest", "dead letters"]


def run(app, *args):
    """Run the command in this process; nothing of it shows a secret."""
    context = CLIContext(app=app, no_color=False, workdir=None)
    result = CliRunner().invoke(
        segment, ["check", *args], obj=context, catch_exceptions=False, prog_name="segment"
    )
    assert WRITE_KEY not in result.output
    assert "passw0rd" not in result.output
    return result


def findings(app, *args, status=None):
    """Return what was found, by check, and by source and check."""
    result = run(app, "--json", *args)
    found = json.loads(result.stdout)
    failed = any(finding["state"] == "fail" for finding in found)
    assert result.exit_code == (failed if status is None else status), result.output
    assert result.stderr == ""
    for finding in found:
        assert set(finding) == {"check", "source", "state", "found", "hint"}
        assert finding["found"]
        assert bool(finding["hint"]) == (finding["state"] != "ok"), finding
    return {(f["source"], f["check"]) if f["source"] else f["check"]: f for f in found}


def rendered(finding):
    return f"{finding['state']} {finding['found']}: {finding['hint']}".rstrip(": ")


def store(app, source="default"):
    track(user_id="u", event="E", source=source)
    return buffer_of(app, source)
