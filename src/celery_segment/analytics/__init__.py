"""Segment's Python library, with the same names: ``import celery_segment.analytics as analytics``.

::

    analytics.write_key = "YOUR_WRITE_KEY"
    analytics.track("019mr8mf4r", "Item Purchased", {"revenue": 39.95})

The settings below are read when the first call creates ``default_client``. Set
``default_client`` to None to have them read again.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import fields
from typing import Concatenate, ParamSpec, TypeVar

from celery_segment.analytics.client import Client
from celery_segment.config import DEFAULT_SOURCE
from celery_segment.version import __version__

__all__ = [
    "Client",
    "__version__",
    "alias",
    "flush",
    "group",
    "identify",
    "join",
    "page",
    "screen",
    "shutdown",
    "track",
]

P = ParamSpec("P")
R = TypeVar("R")

#: Name of the source in segment_sources; by default the source is found by the write key.
source = Client.source
write_key = Client.write_key
host = Client.host
debug = Client.debug
max_queue_size = Client.max_queue_size
send = Client.send
on_error = Client.on_error
gzip = Client.gzip
max_retries = Client.max_retries
sync_mode = Client.sync_mode
timeout = Client.timeout
proxies = Client.proxies
thread = Client.thread
upload_size = Client.upload_size
upload_interval = Client.upload_interval
log_handler = Client.log_handler
oauth_client_id = Client.oauth_client_id
oauth_client_key = Client.oauth_client_key
oauth_key_id = Client.oauth_key_id
oauth_auth_server = Client.oauth_auth_server
oauth_scope = Client.oauth_scope
max_total_backoff_duration = Client.max_total_backoff_duration
max_rate_limit_duration = Client.max_rate_limit_duration

#: The client that the functions use, created by the first call.
default_client: Client | None = None


def _client() -> Client:
    global default_client  # noqa: PLW0603 - as in Segment's library, whose tests rely on it
    if default_client is None:
        options = {f.name: globals()[f.name] for f in fields(Client) if f.name in globals()}
        if not options["write_key"] and options["source"] is None:
            options["source"] = DEFAULT_SOURCE
        default_client = Client(**options)
    return default_client


def _function(method: Callable[Concatenate[Client, P], R]) -> Callable[P, R]:
    name = method.__name__

    def function(*args: P.args, **kwargs: P.kwargs) -> R:
        result: R = getattr(_client(), name)(*args, **kwargs)
        return result

    function.__name__ = function.__qualname__ = name
    function.__doc__ = method.__doc__
    return function


identify = _function(Client.identify)
track = _function(Client.track)
alias = _function(Client.alias)
group = _function(Client.group)
page = _function(Client.page)
screen = _function(Client.screen)
flush = _function(Client.flush)
join = _function(Client.join)
shutdown = _function(Client.shutdown)
