"""What every layer of the oracle offers."""

from collections.abc import Mapping
from typing import NamedTuple, Protocol, runtime_checkable

import numpy as np
from jaxtyping import Complex128, Float64

Array = Float64[np.ndarray, "..."] | Complex128[np.ndarray, "..."]
"""Real, but where a derivative is taken by a complex step; see `parity_tests.oracle.penalty.Contraction`."""
Arrays = dict[str, Array]
Tensors = Mapping[str, np.ndarray]
"""Parameters and constants of one layer under their last names, ``weight`` and ``bias``, in PyTorch's layout."""


class Values(NamedTuple):
    """What a layer makes of x and dy, or the rounding unit of each number of it."""

    output: Array
    input_gradient: Array
    gradients: Arrays
    """By every parameter."""


@runtime_checkable
class Layer(Protocol):
    """A pure function of parameters and input; images are [B, H, W, C]. Nothing more is asked of a new one."""

    def forward(self, p: Tensors, x: Array) -> Array:
        """Return the output y."""
        ...

    def backward(self, p: Tensors, x: Array, dy: Array) -> tuple[Array, Arrays]:
        """Return the gradients of Σ dy·y by x and by every parameter."""
        ...


@runtime_checkable
class Bounded(Layer, Protocol):
    """A layer that says itself what rounding may do; that of any other is counted, see `rounding`."""

    def units(self, p: Tensors, x: Array, dy: Array, u: float) -> Values:
        """Return how far rounding to unit roundoff ``u`` moves each number of output and gradients; see `oracle`."""
        ...


@runtime_checkable
class Stateful(Protocol):
    """A layer with state, which a training-mode pass changes."""

    def running(self, p: Tensors, x: Array) -> Arrays:
        """Return the state after x, under its last names."""
        ...


def real(x: Array) -> Array:
    """Return the part by which a choice is made."""
    return x.real if x.dtype.kind == "c" else x
