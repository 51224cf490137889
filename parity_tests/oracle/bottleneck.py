"""Bottlenecks: from features to a code and the terms that it adds to the loss."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import singledispatch

import numpy as np

from ae_core.spec import Bottleneck, GaussianBottleneck, PlainBottleneck, Schedule, missing
from ae_core.spec.bottleneck import SigmoidBottleneck, TopKBottleneck
from parity_tests.oracle.activation import logistic
from parity_tests.oracle.layer import Array, Arrays, Tensors, Values, real
from parity_tests.oracle.linear import Linear
from parity_tests.oracle.rounding import ELEMENTARY
from parity_tests.oracle.tree import Chain, Fork, Leaf, Node, Shape

NAME = "bottleneck"
"""Of the module; a layer of this name takes the noise of the site of this name, and has z for its output."""


@dataclass(frozen=True)
class Code:
    """What a bottleneck makes of features."""

    node: Node
    """From features to z; where there are ``terms``, to all numbers of z in one axis and then the terms."""
    terms: tuple[str, ...] = ()
    """Terms of the loss, each the mean over the batch. One of which the spec has no coefficient is only reported."""
    fields: Mapping[str, str] = field(default_factory=dict)
    """Fields of the twins' codes beside z, by the layers whose outputs they are."""


@singledispatch
def layers_of_bottleneck(bottleneck: Bottleneck, features: tuple[int, ...]) -> Code:
    """Return the bottleneck's layers, for features of this shape.

    Raises:
        MissingError: none are registered for this kind.
    """
    raise missing("parity_tests", "layers_of_bottleneck", bottleneck)


@layers_of_bottleneck.register
def _plain(bottleneck: PlainBottleneck, features: tuple[int, ...]) -> Code:
    return Code(Chain((Shape((math.prod(features),)), Leaf(f"{NAME}.code", Linear()))))


@dataclass(frozen=True)
class GaussianCode:
    """From x = (mean | logvar), [B, 2·L], to y = (z, all of them, and then KL, the mean over the batch).

    With a capacity C, the mean of |KL − C| of each image comes behind it (Burgess et al., 2018, eq. 8).

    z = mean + exp(½·logvar)·noise; KL = −½ Σ (1 + logvar − mean² − exp(logvar)) over latent dimensions.
    Source: Kingma & Welling (2014), eq. 10 and appendix B. ``noise`` is a constant among the parameters.
    """

    capacity: float | None = None

    def forward(self, p: Tensors, x: Array) -> Array:
        """Return every z, then KL, then its distance from the capacity."""
        mean, logvar = np.split(x, 2, -1)
        z, kl = mean + np.exp(0.5 * logvar) * p["noise"], self._kl(x)
        distance = [] if self.capacity is None else [np.abs(kl - self.capacity).mean()]
        return np.concatenate([z.ravel(), [kl.mean()], distance])

    def backward(self, p: Tensors, x: Array, dy: Array) -> tuple[Array, Arrays]:
        """Return dmean = dz + k·mean and dlogvar = ½·exp(½·logvar)·noise·dz + ½·k·(exp(logvar) − 1), k = dKL/B.

        To k the distance from the capacity adds its own gradient, with the sign of KL − C of each image.
        """
        mean, logvar = np.split(x, 2, -1)
        dz, k = self._split(x, dy)
        if self.capacity is not None:
            k = k + dy[-1] * np.sign(self._kl(x) - self.capacity)[:, None] / len(x)
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
        noise, (dz, k) = np.abs(p["noise"]), self._split(x, np.abs(dy))
        z = math.sqrt(ELEMENTARY + 2) * u * (mean + std * noise)
        kl = 0.5 * (1 + logvar + mean**2 + var).sum(-1).mean()
        terms = [math.sqrt(ELEMENTARY + 4 + mean.size) * u * kl]
        if self.capacity is not None:  # a rounded constant and a difference more
            terms.append(math.sqrt(ELEMENTARY + 6 + mean.size) * u * (kl + self.capacity))
            k = k + np.abs(dy[-1]) / len(x)
        dx = np.concatenate([dz + k * mean, 0.5 * std * noise * dz + 0.5 * k * (var + 1)], -1)
        return Values(np.append(z.ravel(), terms), math.sqrt(ELEMENTARY + 5) * u * dx, {})

    def _kl(self, x: Array) -> Array:
        """Return KL of each image."""
        mean, logvar = np.split(x, 2, -1)
        kl: Array = -0.5 * (1 + logvar - mean**2 - np.exp(logvar)).sum(-1)
        return kl

    def _split(self, x: Array, dy: Array) -> tuple[Array, Array]:
        """Return the gradient by z, and that by KL over the number of images."""
        last = 1 if self.capacity is None else 2
        shape = len(x), x.shape[1] // 2
        return dy[:-last].reshape(shape), dy[len(dy) - last, None] / len(x)


@layers_of_bottleneck.register
def _gaussian(bottleneck: GaussianBottleneck, features: tuple[int, ...]) -> Code:
    fields = {name: f"{NAME}.{name}" for name in ("mean", "logvar")}
    fork = Fork(tuple(Leaf(name, Linear()) for name in fields.values()), (bottleneck.latent,) * 2)
    capacity = bottleneck.capacity.last if isinstance(bottleneck.capacity, Schedule) else bottleneck.capacity
    terms = ("kl",) if capacity is None else ("kl", "capacity")
    code = Leaf(NAME, GaussianCode(capacity), output=f"{NAME}:z")
    return Code(Chain((Shape((math.prod(features),)), fork, code)), terms, fields)


@dataclass(frozen=True)
class TopK:
    """y = x where x is one of the k largest of its image, and 0 elsewhere; of equal numbers the first is larger.

    ``side``, where it is among the parameters, is x in another pass, which may choose another number where rounding
    decides: one that is no further from the k-th largest than either x is from the other.
    """

    k: int

    def forward(self, p: Tensors, x: Array) -> Array:
        """Return what is kept."""
        return x * self._kept(p, x)

    def backward(self, p: Tensors, x: Array, dy: Array) -> tuple[Array, Arrays]:
        """Return dy where x was kept."""
        return dy * self._kept(p, x), {}

    def units(self, p: Tensors, x: Array, dy: Array, u: float) -> Values:
        """Return 0: nothing is rounded."""
        return Values(0 * x, 0 * dy, {})

    def _kept(self, p: Tensors, x: Array) -> Array:
        own = self._largest(x)
        side = p.get("side")
        if side is None:
            return own
        other, limit = self._largest(side), np.sort(x, -1)[:, -self.k, None]
        margin = 2 * np.abs(x - side).max(-1, keepdims=True)
        near = (np.abs(x - limit) <= margin) | (own == other)
        return np.where(near.all(-1, keepdims=True), other, own)

    def _largest(self, x: Array) -> Array:
        kept = np.zeros_like(x)
        np.put_along_axis(kept, np.argsort(-real(x), -1, kind="stable")[:, : self.k], 1.0, -1)
        return kept


@layers_of_bottleneck.register
def _topk(bottleneck: TopKBottleneck, features: tuple[int, ...]) -> Code:
    sizes = Shape((math.prod(features),))
    return Code(Chain((sizes, Leaf(f"{NAME}.code", Linear()), Leaf(NAME, TopK(bottleneck.k), output=f"{NAME}:z"))))


@dataclass(frozen=True)
class Sigmoid:
    """y = 1/(1 + exp(−x))."""

    def forward(self, p: Tensors, x: Array) -> Array:
        """Return the logistic function of x."""
        return logistic(x)

    def backward(self, p: Tensors, x: Array, dy: Array) -> tuple[Array, Arrays]:
        """Return dy·y·(1 − y)."""
        return dy * logistic(x) * logistic(-x), {}

    def units(self, p: Tensors, x: Array, dy: Array, u: float) -> Values:
        """Return √K·u·scale: an exp, a sum and a quotient, or a tanh at scale 1; 1 − y is known as well as y is."""
        forward = math.sqrt(ELEMENTARY + 2) * u * np.ones_like(x)
        return Values(forward, math.sqrt(2 * ELEMENTARY + 7) * u * np.abs(dy), {})


@layers_of_bottleneck.register
def _sigmoid(bottleneck: SigmoidBottleneck, features: tuple[int, ...]) -> Code:
    logits = f"{NAME}.logits"
    node = Chain((Shape((math.prod(features),)), Leaf(logits, Linear()), Leaf(NAME, Sigmoid(), output=f"{NAME}:z")))
    return Code(node, fields={"logits": logits})
