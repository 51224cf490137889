"""Medians and their bootstrap intervals."""

from typing import NamedTuple

import numpy as np
from jaxtyping import Float

DRAWS = 2_000
"""Number of bootstrap samples."""
LEVEL = 0.95
"""Coverage of the intervals."""


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

    What slows the machine down for a while slows both sides of a round alike, and cancels. Where a side ran in several
    processes, [P, N], each is paired with each of the other side's, and processes are resampled as rounds are, since
    the same code differs in speed from process to process by more than from round to round.
    """
    many = np.atleast_2d(a)[:, None] / np.atleast_2d(b)[None]
    rng, (ours, theirs, rounds) = np.random.default_rng(seed), many.shape
    one, two, when = (rng.integers(0, n, (DRAWS, n)) for n in (ours, theirs, rounds))
    drawn = many[one[:, :, None, None], two[:, None, :, None], when[:, None, None, :]]
    low, high = np.quantile(np.median(drawn, axis=(1, 2, 3)), [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return Estimate(float(np.median(many)), float(low), float(high))


def spread_of(ratios: list[Estimate]) -> float:
    """Return the spread of equals: how far the intervals of ratios of a variant to its copy reach away from 1.

    It is a fraction: 0.03 where all these intervals lie within 0.97 to 1.03. Infinite where there are none.
    """
    return max((max(1 - r.low, r.high - 1, 0.0) for r in ratios), default=float("inf"))


def beyond(ratio: Estimate, spread: float) -> int:
    """Return 1 where a ratio is above 1 by more than the spread of equals, −1 where it is below, 0 where neither."""
    if ratio.low > 1 + spread:
        return 1
    return -1 if ratio.high < 1 / (1 + spread) else 0


def _bootstrap(samples: Float[np.ndarray, " N"], seed: int) -> Estimate:
    drawn = np.random.default_rng(seed).integers(0, len(samples), (DRAWS, len(samples)))
    low, high = np.quantile(np.median(samples[drawn], axis=1), [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return Estimate(float(np.median(samples)), float(low), float(high))
