"""Numbers that judge reconstructions."""

import numpy as np
from jaxtyping import Float


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
