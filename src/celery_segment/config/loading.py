"""Load the settings from a Celery application's configuration and the environment."""

from __future__ import annotations

import difflib
import json
import logging
import re
from collections.abc import Iterable, Mapping
from dataclasses import MISSING
from typing import Any

from celery_segment.config.broker import broker_redis, completed, is_same_server
from celery_segment.config.declaration import declared
from celery_segment.config.parsers import WriteKey, redis_url
from celery_segment.config.settings import Settings
from celery_segment.config.source import DEFAULT_SOURCE, Source
from celery_segment.errors import ConfigurationError

__all__ = ["load", "redis_of"]

logger = logging.getLogger("celery_segment")

PREFIX = "segment_"
#: Settings whose environment variables are JSON, each with an example.
_JSON = {
    "proxies": '{"https": "http://proxy:3128"}',
    "oauth": '{"client_id": "...", "private_key": "/path/to/key.pem", "key_id": "..."}',
}
_SOURCE_NAME = re.compile(r"[A-Za-z0-9_.-]{1,64}")


def load(conf: Any, environ: Mapping[str, str]) -> Settings:
    """Return the settings from a Celery configuration and the environment.

    Args:
        conf: ``app.conf``, or a mapping of setting names to values.
        environ: The environment variables, which have the defaults of some settings.

    Raises:
        ConfigurationError: A ``segment_*`` setting is unknown, has a bad value, or
            contradicts another.
    """
    given = _given(conf)
    misnamed = _misnamed(conf, given, environ)
    is_configured = any(value is not None and value != "" for value in given.values())
    entries = given.pop("sources", {})
    _refuse_unknown(given, [*declared(Settings), *declared(Source), "sources"], PREFIX)
    given |= _of_environment(given, environ)
    own = {name: _parsed(Settings, name, value, PREFIX) for name, value in _in(Settings, given)}
    broker_url, options = broker_redis(conf)
    if not own.get("redis_url"):
        own["redis_url"], own["redis_options"] = broker_url, options
    else:
        own["redis_url"], own["redis_options"] = completed(own["redis_url"], conf)
    own["shares_broker"] = is_same_server(own["redis_url"], broker_url)
    if "namespace" not in own:
        own["namespace"] = _broker_namespace(conf)
    shared = {name: _parsed(Source, name, value, PREFIX) for name, value in _in(Source, given)}
    key = shared.pop("write_key", None)
    sources = _sources(entries, {**shared, "namespace": own["namespace"]}, key)
    if not own.get("spill_path"):
        for source in sources.values():
            if source.on_unavailable == "spill":
                raise ConfigurationError(
                    f"segment_on_unavailable of source {source.name!r} is 'spill', which needs"
                    " segment_spill_path",
                    hint="set it to the path of a file on this host",
                )
    return Settings(sources=sources, is_configured=is_configured, misnamed=misnamed, **own)


def redis_of(url: str, conf: Any, name: str) -> tuple[str, dict[str, Any]]:
    """Return the URL of another Redis, read as ``segment_redis_url``, and its connections' options.

    Args:
        url: The URL.
        conf: ``app.conf``.
        name: What the URL is called in an error.

    Raises:
        ConfigurationError: It is not such a URL.
    """
    try:
        return completed(redis_url(url), conf)
    except ValueError as error:
        raise ConfigurationError(f"{name} {error}") from None


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


def _broker_namespace(conf: Any) -> str:
    """Return what keeps the keys of Celery's own broker apart, as a namespace of ours."""
    options = conf.get("broker_transport_options") or {}
    keyprefix = options.get("global_keyprefix") if isinstance(options, Mapping) else None
    return re.sub(r"[^A-Za-z0-9_.-]+", "-", str(keyprefix or "")).strip("-")[:64]


def _misnamed(conf: Any, given: Mapping[str, Any], environ: Mapping[str, str]) -> dict[str, str]:
    """Return the names of ignored settings, such as SEGMENT_FLUSH_AT, with the right ones."""
    prefix = getattr(conf, "prefix", None) or ""
    known = {*declared(Settings), *declared(Source), "sources"}
    known -= {name for name, value in given.items() if value not in (None, "")}
    # As a rule, what the environment has is the same, and it is read there.
    known -= set(_of_environment({}, environ))
    found = {}
    for name in sorted(set(_names(conf))):
        setting = name.lower().removeprefix(PREFIX)
        if name.isupper() and name.startswith(PREFIX.upper()) and setting in known:
            found[name] = f"{prefix.upper()}{name}" if prefix else name.lower()
    if found and not prefix:  # in Django, a system check says so
        for name, right in found.items():
            logger.warning("%s is ignored: the setting's name is %s", name, right)
    return found


def _names(conf: Any) -> Iterable[str]:
    if not hasattr(conf, "maps"):
        return conf  # type: ignore[no-any-return]
    return {str(key) for mapping in conf.maps for key in mapping}


def _given(conf: Any) -> dict[str, Any]:
    """Return the ``segment_*`` settings of a configuration, by name without the prefix."""
    if hasattr(conf, "finalize"):  # Celery loads the configuration and its prefix lazily
        conf.finalize()
    prefix = getattr(conf, "prefix", None) or ""
    given = {}
    for name in _names(conf):
        # Outside of Celery's namespace, a Django setting such as SEGMENT_WRITE_KEY belongs to
        # another library.
        plain = name.removeprefix(prefix).lower() if prefix and name.startswith(prefix) else name
        if plain.startswith(PREFIX):
            given[plain.removeprefix(PREFIX)] = conf[plain if plain in conf else name]
    return given


def _of_environment(given: Mapping[str, Any], environ: Mapping[str, str]) -> dict[str, Any]:
    """Return the settings that are not given, and are in the environment."""
    found: dict[str, Any] = {}
    for name, declaration in {**declared(Settings), **declared(Source)}.items():
        variable = f"{PREFIX}{name}".upper()
        text = environ.get(variable)
        if text and declaration.metadata["from_environment"] and given.get(name) in (None, ""):
            found[name] = _decoded(variable, text, _JSON[name]) if name in _JSON else text
    return found


def _decoded(variable: str, text: str, example: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        raise ConfigurationError(f"{variable} must be JSON such as {example}") from None


def _in(cls: type[Settings | Source], given: Mapping[str, Any]) -> list[tuple[str, Any]]:
    return [(name, given[name]) for name in declared(cls) if name in given]


def _refuse_unknown(given: Mapping[str, Any], known: list[str], where: str) -> None:
    for name in given:
        if name not in known:
            near = difflib.get_close_matches(str(name), known, n=1, cutoff=0.0)
            raise ConfigurationError(
                f"{where}{name} is not a setting", hint=f"did you mean {where}{near[0]}?"
            )


def _parsed(cls: type[Settings | Source], name: str, value: Any, where: str) -> Any:
    declaration = declared(cls)[name]
    if (value is None and declaration.default in (None, "", MISSING)) or (
        value == "" == declaration.default
    ):
        return declaration.default
    try:
        return declaration.metadata["parse"](value)
    except (ValueError, OverflowError) as error:
        hidden = declaration.metadata["secret"] or "@" in str(value)
        shown = "" if hidden else f", not {value!r}"
        raise ConfigurationError(f"{where}{name} {error}{shown}") from None
