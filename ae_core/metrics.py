"""Numbers that judge reconstructions."""

import numpy as np
from jaxtyping import Float


def mse(a: Float[np.ndarray, "N *S"], b: Float[np.ndarray, "N *S"]) -> float:
    """Return the mean squared difference over all pixels of all images, in float64; between 0 and 1 for images."""
    return float(np.mean((a.astype(np.float64) - b) ** 2))


def pca_mse(train: Float[np.ndarray, "N H W C"], heldout: Float[np.ndarray, "M H W C"], components: int) -> float:
    """Return the MSE on ``heldout`` of the best linear autoencoder: ``components`` principal axes of ``train``.

    Source: Pearson (1901); equal to scikit-learn's ``PCA(components)`` with its full solver.
    """
    x = train.reshape(len(train), -1).astype(np.float64)
    y = heldout.reshape(len(heldout), -1).astype(np.float64)
    mean = x.mean(0)
    _, axes = np.linalg.eigh((x - mean).T @ (x - mean))  # ascending eigenvalues
    axes = axes[:, -components:]
    return mse(y, (y - mean) @ axes @ axes.T + mean)
