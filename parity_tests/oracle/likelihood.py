"""Likelihoods: from logits or means to the term ``reconstruction`` of the loss."""

import math
from dataclasses import dataclass
from functools import singledispatch

import numpy as np
from scipy.special import expit

from ae_core.spec import BernoulliLikelihood, GaussianLikelihood, Likelihood, Reduction, missing
from parity_tests.oracle.layer import Array, Arrays, Layer, Tensors, Values
from parity_tests.oracle.rounding import ELEMENTARY


@singledispatch
def layer_of_likelihood(likelihood: Likelihood) -> Layer:
    """Return the layer from the decoder's output to one number; ``images`` are a constant among its parameters.

    Raises:
        MissingError: none is registered for this kind.
    """
    raise missing("parity_tests", "layer_of_likelihood", likelihood)


@dataclass(frozen=True)
class Bernoulli:
    """The mean over the batch of −log p(images | logits), with log p = x·l − log(1 + exp(l)) for each pixel.

    The output is one number. ``images`` are a constant among the parameters; they set the shape of the logits.
    """

    reduction: Reduction

    def forward(self, p: Tensors, x: Array) -> Array:
        """Return the mean cross-entropy; log(1 + exp(l)) = max(l, 0) + log(1 + exp(−|l|)) never overflows."""
        entropy = np.maximum(x, 0) + np.log1p(np.exp(-np.abs(x))) - p["images"] * x
        return (entropy.sum() * _share(self.reduction, x)).reshape(1)

    def backward(self, p: Tensors, x: Array, dy: Array) -> tuple[Array, Arrays]:
        """Return (s(l) − x)·dy over the number of terms, s the logistic function."""
        return (expit(x) - p["images"]) * _share(self.reduction, x) * dy[0], {}

    def units(self, p: Tensors, x: Array, dy: Array, u: float) -> Values:
        """Return √K·u·scale.

        K: a pixel's value takes exp, log and 4 roundings, and is one term of a sum over all pixels of the batch: XLA
        merges the sum over an image and the mean over the batch into one.
        The cross-entropy may be written with max(l, 0) or with min(l, 0), so its scale has |l|. s(l) may be written
        exp(l − log(1 + exp(l))): the error of an exponent, of scale |l| + log(1 + exp(l)), multiplies the value.
        """
        size = np.abs(x)
        entropy = size + np.log1p(np.exp(-size)) + np.abs(p["images"] * x)
        share = _share(self.reduction, x)
        forward = math.sqrt(2 * ELEMENTARY + 4 + x.size) * u * entropy.sum() * share
        slope = expit(x) * (1 + size + np.logaddexp(x, 0)) + np.abs(p["images"])
        dx = math.sqrt(2 * ELEMENTARY + 6) * u * slope * share * np.abs(dy[0])
        return Values(np.array([forward]), dx, {})


@dataclass(frozen=True)
class Gaussian:
    """The mean over the batch of (images − mean)²/(2·variance); its constant is left out. One number, as above."""

    reduction: Reduction
    variance: float

    def forward(self, p: Tensors, x: Array) -> Array:
        """Return the mean squared distance over twice the variance."""
        return (((p["images"] - x) ** 2).sum() * _share(self.reduction, x) / (2 * self.variance)).reshape(1)

    def backward(self, p: Tensors, x: Array, dy: Array) -> tuple[Array, Arrays]:
        """Return (mean − images)·dy/variance over the number of terms."""
        return (x - p["images"]) * _share(self.reduction, x) * dy[0] / self.variance, {}

    def units(self, p: Tensors, x: Array, dy: Array, u: float) -> Values:
        """Return √K·u·scale: both sides of the difference are inputs, so that its error is one rounding of itself.

        K: difference, square, rounded constant and quotient, then the sum as above; the gradient has 8 roundings.
        """
        value, (dx, _) = self.forward(p, x), self.backward(p, x, dy)
        return Values(math.sqrt(4 + x.size) * u * value, math.sqrt(8) * u * np.abs(dx), {})


def _share(reduction: Reduction, x: Array) -> float:
    """Return the weight of one pixel in the mean over the batch of each image's mean or sum."""
    return 1 / (x.size if reduction == "mean" else len(x))


@layer_of_likelihood.register
def _bernoulli(likelihood: BernoulliLikelihood) -> Bernoulli:
    return Bernoulli(likelihood.reduction)


@layer_of_likelihood.register
def _gaussian(likelihood: GaussianLikelihood) -> Gaussian:
    return Gaussian(likelihood.reduction, likelihood.variance)
