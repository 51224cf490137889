"""Likelihoods: what the decoder's output means, and how far an image is from it."""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

from ae_core.spec import BernoulliLikelihood, GaussianLikelihood, Reduction


@dataclass(frozen=True)
class Bernoulli:
    """Pixels as probabilities; the output is their logits."""

    reduction: Reduction

    def mean(self, output: Float[Tensor, "B H W C"]) -> Float[Tensor, "B H W C"]:
        """Return sigmoid(output)."""
        return torch.sigmoid(output)

    def negative_log_likelihood(
        self, output: Float[Tensor, "B H W C"], x: Float[Tensor, "B H W C"]
    ) -> Float[Tensor, " B"]:
        """Return the binary cross-entropy of each image, log(1 + exp(output)) − x·output, in nats."""
        return _reduce(F.binary_cross_entropy_with_logits(output, x, reduction="none"), self.reduction)


@dataclass(frozen=True)
class Gaussian:
    """Pixels as normal variables of equal variance; the output is their mean."""

    variance: float
    reduction: Reduction

    def mean(self, output: Float[Tensor, "B H W C"]) -> Float[Tensor, "B H W C"]:
        """Return output itself."""
        return output

    def negative_log_likelihood(
        self, output: Float[Tensor, "B H W C"], x: Float[Tensor, "B H W C"]
    ) -> Float[Tensor, " B"]:
        """Return (x − output)² / (2·variance) of each image, in nats, without its constant."""
        return _reduce((x - output) ** 2 / (2 * self.variance), self.reduction)


def _reduce(values: Float[Tensor, "B H W C"], reduction: Reduction) -> Float[Tensor, " B"]:
    return values.mean((1, 2, 3)) if reduction == "mean" else values.sum((1, 2, 3))


def make_likelihood(likelihood: BernoulliLikelihood | GaussianLikelihood) -> Bernoulli | Gaussian:
    """Return the functions of a likelihood."""
    match likelihood:
        case BernoulliLikelihood(reduction):
            return Bernoulli(reduction)
        case GaussianLikelihood(variance, reduction):
            return Gaussian(variance, reduction)
