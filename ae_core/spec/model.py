"""A spec says everything about an autoencoder and its training, and nothing else does.

Small frozen dataclasses, JSON both ways. Every number on which frameworks disagree by default (eps, momentum,
padding, the form of an activation, the reduction of a loss, the initialiser) stands here, so that no default of a
framework is ever relied on.
"""

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from ae_core.errors import SpecError
from ae_core.spec.backbone import Backbone
from ae_core.spec.bottleneck import Bottleneck
from ae_core.spec.codec import check_kind, from_json, to_json
from ae_core.spec.component import (
    MAX_PIXELS,
    MAX_STEPS,
    Component,
    Initial,
    NoiseSite,
    check,
    check_integers,
    check_name,
    components_of,
)
from ae_core.spec.corruption import Corruption
from ae_core.spec.likelihood import BernoulliLikelihood, Likelihood
from ae_core.spec.optimizer import Adam, Optimizer
from ae_core.spec.penalty import Penalty
from ae_core.spec.schedule import Constant, Schedule

Initializer = Literal["glorot_uniform", "glorot_normal", "he_uniform", "he_normal", "lecun_normal"]
Precision = Literal["float32", "float64"]


@dataclass(frozen=True)
class Training:
    """How the autoencoder is trained."""

    optimizer: Optimizer = Adam()
    """Which optimiser, with every hyper-parameter."""
    schedule: Schedule = Constant()
    """By what the peak learning rate is multiplied at each step."""
    clip_norm: float | None = None
    """Gradients of a larger global Euclidean norm are scaled down to it."""
    batch_size: int = 128
    """Images a step; the last batch of an epoch may be shorter and is never dropped."""
    epochs: int = 10
    """Passes over the training images."""
    precision: Precision = "float32"
    """Of parameters, activations and optimiser state alike."""

    def __post_init__(self) -> None:
        check(self.clip_norm is None or self.clip_norm > 0, "clip_norm", self.clip_norm, "a number above 0, or null")
        check_integers("batch_size", (self.batch_size,), 1, MAX_STEPS)
        check_integers("epochs", (self.epochs,), 1, MAX_STEPS)
        check_name("precision", self.precision, Precision)


@dataclass(frozen=True)
class Spec:
    """One autoencoder and its training."""

    input_shape: tuple[int, int, int]
    """Height, width and channels of an image."""
    backbone: Backbone
    """The layers of encoder and decoder."""
    bottleneck: Bottleneck
    """What lies between them."""
    likelihood: Likelihood = BernoulliLikelihood()
    """How a reconstruction is judged."""
    initializer: Initializer = "glorot_uniform"
    """Of every kernel and matrix; biases start at 0, norm weights at 1, others where their component says."""
    training: Training = Training()
    """How it is trained."""
    corruption: Corruption | None = None
    """What is done in training to the images that the encoder sees."""
    penalties: tuple[Penalty, ...] = ()
    """Further terms of the loss."""

    def __post_init__(self) -> None:
        for component in components_of(self):
            check_kind(type(component))
        fits = len(self.input_shape) == 3 and all(side >= 1 for side in self.input_shape)
        check(fits, "input_shape", list(self.input_shape), "[height, width, channels], each at least 1")
        small = math.prod(self.input_shape) <= MAX_PIXELS
        check(small, "input_shape", list(self.input_shape), f"at most {MAX_PIXELS:,} numbers an image")
        check_name("initializer", self.initializer, Initializer)
        self.backbone.check_images(self.input_shape)
        features = self.backbone.feature_shape(self.input_shape)
        self.bottleneck.latent_shape(features)  # refuses features that it cannot take
        for penalty in self.penalties:
            penalty.check_spec(self)
        _independent(self.penalties, (self.backbone, self.bottleneck))
        if "loss" in self.coefficients:
            raise SpecError(
                'given a component with the coefficient "loss"; expected another name, for the sum has this one'
            )
        _unique("coefficient", self.components, lambda component: component.coefficients)
        _unique("noise site", self.components, lambda component: component.noise_sites(self))

    @property
    def components(self) -> tuple[Component, ...]:
        """All components of the model and of its loss; those of the training left out."""
        parts = (self.backbone, self.bottleneck, self.likelihood, self.corruption, self.penalties)
        return tuple(components_of(parts))

    @property
    def latent_shape(self) -> tuple[int, ...]:
        """Shape of a code: ``(L,)``, or a map ``(h, w, c)``."""
        return self.bottleneck.latent_shape(self.backbone.feature_shape(self.input_shape))

    @property
    def latent_size(self) -> int:
        """Numbers in a code."""
        return math.prod(self.latent_shape)

    @property
    def couples_samples(self) -> bool:
        """Whether a training step is more than the mean over independent samples, for a component makes them meet."""
        return any(component.couples_samples for component in self.components)

    @property
    def is_smooth(self) -> bool:
        """Whether no slope of the model jumps anywhere."""
        return self.backbone.is_smooth and self.bottleneck.is_smooth

    @property
    def coefficients(self) -> Mapping[str, float | Schedule]:
        """The numbers that a training step is handed beside the learning rate, by name."""
        return {name: value for part in self.components for name, value in part.coefficients.items()}

    @property
    def last_coefficients(self) -> Mapping[str, float]:
        """What the coefficients come to: those that evaluation has."""
        return {n: v.last if isinstance(v, Schedule) else float(v) for n, v in self.coefficients.items()}

    @property
    def noise_sites(self) -> Mapping[str, NoiseSite]:
        """The noise that one training step needs, by the name of its site."""
        return {name: site for part in self.components for name, site in part.noise_sites(self).items()}

    @property
    def initial_values(self) -> Mapping[str, Initial]:
        """Where tensors start that do not start as their shape says; see `Component.initial_values`."""
        return {name: value for part in self.components for name, value in part.initial_values.items()}


def _independent(penalties: tuple[Penalty, ...], parts: tuple[Component, ...]) -> None:
    calling = [penalty for penalty in penalties if penalty.needs_encoder]
    coupling = [component for component in components_of(parts) if component.couples_samples]
    if calling and coupling:
        raise SpecError(
            f'penalties: given "{calling[0].kind}", which calls the encoder on one image at a time, with the '
            f'{coupling[0].family} "{coupling[0].kind}", which couples samples; expected a model without it'
        )


def _unique(what: str, components: tuple[Component, ...], names_of: Any) -> None:
    seen: dict[str, str] = {}
    for component in components:
        for name in names_of(component):
            if name in seen:
                raise SpecError(
                    f'given two components with the {what} "{name}", {seen[name]} and {component.family} '
                    f'"{component.kind}"; expected one'
                )
            seen[name] = f'{component.family} "{component.kind}"'


def spec_to_json(spec: Spec) -> dict[str, Any]:
    """Return the spec as plain JSON values; `spec_from_json` is its inverse."""
    result: dict[str, Any] = to_json(spec)
    return result


def spec_from_json(value: Any, where: str = "spec") -> Spec:
    """Build a spec from plain JSON values.

    Raises:
        SpecError: an unknown key or kind, a wrong type, a bad value or an impossible shape, named with its path.
    """
    return from_json(Spec, value, where)


def _no_key_twice(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    keys = [key for key, _ in pairs]
    for key in keys:
        if keys.count(key) > 1:
            raise ValueError(f'the key "{key}" stands twice in one object')
    return dict(pairs)


def load_spec(path: Path) -> Spec:
    """Read a spec from a JSON file.

    Raises:
        SpecError: the file cannot be read, is not JSON, or does not hold a valid spec.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "not UTF-8 text"
        raise SpecError(f"{path}: cannot be read as a spec: {reason}") from None
    try:
        value = json.loads(text, object_pairs_hook=_no_key_twice)
    except json.JSONDecodeError as error:
        raise SpecError(f"{path}: not JSON: {error.msg} in line {error.lineno}, column {error.colno}") from None
    except (ValueError, RecursionError) as error:  # a key twice, a number too long, a thousand brackets
        raise SpecError(f"{path}: not JSON that can be read: {error}") from None
    return spec_from_json(value, str(path))
