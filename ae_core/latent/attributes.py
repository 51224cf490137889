"""Directions with a meaning, arithmetic with codes, and what hangs near a spot."""

import numpy as np
from jaxtyping import Bool, Float, Float64, Int64

from ae_core.metrics.knn import nearest


def attribute_vector(codes: Float[np.ndarray, "N L"], has: Bool[np.ndarray, " N"]) -> Float64[np.ndarray, " L"]:
    """Return the way from images without an attribute to those that have it: the difference of their mean codes.

    Added to a code, it gives the image the attribute; taken away, it takes it.

    Source: Larsen, Sønderby, Larochelle & Winther (2016), section 3.2.

    Raises:
        ValueError: all of the images have the attribute, or none.
    """
    if has.all() or not has.any():
        raise ValueError(f"attribute: {int(has.sum())} of {len(has)} images have it; expected some, and some without")
    return codes[has].mean(0, dtype=np.float64) - codes[~has].mean(0, dtype=np.float64)


def analogy(
    a: Float[np.ndarray, " L"], b: Float[np.ndarray, " L"], c: Float[np.ndarray, " L"]
) -> Float64[np.ndarray, " L"]:
    """Return the code that is to c as b is to a: c + b − a (Mikolov et al., 2013; for images Radford et al., 2016)."""
    return c + b.astype(np.float64) - a


def neighbours(
    spot: Float[np.ndarray, " L"], codes: Float[np.ndarray, "N L"], count: int
) -> tuple[Int64[np.ndarray, " K"], Float64[np.ndarray, " K"]]:
    """Return the indices of the codes nearest to a spot, the nearest first, and their Euclidean distances."""
    found = nearest(spot[None], codes, min(count, len(codes)))[0]
    return found, np.linalg.norm(codes[found].astype(np.float64) - spot, axis=1)
