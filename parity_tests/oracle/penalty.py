"""Penalties: further terms of the loss."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import singledispatch
from typing import NamedTuple, Protocol, runtime_checkable

import numpy as np
from scipy.special import expit

from ae_core.spec import Penalty, missing
from ae_core.spec.penalty import L1, Contractive, SparseKL
from parity_tests.oracle.layer import Array, Arrays, Layer, Tensors, Values
from parity_tests.oracle.rounding import ELEMENTARY


class Term(NamedTuple):
    """A penalty, without its weight."""

    source: str
    """What it looks at: ``output``, the decoder's, or a field of the code, such as ``z``."""
    layer: Layer
    """From that to one number, the mean over the batch; ``images`` are a constant among its parameters."""


Pull = Callable[[Array, Array], tuple[Array, Arrays]]
"""From images x and dz, [B, L], to the gradients of Σ dz·z by x and by every parameter, with z the codes of x without
noise. Of complex images they are complex."""


@runtime_checkable
class OfEncoder(Protocol):
    """A penalty, without its weight, that calls the encoder itself; it is no layer."""

    def forward(self, pull: Pull, x: Array, latent: int) -> Array:
        """Return the term, the mean over the batch, of clean images and codes of so many numbers."""
        ...

    def backward(self, pull: Pull, x: Array, latent: int) -> Arrays:
        """Return its gradient by every parameter."""
        ...


@singledispatch
def layer_of_penalty(penalty: Penalty) -> Term | OfEncoder:
    """Return what a penalty looks at, and the layer from there to its term; or how it is worked out from the encoder.

    Raises:
        MissingError: none is registered for this kind.
    """
    raise missing("parity_tests", "layer_of_penalty", penalty)


@dataclass(frozen=True)
class Absolute:
    """The mean over the batch of Σ |z|; the slope at 0 is 0. Source: Goodfellow et al. (2016), section 14.2.1."""

    def forward(self, p: Tensors, x: Array) -> Array:
        """Return Σ |z| over the batch, over its size."""
        return (np.abs(x).sum() / len(x)).reshape(1)

    def backward(self, p: Tensors, x: Array, dy: Array) -> tuple[Array, Arrays]:
        """Return the sign of z, times dy over the size of the batch."""
        return np.sign(x) * dy[0] / len(x), {}

    def units(self, p: Tensors, x: Array, dy: Array, u: float) -> Values:
        """Return √K·u·scale: a sum of all numbers of the batch and a quotient; the gradient is a quotient alone."""
        dx = u * np.sign(np.abs(x)) * np.abs(dy[0]) / len(x)
        return Values(math.sqrt(x.size + 1) * u * self.forward(p, x), dx, {})


@dataclass(frozen=True)
class RateDivergence:
    """Σ_j KL(ρ ‖ ρ̂_j) from logits [B, L], with ρ̂_j the mean of 1/(1 + exp(−l_j)) over the batch.

    Source: Ng (2011), CS294A lecture notes, section 3, with the gradient −ρ/ρ̂ + (1 − ρ)/(1 − ρ̂) given there.
    """

    rate: float

    def forward(self, p: Tensors, x: Array) -> Array:
        """Return the sum over latent dimensions."""
        rho, on, off = self.rate, expit(x).mean(0), expit(-x).mean(0)
        return (rho * np.log(rho / on) + (1 - rho) * np.log((1 - rho) / off)).sum().reshape(1)

    def backward(self, p: Tensors, x: Array, dy: Array) -> tuple[Array, Arrays]:
        """Return the gradient by ρ̂ times that of the logistic function, over the size of the batch."""
        on, off = expit(x), expit(-x)
        slope = -self.rate / on.mean(0) + (1 - self.rate) / off.mean(0)
        return slope * on * off * dy[0] / len(x), {}

    def units(self, p: Tensors, x: Array, dy: Array, u: float) -> Values:
        """Return √K·u·scale, with log ρ̂ the logarithm of a mean of exponentials of s = log(1/(1 + exp(−l))).

        K: s takes an exp and a log, a sum and a difference; as an exponent it takes a difference from the largest s
        and an exp, then come a sum of B, a log, a sum, the logarithm of B and a difference. log ρ̂ is multiplied, added
        to rounded constants, and one term of a sum over latent dimensions. The gradient takes the exps of all that, and
        9 products, quotients and sums.
        Scale: an exponent's error multiplies its power, so that log ρ̂ has the largest |s| twice over, beside 1 for what
        multiplies the sum, |log ρ̂| and log B. In the gradient these are relative errors of 1/ρ̂ and of the share of
        exp(s), and s itself has a slope 1/(1 + exp(l)) of relative error |l| + 1.
        """
        b, value, slope = len(x), np.zeros(x.shape[1]), np.zeros(x.shape[1])
        for share, logits in ((self.rate, x), (1 - self.rate, -x)):
            mean = expit(logits).mean(0)
            log = 1 + 2 * np.logaddexp(0, -logits).max(0) + np.abs(np.log(mean)) + math.log(b)
            value += share * (abs(math.log(share)) + log)
            slope += share * log / mean
        roundings = 4 * ELEMENTARY + b + 8 + x.shape[1]
        dx = slope * (2 + np.abs(x)) * expit(x) * expit(-x) * np.abs(dy[0]) / b
        return Values(np.array([math.sqrt(roundings) * u * value.sum()]), math.sqrt(roundings + 9) * u * dx, {})


STEP = 2.0**-200
"""Of a derivative by a complex step: its square, which is the truncation, is nothing beside 1."""


@dataclass(frozen=True)
class Contraction:
    """The mean over the batch of ‖J‖²_F, J = ∂z/∂x. Source: Rifai et al. (2011), section 3.

    Row l of J is the gradient u of z_l by x. The gradient of u² by a parameter w is 2·u·∂u/∂w; and u·∂z_l/∂x, for a u
    that is held fixed, is the derivative of z_l along u. So that gradient is twice the derivative, along u, of ∂z_l/∂w.
    It is taken by a complex step, Im f(x + i·h·u)/h, in which nothing cancels: up to rounding it is exact.
    Source: Squire & Trapp (1998), "Using complex variables to estimate derivatives of real functions".
    """

    def forward(self, pull: Pull, x: Array, latent: int) -> Array:
        """Return the sum of all squares over the size of the batch."""
        return np.array(sum((pull(x, unit)[0] ** 2).sum() for unit in self._units(x, latent)) / len(x))

    def backward(self, pull: Pull, x: Array, latent: int) -> Arrays:
        """Return the sum over rows."""
        sums: Arrays = {}
        for unit in self._units(x, latent):
            row = pull(x, unit)[0]
            _, gradients = pull(x + 1j * STEP * row, unit)
            for name, gradient in gradients.items():
                sums[name] = sums.get(name, 0.0) + 2 / len(x) * gradient.imag / STEP
        return sums

    def _units(self, x: Array, latent: int) -> Array:
        """Return what is 1 for one latent dimension of all codes, [L, B, L]."""
        return np.broadcast_to(np.eye(latent)[:, None], (latent, len(x), latent))


@layer_of_penalty.register
def _contractive(penalty: Contractive) -> Contraction:
    return Contraction()


@layer_of_penalty.register
def _l1(penalty: L1) -> Term:
    return Term("z", Absolute())


@layer_of_penalty.register
def _sparse_kl(penalty: SparseKL) -> Term:
    return Term("logits", RateDivergence(penalty.rate))
