"""Frozen dataclasses to JSON and back, strictly: unknown keys and wrong types are refused where they stand.

A field that may hold one of several dataclasses is written with the class's ``kind`` beside its fields.
"""

import dataclasses
import math
import sys
import types
import typing
from typing import Any, Literal, TypeVar, Union, get_args, get_origin

from ae_core.errors import SpecError, nearest

T = TypeVar("T")


def to_json(value: Any) -> Any:
    """Turn a dataclass into plain JSON values; tuples become lists, and a class with a ``kind`` says it first."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        kind = {"kind": value.kind} if hasattr(value, "kind") else {}
        return kind | {f.name: to_json(getattr(value, f.name)) for f in dataclasses.fields(value)}
    return [to_json(item) for item in value] if isinstance(value, tuple) else value


def from_json(cls: type[T], value: Any, where: str = "spec") -> T:
    """Build the dataclass ``cls`` from plain JSON values.

    Raises:
        SpecError: an unknown or missing key, a value of the wrong type, or one that ``cls`` itself refuses; the
            message starts with the path of the field, such as ``spec.backbone.padding``.
    """
    if not isinstance(value, dict):
        raise SpecError(f"{where}: given {_show(value)}; expected an object with the fields of {cls.__name__}")
    hints = typing.get_type_hints(cls)
    fields = {f.name: f for f in dataclasses.fields(cls)}  # type: ignore[arg-type]
    for key in value:
        if key not in fields and not (key == "kind" and hasattr(cls, "kind")):
            raise SpecError(f'{where}: unknown key "{key}"; {nearest(key, fields)}')
    for name, field in fields.items():
        required = field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING
        if required and name not in value:
            raise SpecError(f'{where}: the key "{name}" is missing')
    given = {name: _decode(hints[name], value[name], f"{where}.{name}") for name in fields if name in value}
    try:
        return cls(**given)
    except SpecError as error:
        raise SpecError(f"{where}: {error}") from None


def _decode(hint: Any, value: Any, where: str) -> Any:
    origin, args = get_origin(hint), get_args(hint)
    if origin in (Union, types.UnionType):
        return _decode_union(args, value, where)
    if dataclasses.is_dataclass(hint):
        return from_json(typing.cast(type, hint), value, where)
    if origin is Literal:
        if value not in args or isinstance(value, bool):
            raise SpecError(f"{where}: given {_show(value)}; {nearest(str(value), map(str, args))}")
        return value
    if origin is tuple:
        return _decode_tuple(args, value, where)
    if hint is float and type(value) is int and abs(value) <= sys.float_info.max:
        value = float(value)
    if type(value) is not hint or (hint is float and not math.isfinite(value)):
        raise SpecError(f"{where}: given {_show(value)}; expected {_NOUNS.get(hint, hint)}")
    return value


def _decode_union(args: tuple[Any, ...], value: Any, where: str) -> Any:
    if value is None and type(None) in args:
        return None
    choices = [arg for arg in args if arg is not type(None)]
    kinds = {choice.kind: choice for choice in choices if hasattr(choice, "kind")}
    if not kinds:  # such as ``float | None``
        return _decode(choices[0], value, where)
    kind = value.get("kind") if isinstance(value, dict) else None
    if not isinstance(kind, str) or kind not in kinds:
        given = f'kind "{kind}"' if isinstance(kind, str) else f"{_show(value)}, without a known kind"
        raise SpecError(f"{where}: given {given}; {nearest(str(kind), kinds)}")
    return from_json(kinds[kind], value, where)


def _decode_tuple(args: tuple[Any, ...], value: Any, where: str) -> tuple[Any, ...]:
    if not isinstance(value, list):
        raise SpecError(f"{where}: given {_show(value)}; expected a list of integers")
    items = (args[0],) * len(value) if args[-1] is Ellipsis else args
    if len(items) != len(value):
        raise SpecError(f"{where}: given {len(value)} entries; expected {len(items)}")
    return tuple(_decode(item, v, f"{where}[{i}]") for i, (item, v) in enumerate(zip(items, value, strict=True)))


_NOUNS = {int: "an integer", float: "a finite number", str: "a string", bool: "true or false"}


def _show(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "..."
