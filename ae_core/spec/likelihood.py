"""Likelihoods: how a reconstruction is judged."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar, Literal

from ae_core.spec.component import Component, check, check_name
from ae_core.spec.schedule import Schedule

Reduction = Literal["mean", "sum"]


class Likelihood(Component):
    """p(x|z), up to a constant; its negative logarithm is the loss's term ``reconstruction``."""

    family: ClassVar[str] = "likelihood"
    weight: float

    @property
    def coefficients(self) -> Mapping[str, float | Schedule]:
        """Return the weight of the term."""
        return {"reconstruction": self.weight}

    @property
    def takes_unit_interval(self) -> bool:
        """Whether images have to lie in [0, 1]."""
        return False

    @property
    def gives_probabilities(self) -> bool:
        """Whether the decoder's images are probabilities of white, so that log p(x|z) is at most 0."""
        return False


@dataclass(frozen=True)
class BernoulliLikelihood(Likelihood):
    """Binary cross-entropy on logits, in nats; the reconstruction is sigmoid(logits)."""

    kind: ClassVar[str] = "bernoulli"
    reduction: Reduction = "mean"
    """Over the pixels and channels of one image: their mean or their sum. Over the batch it is always the mean."""
    weight: float = 1.0
    """Weight of this term in the loss."""

    def __post_init__(self) -> None:
        check_name("reduction", self.reduction, Reduction)
        check(self.weight > 0, "weight", self.weight, "a number above 0")

    @property
    def takes_unit_interval(self) -> bool:
        """True: a pixel is the probability of white."""
        return True

    @property
    def gives_probabilities(self) -> bool:
        """True."""
        return True


@dataclass(frozen=True)
class GaussianLikelihood(Likelihood):
    """(x − mean)² / (2·variance), in nats, without its constant ½·log(2π·variance), which has no gradient."""

    kind: ClassVar[str] = "gaussian"
    variance: float = 0.5
    """Of every pixel; ½ makes the term the squared error."""
    reduction: Reduction = "mean"
    """Over the pixels and channels of one image: their mean or their sum. Over the batch it is always the mean."""
    weight: float = 1.0
    """Weight of this term in the loss."""

    def __post_init__(self) -> None:
        check(self.variance > 0, "variance", self.variance, "a number above 0")
        check_name("reduction", self.reduction, Reduction)
        check(self.weight > 0, "weight", self.weight, "a number above 0")
