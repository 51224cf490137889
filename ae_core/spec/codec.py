"""Frozen dataclasses to JSON and back, strictly: unknown keys and wrong types are refused where they stand.

A component is written with its ``kind`` beside its fields; where a field holds one of a family, the kind says which.
"""

import dataclasses
import inspect
import math
import sys
import types
import typing
from typing import Any, Literal, TypeVar, Union, get_args, get_origin

from ae_core.errors import SpecError, nearest
from ae_core.spec.component import Component, kinds

T = TypeVar("T")

FROZEN = "@dataclass(frozen=True) above it"
TYPES = "int, float, str, bool, a Literal, a tuple of one of these, a component, or one of these or None"


_PROPER: set[type[Component]] = set()


def check_kind(cls: type[Component]) -> None:
    """Refuse a class that is no proper kind: one that its family's questions, or JSON, get no answer from.

    It can only be looked at once it is used: a decorator such as ``@dataclass`` works on a class that is there already.

    Raises:
        SpecError: names the class, what was given and what was expected.
    """
    if cls in _PROPER:
        return
    name = f"{cls.__module__}.{cls.__qualname__}"

    def refuse(given: str, expected: str, field: str = "") -> SpecError:
        return SpecError(f"{name}{field}: given {given}; expected {expected}")

    if not hasattr(cls, "kind"):
        raise refuse("a component without a kind", 'one with its name in JSON, such as kind: ClassVar[str] = "mine"')
    if "__dataclass_fields__" not in vars(cls):
        raise refuse("a class that is no dataclass", FROZEN)
    if not cls.__dataclass_params__.frozen:  # type: ignore[attr-defined]
        raise refuse("a dataclass that is not frozen", FROZEN)
    fields = {f.name for f in dataclasses.fields(cls)}  # type: ignore[arg-type]
    announced = {field for parent in cls.__mro__ for field in vars(parent).get("__annotations__", {})}
    answers = {field for field in dir(cls) if not getattr(getattr(cls, field), "__isabstractmethod__", False)}
    lacking = sorted((announced | set(dir(cls))) - fields - answers)
    if lacking:
        raise refuse(f"a {cls.family} without {lacking[0]}", "one, as every kind of this family has it")
    try:
        hints = typing.get_type_hints(cls)
    except NameError as error:
        raise refuse(f"an annotation that cannot be read, for {error}", "names that its module has") from None
    for field in dataclasses.fields(cls):  # type: ignore[arg-type]
        if not _has_json(hints[field.name]):
            shown = inspect.formatannotation(hints[field.name])
            raise refuse(f"a field of type {shown}, which JSON has no answer for", TYPES, f".{field.name}")
    _PROPER.add(cls)


def _has_json(hint: Any) -> bool:
    """Say whether `_decode` reads values of a type."""
    origin, args = get_origin(hint), get_args(hint)
    if origin in (Union, types.UnionType):
        some = [arg for arg in args if arg is not type(None)]
        components = [arg for arg in some if isinstance(arg, type) and issubclass(arg, Component)]
        return max(len(components), len(some) - len(components)) <= 1 and all(map(_has_json, some))
    if origin is tuple:
        return bool(args) and all(_has_json(arg) for arg in args if arg is not Ellipsis)
    if origin is Literal:
        return True
    return isinstance(hint, type) and (hint in _NOUNS or issubclass(hint, Component) or dataclasses.is_dataclass(hint))


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
    check_kind(known[kind])
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
