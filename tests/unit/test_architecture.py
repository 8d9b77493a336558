"""Imports go one way, downwards, those inside functions included."""

from __future__ import annotations

import ast
import json
import subprocess
import sys
from functools import cache
from importlib.util import find_spec
from pathlib import Path

import pytest

ROOT = Path(find_spec("celery_segment").origin).parent
PACKAGE = "celery_segment"

#: The parts of the library from the bottom up, each with what it imports of those below it.
LAYERS = {
    "aio": set(),
    "compression": set(),
    "errors": set(),
    "files": set(),
    "frames": set(),
    "signals": set(),
    "text": set(),
    "version": set(),
    "visitor": set(),
    "config": {"errors"},
    "messages": {"errors", "version", "visitor"},
    "events": {"config", "errors", "messages", "text"},
    "trust": {"config", "errors"},
    "tracing": {"version"},
    "buffer": {"aio", "compression", "config", "errors", "text"},
    "delivery": {
        *("buffer", "config", "errors", "frames"),
        *("signals", "text", "tracing", "version"),
    },
    "producer": {
        *("aio", "buffer", "config", "errors", "events", "files", "frames"),
        *("messages", "signals", "text"),
    },
    "runtime": {"aio", "buffer", "config", "errors", "frames", "producer", "trust"},
    "calls": {
        *("aio", "buffer", "config", "errors", "messages"),
        *("producer", "runtime", "text", "tracing", "trust", "visitor"),
    },
    "importing": {
        *("buffer", "compression", "config", "errors", "files"),
        *("messages", "producer", "runtime"),
    },
    "worker": {
        *("buffer", "calls", "config", "delivery", "errors"),
        *("frames", "messages", "producer", "runtime", "text", "version"),
    },
    "operations": {
        *("aio", "buffer", "calls", "config", "delivery", "errors", "files"),
        *("messages", "producer", "runtime", "text", "worker"),
    },
    # The package itself: the door.
    "": {"buffer", "calls", "config", "errors", "operations", "signals", "version", "worker"},
    "analytics": {
        *("calls", "config", "errors", "messages", "operations"),
        *("producer", "runtime", "version"),
    },
    "testing": {
        *("config", "errors", "events", "messages", "operations"),
        *("producer", "runtime", "text"),
    },
    "web": {
        *("buffer", "config", "errors", "events", "messages", "operations"),
        *("runtime", "testing", "text"),
    },
    "testing.__main__": {"errors", "web"},
    "cli": {
        *("config", "errors", "events", "importing", "messages"),
        *("operations", "producer", "runtime", "text", "web", "worker"),
    },
    "contrib": {
        *("", "aio", "buffer", "config", "errors", "frames", "operations"),
        *("producer", "runtime", "signals", "text", "visitor", "web"),
    },
    "demo": {
        *("", "calls", "config", "contrib", "errors", "operations"),
        *("runtime", "testing", "web"),
    },
}
PROGRAM = "testing.__main__"
#: What stands on top of the door; a web process imports of it what it names itself.
ON_TOP = {"analytics", "testing", "web", PROGRAM, "cli", "contrib", "demo"}

HTTP = {"requests", "urllib3", "http", "httpx", "aiohttp"}
SPEAKS_HTTP = {
    f"celery_segment.delivery.{name}" for name in ("transport", "deadline", "socks_proxy")
}
#: It asks another API, for a person who waits.
SPEAKS_HTTP |= {"celery_segment.events.plan.public_api"}


def modules():
    """Every module's dotted name and file."""
    found = {}
    for path in sorted(ROOT.rglob("*.py")):
        parts = path.relative_to(ROOT).with_suffix("").parts
        parts = parts[:-1] if parts[-1] == "__init__" else parts
        found[".".join((PACKAGE, *parts))] = path
    return found


MODULES = modules()


def imports_of(name):
    """The dotted names that a module imports, anywhere in it, but for type checking."""
    nodes = list(ast.walk(ast.parse(MODULES[name].read_text("utf-8"))))
    typing_only = {
        node
        for branch in nodes
        if isinstance(branch, ast.If) and "TYPE_CHECKING" in ast.unparse(branch.test)
        for statement in branch.body
        for node in ast.walk(statement)
    }
    found = set()
    for node in nodes:
        if node in typing_only:
            continue
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{name} has a relative import, which this test does not follow"
            for alias in node.names:
                inner = f"{node.module}.{alias.name}"
                found.add(inner if inner in MODULES else node.module)
        elif isinstance(node, ast.Call) and ast.unparse(node.func).endswith("import_module"):
            assert isinstance(node.args[0], ast.Constant), f"{name} imports what it is told to"
            found.add(node.args[0].value)
    return found


@cache
def all_imports():
    """What each module imports; read when the first test asks, and not where tests are listed."""
    return {name: imports_of(name) for name in MODULES}


def part_of(name):
    """The part of the library that a module belongs to: "" is the door.

    ``python -m celery_segment.testing`` is a program, which nothing imports. It shows the pages of
    ``web``, which themselves show what ``testing`` receives: it is a part of its own above both.
    """
    if name == f"{PACKAGE}.{PROGRAM}":
        return PROGRAM
    return name.removeprefix(PACKAGE).lstrip(".").partition(".")[0]


def parts_imported_by(part):
    return {
        part_of(imported)
        for name, imported_names in all_imports().items()
        if part_of(name) == part
        for imported in imported_names
        if imported.partition(".")[0] == PACKAGE and part_of(imported) != part
    }


def reached_from(name, but_by=None):
    """All modules of the library that a module reaches, however indirectly, but by one of them."""
    reached, todo = {but_by}, {name}
    while todo:
        module = todo.pop()
        reached.add(module)
        todo |= {i for i in all_imports().get(module, ()) if i in MODULES} - reached
    return reached - {name, but_by}


def importers_of(*libraries):
    return {
        name
        for name, imported in all_imports().items()
        if {i.partition(".")[0] for i in imported} & set(libraries)
    }


def test_the_walk_sees_what_there_is():
    assert {f"{PACKAGE}.{part}".rstrip(".") for part in LAYERS} <= set(MODULES)
    # Inside a function, of a package, of a member that is a module, of one that is not.
    assert "celery_segment.delivery.attempt" in all_imports()["celery_segment.worker.stint"]
    assert "celery_segment.delivery.transport" in all_imports()["celery_segment.delivery.attempt"]
    assert "celery_segment.messages" in all_imports()["celery_segment.calls.api"]
    assert "celery_segment.errors" in all_imports()["celery_segment"]
    assert "celery_segment.delivery.transport" in reached_from("celery_segment.worker.tasks")


@pytest.mark.parametrize("part", LAYERS)
def test_each_part_imports_only_what_is_below_it(part):
    assert parts_imported_by(part) == LAYERS[part]


def test_the_layers_are_all_parts_in_an_order():
    assert set(LAYERS) == {part_of(name) for name in MODULES}
    below = set()
    for part, imported in LAYERS.items():
        assert imported <= below, part
        below.add(part)


def test_only_what_delivers_or_checks_reaches_the_delivery():
    inside = {name for name in MODULES if part_of(name) == "delivery"}
    importers = {name for name, imported in all_imports().items() if imported & inside} - inside
    assert importers == {
        "celery_segment.worker.bootsteps",
        "celery_segment.worker.inprocess",
        "celery_segment.worker.stint",
        "celery_segment.operations.remote",
        "celery_segment.operations.findings",
    }


@pytest.mark.parametrize("name", ["calls.api", "operations.source", "runtime", "analytics"])
def test_the_web_process_never_reaches_the_delivery(name):
    # Analytics.deliver and a flush within a task load it when they are called.
    reached = reached_from(f"{PACKAGE}.{name}", but_by=f"{PACKAGE}.worker.inprocess")
    assert not {part_of(module) for module in reached} & {"delivery", "worker", *ON_TOP} - {name}


@pytest.mark.parametrize("name", ["serving", "django.middleware", "flask", "asgi"])
def test_nor_do_the_integrations(name):
    reached = reached_from(f"{PACKAGE}.contrib.{name}")
    assert not {part_of(module) for module in reached} & ({"delivery", *ON_TOP} - {"contrib"})


def test_only_the_transport_speaks_http():
    # http.HTTPStatus is a table of names.
    names = {"celery_segment.delivery.outcome", "celery_segment.text"}
    names |= {"celery_segment.delivery.oauth.grant", "celery_segment.contrib.django.panel"}
    importers = importers_of(*HTTP) - names
    assert {name for name in importers if part_of(name) != "testing"} == SPEAKS_HTTP


def test_only_the_buffers_pool_speaks_to_redis():
    importers = {name for name in importers_of("redis") if part_of(name) != "testing"}
    assert importers == {
        *("celery_segment.buffer.address", "celery_segment.buffer.pool"),
        "celery_segment.buffer.loop_connection",
        *("celery_segment.buffer.topology.asking", "celery_segment.buffer.topology.cluster"),
    }


@pytest.mark.parametrize(
    "name", ["delivery.request", "delivery.outcome", "delivery.oauth.grant", "messages"]
)
def test_what_decides_does_no_io(name):
    reached = {f"{PACKAGE}.{name}", *reached_from(f"{PACKAGE}.{name}")} - {
        module for module in MODULES if part_of(module) == "buffer"
    }
    imported = {i.partition(".")[0] for module in reached for i in all_imports()[module]}
    assert not imported & {"requests", "urllib3", "redis", "socket", "ssl", "subprocess"}


def loaded_by(statement):
    program = f"{statement}\nimport json, sys\nprint(json.dumps(sorted(sys.modules)))"
    run = subprocess.run([sys.executable, "-c", program], capture_output=True, check=True)
    return set(json.loads(run.stdout))


def test_a_web_process_loads_no_more_than_it_needs():
    loaded = loaded_by("import celery_segment")
    assert "celery_segment.calls.api" in loaded
    # click, and what there is of Django, are loaded by Celery.
    unneeded = {"requests", "urllib3", "rich", "isal", "flask", "django.conf"}
    unneeded |= {"prometheus_client", "opentelemetry", "asyncio"}
    assert not loaded & unneeded
    # Of the events, only an application that has some, or a tracking plan, loads any.
    parts = (*ON_TOP, "events", "delivery", "worker.bootsteps")
    on_top = {f"{PACKAGE}.{part}" for part in parts}
    assert not loaded & on_top


def test_the_drop_in_loads_no_more_than_the_calls():
    loaded = loaded_by("import celery_segment.analytics")
    assert not loaded & {"requests", "urllib3", "segment", f"{PACKAGE}.delivery"}
    own = {name for name in MODULES if part_of(name) == "analytics"}
    assert own <= loaded
    assert loaded & set(MODULES) == own | (loaded_by("import celery_segment") & set(MODULES))


def test_a_call_loads_no_http_client_either():
    loaded = loaded_by(
        "from celery import Celery\n"
        "app = Celery('web', broker='redis://localhost:1/0')\n"
        "app.conf.segment_enabled = False\n"
        "import celery_segment\n"
        "celery_segment.track.delay(user_id='u', event='E')"
    )
    assert "celery_segment.calls.api" in loaded
    assert not loaded & {"requests", "urllib3", "rich", "isal", "celery_segment.delivery"}


#: Lines that a module, and a function without its docstring, may have.
MODULE_LINES, FUNCTION_LINES = 350, 40


def test_modules_and_functions_fit_on_a_few_screens():
    too_long = []
    for name, path in MODULES.items():
        text = path.read_text("utf-8")
        if len(text.splitlines()) > MODULE_LINES:
            too_long.append(name)
        for node in ast.walk(ast.parse(text)):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                documented = ast.get_docstring(node, clean=False) is not None
                doc = node.body[0].end_lineno - node.body[0].lineno + 1 if documented else 0
                if node.end_lineno - node.lineno + 1 - doc > FUNCTION_LINES:
                    too_long.append(f"{name}.{node.name}")
    assert not too_long
