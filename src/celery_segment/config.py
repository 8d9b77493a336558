"""Every setting, once: its name, type, default and one line of documentation.

``Settings`` holds what belongs to the application, ``Source`` what may differ
from one source to the next. A field ``flush_at`` is the Celery setting
``segment_flush_at`` (``CELERY_SEGMENT_FLUSH_AT`` under Django's namespace) and,
for a field of ``Source``, the key ``"flush_at"`` of an entry of
``segment_sources``.
"""

from __future__ import annotations

import difflib
import os
import re
from collections.abc import Callable, Mapping
from dataclasses import MISSING, Field, dataclass, field, fields
from typing import Any, NoReturn
from urllib.parse import SplitResult, urlencode, urlsplit, urlunsplit
from weakref import WeakKeyDictionary

from celery_segment.errors import ConfigurationError

__all__ = ["DEFAULT_SOURCE", "Settings", "Source", "WriteKey", "settings_of"]

DEFAULT_SOURCE = "default"
PREFIX = "segment_"
#: Segment's limits for one request to its batch endpoint (HTTP Tracking API, "Batch").
MAX_BATCH_BYTES = 500_000
MAX_BATCH_MESSAGES = 2_500
#: The smallest batch that still holds one message of the greatest size.
MIN_BATCH_BYTES = 33_000

_LOOPBACK = re.compile(r"localhost|127(\.\d{1,3}){3}|::1")
_SOURCE_NAME = re.compile(r"[A-Za-z0-9_.-]{1,64}")


class WriteKey:
    """A source's write key, which shows itself to nobody but the HTTP request.

    It has no useful ``repr``, and refuses to be pickled or encoded, so that it
    cannot slip into a log line, a task message or Redis.
    """

    __slots__ = ("_value",)

    def __init__(self, value: str) -> None:
        self._value = value

    def reveal(self) -> str:
        """Return the key itself, for the Authorization header."""
        return self._value

    def __repr__(self) -> str:
        return "WriteKey(***)"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, WriteKey) and other._value == self._value

    def __hash__(self) -> int:
        return hash(self._value)

    def __reduce__(self) -> NoReturn:
        raise TypeError("a write key does not leave the process it was configured in")


# ---------------------------------------------------------------- parsers
# Each returns the value to keep, or raises ValueError saying what it must be.


def _within(value: Any, least: float, most: float | None) -> None:
    if not value >= least or (most is not None and value > most):
        bounds = f"at least {least:,}" if most is None else f"from {least:,} to {most:,}"
        raise ValueError(f"must be {bounds}")


def _whole(least: int, most: int | None = None) -> Callable[[Any], int]:
    def parse(value: Any) -> int:
        if isinstance(value, bool) or not isinstance(value, int):
            raise ValueError("must be a whole number")
        _within(value, least, most)
        return value

    return parse


def _number(least: float, most: float | None = None) -> Callable[[Any], float]:
    def parse(value: Any) -> float:
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise ValueError("must be a number")
        _within(value, least, most)
        return float(value)

    return parse


def _boolean(value: Any) -> bool:
    if not isinstance(value, bool):
        raise ValueError("must be True or False")
    return value


def _write_key(value: Any) -> WriteKey:
    if isinstance(value, WriteKey):
        return value
    if not isinstance(value, str) or not value.strip():
        raise ValueError("must be a non-empty string")
    value = value.strip()
    if not value.isascii() or not value.isprintable() or ":" in value:
        raise ValueError("must be printable ASCII without a colon")
    return WriteKey(value)


def _split(url: str) -> SplitResult:
    try:
        parts = urlsplit(url)
        valid = parts.port != 0 and not re.search(r"\s", url)
    except ValueError:
        valid = False
    if not valid:
        raise ValueError("must be a valid URL")
    return parts


def _host(value: Any) -> str:
    if not isinstance(value, str) or not value.strip():
        raise ValueError("must be a URL such as https://api.segment.io")
    text = value.strip()
    url = _split(text if "://" in text else f"https://{text}")
    if url.scheme not in {"http", "https"} or not url.hostname:
        raise ValueError("must be an https URL such as https://events.eu1.segmentapis.com")
    if "@" in url.netloc or url.query or url.fragment:
        raise ValueError("must be an address alone, without credentials, query or fragment")
    path = url.path.rstrip("/")
    path = path.removesuffix("/batch").removesuffix("/v1")
    return urlunsplit((url.scheme, url.netloc, path, "", ""))


def _choice(*choices: str) -> Callable[[Any], str]:
    def parse(value: Any) -> str:
        if value not in choices:
            raise ValueError(f"must be one of {', '.join(map(repr, choices))}")
        return str(value)

    return parse


def _file(value: Any) -> str:
    path = os.fspath(value) if isinstance(value, str | os.PathLike) else None
    if not isinstance(path, str) or not path or not os.path.isdir(os.path.dirname(path) or "."):  # noqa: PTH112, PTH120
        raise ValueError("must be the path of a file in an existing folder")
    return path


def _redis_url(value: Any) -> str:
    schemes = ("redis://", "rediss://", "unix://")
    if not isinstance(value, str) or not value.startswith(schemes):
        raise ValueError(f"must be a URL that starts with one of {', '.join(schemes)}")
    _split(value)
    return value


def _proxies(value: Any) -> dict[str, str]:
    if not isinstance(value, Mapping) or not all(
        isinstance(k, str) and isinstance(v, str) for k, v in value.items()
    ):
        raise ValueError('must be a mapping such as {"https": "http://proxy:3128"}')
    return dict(value)


def _ca_bundle(value: Any) -> str:
    path = os.fspath(value) if isinstance(value, str | os.PathLike) else None
    if not isinstance(path, str) or not os.path.exists(path):  # noqa: PTH110 - a file or a folder
        raise ValueError("must be the path of an existing file or folder of CA certificates")
    return path


def setting(
    default: Any,
    parse: Callable[[Any], Any],
    doc: str,
    *,
    show: str | None = None,
    secret: bool = False,
) -> Any:
    """Declare one setting as a dataclass field. A secret's value is never shown."""
    shown = repr(default) if show is None else show
    metadata = {"parse": parse, "doc": doc, "show": shown, "secret": secret}
    return field(default=default, metadata=metadata, repr=not secret)


# ---------------------------------------------------------------- settings


@dataclass(frozen=True, kw_only=True)
class Source:
    """One Segment source: its name and all that may differ between sources."""

    name: str
    write_key: WriteKey | None = setting(
        None,
        _write_key,
        "The source's write key; needed by workers only.",
        show="environment variable `SEGMENT_WRITE_KEY`",
        secret=True,
    )
    host: str = setting(
        "https://api.segment.io", _host, "Address of Segment's API, or of a compatible endpoint."
    )
    allow_http: bool = setting(False, _boolean, "Allow a plain http host that is not this machine.")
    enabled: bool = setting(
        True, _boolean, "When False, calls validate and return, and nothing is stored."
    )
    flush_at: int = setting(
        20, _whole(1), "Number of waiting messages that triggers a flush at once."
    )
    flush_interval: float = setting(
        10.0,
        _number(0.1, 86_400),
        "Seconds after which a waiting message is taken by a worker, at the latest.",
    )
    max_batch_bytes: int = setting(
        MAX_BATCH_BYTES,
        _whole(MIN_BATCH_BYTES, MAX_BATCH_BYTES),
        "Greatest size of a request body in bytes, envelope included, before compression.",
    )
    max_batch_messages: int = setting(
        MAX_BATCH_MESSAGES,
        _whole(1, MAX_BATCH_MESSAGES),
        "Greatest number of messages in a request.",
    )
    max_buffer_bytes: int | None = setting(
        None,
        _whole(100_000),
        "Bytes of waiting messages above which `segment_on_full` applies; else Redis' own limit.",
    )
    on_full: str = setting(
        "raise",
        _choice("raise", "drop"),
        "When there is no room: `raise` BufferFull, or `drop` the message and count it.",
    )
    on_unavailable: str = setting(
        "raise",
        _choice("raise", "drop", "spill"),
        "When Redis is out of reach: `raise` BufferUnavailable, `drop` the message and count it,"
        " or `spill` it to `segment_spill_path`, from where it returns by itself.",
    )
    gzip: bool = setting(True, _boolean, "Compress request bodies.")
    timeout: float = setting(
        15.0, _number(0.1, 300), "Seconds for one request, from connect to last byte."
    )
    proxies: dict[str, str] | None = setting(
        None,
        _proxies,
        "Proxies by scheme, as requests takes them; else the environment's.",
        secret=True,
    )
    ca_bundle: str | None = setting(
        None, _ca_bundle, "File or folder of CA certificates; else certifi's."
    )
    max_retries: int = setting(10, _whole(0), "Retries of a batch before it may be given up.")
    retry_for: float = setting(
        43_200.0,
        _number(0),
        "Seconds of retrying before a batch may be given up; both limits must be exceeded.",
    )
    max_inflight: int = setting(
        32, _whole(1, 1_000), "Batches claimed at once; the rest of a backlog waits in Redis."
    )
    lease: float = setting(
        120.0,
        _number(1, 86_400),
        "Seconds after which a dead worker's batch is taken over; above the timeout.",
    )
    max_dead_bytes: int = setting(
        100_000_000,
        _whole(1_000_000),
        "Bytes of messages that the dead letters may hold; beyond, the source closes.",
    )

    def check(self) -> None:
        """Raise ConfigurationError where two settings contradict each other."""
        if self.lease <= self.timeout:
            raise ConfigurationError(
                f"segment_lease ({self.lease:g} s) of source {self.name!r} must be longer than"
                f" segment_timeout ({self.timeout:g} s), or a live worker's batch is taken over"
            )
        url = urlsplit(self.host)
        local = _LOOPBACK.fullmatch(url.hostname or "")
        if url.scheme == "http" and not local and not self.allow_http:
            raise ConfigurationError(
                f"segment_host {self.host!r} of source {self.name!r} would send the write key"
                " unencrypted: use https, or set segment_allow_http = True"
            )


@dataclass(frozen=True, kw_only=True)
class Settings:
    """The application's settings, and its sources by name."""

    sources: dict[str, Source]
    redis_url: str = setting(
        "",
        _redis_url,
        "Redis that holds the buffer.",
        show="the broker's, when that is Redis",
        secret=True,
    )
    redis_timeout: float = setting(
        1.0, _number(0.05, 60), "Seconds that a call waits for Redis, at the most."
    )
    spill_path: str | None = setting(
        None, _file, "File of this host that takes messages while Redis is out of reach."
    )
    max_spill_bytes: int = setting(
        100_000_000, _whole(100_000), "How large that file may grow, in bytes."
    )
    tick: bool = setting(
        True, _boolean, "Let each worker look for due messages by itself, without Celery beat."
    )

    def source(self, name: str) -> Source:
        """Return the source of that name.

        Raises:
            ConfigurationError: There is none; the text names those there are.
        """
        try:
            return self.sources[name]
        except (KeyError, TypeError):
            known = ", ".join(sorted(self.sources))
            raise ConfigurationError(
                f"source {name!r} is not configured: add it to segment_sources"
                f" (configured: {known})"
            ) from None


def declared(cls: type[Settings | Source]) -> dict[str, Field[Any]]:
    """Return the fields of ``cls`` that are settings, by name."""
    return {f.name: f for f in fields(cls) if "parse" in f.metadata}


_BY_APP: WeakKeyDictionary[Any, Settings] = WeakKeyDictionary()


def settings_of(app: Any) -> Settings:
    """Return the settings of a Celery application, read and checked once.

    Raises:
        ConfigurationError: A ``segment_*`` setting is unknown or has a bad value.
    """
    try:
        return _BY_APP[app]
    except KeyError:
        return _BY_APP.setdefault(app, load(app.conf, os.environ))


def load(conf: Any, environ: Mapping[str, str]) -> Settings:
    """Build the settings from a Celery configuration and the environment."""
    given = _given(conf)
    entries = given.pop("sources", {})
    _refuse_unknown(given, [*declared(Settings), *declared(Source), "sources"], PREFIX)
    own = {name: _parsed(Settings, name, value, PREFIX) for name, value in _in(Settings, given)}
    if not own.get("redis_url"):
        own["redis_url"] = _broker_redis_url(conf)
    shared = {name: _parsed(Source, name, value, PREFIX) for name, value in _in(Source, given)}
    key = shared.pop("write_key", None)
    if key is None and environ.get("SEGMENT_WRITE_KEY"):
        key = _parsed(Source, "write_key", environ["SEGMENT_WRITE_KEY"], PREFIX)
    sources = _sources(entries, shared, key)
    if not own.get("spill_path"):
        for source in sources.values():
            if source.on_unavailable == "spill":
                raise ConfigurationError(
                    f"segment_on_unavailable of source {source.name!r} is 'spill', which needs"
                    " segment_spill_path: a file on this host's disk"
                )
    return Settings(sources=sources, **own)


def _sources(entries: Any, shared: dict[str, Any], key: WriteKey | None) -> dict[str, Source]:
    if not isinstance(entries, Mapping):
        raise ConfigurationError(
            'segment_sources must be a mapping such as {"marketing": {"write_key": "..."}}'
        )
    sources = {}
    for name, entry in {DEFAULT_SOURCE: {}, **entries}.items():
        if not isinstance(name, str) or not _SOURCE_NAME.fullmatch(name):
            raise ConfigurationError(
                f"segment_sources: {name!r} must be a name of up to 64 letters, digits,"
                " dots, dashes and underscores"
            )
        where = f"segment_sources[{name!r}]."
        if not isinstance(entry, Mapping):
            raise ConfigurationError(f"{where[:-1]} must be a mapping of settings")
        _refuse_unknown(entry, list(declared(Source)), where)
        own = {k: _parsed(Source, k, v, where) for k, v in _in(Source, entry)}
        if name == DEFAULT_SOURCE:
            own.setdefault("write_key", key)
        sources[name] = Source(**{**shared, **own, "name": name})
        sources[name].check()
    return sources


def _given(conf: Any) -> dict[str, Any]:
    """Return the ``segment_*`` settings that the user gave, without the prefix."""
    if hasattr(conf, "finalize"):  # Celery reads its configuration, and the prefix, lazily
        conf.finalize()
    prefix = getattr(conf, "prefix", None) or ""
    names = (
        {str(key) for mapping in conf.maps for key in mapping} if hasattr(conf, "maps") else conf
    )
    given = {}
    for name in names:
        # Without the namespace, a Django setting SEGMENT_WRITE_KEY is another library's.
        plain = name.removeprefix(prefix).lower() if prefix and name.startswith(prefix) else name
        if plain.startswith(PREFIX):
            given[plain.removeprefix(PREFIX)] = conf[plain if plain in conf else name]
    return given


def _in(cls: type[Settings | Source], given: Mapping[str, Any]) -> list[tuple[str, Any]]:
    return [(name, given[name]) for name in declared(cls) if name in given]


def _refuse_unknown(given: Mapping[str, Any], known: list[str], where: str) -> None:
    for name in given:
        if name not in known:
            near = difflib.get_close_matches(str(name), known, n=1, cutoff=0.0)
            raise ConfigurationError(
                f"{where}{name} is not a setting; did you mean {where}{near[0]}?"
            )


def _parsed(cls: type[Settings | Source], name: str, value: Any, where: str) -> Any:
    declaration = declared(cls)[name]
    if value is None and declaration.default in (None, "", MISSING):
        return declaration.default
    try:
        return declaration.metadata["parse"](value)
    except (ValueError, OverflowError) as error:
        hidden = declaration.metadata["secret"] or "@" in str(value)
        shown = "" if hidden else f", not {value!r}"
        raise ConfigurationError(f"{where}{name} {error}{shown}") from None


def _broker_redis_url(conf: Any) -> str:
    """Return the broker's URL as redis-py takes it, or "" when the broker is not Redis."""
    url = conf.get("broker_write_url") or getattr(conf, "broker_write_url", None) or ""
    first = url[0] if isinstance(url, list | tuple) and url else url
    text = str(first).split(";")[0]
    if text.startswith("redis+socket://"):
        parts = urlsplit(text)
        options = dict(pair.partition("=")[::2] for pair in parts.query.split("&") if pair)
        password = f":{parts.password}@" if parts.password else ""
        return f"unix://{password}{parts.path}?db={options.get('virtual_host', '0').strip('/')}"
    if not text.startswith(("redis://", "rediss://", "unix://")):
        return ""
    use_ssl = conf.get("broker_use_ssl")
    if use_ssl:
        options = dict(use_ssl) if isinstance(use_ssl, Mapping) else {}
        named = {k: getattr(v, "name", v) for k, v in options.items() if v is not None}
        text = text.replace("redis://", "rediss://", 1) if text.startswith("redis://") else text
        text += f"{'&' if '?' in text else '?'}{urlencode(named)}" if named else ""
    # kombu takes CERT_REQUIRED and required alike, redis-py only the latter.
    return re.sub(r"(?<=ssl_cert_reqs=)CERT_\w+", lambda match: match[0][5:].lower(), text)
