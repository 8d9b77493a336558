"""Authorize the requests of a source by tokens."""

from __future__ import annotations

from celery_segment.config import OAuth, Source, WriteKey
from celery_segment.delivery.answer import Unauthorized
from celery_segment.delivery.authorization import Authorization, by_token
from celery_segment.delivery.oauth.tokens import Token, tokens_of

__all__ = ["ByToken"]

#: Statuses with which Segment refuses a token.
REFUSED = frozenset({401, 403, 511})


class ByToken:
    """Authorizes the requests of a source by the tokens of this process.

    Args:
        source: The source.
        oauth: Its credentials.
        write_key: Its write key, by which Segment knows the source.
    """

    def __init__(self, source: Source, oauth: OAuth, write_key: WriteKey) -> None:
        self._source = source
        self._write_key = write_key
        self._tokens = tokens_of(source, oauth)
        self._text = ""

    def authorize(self) -> Authorization | Unauthorized:
        """Return the authorization by a valid token, or why there is none."""
        found = self._tokens.get(self._source)
        if not isinstance(found, Token):
            return found
        self._text = found.text
        return by_token(found.text, self._write_key)

    def is_refused(self, status: int) -> bool:
        """Forget the token where it is refused: another one may do."""
        if status not in REFUSED:
            return False
        self._tokens.forget(self._text)
        return True
