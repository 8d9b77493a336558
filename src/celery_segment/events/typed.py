"""What events, traits and properties have in common: they are structs of msgspec."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, Literal, TypeVar

import msgspec

if TYPE_CHECKING:
    from typing_extensions import dataclass_transform
else:

    def dataclass_transform(**_: Any) -> Callable[[type], type]:
        return lambda cls: cls


__all__ = ["Rename", "Typed", "TypedMeta"]

#: How the names of properties are made from those of a class's fields.
Rename = (
    Literal["lower", "upper", "camel", "pascal", "kebab"]
    | Callable[[str], str | None]
    | Mapping[str, str]
    | None
)
M = TypeVar("M", bound="TypedMeta")

_FIELD = type(msgspec.field())


class TypedMeta(msgspec.StructMeta):
    """Makes frozen structs whose fields are given by name, and left out where they are not given.

    A type that can be none of a property's is refused when the class is made.
    """

    def __new__(  # noqa: PYI019 - Self has no meaning in a metaclass
        mcls: type[M],
        class_name: str,
        bases: tuple[type, ...],
        namespace: dict[str, Any],
        /,
        *,
        rename: Rename = None,
        tag: bool | str | int | Callable[[str], str | int] | None = None,
        tag_field: str | None = None,
        omit_defaults: bool = False,
        forbid_unknown_fields: bool = False,
    ) -> M:
        """Make a class."""
        made = super().__new__(
            mcls,
            class_name,
            bases,
            {**namespace, **_left_out(namespace)},
            rename=rename,
            tag=tag,
            tag_field=tag_field,
            omit_defaults=omit_defaults,
            forbid_unknown_fields=forbid_unknown_fields,
            frozen=True,
            kw_only=True,
        )
        _check_types(made)
        return made


def _left_out(namespace: Mapping[str, Any]) -> dict[str, Any]:
    """Return UNSET for each field whose default is None, so that it is not sent as null."""
    changed = {}
    for name, default in namespace.items():
        if default is None:
            changed[name] = msgspec.UNSET
        elif isinstance(default, _FIELD) and default.default is None:
            changed[name] = msgspec.field(default=msgspec.UNSET, name=default.name)
    if not changed:
        return {}
    annotations = _annotations(namespace)
    return {
        name: default
        for name, default in changed.items()
        if name in annotations and "ClassVar" not in str(annotations[name])
    }


def _annotations(namespace: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return the annotations of a class that is being made."""
    if sys.version_info >= (3, 14) and "__annotations__" not in namespace:
        import annotationlib

        annotate = annotationlib.get_annotate_from_class_namespace(namespace)
        form = annotationlib.Format.STRING
        return annotationlib.call_annotate_function(annotate, form) if annotate else {}
    return namespace.get("__annotations__", {})  # type: ignore[no-any-return]


def _check_types(made: type) -> None:
    """Have msgspec read the types of a class.

    Raises:
        TypeError: One has no JSON form, or a union cannot be told apart.
    """
    try:
        msgspec.convert({}, made)
    except msgspec.ValidationError:
        pass
    except (NameError, AttributeError):
        # A class that is defined below, or imported for type checkers alone: the first call says.
        pass


@dataclass_transform(kw_only_default=True, frozen_default=True, field_specifiers=(msgspec.field,))
class Typed(msgspec.Struct, frozen=True):
    """A frozen struct whose repr has no values: they are people's data."""

    if TYPE_CHECKING:  # ty asks this, and not the metaclass

        def __init_subclass__(
            cls,
            *,
            rename: Rename = None,
            tag: bool | str | int | Callable[[str], str | int] | None = None,
            tag_field: str | None = None,
            omit_defaults: bool = False,
            forbid_unknown_fields: bool = False,
        ) -> None: ...

    def __repr__(self) -> str:
        given = [
            f"{name}=…"
            for name in self.__struct_fields__
            if getattr(self, name, msgspec.UNSET) is not msgspec.UNSET
        ]
        return f"{type(self).__name__}({', '.join(given)})"

    def __rich_repr__(self) -> list[tuple[str, Any]]:
        return []
