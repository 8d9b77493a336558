"""Turn values into HTML: the templates, and how they write numbers, times and foreign texts.

Templates escape whatever they are given. What may come from outside goes through ``text`` or
``json`` besides: no control character and no mark that turns the direction of writing reaches a
page.
"""

from __future__ import annotations

from contextlib import suppress
from datetime import datetime, timezone
from time import time
from typing import Any

import msgspec
from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from celery_segment.text import brief_duration, counted, duration, one_line

__all__ = ["ENVIRONMENT", "compact", "safe_json"]

#: Seconds from which on a duration is written without its fractions.
_WHOLE = 10.0
_KILO = 1_000
#: The least rate that is told exactly.
_LEAST_RATE = 0.1


def safe_json(data: bytes | str) -> str:
    """Return JSON, indented, with escapes for each character that is not shown as itself."""
    text = data.decode("utf-8", "replace") if isinstance(data, bytes) else data
    with suppress(msgspec.DecodeError):  # else it is shown as it is
        text = msgspec.json.format(text, indent=2)
    return "".join(c if c in "\n " or c.isprintable() else _escape(c) for c in text)


def _escape(character: str) -> str:
    return "".join(
        f"\\u{int.from_bytes(pair, 'big'):04x}"
        for pair in _pairs(character.encode("utf-16-be", "surrogatepass"))
    )


def _pairs(data: bytes) -> list[bytes]:
    return [data[n : n + 2] for n in range(0, len(data), 2)]


def compact(seconds: float | None) -> str:
    """Return a duration that may be short: "84 ms", "1.2 s", "3 min 20 s"; "-" for none."""
    return "-" if seconds is None else brief_duration(seconds)


def _time(at: float) -> Markup:
    """Return a time of UTC, which the page's script writes as the visitor's own."""
    when, stamp = _when(at)
    return Markup('<time datetime="{}">{:%Y-%m-%d %H:%M:%S} UTC</time>').format(stamp, when)


def _ago(at: float) -> Markup:
    """Return how long ago a time was: "3 min 20 s ago"; its title is the time."""
    when, stamp = _when(at)
    text = f"{duration(max(time() - at, 0))} ago"
    return Markup('<time datetime="{}" title="{:%Y-%m-%d %H:%M:%S} UTC" data-ago>{}</time>').format(
        stamp, when, text
    )


def _when(at: float) -> tuple[datetime, str]:
    when = datetime.fromtimestamp(at, timezone.utc)
    return when, f"{when:%Y-%m-%dT%H:%M:%S.%fZ}"


def _short(at: float) -> Markup:
    """Return the time of day: "14:05"; the page's script writes it as the visitor's own."""
    when, stamp = _when(at)
    return Markup('<time datetime="{}" data-short>{:%H:%M}</time>').format(stamp, when)


def _clock(at: float) -> Markup:
    """Return the time of day, to the millisecond, which the page's script writes as local time."""
    when, stamp = _when(at)
    text = f"{when:%H:%M:%S}.{when.microsecond // 1000:03d}"
    return Markup('<time datetime="{}" data-clock>{}</time>').format(stamp, text)


def _size(count: int) -> str:
    """Return a size in the largest unit that fits: "512 B", "1.3 kB", "20.5 MB"."""
    size, units = float(count), ["B", "kB", "MB", "GB"]
    while size >= _KILO and len(units) > 1:
        size, units = size / _KILO, units[1:]
    return f"{count:,} B" if units[0] == "B" else f"{size:,.1f} {units[0]}"


def _rate(number: float) -> str:
    if 0 < number < _LEAST_RATE:
        return f"<{_LEAST_RATE}/s"
    return f"{number:,.0f}/s" if number >= _WHOLE or not number else f"{number:.1f}/s"


def _text(value: Any) -> Markup:
    """Return a foreign text as one line whose direction does not reach what is beside it."""
    return Markup("<bdi>{}</bdi>").format(one_line(str(value)))


ENVIRONMENT = Environment(
    loader=PackageLoader("celery_segment.web"),
    autoescape=True,
    undefined=StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
)
ENVIRONMENT.filters.update(
    number=lambda number: f"{number:,}",
    ago=_ago,
    clock=_clock,
    short=_short,
    counted=counted,
    duration=duration,
    compact=compact,
    json=safe_json,
    rate=_rate,
    size=_size,
    text=_text,
    time=_time,
)
