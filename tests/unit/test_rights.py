"""What each role needs of Redis is what its scripts, and the library's own commands, use."""

from __future__ import annotations

import importlib.util
import re
from importlib.resources import files
from pathlib import Path

import pytest

from celery_segment.buffer.rights import OPERATOR, PRODUCER, READING, WORKER, role_of
from celery_segment.buffer.scripts import key_of, script

ROOT = Path(__file__).parents[2]
BUFFER = files("celery_segment.buffer")
SCRIPTS = {f.name[:-4] for f in (BUFFER / "lua").iterdir() if not f.name.startswith("_")}
WRITING = {
    *("APPEND", "COPY", "DECR", "DECRBY", "DEL", "HDEL", "HINCRBY", "HSET", "HSETNX", "INCR"),
    *("INCRBY", "PEXPIRE", "RENAME", "SET", "SETNX", "ZADD", "ZPOPMIN", "ZREM"),
}
SENDS = r'(?:execute|encode_command|_unless_refused)\( ?(?:server, )?"([A-Z]+)"(?:, "([A-Z]+)")?'


def calls_in(text):
    return set(re.findall(r"redis\.p?call\(\s*'(\w+)'", re.sub("--.*", "", text)))


def test_the_page_is_the_one_that_the_code_makes():
    spec = importlib.util.spec_from_file_location("make_rights", ROOT / "docs/make_rights.py")
    make_rights = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(make_rights)
    page = (ROOT / "docs/reference/rights.md").read_text("utf-8")
    assert page == make_rights.page(), "run: python docs/make_rights.py > docs/reference/rights.md"


def test_every_script_is_someones_and_each_role_does_more_than_the_one_before():
    assert SCRIPTS - {"rights"} == OPERATOR.scripts
    assert PRODUCER.scripts < WORKER.scripts < OPERATOR.scripts
    assert set(PRODUCER.commands) < set(WORKER.commands) < set(OPERATOR.commands)


@pytest.mark.parametrize("name", sorted(SCRIPTS - READING - {"rights"}))
def test_a_scripts_role_may_run_all_of_its_commands(name):
    role = role_of(name)
    assert name in role.scripts
    assert calls_in(script(name).text) <= {*role.commands, *role.optional}


def test_scripts_that_are_run_without_a_look_at_the_rights_write_nothing_but_a_lost_count():
    for name in READING:
        assert role_of(name) is None
        own = script(name).text
        for include in ("_recount", "_free_first"):
            own = own.replace((BUFFER / "lua" / f"{include}.lua").read_text("utf-8"), "")
        assert not calls_in(own) & WRITING, name
    for name in SCRIPTS - READING - {"rights"}:
        assert calls_in(script(name).text) & WRITING, name


def test_the_plain_commands_are_those_that_the_library_sends():
    sent = set()
    for path in BUFFER.iterdir():
        if path.name.endswith(".py"):
            text = re.sub(r"\n\s+", " ", path.read_text("utf-8"))
            sent |= {"|".join(filter(None, found)) for found in re.findall(SENDS, text)}
    assert sent - {"EVALSHA", "SCRIPT|LOAD"} | {"PING"} == OPERATOR.plain | OPERATOR.optional


def test_every_command_that_is_needed_is_tried_and_no_other():
    text = (BUFFER / "lua" / "rights.lua").read_text("utf-8")
    tried = re.findall(r"\b([A-Z]+) = \{", text)
    assert set(tried) - {"CREATE", "ARGUMENTS", "REFUSALS"} == set(OPERATOR.commands)
    assert len(set(tried)) == len(tried)


def test_the_rules_name_each_command_once():
    for role in (PRODUCER, WORKER, OPERATOR):
        rules = role.rules.split()
        assert len(set(rules)) == len(rules)
        assert rules[:2] == ["+evalsha", "+script|load"]


@pytest.mark.parametrize("key", ["{segment:default}", "{segment:a:é 1}"])
def test_the_key_of_an_encoded_call(key):
    assert key_of(script("append").encode_command(key, b"\r\n", 1)) == key
