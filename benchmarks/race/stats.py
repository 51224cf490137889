"""Medians, and how far they can be trusted."""

from typing import NamedTuple

import numpy as np
from jaxtyping import Float

DRAWS = 2_000
"""Bootstrap samples."""
LEVEL = 0.95
"""Of the intervals."""


class Estimate(NamedTuple):
    """A median with its interval."""

    value: float
    low: float
    high: float


def median_of(samples: Float[np.ndarray, " N"], seed: int = 0) -> Estimate:
    """Return the median of samples with its percentile bootstrap interval. Source: Efron (1979)."""
    return _bootstrap(samples, seed)


def ratio_of(a: Float[np.ndarray, "*P N"], b: Float[np.ndarray, "*Q N"], seed: int = 0) -> Estimate:
    """Return the median of a/b, paired by round, with its percentile bootstrap interval.

    What slows a machine down for a while slows both sides of a round alike, and cancels. Where a side ran in several
    processes, [P, N], each is paired with each of the other's, and processes are drawn as rounds are: how fast a
    program is depends on the process it is in, by more than rounds tell.
    """
    many = np.atleast_2d(a)[:, None] / np.atleast_2d(b)[None]
    rng, (ours, theirs, rounds) = np.random.default_rng(seed), many.shape
    one, two, when = (rng.integers(0, n, (DRAWS, n)) for n in (ours, theirs, rounds))
    drawn = many[one[:, :, None, None], two[:, None, :, None], when[:, None, None, :]]
    low, high = np.quantile(np.median(drawn, axis=(1, 2, 3)), [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return Estimate(float(np.median(many)), float(low), float(high))


def noise_of(ratios: list[Estimate]) -> float:
    """Return the noise that races of equal sides show: how far the intervals of their ratios reach away from 1.

    As a fraction: 0.03 where no such interval leaves 0.97 to 1.03. Infinite where there was no such race.
    """
    return max((max(1 - r.low, r.high - 1, 0.0) for r in ratios), default=float("inf"))


def beyond(ratio: Estimate, noise: float) -> int:
    """Return 1 where a ratio is above 1 beyond noise, −1 where it is below, and 0 where nothing can be said."""
    if ratio.low > 1 + noise:
        return 1
    return -1 if ratio.high < 1 / (1 + noise) else 0


def _bootstrap(samples: Float[np.ndarray, " N"], seed: int) -> Estimate:
    drawn = np.random.default_rng(seed).integers(0, len(samples), (DRAWS, len(samples)))
    low, high = np.quantile(np.median(samples[drawn], axis=1), [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return Estimate(float(np.median(samples)), float(low), float(high))
