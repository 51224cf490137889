"""Rounding as chance has it: every result of every layer off by its unit, one way or the other."""

from dataclasses import dataclass

import numpy as np

from parity_tests.oracle.layer import Array, Arrays, Layer
from parity_tests.oracle.rounding import units_of


@dataclass(frozen=True)
class RandomErrors:
    """Errors of one unit for unit roundoff u, whose signs are drawn.

    All positions of one channel of one image have the same sign: equal numbers round alike, and an even ground is off
    everywhere in the same direction, which no later sum averages away.
    """

    u: float
    rng: np.random.Generator

    def of_output(self, layer: Layer, p: Arrays, x: Array, y: Array) -> Array:
        """Return errors of an output."""
        return self._signs(y) * units_of(layer, p, x, np.zeros_like(y), self.u).output

    def of_gradients(self, layer: Layer, p: Arrays, x: Array, dy: Array) -> tuple[Array, Arrays]:
        """Return errors of the gradients by input and parameters."""
        units = units_of(layer, p, x, dy, self.u)
        by_parameters = {name: self._signs(unit) * unit for name, unit in units.gradients.items()}
        return self._signs(units.input_gradient) * units.input_gradient, by_parameters

    def _signs(self, like: Array) -> Array:
        shape = like.shape if like.ndim < 3 else (like.shape[0], *(1 for _ in like.shape[1:-1]), like.shape[-1])
        return self.rng.choice((-1.0, 1.0), shape)
