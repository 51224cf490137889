"""How far reconstructions are from their images."""

import math
from functools import singledispatch

import numpy as np
from jaxtyping import Float, Float64

from ae_core.spec import BernoulliLikelihood, GaussianLikelihood, Likelihood, missing


def mse(a: Float[np.ndarray, "N *S"], b: Float[np.ndarray, "N *S"]) -> float:
    """Return the mean squared difference over all pixels of all images, in float64; between 0 and 1 for images."""
    return float(np.mean((a.astype(np.float64) - b) ** 2))


PCA_MAX_SIDE, PCA_MAX_NUMBERS = 4096, 2**28
"""Beyond these the eigenvalues take minutes, and the images, in float64, gigabytes."""


def pca_mse(
    train: Float[np.ndarray, "N H W C"], heldout: Float[np.ndarray, "M H W C"], components: int
) -> float | None:
    """Return the MSE on ``heldout`` of the best linear autoencoder: ``components`` principal axes of ``train``.

    None where that would take too much time or memory: neither images nor pixels are few.

    Source: Pearson (1901); equal to scikit-learn's ``PCA(components)`` with its full solver.
    """
    if min(len(train), train[0].size) > PCA_MAX_SIDE or train.size > PCA_MAX_NUMBERS:
        return None
    x = train.reshape(len(train), -1).astype(np.float64)
    y = heldout.reshape(len(heldout), -1).astype(np.float64)
    mean = x.mean(0)
    x -= mean
    wide = x.shape[1] > x.shape[0]
    values, axes = np.linalg.eigh(x @ x.T if wide else x.T @ x)  # ascending eigenvalues
    values, axes = values[-components:], axes[:, -components:]
    if wide:  # from the eigenvectors of the images' products to those of the pixels'
        positive = values > values[-1] * len(values) * np.finfo(np.float64).eps
        axes = x.T @ axes[:, positive] / np.sqrt(values[positive])
    return mse(y, (y - mean) @ axes @ axes.T + mean)


def psnr(a: Float[np.ndarray, "N H W C"], b: Float[np.ndarray, "N H W C"]) -> Float64[np.ndarray, " N"]:
    """Return the peak signal-to-noise ratio of each image, 10·log₁₀(1 / MSE), in decibels.

    The peak is 1, that of images in [0, 1]. From 0 for images that are nowhere alike to infinity for equal ones.
    """
    errors = ((a.astype(np.float64) - b) ** 2).mean((1, 2, 3))
    with np.errstate(divide="ignore"):  # equal images
        return -10 * np.log10(errors)


BLOCK = 2**22
"""Numbers of images that are worked on at a time: some arrays of 32 MB each."""

SSIM_WINDOW, SSIM_SIGMA, SSIM_K1, SSIM_K2 = 11, 1.5, 0.01, 0.03
"""Side of the Gaussian window and its standard deviation, in pixels; the constants of Wang et al. (2004)."""


def ssim(a: Float[np.ndarray, "N H W C"], b: Float[np.ndarray, "N H W C"]) -> Float64[np.ndarray, " N"]:
    """Return the structural similarity of each image, the mean over all windows that lie in it and over channels.

    (2·μa·μb + c₁)(2·σab + c₂) / ((μa² + μb² + c₁)(σa² + σb² + c₂)), c₁ = 0.01², c₂ = 0.03², in a Gaussian window of
    11×11 pixels, σ = 1.5, with weights that sum to 1, and so without a sample's n / (n − 1). From −1 to 1, where
    images are equal.

    Source: Wang, Bovik, Sheikh & Simoncelli (2004), eq. 13 to 16.

    Raises:
        ValueError: a side is below 11 pixels.
    """
    if min(a.shape[1:3]) < SSIM_WINDOW:
        raise ValueError(f"ssim: given {a.shape[1]}×{a.shape[2]} pixels; expected at least {SSIM_WINDOW} a side")
    rows, columns = _windows(a.shape[1]), _windows(a.shape[2]).T
    c1, c2 = SSIM_K1**2, SSIM_K2**2
    result = np.empty(len(a))
    block = max(1, BLOCK // a[0].size)
    for start in range(0, len(a), block):
        x, y = (np.moveaxis(i[start : start + block].astype(np.float64), -1, 1) for i in (a, b))
        mx, my, xx, yy, xy = (rows @ image @ columns for image in (x, y, x * x, y * y, x * y))
        alike = (2 * mx * my + c1) * (2 * (xy - mx * my) + c2)
        result[start : start + block] = (alike / ((mx**2 + my**2 + c1) * (xx - mx**2 + yy - my**2 + c2))).mean(
            (1, 2, 3)
        )
    return result


def _windows(side: int) -> Float64[np.ndarray, "M S"]:
    """Return a matrix whose rows are the Gaussian window, one pixel further from row to row."""
    offsets = np.arange(SSIM_WINDOW) - SSIM_WINDOW // 2
    window = np.exp(-(offsets**2) / (2 * SSIM_SIGMA**2))
    matrix = np.zeros((side - SSIM_WINDOW + 1, side))
    for i, row in enumerate(matrix):
        row[i : i + SSIM_WINDOW] = window / window.sum()
    return matrix


def bce(images: Float[np.ndarray, "N H W C"], probabilities: Float[np.ndarray, "N H W C"]) -> Float64[np.ndarray, " N"]:
    """Return the binary cross-entropy of each image, −Σ x·log p + (1 − x)·log(1 − p), in nats; at least 0.

    The sum goes over pixels and channels. A probability that its own precision rounds to 0 or 1 counts as the nearest
    number that is neither: in float32 such a pixel costs at most 87 nats where it should be bright, and 17 where it
    should be dark.
    """
    one = np.ones((), probabilities.dtype)
    low, high = np.finfo(one.dtype).tiny, np.nextafter(one, 0 * one)
    result = np.empty(len(images))
    block = max(1, BLOCK // images[0].size)
    for start in range(0, len(images), block):
        x = images[start : start + block].astype(np.float64)
        p = np.clip(probabilities[start : start + block], low, high).astype(np.float64)
        result[start : start + block] = -(x * np.log(p) + (1 - x) * np.log1p(-p)).sum((1, 2, 3))
    return result


@singledispatch
def log_probability(
    likelihood: Likelihood, images: Float[np.ndarray, "N H W C"], decoded: Float[np.ndarray, "N H W C"]
) -> Float64[np.ndarray, " N"]:
    """Return log p(x|z) of each image, in nats, summed over pixels and channels, without the spec's weight.

    Bernoulli: minus `bce`, at most 0. It is a log-probability of images in black and white; of gray ones it is the
    customary score, which no constant normalises (Loaiza-Ganem & Cunningham, 2019). Gaussian: the log-density with
    its constant, −½·Σ ((x − mean)² / variance + log(2π·variance)), of any sign.

    Raises:
        MissingError: it is not registered for this kind.
    """
    raise missing("ae_core", "log_probability", likelihood)


@log_probability.register
def _bernoulli(
    likelihood: BernoulliLikelihood, images: Float[np.ndarray, "N H W C"], decoded: Float[np.ndarray, "N H W C"]
) -> Float64[np.ndarray, " N"]:
    return -bce(images, decoded)


@log_probability.register
def _gaussian(
    likelihood: GaussianLikelihood, images: Float[np.ndarray, "N H W C"], decoded: Float[np.ndarray, "N H W C"]
) -> Float64[np.ndarray, " N"]:
    squares = ((images.astype(np.float64) - decoded) ** 2).sum((1, 2, 3))
    return -0.5 * (squares / likelihood.variance + images[0].size * math.log(2 * math.pi * likelihood.variance))


def bits_per_dimension(nats: float, dimensions: int) -> float:
    """Return nats an image as bits for each of its numbers: nats / (dimensions · ln 2)."""
    return nats / (dimensions * math.log(2))
