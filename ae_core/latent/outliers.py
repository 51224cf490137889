"""Which images are unlike those that a model was made for.

Two scores, each with a threshold from images that are as they should be: how badly an image is reconstructed, overall
and at each pixel, and how far its code lies from known codes.
"""

import itertools
import math
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Float64

from ae_core.metrics.knn import nearest

Images = Float[np.ndarray, "N H W C"]
Map = Callable[[np.ndarray], np.ndarray]

NEIGHBOURS = 5
"""The distance of a code is that to its 5th nearest known code."""


class Scores(NamedTuple):
    """Scores of images; the larger, the stranger."""

    reconstruction: Float64[np.ndarray, " N"]
    """Mean squared error of each image; 0 to 1."""
    distance: Float64[np.ndarray, " N"]
    """Euclidean distance of its code from the 5th nearest known code; at least 0."""
    pixels: Float64[np.ndarray, "N H W"]
    """Squared error at each pixel, the mean over channels; 0 to 1."""


class Detector(NamedTuple):
    """Known codes, and the score at which an image counts as strange."""

    codes: Float[np.ndarray, "M L"]
    reconstruction: float
    """Threshold of the mean squared error."""
    distance: float
    """Threshold of the distance."""
    pixel: float
    """Threshold of the squared error at one pixel: that of the strangest pixel of each known image."""

    def scores(self, encode: Map, decode: Map, images: Images) -> Scores:
        """Return the scores of images."""
        z = encode(images)
        errors, pixels = _errors(images, decode(z))
        return Scores(errors, _distances(z, self.codes, False), pixels)

    def strange(self, scores: Scores) -> Bool[np.ndarray, " N"]:
        """Return which images are beyond one threshold or the other."""
        return (scores.reconstruction > self.reconstruction) | (scores.distance > self.distance)


def fit_detector(encode: Map, decode: Map, images: Images, quantile: float = 0.99) -> Detector:
    """Return a detector whose thresholds are quantiles of the scores of images that are as they should be.

    The images should not be those of the training, whose errors are smaller than any others'. Of new images of the
    same kind a share of 1 − ``quantile`` at most is expected beyond the threshold of the error (see `upper_quantile`),
    and about as many beyond that of the distance, which known codes have from one code less.

    Source: of the distance Sun, Ming, Zhu & Li (2022), "Out-of-distribution detection with deep nearest neighbors".

    Raises:
        ValueError: there are too few images for the quantile, or not more than 5.
    """
    if len(images) <= NEIGHBOURS:
        raise ValueError(f"outliers: given {len(images)} known images; expected more than {NEIGHBOURS}")
    z = encode(images)
    errors, pixels = _errors(images, decode(z))
    own = _distances(z, z, True)
    strangest = pixels.max((1, 2))
    return Detector(z, *(upper_quantile(values, quantile) for values in (errors, own, strangest)))


def upper_quantile(values: Float[np.ndarray, " N"], quantile: float) -> float:
    """Return the ⌈(N + 1)·quantile⌉-th smallest value.

    The probability that a new value of the same kind is above it is 1 − quantile at most, whatever their distribution.

    Source: Vovk, Gammerman & Shafer (2005), conformal prediction.

    Raises:
        ValueError: the quantile is not in (0, 1), or there are too few values to say anything about it.
    """
    if not 0 < quantile < 1:
        raise ValueError(f"quantile: given {quantile:g}; expected a number between 0 and 1")
    place = math.ceil((len(values) + 1) * quantile)
    if place > len(values):
        least = next(n for n in itertools.count(len(values)) if math.ceil((n + 1) * quantile) <= n)
        raise ValueError(f"quantile: {quantile:g} takes {least} known images at least; given {len(values)}")
    return float(np.sort(values)[place - 1])


def _errors(images: Images, recon: Images) -> tuple[Float64[np.ndarray, " N"], Float64[np.ndarray, "N H W"]]:
    pixels = ((images.astype(np.float64) - recon) ** 2).mean(-1)
    return pixels.mean((1, 2)), pixels


def _distances(
    codes: Float[np.ndarray, "N L"], known: Float[np.ndarray, "M L"], same: bool
) -> Float64[np.ndarray, " N"]:
    last = nearest(codes, known, NEIGHBOURS, same)[:, -1]
    return np.linalg.norm(codes.astype(np.float64) - known[last], axis=1)
