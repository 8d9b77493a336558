"""A stand-in for the part of Segment's Public API that gives tracking plans. A real HTTP server."""

from __future__ import annotations

import json
from urllib.parse import parse_qs, urlsplit

from celery_segment.testing.listener import Listener
from celery_segment.testing.reply import Reply

TOKEN = "sgp_t0k3n"


class PublicApiServer:
    """Gives tracking plans to who has the token, some rules to a page.

    Args:
        plans: The plans by their ids, in the form of the API.
        page: The most rules to a page.

    Attributes:
        requests: The path and query of each request.
        failing: The replies to the next requests, in place of the right ones.
    """

    def __init__(self, plans, page=2):
        self.plans, self.page = plans, page
        self.requests, self.failing, self.errors = [], [], []

    def __enter__(self):
        self._listener = Listener(("127.0.0.1", 0), self._answer, self.errors.append)
        self.url = f"http://127.0.0.1:{self._listener.server_port}"
        return self

    def __exit__(self, *_):
        self._listener.stop()
        assert not self.errors

    def _answer(self, _arrival, method, target, headers, _body):
        self.requests.append(target)
        if self.failing:
            return self.failing.pop(0)
        assert method == "GET"
        if headers["Authorization"] != f"Bearer {TOKEN}":
            return _error(401, "The token is not valid.")
        url = urlsplit(target)
        _, kind, plan, *rest = url.path.split("/")
        if kind != "tracking-plans" or plan not in self.plans:
            return _error(404, "No such plan.")
        content = self.plans[plan]
        if not rest:
            about = {key: value for key, value in content.items() if key != "rules"}
            return _json(200, {"data": {"trackingPlan": {**about, "updatedAt": "now"}}})
        query = parse_qs(url.query)
        assert 1 <= int(query["pagination.count"][0]) <= 200
        begin = int(query.get("pagination.cursor", ["0"])[0])
        end = begin + self.page
        rules = [{**rule, "createdAt": "then"} for rule in content["rules"][begin:end]]
        pagination = {"current": str(begin), "totalEntries": len(content["rules"])}
        if end < len(content["rules"]):
            pagination["next"] = str(end)
        return _json(200, {"data": {"rules": rules, "pagination": pagination}})


def _json(status, content, *headers):
    return Reply("api", code=status, body=json.dumps(content).encode(), headers=tuple(headers))


def _error(status, text, *headers):
    return _json(status, {"errors": [{"type": "error", "message": text}]}, *headers)


def busy(*headers):
    """The reply of an API that is asked too often."""
    return _error(429, "Too many requests.", *headers)
