"""What the documents say of the code is made from it, or held to it."""

from __future__ import annotations

import importlib.util
import re
from dataclasses import fields
from pathlib import Path

from celery_segment.analytics import Client
from celery_segment.analytics.source import WORKERS_SETTINGS

ROOT = Path(__file__).parents[2]


def test_the_settings_page_is_the_one_that_the_code_makes():
    spec = importlib.util.spec_from_file_location("make_settings", ROOT / "docs/make_settings.py")
    make_settings = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(make_settings)
    page = (ROOT / "docs/reference/settings.md").read_text("utf-8")
    mend = "run: python docs/make_settings.py > docs/reference/settings.md"
    assert page == make_settings.page(), mend


def test_the_readme_is_short():
    assert len((ROOT / "README.md").read_text("utf-8").splitlines()) < 120


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
