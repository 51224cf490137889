"""Dropout."""

from dataclasses import dataclass

import numpy as np

from parity_tests.oracle.layer import Array, Arrays, Tensors


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
