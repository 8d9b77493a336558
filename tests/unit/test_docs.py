"""What the documents say of the code is made from it, or held to it."""

from __future__ import annotations

import importlib.util
import pkgutil
import re
import subprocess
import sys
from dataclasses import fields
from pathlib import Path
from types import ModuleType

import click
import pytest

import celery_segment
from celery_segment import events, signals, testing, visitor
from celery_segment.analytics import Client
from celery_segment.analytics.source import WORKERS_SETTINGS
from celery_segment.contrib import asgi, flask
from celery_segment.contrib.django import apps, middleware
from celery_segment.web import debugger
from celery_segment_cli import segment

ROOT = Path(__file__).parents[2]
GUARANTEES, CONTRIBUTING = ROOT / "docs/explanation/guarantees.md", ROOT / "CONTRIBUTING.md"


def test_the_settings_page_is_the_one_that_the_code_makes():
    spec = importlib.util.spec_from_file_location("make_settings", ROOT / "docs/make_settings.py")
    make_settings = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(make_settings)
    page = (ROOT / "docs/reference/settings.md").read_text("utf-8")
    mend = "run: python docs/make_settings.py > docs/reference/settings.md"
    assert page == make_settings.page(), mend
    types = " ".join(re.findall(r"^\| `segment_\w+` \| ([^|]*) \|", page, re.MULTILINE))
    known = {"bool", "callable", "dict", "float", "int", "or", "str", "task", "tuple", "Any"}
    assert set(re.findall(r"[\w.]*\w", types)) <= known, "types as users write them"


def test_the_tests_that_hold_the_guarantees_are_there():
    promised = re.findall(r"^\| (\d+) \|", GUARANTEES.read_text("utf-8"), re.MULTILINE)
    table = CONTRIBUTING.read_text("utf-8").partition("## Guarantees and their tests")[2]
    rows = re.findall(r"^\| (\d+) \|[^|]*\|(.*)\|$", table, re.MULTILINE)
    assert [number for number, _ in rows] == promised
    files = {path.name: path.read_text("utf-8") for path in (ROOT / "tests").rglob("*.py")}
    source = "\n".join(files.values())
    for number, held_by in rows:
        names = re.findall(r"`(test_\w+\.py|test_\w+|Test\w+)`", held_by)
        assert names, f"nothing holds guarantee {number}"
        for name in names:
            defined = re.search(rf"^ *(?:def|class) {name}\b", source, re.MULTILINE)
            assert name in files or defined, f"{name}, of guarantee {number}"


def test_the_readme_is_short():
    assert len((ROOT / "README.md").read_text("utf-8").splitlines()) < 120


def test_what_the_readme_names_for_django_is_there():
    names = re.findall(
        r'"(celery_segment\.contrib\.[\w.]+)"', (ROOT / "README.md").read_text("utf-8")
    )
    assert names
    for name in names:
        assert pkgutil.resolve_name(name)


def test_pages_link_to_pages_and_headings_that_are_there():
    pages = {
        path: path.read_text("utf-8") for path in [*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md")]
    }
    for path, text in pages.items():
        for target, anchor in re.findall(r"\]\((?!https?:)([^)#\s]*)(?:#([^)]*))?\)", text):
            page = (path.parent / target).resolve() if target else path
            assert page.exists(), f"{path.name} links to {target}"
            if anchor:
                headings = re.findall(r"^#+ (.+)$", pages[page], re.MULTILINE)
                slugs = {re.sub(r"[^\w -]", "", h.lower()).replace(" ", "-") for h in headings}
                assert anchor in slugs, f"{path.name} links to {target}#{anchor}"


def test_the_drop_in_page_says_what_each_option_means():
    page = (ROOT / "docs/how-to/drop-in.md").read_text("utf-8")
    assert len(page.splitlines()) < 150
    table = page.partition("## Options")[2].partition("\n## ")[0]
    rows = [row for row in table.splitlines() if row.startswith("| `")]
    for field in fields(Client):
        if field.name not in {"write_key", "source", "app"} and not field.name.startswith("oauth_"):
            (row,) = (row for row in rows if f"`{field.name}" in row.split("|")[1])
            if field.name in WORKERS_SETTINGS:
                assert f"`segment_{WORKERS_SETTINGS[field.name]}`" in row


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    """The site as `make docs` builds it."""
    folder = tmp_path_factory.mktemp("site")
    command = [sys.executable, "-m", "sphinx", "-q", "-W", "--keep-going", ROOT / "docs", folder]
    built = subprocess.run(command, capture_output=True, text=True, check=False)
    assert built.returncode == 0, built.stderr
    return folder


@pytest.mark.parametrize(
    "module",
    [celery_segment, events, visitor, asgi, apps, debugger, flask, middleware, signals, testing],
    ids=lambda module: module.__name__,
)
def test_the_site_has_every_public_name(site, module):
    page = (site / "reference/api.html").read_text("utf-8")
    for name in set(module.__all__) - {"__version__"}:
        kind = "module-" if isinstance(getattr(module, name), ModuleType) else ""
        assert f'id="{kind}{module.__name__}.{name}"' in page


def test_the_site_has_every_command_and_option(site):
    page = (site / "reference/cli.html").read_text("utf-8")

    def look_for(command, path):
        for option in command.params:
            for flag in (flag for flag in option.opts if flag.startswith("--")):
                assert f'id="cmdoption-{path}-{flag.removeprefix("--")}"' in page
        for name, below in getattr(command, "commands", {}).items():
            look_for(below, f"{path}-{name}")

    context = click.Context(segment)
    for name in segment.list_commands(context):
        look_for(segment.get_command(context, name), f"celery-A-proj-segment-{name}")


@pytest.mark.parametrize("page", ["index", "explanation/performance"])
def test_what_is_written_outside_of_docs_is_a_page_of_the_site(site, page):
    html = (site / f"{page}.html").read_text("utf-8")
    assert re.search(r'href="(explanation/)?results.html"><span class="std', html)
