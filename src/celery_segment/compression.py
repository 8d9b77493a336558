"""Deflate and gzip, by ISA-L if it is installed, otherwise by zlib.

ISA-L takes a tenth of zlib's time. Both are imported when they are first used, since a web
process compresses nothing.
"""

from __future__ import annotations

import zlib
from functools import cache
from types import ModuleType
from typing import Any

__all__ = ["deflate", "gzip"]


@cache
def deflate() -> ModuleType:
    """Return a module with zlib's functions: ISA-L's, or zlib where ISA-L has no wheel."""
    try:
        from isal import isal_zlib
    except ImportError:
        return zlib
    return isal_zlib


@cache
def gzip() -> Any:
    """Return a module with gzip's classes: ISA-L's, or Python's own."""
    try:
        from isal import igzip
    except ImportError:
        import gzip as standard_gzip

        return standard_gzip
    return igzip
