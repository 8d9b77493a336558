"""Write docs/reference/settings.md from the settings' own declarations in celery_segment.config.

    python docs/make_settings.py > docs/reference/settings.md

A test holds the page to the code.
"""

from __future__ import annotations

import sys
from typing import Any

from celery_segment.config import Settings, Source, declared

INTRODUCTION = """\
# Settings

Keys of the Celery application's configuration; under Django's `namespace="CELERY"` they
are `CELERY_SEGMENT_FLUSH_AT` and so on. Each is checked when a worker starts and at a
process' first call: an unknown name is refused with the nearest one there is, a bad
value with what it must be. This page is made from `celery_segment.config`.

"""

SOURCES = """
## Sources

`segment_sources` maps the name of a source to its own settings, any of the second table
without the prefix; what an entry leaves out is the application's. The source `default`
is always there.

```python
segment_sources = {
    "marketing": {"write_key": os.environ["MARKETING_KEY"], "flush_at": 100},
    "eu": {"write_key": os.environ["EU_KEY"], "host": "https://events.eu1.segmentapis.com"},
}
```

A process that only calls needs the names of the sources and no keys. Write keys never
enter Redis, a task message, a log line, a `repr` or Flower.
"""


_KINDS = {
    "parsers.WriteKey": "str",
    "Callable[..., Any]": "callable",
    "Any": "task or callable",
}


def _rows(cls: Any) -> str:
    rows = ["| setting | type | default | |", "|---|---|---|---|"]
    for name, field in declared(cls).items():
        kind = str(field.type).replace(" | None", "")
        kind = _KINDS.get(kind, kind)
        show = field.metadata["show"]
        default = show if "`" in show or " " in show else f"`{show}`"
        rows.append(f"| `segment_{name}` | {kind} | {default} | {field.metadata['doc']} |")
    return "\n".join(rows)


def page() -> str:
    """Return the page's text."""
    return (
        f"{INTRODUCTION}## Of the application\n\n{_rows(Settings)}\n\n"
        f"## Of each source\n\n{_rows(Source)}\n{SOURCES}"
    )


if __name__ == "__main__":
    sys.stdout.write(page())
