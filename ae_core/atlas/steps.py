"""The steps of a decoder: arithmetic that a web page can carry out, and that NumPy carries out in the same way.

Both hold pictures as [H, W, C], compute in float64 and keep the weights as the page stores them: a distance that is
measured here is that of the page, up to float64 rounding. `decoder.js` has the same six steps in JavaScript.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
from jaxtyping import Float, Float64
from scipy.special import erf, expit

Storage = Literal["float64", "float32", "float16"]
"""How weights are stored."""

ACTIVATIONS: dict[str, Callable[[np.ndarray, float], np.ndarray]] = {
    "relu": lambda x, slope: np.maximum(x, 0),
    "leaky_relu": lambda x, slope: np.where(x > 0, x, slope * x),
    "silu": lambda x, slope: x * expit(x),
    "gelu_erf": lambda x, slope: 0.5 * x * (1 + erf(x / math.sqrt(2))),
    "gelu_tanh": lambda x, slope: 0.5 * x * (1 + np.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3))),
    "sigmoid": lambda x, slope: expit(x),
}
"""Functions of a number and a slope, which only leaky_relu reads; by the names that `decoder.js` knows too."""


@dataclass(frozen=True)
class Linear:
    """y = x·W + b, with W [in, out]."""

    weight: Float[np.ndarray, "I O"]
    bias: Float[np.ndarray, " O"]

    op = "linear"

    def run(self, x: Float64[np.ndarray, "N h w c"]) -> Float64[np.ndarray, "N 1 1 O"]:
        """Multiply the numbers of each picture, taken in order."""
        return (x.reshape(len(x), -1) @ _wide(self.weight) + self.bias)[:, None, None]


@dataclass(frozen=True)
class Reshape:
    """The same numbers, in the same order, as a picture of this height and width; channels vary fastest."""

    size: tuple[int, int]

    op = "reshape"

    def run(self, x: Float64[np.ndarray, "N h w c"]) -> Float64[np.ndarray, "N H W C"]:
        """Reshape."""
        return x.reshape(len(x), *self.size, -1)


@dataclass(frozen=True)
class Spread:
    """y[stride·p + t − before] += x[p]·W[t], over pixels p and taps t: a transposed convolution.

    A convolution of stride 1 is a transposed convolution too, with its kernel turned by 180°.
    """

    weight: Float[np.ndarray, "k k I O"]
    bias: Float[np.ndarray, " O"]
    stride: int
    before: int

    op = "spread"

    def run(self, x: Float64[np.ndarray, "N h w I"]) -> Float64[np.ndarray, "N H W O"]:
        """Spread each pixel over its surroundings."""
        n, h, w, _ = x.shape
        s, k = self.stride, len(self.weight)
        full = np.zeros((n, h * s + k, w * s + k, self.weight.shape[-1]))
        for t in range(k):
            for r in range(k):
                full[:, t : t + s * h : s, r : r + s * w : s] += x @ _wide(self.weight[t, r])
        return full[:, self.before : self.before + s * h, self.before : self.before + s * w] + self.bias


@dataclass(frozen=True)
class Scale:
    """y = x·weight + bias, for each channel: batch normalisation by its running statistics."""

    weight: Float[np.ndarray, " C"]
    bias: Float[np.ndarray, " C"]

    op = "scale"

    def run(self, x: Float64[np.ndarray, "N h w C"]) -> Float64[np.ndarray, "N h w C"]:
        """Scale and shift."""
        return x * self.weight + self.bias


@dataclass(frozen=True)
class Normalise:
    """(x − μ)/√(σ² + eps)·weight + bias, over positions and the channels of one group.

    Where ``groups`` is 0 it is layer normalisation: over all channels, at each position by itself.
    """

    weight: Float[np.ndarray, " C"]
    bias: Float[np.ndarray, " C"]
    groups: int
    eps: float

    op = "normalise"

    def run(self, x: Float64[np.ndarray, "N h w C"]) -> Float64[np.ndarray, "N h w C"]:
        """Normalise."""
        shape = (*x.shape[:3], max(self.groups, 1), -1)
        axes = (1, 2, 4) if self.groups else (4,)
        y = x.reshape(shape)
        y = y - y.mean(axes, keepdims=True)
        y = y / np.sqrt((y**2).mean(axes, keepdims=True) + self.eps)
        return y.reshape(x.shape) * self.weight + self.bias


@dataclass(frozen=True)
class Activate:
    """A function of each number, one of `ACTIVATIONS`."""

    name: str
    slope: float = 0.0
    """Of leaky_relu below 0."""

    op = "activate"

    def run(self, x: Float64[np.ndarray, "N h w C"]) -> Float64[np.ndarray, "N h w C"]:
        """Apply the function."""
        return ACTIVATIONS[self.name](x, self.slope)


Step = Linear | Reshape | Spread | Scale | Normalise | Activate


@dataclass(frozen=True)
class DecoderSteps:
    """A decoder as the steps that a page carries out, one after the other."""

    steps: tuple[Step, ...]

    def decode(self, z: Float[np.ndarray, "N L"]) -> Float64[np.ndarray, "N H W C"]:
        """Return the images that codes stand for, as the page makes them."""
        parts = []
        for start in range(0, len(z), 16):
            x = z[start : start + 16, None, None].astype(np.float64)
            for step in self.steps:
                x = step.run(x)
            parts.append(x)
        return np.concatenate(parts)

    def stored(self, storage: Storage) -> "DecoderSteps":
        """Return the decoder with its weights rounded to what the page stores; too large a number becomes infinite."""
        return DecoderSteps(tuple(_rounded(step, storage) for step in self.steps))

    def arrays(self) -> list[np.ndarray]:
        """Return weights and biases, in the order of the steps."""
        return [array for step in self.steps for array in _arrays(step).values()]

    def work(self) -> int:
        """Return the number of products that one picture takes."""
        products, pixels = 0, 1
        for step in self.steps:
            match step:
                case Reshape(size):
                    pixels = math.prod(size)
                case Linear(weight):
                    products += weight.size
                    pixels = 1
                case Spread(weight):
                    products += pixels * weight.size
                    pixels *= step.stride**2
        return products

    def described(self) -> list[dict[str, Any]]:
        """Return the steps as JSON values; an array is given by its shape."""
        return [
            {"op": step.op}
            | {name: list(v.shape) if isinstance(v, np.ndarray) else v for name, v in vars(step).items()}
            for step in self.steps
        ]


def _arrays(step: Step) -> dict[str, np.ndarray]:
    return {name: value for name, value in vars(step).items() if isinstance(value, np.ndarray)}


def _rounded(step: Step, storage: Storage) -> Step:
    with np.errstate(over="ignore"):  # whoever stores them looks for infinities
        rounded: dict[str, Any] = {name: np.ascontiguousarray(a, storage) for name, a in _arrays(step).items()}
    return replace(step, **rounded)


def _wide(weight: np.ndarray) -> Float64[np.ndarray, "..."]:
    return weight.astype(np.float64)
