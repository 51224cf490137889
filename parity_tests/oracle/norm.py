"""Normalisations: x̂ = (x − μ)/σ with σ² = mean((x − μ)²) + eps over a group of numbers, then y = w·x̂ + b."""

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass
from functools import singledispatch

import numpy as np

from ae_core import spec as specs
from ae_core.spec import missing
from parity_tests.oracle.layer import Array, Arrays, Layer, Tensors, Values


@singledispatch
def layer_of_norm(norm: specs.Norm) -> Layer:
    """Return the layer of a normalisation.

    Raises:
        MissingError: none is registered for this kind.
    """
    raise missing("parity_tests", "layer_of_norm", norm)


class Norm(ABC):
    """Normalisation over groups, which a subclass names.

    Roundings, for a group of n: μ takes n, σ² another n + 3, of which σ keeps half; x − μ, the quotient, w and b take
    one each, and eps is a rounded constant. The scale of x̂ is X = (|x| + mean|x|)/σ, for μ is no input and x − μ may
    cancel (some write w/σ·x + (b − w/σ·μ) besides). The error of μ acts on the part mean|x|/σ of X, that of σ on the
    part |x̂| ≤ X, so n counts once: K = n + 8. A gradient's sums are over n or N numbers more, of numbers that know x̂.

    Equal numbers round alike: over a black image, or the even ground behind a can, the same errors come again and again
    and add up, where those of different numbers are as good as independent. With c₁, c₂, … of each of a group's
    numbers, √n becomes √Σc², which is √n where all differ, and n where all are the same.
    """

    eps: float

    @abstractmethod
    def grouping(self, shape: tuple[int, ...]) -> tuple[tuple[int, ...], tuple[int, ...]]:
        """Return the shape in which groups are whole axes, and those axes."""

    def forward(self, p: Tensors, x: Array) -> Array:
        """Return w·x̂ + b."""
        return p["weight"] * self._normal(x)[0] + p["bias"]

    def backward(self, p: Tensors, x: Array, dy: Array) -> tuple[Array, Arrays]:
        """Return dx = (g − mean(g) − x̂·mean(g·x̂))/σ with g = w·dy, Σ dy·x̂ and Σ dy.

        Source: Ioffe & Szegedy (2015), section 3, with the chain rule carried out.
        """
        normal, sigma = self._normal(x)
        g = p["weight"] * dy
        dx = (g - self._mean(g) - normal * self._mean(g * normal)) / sigma
        return dx, {"weight": _per_channel(dy * normal), "bias": _per_channel(dy)}

    def units(self, p: Tensors, x: Array, dy: Array, u: float) -> Values:
        """Return √K·u times the formulas on absolute values, with sums for differences."""
        n, count = self._alike(x), x.size / x.shape[-1]
        (_, sigma), w = self._normal(x), np.abs(p["weight"])
        scale = (np.abs(x) + self._mean(np.abs(x))) / sigma
        g = w * np.abs(dy)
        dx = (g + self._mean(g) + scale * self._mean(g * scale)) / sigma
        sums = {
            "weight": u * _per_channel(np.sqrt(count + n + 8) * np.abs(dy) * scale),
            "bias": math.sqrt(count) * u * _per_channel(np.abs(dy)),
        }
        forward = np.sqrt(n + 8) * u * (w * scale + np.abs(p["bias"]))
        return Values(forward, np.sqrt(2 * n + 16) * u * dx, sums)

    def moments(self, x: Array) -> tuple[Array, Array]:
        """Return mean and biased variance of every number's group, both of x's shape."""
        mean = self._mean(x)
        return mean, self._mean((x - mean) ** 2)

    def _normal(self, x: Array) -> tuple[Array, Array]:
        mean, var = self.moments(x)
        sigma = np.sqrt(var + self.eps)
        return (x - mean) / sigma, sigma

    def _alike(self, x: Array) -> Array:
        """Return Σc² for every number's group, of x's shape."""
        shape, axes = self.grouping(x.shape)
        rows = np.moveaxis(x.reshape(shape), axes, range(-len(axes), 0))
        ordered = np.sort(rows.reshape(-1, math.prod(shape[axis] for axis in axes)), 1)
        # of c equal numbers, the one in place i of them counts for 2·i + 1, which sum to c²
        place = np.arange(ordered.shape[1]) + np.zeros_like(ordered)
        fresh = np.diff(ordered, axis=1, prepend=-np.inf) > 0
        place -= np.maximum.accumulate(np.where(fresh, place, 0), 1)
        kept = [1 if axis in axes else size for axis, size in enumerate(shape)]
        counts = (2 * place + 1).sum(1).reshape(kept)
        return np.broadcast_to(counts, shape).reshape(x.shape)

    def _mean(self, x: Array) -> Array:
        shape, axes = self.grouping(x.shape)
        return np.broadcast_to(x.reshape(shape).mean(axes, keepdims=True), shape).reshape(x.shape)


def _per_channel(x: Array) -> Array:
    return x.reshape(-1, x.shape[-1]).sum(0)


@dataclass(frozen=True)
class BatchNorm(Norm):
    """A group is a channel, over images and positions. Source: Ioffe & Szegedy (2015), algorithm 1."""

    eps: float
    momentum: float

    def grouping(self, shape: tuple[int, ...]) -> tuple[tuple[int, ...], tuple[int, ...]]:
        """Return all axes but the last."""
        return shape, tuple(range(len(shape) - 1))

    def running(self, p: Tensors, x: Array) -> Arrays:
        """Return the running statistics after x: r ← r + momentum·(batch − r), with the variance times n/(n − 1)."""
        mean, var = (moment.reshape(-1, x.shape[-1])[0] for moment in self.moments(x))
        n = x.size / x.shape[-1]
        batch = {"running_mean": mean, "running_var": var * n / (n - 1)}
        return {name: (1 - self.momentum) * p[name] + self.momentum * value for name, value in batch.items()}


@dataclass(frozen=True)
class GroupNorm(Norm):
    """A group is some channels of one image, over its positions. Source: Wu & He (2018), eq. 1-6."""

    eps: float
    groups: int

    def grouping(self, shape: tuple[int, ...]) -> tuple[tuple[int, ...], tuple[int, ...]]:
        """Return positions and the channels of a group."""
        return (shape[0], math.prod(shape[1:-1]), self.groups, shape[-1] // self.groups), (1, 3)


@dataclass(frozen=True)
class LayerNorm(Norm):
    """A group is the channels at one position of one image. Source: Ba et al. (2016), eq. 3-4."""

    eps: float

    def grouping(self, shape: tuple[int, ...]) -> tuple[tuple[int, ...], tuple[int, ...]]:
        """Return the last axis."""
        return shape, (len(shape) - 1,)


@layer_of_norm.register
def _batch(norm: specs.BatchNorm) -> BatchNorm:
    return BatchNorm(norm.eps, norm.momentum)


@layer_of_norm.register
def _group(norm: specs.GroupNorm) -> GroupNorm:
    return GroupNorm(norm.eps, norm.groups)


@layer_of_norm.register
def _layer(norm: specs.LayerNorm) -> LayerNorm:
    return LayerNorm(norm.eps)
