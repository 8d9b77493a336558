"""Hooks that tests name by their dotted paths, for workers to import."""

from __future__ import annotations


def shout(message):
    """Show how often it was applied, and take what is secret out."""
    if message["type"] == "track":
        message["event"] += "!"
        message.get("properties", {}).pop("password", None)
    return message
