"""How the requests of a source are authorized: by its write key, or by tokens of OAuth."""

from __future__ import annotations

from typing import Protocol

from celery_segment.config import Source, WriteKey
from celery_segment.delivery.answer import Unauthorized
from celery_segment.delivery.authorization import Authorization, by_write_key

__all__ = ["Authority", "authority_of"]


class Authority(Protocol):
    """What authorizes the requests of a source."""

    def authorize(self) -> Authorization | Unauthorized:
        """Return the authorization of the next request, or why there is none."""

    def is_refused(self, status: int) -> bool:
        """Note an answer's status; return whether to make the request again, authorized anew."""


class _ByWriteKey:
    def __init__(self, write_key: WriteKey) -> None:
        self._authorization = by_write_key(write_key)

    def authorize(self) -> Authorization:
        return self._authorization

    def is_refused(self, status: int) -> bool:  # noqa: ARG002 - there is no other authorization
        return False


def authority_of(source: Source, write_key: WriteKey) -> Authority:
    """Return what authorizes the requests of a source."""
    if source.oauth is None:
        return _ByWriteKey(write_key)
    from celery_segment.delivery.oauth.authority import ByToken  # needs the extra

    return ByToken(source, source.oauth, write_key)
