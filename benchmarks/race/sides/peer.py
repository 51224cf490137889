"""What all peers share: refusals of specs that their adapters were not written for.

An adapter asks for concrete kinds of components, since it writes each of them down in another library's terms. A spec
with anything else is refused, so that no peer is timed at a smaller model than the others.
"""

from typing import TypeVar

from ae_core.errors import SpecError
from ae_core.spec import BernoulliLikelihood, Component, Constant, GaussianBottleneck, PlainBottleneck, Spec

Kind = TypeVar("Kind", bound=Component)

REFUSED = ("corruption", "penalty", "norm", "schedule")
"""Families of which no peer's adapter has a component, in the model or its loss."""


def expect(part: Component, *kinds: type[Kind]) -> Kind:
    """Return a component of a spec that an adapter was written for.

    Raises:
        SpecError: it is of none of these kinds.
    """
    for kind in kinds:
        if isinstance(part, kind):
            return part
    expected = " or ".join(f'"{kind.kind}"' for kind in kinds)
    raise SpecError(f'cannot build this model: given the {part.family} "{part.kind}"; expected {expected}')


def check(ok: bool, field: str, given: object, expected: str) -> None:
    """Refuse a field's value unless ``ok``.

    Raises:
        SpecError: names the field, what was given and what was expected.
    """
    if not ok:
        raise SpecError(f"cannot build this model: {field}: given {given}; expected {expected}")


def check_common(spec: Spec, constant: bool = False) -> BernoulliLikelihood:
    """Return the likelihood of a spec, whose parts are those that all peers' adapters have.

    Args:
        spec: the model to build.
        constant: whether the adapter has one learning rate for all steps.

    Raises:
        SpecError: the spec has another likelihood or bottleneck, a component of `REFUSED`, clipped gradients, or
            with ``constant`` learning rates that change.
    """
    for part in spec.components:
        check(part.family not in REFUSED, part.family, f'"{part.kind}"', "none")
    clip_norm, schedule = spec.training.clip_norm, spec.training.schedule
    check(clip_norm is None, "training.clip_norm", clip_norm, "null")
    check(not constant or schedule == Constant(), "training.schedule", schedule, str(Constant()))
    expect(spec.bottleneck, PlainBottleneck, GaussianBottleneck)
    return expect(spec.likelihood, BernoulliLikelihood)
