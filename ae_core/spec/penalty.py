"""Penalties: further terms of the loss, on images, codes and reconstructions."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from ae_core.spec.component import Component, check
from ae_core.spec.schedule import Schedule

if TYPE_CHECKING:
    from ae_core.spec.model import Spec


class Penalty(Component):
    """A term of the loss under the name of its kind, times its ``weight``.

    It is a number for each sample, of which the loss has the mean; or, where it ``couples_samples``, one for the batch.
    """

    family: ClassVar[str] = "penalty"
    weight: float | Schedule

    @property
    def coefficients(self) -> Mapping[str, float | Schedule]:
        """Return its weight."""
        return {self.kind: self.weight}

    @property
    def needs_encoder(self) -> bool:
        """Whether it calls the encoder itself, as a function of one image at a time: then no samples may be coupled."""
        return False

    def check_spec(self, spec: "Spec") -> None:
        """Refuse a model of which it can say nothing.

        Raises:
            SpecError: says why, with the field's path from the spec.
        """


@dataclass(frozen=True)
class L1(Penalty):
    """Σ |z| over the code of each image; at exactly 0 its slope is 0.

    Source: Goodfellow et al. (2016), "Deep learning", section 14.2.1.
    """

    kind: ClassVar[str] = "l1"
    weight: float | Schedule
    """Weight of the term: a number, or a schedule of the step."""

    def __post_init__(self) -> None:
        _check_weight(self.weight)


@dataclass(frozen=True)
class SparseKL(Penalty):
    """Σ_j KL(ρ ‖ ρ̂_j), in nats: each number of a code has a target for its mean ρ̂_j over the batch.

    KL(ρ ‖ ρ̂) = ρ·log(ρ/ρ̂) + (1 − ρ)·log((1 − ρ)/(1 − ρ̂)), between two coins. Rates are the code's own numbers, which
    have to lie in (0, 1), such as the activations of sigmoid units; nothing is squashed here.
    Source: Ng (2011), "Sparse autoencoder", CS294A lecture notes, section 3.
    """

    kind: ClassVar[str] = "sparse-kl"
    weight: float | Schedule
    """Weight of the term: a number, or a schedule of the step."""
    rate: float = 0.05
    """ρ, the target."""

    def __post_init__(self) -> None:
        _check_weight(self.weight)
        check(0 < self.rate < 1, "rate", self.rate, "a number in (0, 1)")

    @property
    def couples_samples(self) -> bool:
        """True: a rate is that of the batch."""
        return True

    def check_spec(self, spec: "Spec") -> None:
        """Refuse a code whose numbers are no rates."""
        kind = f'{spec.bottleneck.kind}, with the penalty "{self.kind}"'
        check(spec.bottleneck.has_rates, "bottleneck", kind, "one whose code has rates in (0, 1), such as sigmoid")


@dataclass(frozen=True)
class Contractive(Penalty):
    """‖∂z/∂x‖²_F of each image: the squares of all numbers of its code's Jacobian, summed.

    At the clean image, of the code without noise; where it has a posterior, of its mean. Exact for any encoder, by one
    pass backward for each latent dimension. Source: Rifai et al. (2011), "Contractive auto-encoders", section 3.
    """

    kind: ClassVar[str] = "contractive"
    weight: float | Schedule
    """Weight of the term: a number, or a schedule of the step."""

    def __post_init__(self) -> None:
        _check_weight(self.weight)

    @property
    def needs_encoder(self) -> bool:
        """True: a Jacobian is of the function."""
        return True


def _check_weight(weight: float | Schedule) -> None:
    if isinstance(weight, float | int):
        check(weight >= 0, "weight", weight, "a number of at least 0, or a schedule")
