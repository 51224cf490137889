"""A class that is no proper component is refused in one line: its name, what was given, what was expected."""

from dataclasses import dataclass, field, replace
from typing import ClassVar

import pytest

from ae_core import spec as specs
from ae_core.errors import SpecError
from ae_core.spec import (
    Backbone,
    Component,
    Corruption,
    DenseBackbone,
    Penalty,
    PlainBottleneck,
    Schedule,
    Spec,
    component,
    families,
    kinds,
    spec_from_json,
    spec_to_json,
)
from ae_core.spec.codec import check_kind
from ae_core.spec.presets import PRESETS, preset, register_preset

SPEC = Spec((8, 8, 1), DenseBackbone((4,)), PlainBottleneck(2))
FROZEN = "expected @dataclass(frozen=True) above it"


@pytest.fixture(autouse=True)
def _forget():
    """Leave the families as they were."""
    known = {name: dict(of) for name, of in component._FAMILIES.items()}
    yield
    for name, of in known.items():
        component._FAMILIES[name].clear()
        component._FAMILIES[name].update(of)


class Shaped(Backbone):
    """A backbone but for its kind."""

    def feature_shape(self, input_shape):
        return (4,)


def _bare():
    class Bare(Shaped):
        kind: ClassVar[str] = "improper"

    return Bare, {"backbone": Bare()}


def _thawed():
    @dataclass
    class Thawed(Shaped):
        kind: ClassVar[str] = "improper"

    return Thawed, {"backbone": Thawed()}


def _undecorated_child():
    @dataclass(frozen=True)
    class Parent(Shaped):
        width: int = 3

    class Child(Parent):
        kind: ClassVar[str] = "improper"
        depth: int = 2

    return Child, {"backbone": Child()}


def _without_kind():
    @dataclass(frozen=True)
    class Nameless(Shaped):
        pass

    return Nameless, {"backbone": Nameless()}


def _without_shape():
    @dataclass(frozen=True)
    class Shapeless(Backbone):
        kind: ClassVar[str] = "improper"

    return Shapeless, {"backbone": Shapeless()}


def _without_last():
    @dataclass(frozen=True)
    class Endless(Schedule):
        kind: ClassVar[str] = "improper"

        def value(self, step, total_steps):
            return 1.0

    return Endless, {"training": replace(SPEC.training, schedule=Endless())}


def _without_weight():
    @dataclass(frozen=True)
    class Light(Penalty):
        kind: ClassVar[str] = "improper"

    return Light, {"penalties": (Light(),)}


def _without_distribution():
    @dataclass(frozen=True)
    class Silent(Corruption):
        kind: ClassVar[str] = "improper"

    return Silent, {"corruption": Silent()}


def _typed(hint):
    def make():
        @dataclass(frozen=True)
        class Typed(Shaped):
            kind: ClassVar[str] = "improper"
            part: hint = field(default=None)

        return Typed, {"backbone": Typed()}

    return make


IMPROPER = {
    "no dataclass": (_bare, f": given a class that is no dataclass; {FROZEN}"),
    "a child without the decorator": (_undecorated_child, f": given a class that is no dataclass; {FROZEN}"),
    "not frozen": (_thawed, f": given a dataclass that is not frozen; {FROZEN}"),
    "no kind": (_without_kind, ": given a component without a kind; expected one with its name in JSON, such as"),
    "no feature_shape": (_without_shape, ": given a backbone without feature_shape; expected one, as every kind"),
    "no last": (_without_last, ": given a schedule without last; expected one, as every kind of this family has it"),
    "no weight": (_without_weight, ": given a penalty without weight; expected one, as every kind of this family"),
    "no distribution": (_without_distribution, ": given a corruption without distribution; expected one, as every"),
    "a dict": (_typed(dict), ".part: given a field of type dict, which JSON has no answer for; expected int, float,"),
    "a dict or None": (_typed(dict[str, int] | None), ".part: given a field of type dict[str, int] | None, which"),
    "a list": (_typed(list[int]), ".part: given a field of type list[int], which JSON has no answer for; expected"),
    "a bare tuple": (_typed(tuple), ".part: given a field of type tuple, which JSON has no answer for; expected"),
    "either of two": (_typed(int | str), ".part: given a field of type int | str, which JSON has no answer for;"),
    "a name of nowhere": (_typed("Nowhere"), ": given an annotation that cannot be read, for name 'Nowhere' is not"),
}


@pytest.mark.parametrize("case", IMPROPER)
def test_an_improper_kind_is_refused_where_it_is_used(case):
    make, told = IMPROPER[case]
    kind, parts = make()
    with pytest.raises(SpecError) as caught:
        replace(SPEC, **parts)
    assert str(caught.value).startswith(f"{kind.__module__}.{kind.__qualname__}{told}")
    assert "\n" not in str(caught.value)


def test_an_improper_kind_is_refused_where_a_file_names_it():
    _, parts = _bare()
    value = spec_to_json(SPEC) | {"backbone": {"kind": parts["backbone"].kind}}
    with pytest.raises(SpecError, match=r"Bare: given a class that is no dataclass; expected @dataclass"):
        spec_from_json(value)


def test_a_kind_without_a_family_is_refused_at_its_definition():
    expected = 'Stray: given the kind "stray" without a family; expected the class of a family as its base: norm,'
    with pytest.raises(SpecError, match=expected):

        class Stray(Component):
            kind: ClassVar[str] = "stray"


def test_a_kind_that_is_no_string_is_refused_at_its_definition():
    with pytest.raises(SpecError, match=r"Third\.kind: given 3; expected a string$"):

        class Third(Shaped):
            kind = 3


@pytest.mark.parametrize("name", PRESETS)
def test_a_preset_is_not_replaced(name):
    other = replace(preset(name), initializer="lecun_normal")
    with pytest.raises(SpecError, match=f'^preset "{name}": given another spec for a name that is taken; expected a'):
        register_preset(name, other)
    register_preset(name, preset(name))
    assert preset(name) != other


def test_a_preset_is_a_spec():
    with pytest.raises(SpecError, match=r'^preset "mine": given dict; expected a Spec$'):
        register_preset("mine", spec_to_json(SPEC))
    with pytest.raises(TypeError, match="does not support item assignment"):
        PRESETS["mine"] = SPEC
    assert "mine" not in PRESETS


def test_every_kind_here_is_proper_and_exported():
    for family in families():
        for kind in kinds(family).values():
            check_kind(kind)
            if kind.__module__.startswith("ae_core.spec."):
                assert getattr(specs, kind.__name__) is kind
