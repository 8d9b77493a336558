"""What becomes of a request: an answer, a failure, or no request at all."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

__all__ = ["Answer", "Failure", "Unauthorized"]


@dataclass(frozen=True, slots=True)
class Answer:
    """The endpoint's response.

    Attributes:
        status: The HTTP status.
        headers: The headers, by case-insensitive name.
        text: The start of the body, which may quote a message.
    """

    status: int
    headers: Mapping[str, str] = field(repr=False)
    text: str = field(default="", repr=False)


@dataclass(frozen=True, slots=True)
class Failure:
    """A request without a response.

    Attributes:
        cause: The error, for people.
        kind: A timeout, a TLS error, any other network error, or a configuration with which
            no request reaches the endpoint, such as that of a proxy.
    """

    cause: str
    kind: Literal["timeout", "tls", "network", "configuration"] = "network"


@dataclass(frozen=True, slots=True)
class Unauthorized:
    """No request: there is nothing that authorizes it.

    Attributes:
        cause: Why.
        wait: Seconds until there may be something; None if the configuration is refused.
    """

    cause: str
    wait: float | None = None
