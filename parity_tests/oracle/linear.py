"""Layers that are linear in x and in their weight: fully connected, convolution, transposed convolution."""

from abc import ABC, abstractmethod
from dataclasses import dataclass

import numpy as np

from ae_core.spec import Padding
from parity_tests.oracle.layer import Array, Arrays, Tensors, Values


class Bilinear(ABC):
    """y = A(w, x) + b, with A linear in both; the two gradients are its adjoints.

    Every number of output and gradients is an inner product, whose unit is √K·u·(|w|·|x|): |w|·|x| is the same A
    applied to absolute values, and K, the number of terms, is A applied to ones. Zeros that pad an image add no term.
    """

    @abstractmethod
    def apply(self, w: Array, x: Array) -> Array:
        """Return A(w, x)."""

    @abstractmethod
    def to_input(self, w: Array, dy: Array) -> Array:
        """Return the gradient of Σ dy·A(w, x) by x."""

    @abstractmethod
    def to_weight(self, x: Array, dy: Array) -> Array:
        """Return the gradient of Σ dy·A(w, x) by w."""

    def forward(self, p: Tensors, x: Array) -> Array:
        """Return A(w, x) + b."""
        return self.apply(p["weight"], x) + p.get("bias", 0.0)

    def backward(self, p: Tensors, x: Array, dy: Array) -> tuple[Array, Arrays]:
        """Return both adjoints, and the sum of dy for the bias."""
        gradients = {"weight": self.to_weight(x, dy)}
        if "bias" in p:
            gradients["bias"] = _over_samples(dy)
        return self.to_input(p["weight"], dy), gradients

    def units(self, p: Tensors, x: Array, dy: Array, u: float) -> Values:
        """Return √K·u·(|w|·|x|) of each inner product."""
        a = {name: np.abs(value) for name, value in p.items()}
        w, x1, dy1 = np.ones_like(p["weight"]), np.ones_like(x[:1]), np.ones_like(dy[:1])
        terms = self.apply(w, x1) + len(a) - 1
        forward = np.sqrt(terms) * u * self.forward(a, np.abs(x))
        by_input, gradients = self.backward(a, np.abs(x), np.abs(dy))
        counts = {"weight": len(x) * self.to_weight(x1, dy1), "bias": np.array(dy.size / dy.shape[-1])}
        by_parameter = {name: np.sqrt(counts[name]) * u * scale for name, scale in gradients.items()}
        return Values(forward, np.sqrt(self.to_input(w, dy1)) * u * by_input, by_parameter)


def _over_samples(dy: Array) -> Array:
    return dy.reshape(-1, dy.shape[-1]).sum(0)


@dataclass(frozen=True)
class Linear(Bilinear):
    """y = x·Wᵀ + b, with W [out, in]."""

    def apply(self, w: Array, x: Array) -> Array:
        """Return x·Wᵀ."""
        return x @ w.T

    def to_input(self, w: Array, dy: Array) -> Array:
        """Return dy·W."""
        return dy @ w

    def to_weight(self, x: Array, dy: Array) -> Array:
        """Return dyᵀ·x."""
        return dy.T @ x


@dataclass(frozen=True)
class _Strided(Bilinear):
    """One relation between a wide and a narrow image: wide pixel s·p + t − before and narrow pixel p meet in tap t.

    A convolution reads it from wide to narrow, a transposed one from narrow to wide. Source: Dumoulin & Visin (2016),
    "A guide to convolution arithmetic for deep learning", relationships 6, 13 and 14.

    ``same`` is TensorFlow's rule: ⌈wide/s⌉ narrow pixels, max((narrow − 1)·s + k − wide, 0) zeros in all, the smaller
    half in front. ``torch`` is (k − 1)/2 zeros on either side, and output padding s − 1, with which a transposed
    convolution ends at s·narrow pixels: (narrow − 1)·s − 2·padding + k + output padding.
    """

    wide: tuple[int, int]
    """Height and width of the wide image."""
    kernel: int
    stride: int
    padding: Padding

    def gather(self, w: Array, wide: Array) -> Array:
        """Return narrow[p] = Σ over t of wide[s·p + t − before]·w[t]."""
        seen, out = self._framed(wide), self.narrow
        return sum(np.tensordot(view, w[:, :, t, r].T, 1) for t, r, view in self._views(seen, out))  # type: ignore[return-value]

    def scatter(self, w: Array, narrow: Array) -> Array:
        """Return wide[s·p + t − before] = Σ over p and t of narrow[p]·w[t]."""
        seen = self._framed(np.zeros_like(narrow, shape=(len(narrow), *self.wide, w.shape[1])))
        for t, r, view in self._views(seen, self.narrow):
            view += np.tensordot(narrow, w[:, :, t, r], 1)
        before = [self._before(side) for side in self.wide]
        return seen[:, before[0] : before[0] + self.wide[0], before[1] : before[1] + self.wide[1]]

    def correlate(self, wide: Array, narrow: Array) -> Array:
        """Return w[narrow channel, wide channel, t] = Σ over images and p of narrow[p]·wide[s·p + t − before]."""
        w = np.empty_like(wide, shape=(narrow.shape[-1], wide.shape[-1], self.kernel, self.kernel))
        for t, r, view in self._views(self._framed(wide), self.narrow):
            w[:, :, t, r] = np.tensordot(narrow, view, ((0, 1, 2), (0, 1, 2)))
        return w

    @property
    def narrow(self) -> tuple[int, int]:
        """Height and width of the narrow image."""
        # floor((wide + 2·(k − 1)/2 − k)/s) + 1, the length under padding "torch", is the same number
        return -(-self.wide[0] // self.stride), -(-self.wide[1] // self.stride)

    def _before(self, side: int) -> int:
        if self.padding == "torch":
            return (self.kernel - 1) // 2
        return max((-(-side // self.stride) - 1) * self.stride + self.kernel - side, 0) // 2

    def _framed(self, wide: Array) -> Array:
        """Put zeros before the image, and behind it as many as the last tap may touch."""
        sides = [(self._before(side), self.kernel + self.stride) for side in self.wide]
        return np.pad(wide, ((0, 0), *sides, (0, 0)))

    def _views(self, framed: Array, out: tuple[int, int]) -> list[tuple[int, int, Array]]:
        """Return for each tap the pixels of the framed wide image that it touches."""
        s = self.stride
        return [
            (t, r, framed[:, t : t + s * out[0] : s, r : r + s * out[1] : s])
            for t in range(self.kernel)
            for r in range(self.kernel)
        ]


@dataclass(frozen=True)
class Conv(_Strided):
    """Cross-correlation, wide to narrow; W is [out, in, k, k]."""

    def apply(self, w: Array, x: Array) -> Array:
        """Gather."""
        return self.gather(w, x)

    def to_input(self, w: Array, dy: Array) -> Array:
        """Scatter."""
        return self.scatter(w, dy)

    def to_weight(self, x: Array, dy: Array) -> Array:
        """Correlate."""
        return self.correlate(x, dy)


@dataclass(frozen=True)
class ConvTranspose(_Strided):
    """The adjoint of a convolution, narrow to wide; W is [in, out, k, k]."""

    def apply(self, w: Array, x: Array) -> Array:
        """Scatter."""
        return self.scatter(w, x)

    def to_input(self, w: Array, dy: Array) -> Array:
        """Gather."""
        return self.gather(w, dy)

    def to_weight(self, x: Array, dy: Array) -> Array:
        """Correlate."""
        return self.correlate(dy, x)
