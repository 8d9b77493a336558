"""Generate docs/reference/settings.md from the settings declared in celery_segment.config.

    python docs/make_settings.py > docs/reference/settings.md

A test checks that the page is up to date.
"""

from __future__ import annotations

import sys
from typing import Any

from celery_segment.config import Settings, Source, declared

INTRODUCTION = """\
# Settings

These settings belong to the configuration of your Celery application. In Django, with
`namespace="CELERY"`, `segment_flush_at` is written `CELERY_SEGMENT_FLUSH_AT`, and so on.

Settings are checked when a worker starts and when a process makes its first call. An
unknown name raises a `ConfigurationError` that suggests the closest known name; a bad value
raises one that says which values are allowed.

This page is generated from `celery_segment.config`.

"""

SOURCES = """
## Several sources

`segment_sources` maps the name of each source to its own settings: any source setting,
without the prefix `segment_`. A setting that an entry leaves out has the application's value.
The exception is `segment_write_key`, which is the key of the source `default` alone. That
source always exists.

```python
segment_sources = {
    "marketing": {"write_key": os.environ["MARKETING_KEY"], "flush_at": 100},
    "eu": {"write_key": os.environ["EU_KEY"], "host": "https://events.eu1.segmentapis.com"},
}
```

A process that only makes calls needs the names of the sources, but no write keys. Write
keys never appear in Redis, task messages, logs, a `repr` or Flower.
"""


_KINDS = {
    "parsers.WriteKey": "str",
    "parsers.SigningKey": "str",
    "OAuth": "dict",
    "Callable[..., Any]": "callable",
    "Any": "task or callable",
}


def _rows(cls: Any) -> str:
    rows = ["| setting | type | default | description |", "|---|---|---|---|"]
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
        f"{INTRODUCTION}## Application settings\n\n{_rows(Settings)}\n\n"
        f"## Source settings\n\n{_rows(Source)}\n{SOURCES}"
    )


if __name__ == "__main__":
    sys.stdout.write(page())
