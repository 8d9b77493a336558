"""The repr of an object shows neither a key, a password nor what a message says."""

from __future__ import annotations

import dataclasses
import importlib
import inspect
import pkgutil
import re

import msgspec
import pytest

import celery_segment
from celery_segment.buffer import Attachments
from celery_segment.producer.held import HeldMessages

#: Parts for a developer's machine, which are to show what they received.
_FOR_DEVELOPERS = ("demo", "testing")
#: Types of fields that can hold neither a payload nor a secret.
_HARMLESS = re.compile(
    r"(int|float|bool|None|Amount|Gate|Position|Figures|Options|Decision|Settled|list\[Rejected\]|Literal\[[^]]*\]"
    r"|Latency|Rates|Recent|Snapshot|Sequence\[int\]|tuple\[int, \.\.\.\]"
    r"|Mapping\[str, int\]|dict\[str, (Source|Snapshot|SourceMove)\]|\s|\|)+"
)
#: Texts of ours, names, and what an operator configures in the open.
_TEXTS = {
    *("id", "name", "names", "namespace", "source", "batch", "message_id", "token", "check"),
    *("cause", "reason", "text", "found", "hint", "problem", "help", "label", "state", "status"),
    *("owner", "application", "host", "address", "url", "target", "pool", "queue", "spill_path"),
    *("old_address", "new_address"),
    *("ca_bundle", "on_full", "on_unavailable", "integrations", "before_send", "on_delivered"),
    *("on_failed", "file", "digest", "info", "config", "what", "is_complete", "format", "type"),
    *("codes", "error", "kind", "read", "path", "value", "field", "number", "rejects", "texts"),
    *("unconfigured", "figures", "options", "allowed_callbacks", "misnamed", "on_invalid"),
    *("idempotency", "details"),
    *("version", "fingerprint", "server", "redis", "consumes", "sources", "broker", "tasks"),
    *("facts", "own", "stored", "endpoints", "answers", "stray", "event", "scripts", "plain"),
    *("client_id", "key_id", "auth_server", "scope", "oauth_fingerprint", "remote"),
    *("group", "kinds", "letters", "next", "since", "until"),
    *("access", "bars", "batches", "handler", "line", "rule", "template", "title", "to"),
    *("token_field", "total"),
    # Of a tracking plan, and of how a message violates it, without its values.
    *("tracking_plan", "on_unplanned", "on_violation", "rule", "base", "options", "action"),
    *(
        "optional",
        "place",
        "plan",
        "refused",
        "fingerprints",
        "allowed",
        "trust",
        "topology",
        "servers",
    ),
}


def classes():
    for module in pkgutil.walk_packages(celery_segment.__path__, "celery_segment."):
        if module.name.split(".")[1] in _FOR_DEVELOPERS or "django" in module.name:
            continue
        if module.name.endswith("__main__"):
            continue
        for cls in vars(importlib.import_module(module.name)).values():
            if inspect.isclass(cls) and cls.__module__ == module.name and _fields(cls):
                yield cls


def _fields(cls):
    """The fields of a class, with their types as they are written."""
    if dataclasses.is_dataclass(cls):
        return {field.name: str(field.type) for field in dataclasses.fields(cls)}
    if issubclass(cls, msgspec.Struct) or hasattr(cls, "_fields"):
        names = cls.__struct_fields__ if issubclass(cls, msgspec.Struct) else cls._fields
        hints = {}
        for base in reversed(cls.__mro__):
            hints |= inspect.get_annotations(base)
        return {name: getattr(hints[name], "__forward_arg__", str(hints[name])) for name in names}
    return {}


def _filled(cls):
    """An object of a class whose fields all hold a text that names the field."""
    values = {name: f"<{name}>" for name in _fields(cls)}
    if dataclasses.is_dataclass(cls):
        made = object.__new__(cls)
        for name, value in values.items():
            object.__setattr__(made, name, value)
        return made
    return cls(**values)


CLASSES = sorted(classes(), key=lambda cls: f"{cls.__module__}.{cls.__name__}")


def test_the_walk_finds_what_there_is():
    names = {cls.__name__ for cls in CLASSES}
    assert {"Lease", "Settled", "Request", "Track", "Attachments", "Prepared", "Chunk"} <= names


@pytest.mark.parametrize("cls", CLASSES, ids=lambda cls: f"{cls.__module__[15:]}.{cls.__name__}")
def test_a_repr_shows_harmless_fields_alone(cls):
    shown = repr(_filled(cls))
    for name, type_ in _fields(cls).items():
        if f"<{name}>" in shown:
            assert _HARMLESS.fullmatch(type_) or name in _TEXTS, (name, type_)
            assert not re.search(r"\bbytes\b|WriteKey", type_), (name, type_)


def test_what_is_held_back_and_what_is_attached():
    held = HeldMessages([b"p4yl04d"], {0: Attachments(b"p4yl04d", b"p4yl04d")})
    assert "p4yl04d" not in f"{held!r} {held.attachments!r}"
