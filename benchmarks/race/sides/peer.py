"""What all peers share: refusals of specs that their adapters were not written for.

An adapter asks for concrete kinds of components, since it writes each of them down in another library's terms. A spec
with anything else is refused, so that no peer is timed at a smaller model than the others.
"""

from dataclasses import fields
from typing import TypeVar

from ae_core.errors import SpecError
from ae_core.spec import (
    Adam,
    BernoulliLikelihood,
    Component,
    Constant,
    ConvBackbone,
    DenseBackbone,
    GaussianBottleneck,
    PlainBottleneck,
    Spec,
    Training,
)

Kind = TypeVar("Kind", bound=Component)

FAMILIES = ("backbone", "bottleneck", "likelihood")
"""Families of which the peers' adapters have a component, in the model and its loss."""
COEFFICIENTS = ("reconstruction", "kl")
"""Terms of the loss that they have."""
TRAINED_WITH = ("optimizer", "schedule", "batch_size", "epochs", "precision")
"""Fields of a training that they heed; all others have to be as they are by default."""

FLAX_ACTIVATIONS = ("relu", "gelu_tanh")
"""Those that Flax has by default in the form of a spec."""


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
        SpecError: the spec has another likelihood or bottleneck, a component of no family of `FAMILIES`, noise
            elsewhere than at the code, a term of the loss that is none of `COEFFICIENTS`, clipped gradients, or with
            ``constant`` learning rates that change.
    """
    for part in spec.components:
        check(part.family in FAMILIES, part.family, f'"{part.kind}"', "none")
    for site in sorted(spec.noise_sites.keys() - spec.bottleneck.noise_sites(spec).keys()):
        check(False, "noise", f'"{site}"', "that of a code alone")
    for field in fields(Training):
        given, usual = getattr(spec.training, field.name), field.default
        heeded = field.name in TRAINED_WITH or given == usual
        check(heeded, f"training.{field.name}", given, "null" if usual is None else str(usual))
    schedule = spec.training.schedule
    check(not constant or schedule == Constant(), "training.schedule", schedule, str(Constant()))
    expect(spec.bottleneck, PlainBottleneck, GaussianBottleneck)
    likelihood = expect(spec.likelihood, BernoulliLikelihood)
    for name in spec.coefficients:
        check(name in COEFFICIENTS, "term of the loss", f'"{name}"', " or ".join(COEFFICIENTS))
    return likelihood


def check_flax(spec: Spec) -> None:
    """Refuse a spec that plain Flax is not written down for.

    Raises:
        SpecError: names the component or field.
    """
    check_common(spec)
    expect(spec.training.optimizer, Adam)
    backbone = expect(spec.backbone, ConvBackbone, DenseBackbone)
    padding, activation = getattr(backbone, "padding", "same"), getattr(backbone, "activation", "")
    check(padding == "same", "backbone.padding", padding, "same")
    check(activation in FLAX_ACTIVATIONS, "backbone.activation", activation, " or ".join(FLAX_ACTIVATIONS))


def check_keras(spec: Spec) -> None:
    """Refuse a spec that Keras is not written down for: it has convolutions with relu and padding "same" alone.

    Raises:
        SpecError: names the component or field.
    """
    check_common(spec, constant=True)
    expect(spec.training.optimizer, Adam)
    backbone = expect(spec.backbone, ConvBackbone)
    check(backbone.padding == "same", "backbone.padding", backbone.padding, "same")
    check(backbone.activation == "relu", "backbone.activation", backbone.activation, "relu")


def check_pythae(spec: Spec) -> None:
    """Refuse a spec that pythae's models do not stand for; encoder and decoder it is handed, whatever they are.

    Raises:
        SpecError: names the component or field.
    """
    check_common(spec, constant=True)
    expect(spec.training.optimizer, Adam)
