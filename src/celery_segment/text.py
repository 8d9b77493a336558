"""Numbers in words, for people: in Flower, in the commands."""

from __future__ import annotations

__all__ = ["counted"]


def counted(number: int, noun: str) -> str:
    """Return such as "1 message", "1,234 messages" or "2 batches"."""
    plural = "es" if noun.endswith("ch") else "s"
    return f"{number:,} {noun}" + ("" if number == 1 else plural)
