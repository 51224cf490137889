"""How far invented images are from real ones, as two clouds of points."""

import numpy as np
from jaxtyping import Float, Float64

from ae_core.metrics.knn import squared_distances


def energy_distance(a: Float[np.ndarray, "N *S"], b: Float[np.ndarray, "M *S"]) -> float:
    """Return the energy distance of two sets: 2·E‖a − b‖ − E‖a − a′‖ − E‖b − b′‖, Euclidean; at least 0.

    It is 0 where the distributions are equal, however many points each has of it, but for what chance leaves: pairs of
    a point with itself are counted, so that sets of N points of one distribution are some E‖a − a′‖·(1/N + 1/M) apart.

    Source: Székely & Rizzo (2013), "Energy statistics", eq. 6.1, without the factor NM / (N + M).
    """
    x, y = a.reshape(len(a), -1), b.reshape(len(b), -1)
    return 2 * float(_distances(x, y).mean()) - _among(x) - _among(y)


def _distances(x: Float[np.ndarray, "N D"], y: Float[np.ndarray, "M D"]) -> Float64[np.ndarray, "N M"]:
    return np.sqrt(squared_distances(x, y))


def _among(x: Float[np.ndarray, "N D"]) -> float:
    distances = _distances(x, x)
    np.fill_diagonal(distances, 0)  # rounding leaves some 1e-8
    return float(distances.mean())
