"""The style sheet and the script of the pages. They ask no other host for anything."""

from __future__ import annotations

from functools import cache
from hashlib import sha256
from importlib.resources import files
from types import MappingProxyType

from werkzeug.exceptions import NotFound
from werkzeug.wrappers import Response

__all__ = ["digest_of", "respond_with_asset"]

_TYPES = MappingProxyType({"pages.css": "text/css", "pages.js": "text/javascript"})
#: The address of an asset changes with its content.
_YEAR = 31_536_000


def digest_of(name: str) -> str:
    """Return what stands for an asset's content in its address."""
    return sha256(_content(name)).hexdigest()[:12]


def respond_with_asset(name: str) -> Response:
    """Return an asset.

    Raises:
        NotFound: There is none of this name.
    """
    if name not in _TYPES:
        raise NotFound
    response = Response(_content(name), mimetype=_TYPES[name])
    response.cache_control.public = response.cache_control.immutable = True
    response.cache_control.max_age = _YEAR
    return response


@cache
def _content(name: str) -> bytes:
    return files("celery_segment.web").joinpath("static").joinpath(name).read_bytes()
