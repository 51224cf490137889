"""Likelihoods: what the decoder's output means, and how far an image is from it."""

from dataclasses import dataclass
from functools import singledispatch
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

from ae_core.spec import BernoulliLikelihood, GaussianLikelihood, Likelihood, Reduction, missing


@singledispatch
def make_likelihood(likelihood: Likelihood) -> Any:
    """Return an object with ``mean(output)`` and ``negative_log_likelihood(output, x)``, the latter for each sample.

    Raises:
        MissingError: none is registered for this kind.
    """
    raise missing("ae_torch", "make_likelihood", likelihood)


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


@make_likelihood.register
def _bernoulli(likelihood: BernoulliLikelihood) -> Bernoulli:
    return Bernoulli(likelihood.reduction)


@make_likelihood.register
def _gaussian(likelihood: GaussianLikelihood) -> Gaussian:
    return Gaussian(likelihood.variance, likelihood.reduction)
