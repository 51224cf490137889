"""Whether neighbours in the latent space are neighbours among the images, or of one kind."""

import numpy as np
from jaxtyping import Float, Float64, Int64, Shaped

_BLOCK = 512


def trustworthiness(images: Float[np.ndarray, "N *S"], codes: Float[np.ndarray, "N L"], k: int) -> float:
    """Return how far the k nearest neighbours of a code are also near among the images; from 0 to 1, the best.

    1 − 2 / (n·k·(2n − 3k − 1)) · Σᵢ Σ max(0, r(i, j) − k), where j runs over the k nearest codes of i, and r(i, j) is
    the rank of image j by its Euclidean distance from image i, 1 for the nearest. Memory grows with n².

    Source: Venna & Kaski (2001), eq. 1.

    Raises:
        ValueError: k is not below n / 2.
    """
    n = len(images)
    if not 1 <= k < n / 2:
        raise ValueError(f"trustworthiness: given k = {k} of {n}; expected 1 to less than half of them")
    among_images = _without_self(squared_distances(images.reshape(n, -1), images.reshape(n, -1)), 0)
    ranks = np.empty((n, n), np.int64)
    np.put_along_axis(ranks, np.argsort(among_images, 1, kind="stable"), np.arange(1, n + 1)[None], 1)
    penalty = np.maximum(np.take_along_axis(ranks, nearest(codes, codes, k, True), 1) - k, 0).sum()
    return 1 - 2 * float(penalty) / (n * k * (2 * n - 3 * k - 1))


def knn_agreement(codes: Float[np.ndarray, "N L"], labels: Shaped[np.ndarray, " N"], k: int) -> float:
    """Return the share of codes whose label is the one most frequent among their k nearest other codes; 0 to 1.

    This is the accuracy, each code left out in turn, of the k-nearest-neighbour rule (Cover & Hart, 1967), with
    Euclidean distances and equal votes; of labels with equally many votes the smallest wins.

    Raises:
        ValueError: k is not below the number of codes.
    """
    if not 1 <= k < len(codes):
        raise ValueError(f"knn_agreement: given k = {k} of {len(codes)}; expected 1 to less than all of them")
    classes, order = np.unique(labels, return_inverse=True)
    votes = order[nearest(codes, codes, k, True)]
    counts = (votes[:, :, None] == np.arange(len(classes))).sum(1) if len(classes) <= 64 else _counts(votes)
    return float((counts.argmax(1) == order).mean())


def _counts(votes: Int64[np.ndarray, "N K"]) -> Int64[np.ndarray, "N C"]:
    counts = np.zeros((len(votes), votes.max() + 1), np.int64)
    np.add.at(counts, (np.arange(len(votes))[:, None], votes), 1)
    return counts


def nearest(
    queries: Float[np.ndarray, "M L"], codes: Float[np.ndarray, "N L"], k: int, same: bool = False
) -> Int64[np.ndarray, "M K"]:
    """Return the indices of the k codes nearest to each query, the nearest first; of equal distances, the first.

    ``same``: queries are the codes themselves, and none is its own neighbour.
    """
    found = np.empty((len(queries), k), np.int64)
    for start in range(0, len(queries), _BLOCK):
        distances = squared_distances(queries[start : start + _BLOCK], codes)
        if same:
            distances = _without_self(distances, start)
        few = np.sort(np.argpartition(distances, k - 1, 1)[:, :k], 1)
        order = np.argsort(np.take_along_axis(distances, few, 1), 1, kind="stable")
        found[start : start + _BLOCK] = np.take_along_axis(few, order, 1)
    return found


def squared_distances(a: Float[np.ndarray, "M D"], b: Float[np.ndarray, "N D"]) -> Float64[np.ndarray, "M N"]:
    """Return the squared Euclidean distance of each pair of rows, in float64."""
    centre = b.astype(np.float64).mean(0)  # a common offset would cost digits
    x, y = a - centre, b - centre
    squares: np.ndarray = (x**2).sum(1)[:, None] + (y**2).sum(1) - 2 * (x @ y.T)
    return np.maximum(squares, 0)


def _without_self(distances: Float64[np.ndarray, "M N"], start: int) -> Float64[np.ndarray, "M N"]:
    rows = np.arange(len(distances))
    distances[rows, start + rows] = np.inf
    return distances
