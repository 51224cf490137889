"""Components: the parts that a spec is put together from, each a frozen dataclass of one family.

A *family* (backbone, bottleneck, likelihood, …) is a subclass of `Component` that names itself; a *kind* is a subclass
of a family with a ``kind``. It is known to JSON, to ``--help`` and to error messages as soon as its module is imported,
also where that stands outside this project. Code that uses a component never asks for its kind. It asks the component,
which answers by its properties and methods; and what a framework has to do for it stands behind one door a family in
each twin, a `functools.singledispatch` function on the component's class.
"""

import dataclasses
import math
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any, ClassVar, Literal, get_args

from ae_core.errors import MissingError, SpecError, nearest

if TYPE_CHECKING:
    from ae_core.spec.model import Spec
    from ae_core.spec.schedule import Schedule

Initial = Literal["zeros", "ones", "kernel"] | float
"""Where a tensor starts: at 0, at 1, drawn like a kernel by the spec's initialiser, or normal with this deviation."""

# Far beyond what fits any memory; they keep a slip of the keyboard from becoming a crash deep in a framework.
MAX_PIXELS, MAX_WIDTH, MAX_CHANNELS, MAX_KERNEL, MAX_STEPS = 10**8, 2**20, 2**16, 2**10, 2**31

_FAMILIES: dict[str, dict[str, type["Component"]]] = {}


@dataclasses.dataclass(frozen=True)
class NoiseSite:
    """A place in a model where noise enters."""

    shape: tuple[int, ...]
    """Of one image's draw."""
    distribution: Literal["normal", "uniform"]
    """Standard normal numbers, or uniform ones between 0 and 1."""

    @property
    def size(self) -> int:
        """Count of numbers in one image's draw."""
        return math.prod(self.shape)

    @property
    def blocks(self) -> int:
        """Count of blocks of four words in one image's draw."""
        return -(-self.size // 4)


def threshold_of(share: float) -> float:
    """Return the number below which a share of uniform noise lies; none of it is equal to that in any precision."""
    # uniform numbers are odd multiples of 2⁻²⁴
    return round(share * 2**23) / 2**23


class Component:
    """A part of a spec. What follows are the questions that any component is asked, with the usual answers."""

    family: ClassVar[str]
    """Name of the family, which the family's class gives."""
    kind: ClassVar[str]
    """Name of the kind in JSON, which a class gives to be one."""
    loss_only: ClassVar[tuple[str, ...]] = ()
    """Fields that change how the model is trained but not what it computes; see `same_function`."""

    def __init_subclass__(cls, **options: Any) -> None:
        # what can be seen before a decorator has been at the class; the rest is for `ae_core.spec.codec.check_kind`
        super().__init_subclass__(**options)
        if "family" in vars(cls):
            _FAMILIES[cls.family] = {}
        if "kind" not in vars(cls):
            return
        if not isinstance(cls.kind, str):
            raise SpecError(f"{cls.__qualname__}.kind: given {cls.kind!r}; expected a string")
        if not hasattr(cls, "family"):
            raise SpecError(
                f'{cls.__qualname__}: given the kind "{cls.kind}" without a family; expected the class of a family as '
                f"its base: {', '.join(_FAMILIES)}"
            )
        known = _FAMILIES[cls.family]
        for parent in cls.__mro__[1:]:
            if "kind" in vars(parent):
                raise TypeError(
                    f'{cls.__qualname__}: given the kind "{vars(parent)["kind"]}" as its base; expected one without '
                    "a kind, for a kind does not stand in for another"
                )
        other = known.get(cls.kind)
        if other is not None and (other.__module__, other.__qualname__) != (cls.__module__, cls.__qualname__):
            where = f"{other.__module__}.{other.__qualname__}"
            raise TypeError(f'{cls.__qualname__}: the {cls.family} "{cls.kind}" is {where} already')
        known[cls.kind] = cls

    @property
    def couples_samples(self) -> bool:
        """Whether it makes the samples of a batch meet in training: then a batch is never cut into parts."""
        return False

    @property
    def coefficients(self) -> "Mapping[str, float | Schedule]":
        """Numbers that a training step is handed, by name; a schedule is one that changes from step to step."""
        return {}

    @property
    def initial_values(self) -> Mapping[str, Initial]:
        """Where tensors start, by the last parts of their names, such as ``norm.weight``.

        What is not named starts as its shape says: a kernel is drawn, a bias is 0, a norm's weight is 1.
        """
        return {}

    def noise_sites(self, spec: "Spec") -> Mapping[str, NoiseSite]:
        """Return the noise that one training step of the spec needs for this component, by the name of its site."""
        return {}

    def same_function(self, other: "Component") -> bool:
        """Say whether a model with the other component in its place computes the same from the same weights."""
        if type(self) is not type(other):
            return False
        fields = [f.name for f in dataclasses.fields(self)]  # type: ignore[arg-type]
        return all(getattr(self, name) == getattr(other, name) for name in fields if name not in self.loss_only)


def kinds(family: str) -> Mapping[str, type[Component]]:
    """Return the kinds of a family by name, those of plugins included."""
    return dict(sorted(_FAMILIES[family].items()))


def families() -> tuple[str, ...]:
    """Return the names of all families."""
    return tuple(_FAMILIES)


def components_of(value: Any) -> Iterator[Component]:
    """Yield all components within a spec or a component, itself included, those in fields and tuples too."""
    if isinstance(value, Component):
        yield value
    if dataclasses.is_dataclass(value):
        for field in dataclasses.fields(value):
            yield from components_of(getattr(value, field.name))
    elif isinstance(value, tuple):
        for item in value:
            yield from components_of(item)


def missing(package: str, door: str, component: object) -> MissingError:
    """Return the error that a door raises for a component of which it knows nothing; it names the missing piece."""
    kind = getattr(component, "kind", type(component).__qualname__)
    half = package.removeprefix("ae_")
    where = f"the {half} half of the plugin that brings it" if half != "core" else "the plugin that brings it"
    return MissingError(f'{package} has no {door} for "{kind}"; expected @{door}.register in {where}')


def check_shape(
    package: str, component: Component, what: str, given: tuple[int, ...], expected: tuple[int, ...], said_by: str
) -> None:
    """Refuse what a twin makes of a component where its shape, of one image, is not what the spec says.

    Raises:
        SpecError: names the twin, the component, both shapes and where the expected one comes from.
    """
    if tuple(given) != tuple(expected):
        raise SpecError(
            f'{package}: the {component.family} "{component.kind}" gives {what} {list(given)}; expected '
            f"{list(expected)}, as {said_by} says"
        )


def check(ok: bool, field: str, given: object, expected: str) -> None:
    """Refuse a field's value unless ``ok``; a float that is not finite is never right.

    Raises:
        SpecError: names the field, what was given and what was expected.
    """
    if not ok or (isinstance(given, float) and not math.isfinite(given)):
        raise SpecError(f"{field}: given {given}; expected {expected}")


def check_integers(field: str, given: tuple[int, ...], least: int, most: int) -> None:
    """Refuse integers out of bounds.

    Raises:
        SpecError: see `check`.
    """
    shown, what = (given[0], "an integer") if len(given) == 1 else (list(given), "integers")
    check(all(least <= value <= most for value in given), field, shown, f"{what} from {least:,} to {most:,}")


def check_name(field: str, given: str, choices: object) -> None:
    """Refuse a name that is not among those of a ``Literal``.

    Raises:
        SpecError: gives the nearest.
    """
    if given not in get_args(choices):
        raise SpecError(f'{field}: given "{given}"; {nearest(given, get_args(choices))}')
