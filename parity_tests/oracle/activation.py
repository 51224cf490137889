"""Activations: y = f(x), dx = dy·f′(x)."""

import math
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from scipy.special import erf, expit

from ae_core import spec as specs
from parity_tests.oracle.layer import Array, Arrays, Tensors, Values, real
from parity_tests.oracle.rounding import ELEMENTARY

ERF = (0.254829592, -0.284496736, 1.421413741, -1.453152027, 1.061405429)
"""Coefficients of Abramowitz & Stegun (1964), eq. 7.1.26: erf(q) ≈ 1 − (Σ aᵢ·tⁱ)·exp(−q²), t = 1/(1 + 0.3275911·q).

In float32, PyTorch's vectorised GELU evaluates this. So the scale of erf is that of this formula, K has an exp and 14
roundings more (2 for t, 10 for the sum, 2 at last) and what the formula itself is off by is added.
"""
ERF_TRUNCATION = 1.5e-7
"""Stated ibid.; it is no rounding, so that one unit has half of it and the limit of 2 units the whole."""


def logistic(x: Array) -> Array:
    """Return 1/(1 + exp(−x))."""
    y: Array = 1 / (1 + np.exp(-x)) if x.dtype.kind == "c" else expit(x)
    return y


class Curve(NamedTuple):
    """An activation at x, with the formulas on absolute values, sums for differences, and the count of roundings."""

    value: Array
    slope: Array
    value_scale: Array
    slope_scale: Array
    roundings: int
    truncation: float = 0.0
    """Of the slope in float32, and times |x| of the value: one unit's part of what is not rounding."""


@dataclass(frozen=True)
class Activation:
    """One of five; at the kink of relu and leaky_relu the left slope holds.

    ``side``, where it is among the parameters, has the signs that tell the slopes of these two.
    """

    name: specs.Activation
    negative_slope: float

    def forward(self, p: Tensors, x: Array) -> Array:
        """Return f(x)."""
        return self._curve(x).value

    def backward(self, p: Tensors, x: Array, dy: Array) -> tuple[Array, Arrays]:
        """Return dy·f′(x)."""
        kinked = self.name in ("relu", "leaky_relu")
        return dy * self._curve(p.get("side", x) if kinked else x).slope, {}

    def units(self, p: Tensors, x: Array, dy: Array, u: float) -> Values:
        """Return √K·u·scale, where the product with dy is one rounding more."""
        curve = self._curve(x)
        truncation = curve.truncation if u == 2**-24 else 0.0
        y = math.sqrt(curve.roundings) * u * curve.value_scale + truncation * np.abs(x)
        dx = (math.sqrt(curve.roundings + 1) * u * curve.slope_scale + truncation) * np.abs(dy)
        return Values(y, dx, {})

    def _curve(self, x: Array) -> Curve:
        size = np.abs(x)
        match self.name:
            case "relu":
                slope = (real(x) > 0).astype(x.dtype)
                return Curve(x * slope, slope, size * slope, slope, 1)
            case "leaky_relu":
                slope = np.where(real(x) > 0, 1.0, self.negative_slope)
                return Curve(x * slope, slope, size * slope, slope, 2)  # the slope is a rounded constant
            case "silu":
                # Elfwing et al. (2018): x·s(x), s the logistic function; it may come from a tanh, at scale 1
                s = logistic(x)
                return Curve(x * s, s * (1 + x * (1 - s)), size, 1 + size * s * (1 + s), ELEMENTARY + 4)
            case "gelu_erf":
                # Hendrycks & Gimpel (2016): x·Φ(x), Φ(x) = ½·(1 + erf(x/√2)), Φ′ = φ
                q = x / math.sqrt(2)
                phi, density = 0.5 * (1 + erf(q)), np.exp(-(q**2)) / math.sqrt(2 * math.pi)
                t = 1 / (1 + 0.3275911 * np.abs(q))
                tail = sum(abs(a) * t ** (i + 1) for i, a in enumerate(ERF)) * np.exp(-(q**2))
                phi_scale = 0.5 * (1 + (1 + tail))
                slope_scale = phi_scale + size * density
                # Φ is half of erf, and a unit has half of the truncation
                return Curve(
                    x * phi, phi + x * density, size * phi_scale, slope_scale, ELEMENTARY + 14 + 4, ERF_TRUNCATION / 4
                )
            case "gelu_tanh":
                # ibid.: ½·x·(1 + tanh(√(2/π)·(x + 0.044715·x³)))
                c = math.sqrt(2 / math.pi)
                t = np.tanh(c * (x + 0.044715 * x**3))
                inner = c * (1 + 3 * 0.044715 * x**2)
                slope = 0.5 * (1 + t) + 0.5 * x * (1 - t**2) * inner
                slope_scale = 0.5 * (1 + np.abs(t)) + 0.5 * size * (1 + t**2) * inner
                return Curve(0.5 * x * (1 + t), slope, size, slope_scale, ELEMENTARY + 9)
