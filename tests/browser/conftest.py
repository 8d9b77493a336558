"""The system's Chromium, without a screen; no browser is downloaded."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest
from playwright.sync_api import sync_playwright

#: Besides Playwright's own: nothing but the page that is opened is asked for.
ARGUMENTS = ["--disable-gpu", "--disable-quic", "--disable-sync", "--no-first-run"]
if os.geteuid() == 0:  # whose processes Chromium does not confine
    ARGUMENTS.append("--no-sandbox")


@pytest.fixture(scope="session")
def browser():
    program = os.environ.get("CHROMIUM") or shutil.which("chromium")
    assert program, "no Chromium: see make browser"
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=program, args=ARGUMENTS)
        yield browser
        browser.close()


@pytest.fixture
def pictures(tmp_path):
    """The folder of the screenshots: SCREENSHOTS, where the documents want new ones."""
    return Path(os.environ.get("SCREENSHOTS") or tmp_path)
