"""Which of the callbacks that are stored in the buffer may run.

They are stored beside the messages, in the buffer's Redis, and run by a worker. Whoever may
write there could store callbacks of their own. So they are signed where there is a key
(``segment_signing_key``). Without one, they run where the buffer is on the broker's server, by
the same user: who may write to the one may publish tasks through the other. Elsewhere only tasks
run that ``segment_allowed_callbacks`` names.
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Iterator, Mapping
from typing import Any

from celery_segment.config import Settings
from celery_segment.errors import ConfigurationError

__all__ = ["Trust"]

#: What precedes a signed content, and what it is signed for.
_MARK = b"signed:"
_CALLBACKS, _MESSAGE, _VISITOR = b"callbacks", b"message", b"visitor"
_FINGERPRINT = b"fingerprint"
#: Hexadecimal digits of a key's fingerprint. Two keys differ in it but once in 65,536 times. It is
#: the same at each request and so short, so that whoever sees it, or asks for it ever again, can
#: rule out guesses of the key, and yet never confirm one.
_DIGITS = 4
#: What Celery's canvas runs by itself: the tasks in it count.
_CANVAS = frozenset(("celery.chain", "celery.group", "celery.chord"))

_HINT = (
    "set SEGMENT_SIGNING_KEY in this process and in the workers, or list the tasks in"
    " segment_allowed_callbacks"
)


class Trust:
    """Signs what is stored, and tells whether what is read may run.

    Args:
        settings: The application's settings.

    Attributes:
        allowed: The names of the tasks that unsigned callbacks may run.
        trusts_all: Whether they may run any task.
    """

    def __init__(self, settings: Settings) -> None:
        key = settings.signing_key
        # The first signs; while a key is replaced, the former is accepted as well.
        self._keys = [] if key is None else [each.encode() for each in key.reveal().split(",")]
        self.allowed = frozenset(settings.allowed_callbacks)
        self.trusts_all = not self._keys and settings.shares_broker

    @property
    def fingerprints(self) -> list[str]:
        """Fingerprints of the keys that are accepted; of the one that signs, the first."""
        return [_mac(key, _FINGERPRINT, b"")[:_DIGITS] for key in self._keys]

    def check(self, link: Any, link_error: Any, *, receipt: bool) -> None:
        """Raise ConfigurationError where a worker would not run what a call asks for."""
        if self._keys or self.trusts_all:
            return
        refused = sorted(set(self.refused_in([link, link_error])))
        if receipt or refused:
            what = f"the callback {refused[0]!r}" if refused else "a receipt (ignore_result=False)"
            raise ConfigurationError(
                f"{what} needs a signature: the buffer's Redis is not the broker's server",
                hint=_HINT,
            )

    def refused_in(self, signatures: Any) -> Iterator[str]:
        """Yield the names of the tasks that may not run unsigned, of signatures and in them."""
        if isinstance(signatures, list | tuple):
            for each in signatures:
                yield from self.refused_in(each)
        elif isinstance(signatures, Mapping):
            if "task" in signatures and not self._is_allowed(signatures["task"]):
                yield str(signatures["task"])
            yield from self.refused_in(list(signatures.values()))

    def _is_allowed(self, name: Any) -> bool:
        return isinstance(name, str) and name in self.allowed | _CANVAS

    def seal(self, content: bytes) -> bytes:
        """Return callbacks as they are stored."""
        if not self._keys:
            return content
        return b"%b%b:%b" % (_MARK, self._signature(_CALLBACKS, content).encode(), content)

    def open(self, stored: bytes) -> tuple[bytes, bool]:
        """Return what ``seal`` sealed, and whether all of it may run."""
        if not stored.startswith(_MARK):
            return stored, self.trusts_all
        signature, _, content = stored[len(_MARK) :].partition(b":")
        is_ours = self._is_signed(_CALLBACKS, content, signature.decode("ascii", "replace"))
        return content, self.trusts_all or is_ours

    def signature_of(self, message: bytes) -> str:
        """Return the signature of a message that is sent through the broker; "" without a key."""
        return self._signature(_MESSAGE, message) if self._keys else ""

    def is_prepared(self, message: bytes, signature: Any) -> bool:
        """Return whether a message that came through the broker was prepared by a call.

        Without a key, who may publish it may publish any other task.
        """
        return not self._keys or self._is_signed(_MESSAGE, message, str(signature))

    def signature_of_visitor(self, task_id: str, content: bytes) -> str:
        """Return the signature of the visitor that a task's message carries; "" without a key."""
        return self._signature(_VISITOR, _of_task(task_id, content)) if self._keys else ""

    def is_visitor(self, task_id: str, content: bytes, signature: str) -> bool:
        """Return whether the visitor that a task's message carries is that of its publisher.

        Without a key, who may publish it may publish any other task.
        """
        return not self._keys or self._is_signed(_VISITOR, _of_task(task_id, content), signature)

    def _signature(self, what: bytes, content: bytes) -> str:
        return _mac(self._keys[0], what, content)

    def _is_signed(self, what: bytes, content: bytes, signature: str) -> bool:
        given = signature.encode()
        return any(
            hmac.compare_digest(_mac(key, what, content).encode(), given) for key in self._keys
        )


def _of_task(task_id: str, content: bytes) -> bytes:
    return b"%b:%b" % (task_id.encode(), content)


def _mac(key: bytes, what: bytes, content: bytes) -> str:
    return hmac.new(key, what + b":" + content, hashlib.sha256).hexdigest()
