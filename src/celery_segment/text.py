"""Format numbers, durations and texts for Flower, the commands and the logs."""

from __future__ import annotations

import json

__all__ = [
    "brief_duration",
    "counted",
    "duration",
    "http_phrase",
    "megabytes",
    "one_line",
    "printable",
]

_UNITS = (("d", 86_400), ("h", 3_600), ("min", 60), ("s", 1))


def counted(number: int, noun: str) -> str:
    """Return a number with its noun: "1 message", "1,234 messages", "2 batches"."""
    plural = "es" if noun.endswith(("ch", "ss")) else "s"
    return f"{number:,} {noun}" + ("" if number == 1 else plural)


def duration(seconds: float) -> str:
    """Return a duration in its two largest units: "45 s", "3 min 20 s", "2 d 4 h"."""
    left = round(seconds)
    parts: list[str] = []
    for unit, size in _UNITS:
        number, left = divmod(left, size)
        if number or parts:
            parts.append(f"{number} {unit}" if number else "")
    return " ".join(part for part in parts[:2] if part) or "0 s"


def brief_duration(seconds: float) -> str:
    """Return a duration that may be less than a second: "85 ms", "1.2 s", "3 min 20 s"."""
    if round(seconds, 3) < 1:
        return f"{seconds * 1000:.0f} ms"
    return f"{seconds:.1f} s" if round(seconds, 1) < 10 else duration(seconds)  # noqa: PLR2004


def megabytes(size: int) -> str:
    """Return a size in megabytes (10⁶ bytes): "12.3 MB"."""
    return f"{size / 1e6:,.1f} MB"


def http_phrase(status: int) -> str:
    """Return the phrase of an HTTP status, such as "Too Many Requests"; "" if it has none."""
    from http import HTTPStatus

    try:
        return HTTPStatus(status).phrase
    except ValueError:
        return ""


def one_line(text: str | bytes) -> str:
    """Return an untrusted text as one line without characters that control a terminal.

    Every text that comes from outside passes here before it gets into a log, an error, a task's
    result or a table: an endpoint's, a proxy's, a broker's, and whatever is read from Redis.
    """
    if isinstance(text, bytes):
        text = text.decode("utf-8", "replace")
    text = " ".join(text.split())
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in text)


def printable(text: str) -> str:
    """Return an equivalent JSON text without characters that control a terminal.

    JSON does not escape DEL, the C1 control characters, or marks that turn the direction of a text.
    """
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() or c == "\n" else json.dumps(c)[1:-1] for c in text)
