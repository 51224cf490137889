"""Likelihoods: what the decoder's output means, and how far an image is from it."""

from dataclasses import dataclass
from functools import singledispatch
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from ae_core.spec import BernoulliLikelihood, GaussianLikelihood, Likelihood, Reduction, missing


@singledispatch
def make_likelihood(likelihood: Likelihood) -> Any:
    """Return an object with ``mean(output)`` and ``negative_log_likelihood(output, x)``, the latter for each sample.

    Raises:
        MissingError: none is registered for this kind.
    """
    raise missing("ae_jax", "make_likelihood", likelihood)


@dataclass(frozen=True)
class Bernoulli:
    """Pixels as probabilities; the output is their logits."""

    reduction: Reduction

    def mean(self, output: Float[Array, "B H W C"]) -> Float[Array, "B H W C"]:
        """Return sigmoid(output)."""
        return jax.nn.sigmoid(output)

    def negative_log_likelihood(
        self, output: Float[Array, "B H W C"], x: Float[Array, "B H W C"]
    ) -> Float[Array, " B"]:
        """Return the binary cross-entropy of each image, log(1 + exp(output)) − x·output, in nats."""
        output, x = _flat(output), _flat(x)
        # jnp.logaddexp(output, 0), but for its care about NaN, which costs as much as the logarithm; at 0 the slopes of
        # both maxima are the mean of their sides, where that of jnp.abs is 1
        softplus = jnp.maximum(output, 0) + jnp.log1p(jnp.exp(-jnp.maximum(output, -output)))
        return _reduce(softplus - x * output, self.reduction)


@dataclass(frozen=True)
class Gaussian:
    """Pixels as normal variables of equal variance; the output is their mean."""

    variance: float
    reduction: Reduction

    def mean(self, output: Float[Array, "B H W C"]) -> Float[Array, "B H W C"]:
        """Return output itself."""
        return output

    def negative_log_likelihood(
        self, output: Float[Array, "B H W C"], x: Float[Array, "B H W C"]
    ) -> Float[Array, " B"]:
        """Return (x − output)² / (2·variance) of each image, in nats, without its constant."""
        return _reduce((_flat(x) - _flat(output)) ** 2 / (2 * self.variance), self.reduction)


def _flat(images: Float[Array, "B H W C"]) -> Float[Array, "B P"]:
    # one long axis: XLA's CPU backend vectorises the innermost one, and that of channels may have length 1
    return images.reshape(len(images), -1)


def _reduce(values: Float[Array, "B P"], reduction: Reduction) -> Float[Array, " B"]:
    # a product with ones: in a plain sum XLA's CPU backend works out the terms one by one, five times as slowly
    sums = values @ jnp.ones(values.shape[1], values.dtype)
    return sums / values.shape[1] if reduction == "mean" else sums


@make_likelihood.register
def _bernoulli(likelihood: BernoulliLikelihood) -> Bernoulli:
    return Bernoulli(likelihood.reduction)


@make_likelihood.register
def _gaussian(likelihood: GaussianLikelihood) -> Gaussian:
    return Gaussian(likelihood.variance, likelihood.reduction)
