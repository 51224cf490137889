"""The Gaussian code with its KL term, and the likelihoods."""

import math
from dataclasses import dataclass

import numpy as np
from scipy.special import expit

from ae_core.spec import Reduction
from parity_tests.oracle.activation import ELEMENTARY
from parity_tests.oracle.layer import Array, Arrays, Tensors, Values


@dataclass(frozen=True)
class GaussianCode:
    """From x = (mean | logvar), [B, 2·L], to y = (z, all of them, and then KL, the mean over the batch).

    z = mean + exp(½·logvar)·noise; KL = −½ Σ (1 + logvar − mean² − exp(logvar)) over latent dimensions.
    Source: Kingma & Welling (2014), eq. 10 and appendix B. ``noise`` is a constant among the parameters.
    """

    def forward(self, p: Tensors, x: Array) -> Array:
        """Return every z, then KL."""
        mean, logvar = np.split(x, 2, -1)
        z = mean + np.exp(0.5 * logvar) * p["noise"]
        kl = -0.5 * (1 + logvar - mean**2 - np.exp(logvar)).sum(-1).mean()
        return np.append(z.ravel(), kl)

    def backward(self, p: Tensors, x: Array, dy: Array) -> tuple[Array, Arrays]:
        """Return dmean = dz + k·mean and dlogvar = ½·exp(½·logvar)·noise·dz + ½·k·(exp(logvar) − 1), k = dKL/B."""
        mean, logvar = np.split(x, 2, -1)
        dz, k = dy[:-1].reshape(mean.shape), dy[-1] / len(x)
        dmean = dz + k * mean
        dlogvar = 0.5 * np.exp(0.5 * logvar) * p["noise"] * dz + 0.5 * k * (np.exp(logvar) - 1)
        return np.concatenate([dmean, dlogvar], -1), {}

    def units(self, p: Tensors, x: Array, dy: Array, u: float) -> Values:
        """Return √K·u times the formulas on absolute values, with sums for differences.

        K, beside one exp in each, where halving and doubling round nothing: z takes a product and a sum. A latent
        dimension's part of KL takes a square and three sums, and is one term of a sum over all latent dimensions of
        the batch, which ends in a quotient. k takes two, where it is multiplied by 1/B; so its part of dlogvar takes
        these, a product and a difference, z's part two products, and a sum joins the two: 5, of which dmean takes 4.
        """
        mean, logvar = np.split(np.abs(x), 2, -1)
        var, std = np.exp(x[:, logvar.shape[1] :]), np.exp(0.5 * x[:, logvar.shape[1] :])
        noise, dz, k = np.abs(p["noise"]), np.abs(dy[:-1]).reshape(mean.shape), np.abs(dy[-1]) / len(x)
        z = math.sqrt(ELEMENTARY + 2) * u * (mean + std * noise)
        kl = 0.5 * (1 + logvar + mean**2 + var).sum(-1).mean()
        kl = math.sqrt(ELEMENTARY + 4 + mean.size) * u * kl
        dx = np.concatenate([dz + k * mean, 0.5 * std * noise * dz + 0.5 * k * (var + 1)], -1)
        return Values(np.append(z.ravel(), kl), math.sqrt(ELEMENTARY + 5) * u * dx, {})


@dataclass(frozen=True)
class Bernoulli:
    """The mean over the batch of −log p(images | logits), with log p = x·l − log(1 + exp(l)) for each pixel.

    The output is one number. ``images`` are a constant among the parameters; they set the shape of the logits.
    """

    reduction: Reduction

    def forward(self, p: Tensors, x: Array) -> Array:
        """Return the mean cross-entropy; log(1 + exp(l)) = max(l, 0) + log(1 + exp(−|l|)) never overflows."""
        entropy = np.maximum(x, 0) + np.log1p(np.exp(-np.abs(x))) - p["images"] * x
        return np.array([entropy.sum() * _share(self.reduction, x)])

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
        return np.array([((p["images"] - x) ** 2).sum() * _share(self.reduction, x) / (2 * self.variance)])

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
