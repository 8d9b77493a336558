"""The Lua files, and how their calls are encoded."""

from __future__ import annotations

import hashlib
import re
from importlib.resources import files
from itertools import takewhile

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from redis.connection import Connection

from celery_segment.buffer.scripts import encode_command, script

FOLDER = files("celery_segment.buffer") / "lua"
TEXTS = {f.name.removesuffix(".lua"): f.read_text("utf-8") for f in FOLDER.iterdir()}
TRANSITIONS = sorted(name for name in TEXTS if not name.startswith("_"))
PARTS = sorted(name for name in TEXTS if name.startswith("_"))
#: Those that are not about one source.
SHARED = {"register", "reserve", "unreserve"}
SOURCE = "{segment:<source>}, the prefix of the source's keys"
INCLUDE = re.compile(r"@include\s+(\S+)")


def contract_of(text):
    """The comment on top, as lines."""
    return [line[2:].strip() for line in takewhile(lambda x: x.startswith("--"), text.splitlines())]


def head_and_body_of(text):
    """The local assignments directly below the contract, and all that follows them."""
    lines = text.splitlines()
    rest = lines[len(contract_of(text)) :]
    head = list(takewhile(lambda x: x.startswith(("local ", "  ")), rest))
    assert not any(line.startswith("local function") for line in head)
    return "\n".join(head), "\n".join(rest[len(head) :])


def code_of(text):
    return re.sub(r"--.*", "", text)


def arguments_in(head):
    """The numbers of the arguments that a head names, and that of the first of many, or None.

    Many are named by ``{unpack(ARGV, n)}``, or by ``ARGV`` itself where they are all there is.
    """
    single = {int(n) for n in re.findall(r"\bARGV\[(\d+)\]", head)}
    many = [int(n) for n in re.findall(r"\{unpack\(ARGV, (\d+)\)\}", head)]
    many += [1 for _ in re.findall(r"\bARGV$", head, re.MULTILINE)]
    named = re.findall(r"\bARGV\[\d+\]|\{unpack\(ARGV, \d+\)\}|\bARGV$", head, re.MULTILINE)
    assert len(named) == len(re.findall("ARGV", head)), "named in another way"
    assert len(many) <= 1
    return single, (many[0] if many else None)


def test_all_are_lua_and_there_are_some():
    assert all(f.name.endswith(".lua") for f in FOLDER.iterdir())
    assert {"append", "claim", "begin", "ack", "retry", "split", "bury", "reap"} <= {*TRANSITIONS}


@pytest.mark.parametrize("name", sorted(TEXTS))
def test_each_starts_with_a_contract(name):
    contract = contract_of(TEXTS[name])
    assert contract, "no comment on top"
    assert not contract[0].startswith("@include")
    assert len(contract[0].split()) >= 3


@pytest.mark.parametrize("name", TRANSITIONS)
def test_a_transitions_contract_names_its_key_its_arguments_and_its_results(name):
    contract = contract_of(TEXTS[name])
    key = "{segment:}, the prefix of what all sources share" if name in SHARED else SOURCE
    assert f"KEYS[1] -> {key}" in contract
    assert any(line.startswith("Returns ") for line in contract)
    described = re.findall(r"^ARGV\[(\d+)(…?)\] -> \S", "\n".join(contract), re.MULTILINE)
    assert [int(n) for n, _ in described] == list(range(1, len(described) + 1))
    assert all(not many for _, many in described[:-1])

    single, first_of_many = arguments_in(head_and_body_of(TEXTS[name])[0])
    assert single | {first_of_many} - {None} == {int(n) for n, _ in described}
    assert first_of_many == next((int(n) for n, many in described if many), None)


@pytest.mark.parametrize("name", TRANSITIONS)
def test_a_transition_names_its_key_and_arguments_at_its_head_and_uses_the_names(name):
    head, body = head_and_body_of(TEXTS[name])
    assert re.match(r"local shared\b" if name in SHARED else r"local source\b", head)
    assert re.findall(r"KEYS.{3}", head) == ["KEYS[1]"]
    assert not re.search(r"\b(KEYS|ARGV)\b", code_of(body))
    for names in re.findall(r"^local (.+?) =", head, re.MULTILINE):
        for each in names.split(", "):
            assert re.search(rf"\b{each}\b", code_of(body)), f"{each} is not used"


@pytest.mark.parametrize("name", PARTS)
def test_an_include_is_one_function_named_as_its_file_and_takes_what_it_needs(name):
    constants = re.compile(r"^local [A-Z_]+ = .+\n", re.MULTILINE)
    code = constants.sub("", code_of(TEXTS[name]))
    assert re.findall(r"^\S.*", code, re.MULTILINE)[0].startswith(f"local function {name[1:]}(")
    assert len(re.findall(r"^local\b", code, re.MULTILINE)) == 1
    assert not re.search(r"\b(KEYS|ARGV)\b", TEXTS[name])


@pytest.mark.parametrize("name", sorted(TEXTS))
def test_every_include_resolves(name):
    included = INCLUDE.findall(TEXTS[name])
    assert set(included) <= set(PARTS)
    assert len(set(included)) == len(included)
    text = script(name).text
    assert "@include" not in text
    for part in included:
        assert TEXTS[part] in text


@pytest.mark.parametrize("name", TRANSITIONS)
def test_a_transition_includes_what_it_calls_and_nothing_else(name):
    included = INCLUDE.findall(TEXTS[name])
    code = code_of(script(name).text)
    for part in PARTS:
        first = re.search(rf"(?<!local function )\b{part[1:]}\(", code)
        assert (first is not None) == (part in included), part
        if first:
            assert code.index(f"local function {part[1:]}(") < first.start(), "too late"


def test_every_part_is_used():
    used = {part for name in TRANSITIONS for part in INCLUDE.findall(TEXTS[name])}
    assert used == set(PARTS)


@pytest.mark.parametrize("name", TRANSITIONS)
def test_only_the_prefix_leads_to_keys_and_no_command_looks_at_them_all(name):
    code = code_of(script(name).text)
    commands = set(re.findall(r"redis\.p?call\(\s*'(\w+)'", code))
    assert commands
    unnamed = re.findall(r"redis\.p?call\(\s*(\w+)", code)
    assert unnamed == (["command"] if name == "rights" else [])
    assert not commands & {"KEYS", "SCAN", "FLUSHDB", "FLUSHALL", "SELECT", "RANDOMKEY"}


@pytest.mark.parametrize("name", TRANSITIONS)
def test_redis_knows_a_script_by_the_hash_of_its_text(name):
    one = script(name)
    assert one.sha == hashlib.sha1(one.text.encode()).hexdigest()  # noqa: S324 - Redis' own choice
    assert script(name) is one
    assert repr(one) == f"Script({name!r})"
    assert one.encode_command("{segment:a}", "x", 1) == encode_command(
        "EVALSHA", one.sha, "1", "{segment:a}", "x", "1"
    )


# ---------------------------------------------------------------- the wire

arguments = st.text(st.characters(codec="utf-8")) | st.binary() | st.integers() | st.floats()


def as_redis_py_encodes(*given):
    return b"".join(Connection().pack_command(*given))


@settings(max_examples=300, deadline=None)
@given(st.from_regex(r"[A-Z]{1,10}", fullmatch=True), st.lists(arguments, max_size=8))
def test_a_command_agrees_with_redis_py(command, given_arguments):
    assert encode_command(command, *given_arguments) == as_redis_py_encodes(
        command, *given_arguments
    )


def test_a_command_agrees_with_redis_py_on_large_and_odd_arguments():
    for argument in (b"x" * 600_000, "é" * 10_000, b"\r\n$3\r\n", b"\x00\xff", "", 0, -1, 10**30):
        encoded = encode_command("EVALSHA", argument, "last")
        assert encoded == as_redis_py_encodes("EVALSHA", argument, "last")


def test_a_command_is_resp():
    assert encode_command("SET", "clé", b"\xff", 5) == (
        b"*4\r\n$3\r\nSET\r\n$4\r\ncl\xc3\xa9\r\n$1\r\n\xff\r\n$1\r\n5\r\n"
    )
