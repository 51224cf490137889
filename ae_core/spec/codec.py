"""Frozen dataclasses to JSON and back, strictly: unknown keys and wrong types are refused where they stand.

A component is written with its ``kind`` beside its fields; where a field holds one of a family, the kind says which.
"""

import dataclasses
import math
import sys
import types
import typing
from typing import Any, Literal, TypeVar, Union, get_args, get_origin

from ae_core.errors import SpecError, nearest
from ae_core.spec.component import Component, kinds

T = TypeVar("T")


def to_json(value: Any) -> Any:
    """Turn a dataclass into plain JSON values; tuples become lists, and a component says its kind first."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        kind = {"kind": value.kind} if isinstance(value, Component) else {}
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
        if key not in fields and not (key == "kind" and issubclass(cls, Component)):
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
    if isinstance(hint, type) and issubclass(hint, Component):
        return _decode_component(hint, value, where)
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
    """Decode what may be null, a plain value, or a component: such as ``float | Schedule`` or ``Norm | None``."""
    if value is None and type(None) in args:
        return None
    components = [arg for arg in args if isinstance(arg, type) and issubclass(arg, Component)]
    plain = [arg for arg in args if arg is not type(None) and arg not in components]
    return _decode(components[0] if components and (isinstance(value, dict) or not plain) else plain[0], value, where)


def _decode_component(family: type[Component], value: Any, where: str) -> Component:
    known = {name: kind for name, kind in kinds(family.family).items() if issubclass(kind, family)}
    kind = value.get("kind") if isinstance(value, dict) else None
    if not isinstance(kind, str):
        valid = nearest(str(kind), known) if known else "no kind is known"
        raise SpecError(f"{where}: given {_show(value)}, without a known kind; {valid}")
    if kind not in known:
        hint = "if a plugin brings it, load that with --plugin"
        valid = nearest(kind, known) if known else "no kind is known"
        raise SpecError(f'{where}: unknown {family.family} "{kind}"; {valid}; {hint}')
    return from_json(known[kind], value, where)


def _decode_tuple(args: tuple[Any, ...], value: Any, where: str) -> tuple[Any, ...]:
    what = "objects" if isinstance(args[0], type) and issubclass(args[0], Component) else "integers"
    if not isinstance(value, list):
        raise SpecError(f"{where}: given {_show(value)}; expected a list of {what}")
    items = (args[0],) * len(value) if args[-1] is Ellipsis else args
    if len(items) != len(value):
        raise SpecError(f"{where}: given {len(value)} entries; expected {len(items)}")
    return tuple(_decode(item, v, f"{where}[{i}]") for i, (item, v) in enumerate(zip(items, value, strict=True)))


_NOUNS = {int: "an integer", float: "a finite number", str: "a string", bool: "true or false"}


def _show(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "..."
