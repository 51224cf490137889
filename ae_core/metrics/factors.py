"""How codes relate to the factors that are known to have made the images."""

import numpy as np
from jaxtyping import Float, Float64, Int64

from ae_core.metrics.knn import squared_distances

BANDWIDTHS = (0.125, 0.25, 0.5, 1.0, 2.0)
"""Of the smooth regressor's kernel, in medians of the distance between two codes."""

RIDGES = tuple(10.0**-i for i in range(7))
"""Of the smooth regressor, for each code that it is fitted to."""

MIG_BINS = 20
"""Bins of equal width into which a latent number, and a factor, is cut; those of Locatello et al. (2019)."""


def linear_r2(
    codes: Float[np.ndarray, "N L"],
    factors: Float[np.ndarray, "N F"],
    unseen: Float[np.ndarray, "M L"],
    truth: Float[np.ndarray, "M F"],
) -> Float64[np.ndarray, " F"]:
    """Return how well an affine function of the code, fitted by least squares, tells each factor of unseen codes.

    R² = 1 − Σ(truth − guess)² / Σ(truth − mean truth)²: 1 is perfect, 0 as good as the mean, and there is no least
    value. Where several functions fit equally well, that of least norm is taken, after standardising the codes.
    """
    x, y = standardised(codes, unseen)
    mean = factors.mean(0, dtype=np.float64)
    solution = np.linalg.lstsq(x, factors - mean, rcond=max(x.shape) * np.finfo(np.float64).eps)[0]
    return r2(truth, y @ solution + mean)


def smooth_r2(
    codes: Float[np.ndarray, "N L"],
    factors: Float[np.ndarray, "N F"],
    unseen: Float[np.ndarray, "M L"],
    truth: Float[np.ndarray, "M F"],
) -> Float64[np.ndarray, " F"]:
    """Return how well a smooth function of the code tells each factor of unseen codes, as R² (see `linear_r2`).

    The function is a kernel ridge regression (Saunders, Gammerman & Vovk, 1998) on standardised codes with the kernel
    exp(−d² / 2h²). The bandwidth h, one of ``BANDWIDTHS`` times the median distance, and the ridge, one of ``RIDGES``
    times N, are chosen for each factor by the error that leaves one of the fitted codes out. Time grows with N³.
    """
    x, y = standardised(codes, unseen)
    within, across = squared_distances(x, x), squared_distances(y, x)
    median = np.median(within[np.triu_indices(len(x), 1)]) or 1.0
    mean = factors.mean(0, dtype=np.float64)
    targets = factors - mean
    least, guess = np.full(factors.shape[1], np.inf), np.zeros(truth.shape)
    for bandwidth in BANDWIDTHS:
        scale = -0.5 / (bandwidth**2 * median)
        values, vectors = np.linalg.eigh(np.exp(scale * within))
        turned, kernel = vectors.T @ targets, np.exp(scale * across)
        for ridge in RIDGES:
            inverse = 1 / (np.maximum(values, 0) + ridge * len(x))
            weights = vectors @ (inverse[:, None] * turned)
            # of the fit without code i, the error at code i: Allen's PRESS, in closed form
            left_out = weights / (vectors**2 @ inverse)[:, None]
            error = (left_out**2).mean(0)
            better = error < least
            least = np.where(better, error, least)
            guess[:, better] = kernel @ weights[:, better]
    return r2(truth, guess + mean)


def r2(truth: Float[np.ndarray, "M F"], guess: Float[np.ndarray, "M F"]) -> Float64[np.ndarray, " F"]:
    """Return 1 − Σ(truth − guess)² / Σ(truth − mean truth)² of each column."""
    spread = ((truth - truth.mean(0, dtype=np.float64)) ** 2).sum(0)
    missed: np.ndarray = ((truth - guess.astype(np.float64)) ** 2).sum(0)
    return 1 - missed / spread


def mig(codes: Float[np.ndarray, "N L"], factors: Float[np.ndarray, "N F"]) -> Float64[np.ndarray, " F"]:
    """Return the mutual information gap of each factor: from 0, two latents tell as much of it, to 1, one tells all.

    The mutual information with the latent that has most of it, less that with the second, over the factor's entropy;
    of frequencies in 20 × 20 bins of equal width from the least to the greatest value.

    Source: Chen, Li, Grosse & Duvenaud (2018), eq. 6; bins as in Locatello et al. (2019).

    Raises:
        ValueError: there is only one latent number.
    """
    if codes.shape[1] < 2:
        raise ValueError("mig: given one latent number; expected at least two")
    z, v = ([_binned(column) for column in a.T] for a in (codes, factors))
    information = np.array([[_mutual_information(a, b) for b in v] for a in z])
    entropies = np.array([_mutual_information(b, b) for b in v])
    first, second = np.sort(information, 0)[[-1, -2]]
    return (first - second) / entropies


def _binned(values: Float[np.ndarray, " N"]) -> Int64[np.ndarray, " N"]:
    low, high = float(values.min()), float(values.max())
    width = (high - low) / MIG_BINS or 1.0
    return np.minimum((values.astype(np.float64) - low) / width, MIG_BINS - 1).astype(np.int64)


def _mutual_information(a: Int64[np.ndarray, " N"], b: Int64[np.ndarray, " N"]) -> float:
    joint = np.bincount(a * MIG_BINS + b, minlength=MIG_BINS**2).reshape(MIG_BINS, MIG_BINS) / len(a)
    independent = np.outer(joint.sum(1), joint.sum(0))
    there = joint > 0
    return float((joint[there] * np.log(joint[there] / independent[there])).sum())


def sap(codes: Float[np.ndarray, "N L"], factors: Float[np.ndarray, "N F"]) -> Float64[np.ndarray, " F"]:
    """Return the separated attribute predictability of each factor: from 0 to 1, where one latent alone tells it.

    The R² of a line through the latent that tells most of it, which is their squared correlation, less that of the
    second; a latent that does not vary tells nothing.

    Source: Kumar, Sattigeri & Balakrishnan (2018), section 3, for continuous factors.

    Raises:
        ValueError: there is only one latent number.
    """
    if codes.shape[1] < 2:
        raise ValueError("sap: given one latent number; expected at least two")
    z, v = (a - a.mean(0, dtype=np.float64) for a in (codes, factors))
    spread = (z**2).sum(0)[:, None] * (v**2).sum(0)
    told = (z.T @ v) ** 2 / np.where(spread > 0, spread, 1)
    first, second = np.sort(told, 0)[[-1, -2]]
    return first - second


def monotone(paths: Float[np.ndarray, "P T L"]) -> float:
    """Return the share of paths of codes that never turn back: each step has a part, above 0, along the whole way.

    A path holds the codes of images of which one factor grows and the others stay. With s = its steps, a path counts
    where s·Σs > 0 for every s: its shadow on the line from its first code to its last moves forwards all the time, so
    that it neither folds back nor meets itself. From 0 to 1, where the latent space has no fold along any path; of P
    paths as drawn, so that its own error is about √(share·(1 − share) / P).
    """
    steps = np.diff(paths.astype(np.float64), axis=1)
    along = (steps * steps.sum(1, keepdims=True)).sum(-1)
    return float((along > 0).all(1).mean())


def standardised(
    codes: Float[np.ndarray, "N L"], unseen: Float[np.ndarray, "M L"]
) -> tuple[Float64[np.ndarray, "N L"], Float64[np.ndarray, "M L"]]:
    """Return both with the mean and standard deviation of ``codes`` taken out; what does not vary is only centred."""
    mean, spread = codes.mean(0, dtype=np.float64), codes.std(0, dtype=np.float64)
    spread = np.where(spread > 0, spread, 1)
    return (codes - mean) / spread, (unseen - mean) / spread
