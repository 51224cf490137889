"""What a gate returns: a measured value, its limit, and the place where it was measured."""

from collections.abc import Iterable, Mapping
from typing import NamedTuple

import numpy as np
from jaxtyping import Shaped

Arrays = Mapping[str, Shaped[np.ndarray, "..."]]

IDENTITY_LIMIT = 1e-11
"""Normwise limit of float64 agreement.

Clean twins differ by rounding alone: sums of up to 10⁵ products, ordered differently, reach a few times
√10⁵·2⁻⁵³ ≈ 4e-14 of their norm, and 20 optimiser steps add a small factor. A fast variance, the weakest fault known,
shows at 4e-9. The limit lies between the two, orders of magnitude from both.
"""

FLOAT32_LIMIT = 2e-6
"""Of a float32 forward pass through up to 16 layers, as foster-ae has: about 2·√K·2⁻²⁴ of a layer's norm with K = 2,048
products, the longest sum of the presets, is 5e-6; errors average out over a tensor to a fraction of that. In a deeper
net the errors of layers add up, at worst in proportion to their number."""


class Check(NamedTuple):
    """One comparison."""

    name: str
    """What was compared, such as ``gradient``."""
    place: str
    """Where, such as ``encoder.blocks.0.conv.weight``."""
    worst: float
    """The measured difference; NaN and infinity never pass."""
    limit: float
    """The most it may be."""

    @property
    def passed(self) -> bool:
        """Whether the difference is within the limit, which has to be one."""
        return self.worst <= self.limit < float("inf")

    def __str__(self) -> str:
        verdict = "ok" if self.passed else "FAILED"
        return f"{self.name} {self.place}: {self.worst:.2e}, limit {self.limit:.0e}, {verdict}"


def normwise(a: Shaped[np.ndarray, "..."], b: Shaped[np.ndarray, "..."]) -> float:
    """Return ‖a − b‖ / max(‖a‖, ‖b‖), Euclidean, in float64: 0 for equal arrays.

    Differing shapes, and a NaN or an infinity on either side, are infinitely far apart.
    """
    if a.shape != b.shape:
        return float("inf")
    x, y = a.astype(np.float64).ravel(), b.astype(np.float64).ravel()
    if not (np.isfinite(x).all() and np.isfinite(y).all()):
        return float("inf")
    if np.array_equal(x, y):
        return 0.0
    return float(np.linalg.norm(x - y) / max(np.linalg.norm(x), np.linalg.norm(y)))


def compare(name: str, jax: Arrays, torch: Arrays, limit: float, dtype: str) -> list[Check]:
    """Compare two sets of arrays by name, normwise.

    A name that one side lacks, another shape and another dtype than ``dtype`` (JAX narrows silently) are infinitely
    far apart.

    Raises:
        ValueError: there is nothing to compare.
    """
    if not jax and not torch:
        raise ValueError(f"{name}: nothing to compare")
    checks = []
    for place in sorted(jax.keys() | torch.keys()):
        comparable = place in jax and place in torch and jax[place].dtype == torch[place].dtype == np.dtype(dtype)
        worst = normwise(jax[place], torch[place]) if comparable else float("inf")
        checks.append(Check(name, place, worst, limit))
    return checks


def worst(checks: Iterable[Check]) -> Check:
    """Return the check that is nearest to its limit, or furthest beyond it.

    Raises:
        ValueError: there are no checks.
    """
    return max(checks, key=lambda check: check.worst / check.limit if check.worst == check.worst else float("inf"))
