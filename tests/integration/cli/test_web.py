"""`segment web`: what it refuses before it serves anything."""

from __future__ import annotations

import socket

import pytest

from commands import failed, run


@pytest.mark.parametrize("address", ["0.0.0.0", "::", "192.0.2.1", "example.com"])  # noqa: S104
def test_an_address_that_others_reach_needs_a_password(app, monkeypatch, address):
    monkeypatch.setenv("SEGMENT_WEB_PASSWORD", "")
    result = run(app, "web", "--address", address)
    assert result.exit_code == 2
    assert f"Other hosts reach {address}: set SEGMENT_WEB_PASSWORD" in result.stderr


def test_a_port_that_is_taken(app):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        said = failed(app, "web", "--port", str(port))
    assert said.startswith(
        f"Error: cannot listen on 127.0.0.1, port {port}: Address already in use"
    )


def test_an_address_that_is_none(app, monkeypatch):
    monkeypatch.setenv("SEGMENT_WEB_PASSWORD", "geheim")
    said = failed(app, "web", "--address", "nowhere.invalid")
    assert said.startswith("Error: cannot listen on nowhere.invalid, port 5556: ")
    assert "geheim" not in said


def test_a_wrong_setting_is_told_before_the_first_visitor(make_app):
    said = failed(make_app(segment_flush_at="many"), "web")
    assert "segment_flush_at" in said
