"""Get a tracking plan from Segment's Public API."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import Any
from urllib.parse import quote

from celery_segment.errors import ConfigurationError, SegmentError
from celery_segment.text import one_line

__all__ = ["REGIONS", "PublicApi", "PullFailed"]

#: The addresses of the API, by region.
REGIONS = {"us": "https://api.segmentapis.com", "eu": "https://eu1.api.segmentapis.com"}
TOKEN = "SEGMENT_PUBLIC_API_TOKEN"  # noqa: S105 - the name of an environment variable
#: Rules to a page: the most that the API allows.
_PAGE = 200
#: Seconds for which a request may take, and waits for an API that is busy in all.
_TIMEOUT, _PATIENCE = 30.0, 300.0
#: Seconds to wait where the answer does not say for how long, and the least.
_WAIT, _LEAST = 5.0, 0.05
_BUSY, _SERVER_ERROR = 429, 500


class PullFailed(SegmentError):  # noqa: N818 - a state
    """The Public API does not give a plan."""


class PublicApi:
    """Segment's Public API.

    Args:
        url: Its address.
        token: The token, which is in no error.
        sleep: Waits for some seconds.
    """

    def __init__(self, url: str, token: str, sleep: Callable[[float], object] = time.sleep) -> None:
        if not token.strip().isascii() or not token.strip().isprintable() or not token.strip():
            raise ConfigurationError(
                f"{TOKEN} must be a token of the Public API",
                hint="create one in Segment under Settings, Access Management, Tokens",
            )
        self._url, self._token, self._sleep = url.rstrip("/"), token.strip(), sleep
        self._patience = _PATIENCE

    def pull(self, plan: str) -> dict[str, Any]:
        """Return a tracking plan with all its rules, as ``read_plan`` reads it.

        What differs from one time to another, such as when it was looked at, is left out.

        Args:
            plan: The plan's id.

        Raises:
            PullFailed: The API cannot be reached, refuses the token, or has no such plan.
        """
        import requests

        path = f"/tracking-plans/{quote(plan, safe='')}"
        with requests.Session() as session:
            about = self._get(session, path, {}).get("trackingPlan") or {}
            rules: list[Any] = []
            cursors, cursor = set(), ""
            while cursor not in cursors:
                cursors.add(cursor)
                query = {"pagination.count": str(_PAGE)}
                query |= {"pagination.cursor": cursor} if cursor else {}
                data = self._get(session, f"{path}/rules", query)
                rules += data.get("rules") or []
                cursor = (data.get("pagination") or {}).get("next") or ""
        kept = ("id", "name", "description", "type")
        return {
            **{key: about[key] for key in kept if about.get(key)},
            "rules": sorted(map(_rule, rules), key=_place),
        }

    def _get(self, session: Any, path: str, query: Mapping[str, str]) -> dict[str, Any]:
        """Return the data of an answer; wait where the API is busy."""
        while True:
            response = self._answer(session, path, query)
            if response.status_code == _BUSY or response.status_code >= _SERVER_ERROR:
                self._wait(response)
                continue
            if not response.ok:
                raise self._refusal(response)
            try:
                data = response.json()["data"]
            except (ValueError, KeyError, TypeError):
                data = None
            if not isinstance(data, dict):
                raise PullFailed(f"{self._url} does not answer as the Public API does")
            return data

    def _answer(self, session: Any, path: str, query: Mapping[str, str]) -> Any:
        import requests

        headers = {"Authorization": f"Bearer {self._token}", "Accept": "application/json"}
        try:
            return session.get(
                f"{self._url}{path}",
                params=query,
                headers=headers,
                timeout=_TIMEOUT,
                allow_redirects=False,  # another server is not to get the token
            )
        except requests.RequestException as error:
            raise PullFailed(
                f"{self._url} cannot be reached: {type(error).__name__}",
                hint="check the network, the proxy and --region",
            ) from None

    def _wait(self, response: Any) -> None:
        """Wait for as long as an answer asks for."""
        seconds = _seconds(response.headers)
        if seconds > self._patience:
            raise PullFailed(
                f"{self._url} answers {response.status_code}, and asks to wait for {seconds:g} s",
                hint="try again later",
            )
        self._patience -= seconds
        self._sleep(seconds)

    def _refusal(self, response: Any) -> PullFailed:
        status = response.status_code
        try:
            said = one_line(str(response.json()["errors"][0]["message"]))[:200]
        except (ValueError, KeyError, TypeError, IndexError):
            said = ""
        said = f" ({said})" if said and self._token not in said else ""
        return PullFailed(f"{self._url} answers {status}{said}", hint=_HINTS.get(status, ""))


_HINTS = {
    401: f"{TOKEN} is not a token of this workspace and region: check it, and --region",
    403: f"{TOKEN} may not read tracking plans: create one that may",
    404: "there is no tracking plan with this id in the token's workspace: the id is in the address"
    " of its page, and begins with tp_ or rs_",
}


def _seconds(headers: Mapping[str, str]) -> float:
    """Return for how many seconds an answer asks to wait."""
    for name in ("Retry-After", "X-RateLimit-Reset"):
        try:
            seconds = float(headers[name])
        except (KeyError, ValueError):
            continue
        if seconds > 1e9:  # noqa: PLR2004 - a Unix time
            seconds -= time.time()
        return max(seconds, _LEAST)
    return _WAIT


def _rule(rule: Any) -> Any:
    """Return what is read of a rule."""
    if not isinstance(rule, dict):
        return rule
    return {key: rule[key] for key in ("type", "key", "version", "jsonSchema") if key in rule}


def _place(rule: Any) -> tuple[str, str, float]:
    """Return by what rules are sorted, so that a plan is the same each time."""
    given = rule if isinstance(rule, dict) else {}
    version = given.get("version")
    number = float(version) if isinstance(version, int | float) else 0.0
    return str(given.get("type", "")), str(given.get("key", "")), number
