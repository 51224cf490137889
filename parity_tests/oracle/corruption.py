"""What noise does to numbers: corruptions of the images that the encoder sees, and dropout."""

import math
from dataclasses import dataclass
from functools import singledispatch

import numpy as np

from ae_core.spec import Corruption, missing
from ae_core.spec.corruption import GaussianNoise, MaskingNoise, SaltAndPepper
from parity_tests.oracle.layer import Array, Arrays, Layer, Tensors, Values

NAME = "corruption"
"""Of the layer, which gives what goes into the encoder.

It takes the noise of the site of this name, as ``noise`` among its parameters.
"""


@singledispatch
def layer_of_corruption(corruption: Corruption) -> Layer:
    """Return the layer from clean images to corrupted ones.

    Raises:
        MissingError: none is registered for this kind.
    """
    raise missing("parity_tests", "layer_of_corruption", corruption)


@dataclass(frozen=True)
class Added:
    """y = x + σ·n, with the noise n. Source: Vincent et al. (2010), section 3.1."""

    sigma: float

    def forward(self, p: Tensors, x: Array) -> Array:
        """Return x + σ·n."""
        return x + self.sigma * p["noise"]

    def backward(self, p: Tensors, x: Array, dy: Array) -> tuple[Array, Arrays]:
        """Return dy."""
        return dy, {}

    def units(self, p: Tensors, x: Array, dy: Array, u: float) -> Values:
        """Return √K·u·scale: σ is a rounded constant, and a product and a sum follow."""
        return Values(math.sqrt(3) * u * (np.abs(x) + self.sigma * np.abs(p["noise"])), 0 * dy, {})


@dataclass(frozen=True)
class Replaced:
    """y = 0 where the noise is in the lowest part of [0, 1], 1 where it is in the highest, else x."""

    black: float
    white: float

    def forward(self, p: Tensors, x: Array) -> Array:
        """Return x with the replaced pixels."""
        return np.where(p["noise"] < self.black, 0.0, np.where(p["noise"] > 1 - self.white, 1.0, x))

    def backward(self, p: Tensors, x: Array, dy: Array) -> tuple[Array, Arrays]:
        """Return dy where x was kept."""
        kept = (p["noise"] >= self.black) & (p["noise"] <= 1 - self.white)
        return dy * kept, {}

    def units(self, p: Tensors, x: Array, dy: Array, u: float) -> Values:
        """Return 0."""
        return Values(0 * x, 0 * dy, {})


@dataclass(frozen=True)
class Dropout:
    """y = x/(1 − share) where the noise is not in the lowest ``share`` of [0, 1], else 0.

    Source: Srivastava et al. (2014), section 10.
    """

    share: float

    def forward(self, p: Tensors, x: Array) -> Array:
        """Return what is kept, made larger."""
        return x * self._factors(p)

    def backward(self, p: Tensors, x: Array, dy: Array) -> tuple[Array, Arrays]:
        """Return dy times the same factors."""
        return dy * self._factors(p), {}

    def _factors(self, p: Tensors) -> Array:
        return np.where(p["noise"] < self.share, 0.0, 1 / (1 - self.share))


@layer_of_corruption.register
def _gaussian(corruption: GaussianNoise) -> Added:
    return Added(corruption.sigma)


@layer_of_corruption.register
def _masking(corruption: MaskingNoise) -> Replaced:
    return Replaced(corruption.share, 0.0)


@layer_of_corruption.register
def _salt_and_pepper(corruption: SaltAndPepper) -> Replaced:
    return Replaced(corruption.share / 2, corruption.share / 2)
