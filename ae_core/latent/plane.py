"""The plane in which a latent space is drawn, and grids of codes in it."""

from statistics import NormalDist
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Float64


class Plane(NamedTuple):
    """A plane through the latent space: the code of point (x, y) is ``origin + x·axes[0] + y·axes[1]``."""

    origin: Float64[np.ndarray, " L"]
    axes: Float64[np.ndarray, "2 L"]
    """Of length 1 and at right angles; the second is 0 where there is one latent number only."""
    names: tuple[str, str]
    """What the axes are, for a figure."""

    def points(self, codes: Float[np.ndarray, "N L"]) -> Float64[np.ndarray, "N 2"]:
        """Return where codes lie in the plane, or above and below it."""
        return (codes - self.origin) @ self.axes.T

    def codes(self, points: Float[np.ndarray, "N 2"]) -> Float64[np.ndarray, "N L"]:
        """Return the codes of points of the plane."""
        return self.origin + points @ self.axes


def latent_plane(latent: int, dimensions: tuple[int, int] = (0, 1)) -> Plane:
    """Return the plane of two latent numbers, all others 0."""
    chosen = dimensions if latent > 1 else (0, 0)
    axes = np.zeros((2, latent))
    axes[0, chosen[0]] = 1
    if latent > 1:
        axes[1, chosen[1]] = 1
    names = (f"latent {chosen[0] + 1}", f"latent {chosen[1] + 1}" if latent > 1 else "")
    return Plane(np.zeros(latent), axes, names)


def data_plane(codes: Float[np.ndarray, "N L"]) -> Plane:
    """Return the plane of the codes: of up to two latent numbers the latent space itself, else that of their PCA."""
    if codes.shape[1] <= 2:
        return latent_plane(codes.shape[1])
    mean, axes, share = principal_axes(codes)
    x, y = (f"PCA axis {i + 1} of the codes, {part:.0%} of variance" for i, part in enumerate(share))
    return Plane(mean, axes, (x, y))


def principal_axes(
    codes: Float[np.ndarray, "N L"],
) -> tuple[Float64[np.ndarray, " L"], Float64[np.ndarray, "2 L"], Float64[np.ndarray, " 2"]]:
    """Return mean, the first two principal axes, and their shares of the variance (Pearson, 1901).

    Codes that are not finite are left out. Of the two signs of an axis that is taken which makes its largest number
    positive. Where there are fewer than two axes, 0 stands for the others.
    """
    finite = codes[np.isfinite(codes).all(axis=1)].astype(np.float64)
    mean = finite.mean(axis=0) if len(finite) else np.zeros(codes.shape[1])
    _, spread, directions = np.linalg.svd(finite - mean, full_matrices=False)
    directions = np.vstack([directions, np.zeros((2, codes.shape[1]))])[:2]
    share = np.append(spread**2, [0, 0])[:2] / max(float(np.sum(spread**2)), np.finfo(np.float64).tiny)
    largest = np.take_along_axis(directions, np.abs(directions).argmax(axis=1)[:, None], axis=1)
    return mean, directions * np.where(largest < 0, -1, 1), share


def prior_quantiles(size: int) -> Float64[np.ndarray, " S"]:
    """Return the quantiles (i + ½) / size of N(0, 1), ascending: cells of equal probability, finite at the ends."""
    prior = NormalDist()
    return np.array([prior.inv_cdf((i + 0.5) / size) for i in range(size)])


def data_grid(
    codes: Float[np.ndarray, "N L"], size: int
) -> tuple[Plane, Float64[np.ndarray, " S"], Float64[np.ndarray, " Y"]]:
    """Return the plane of the codes and ``size`` values along each of its axes, evenly over the range of the codes.

    Of one latent number the second axis has one value, 0.
    """
    plane = data_plane(codes)
    points = plane.points(codes)
    x, y = (np.linspace(points[:, i].min(), points[:, i].max(), size) for i in range(2))
    return plane, x, y if codes.shape[1] > 1 else np.zeros(1)


def grid_codes(plane: Plane, x: Float[np.ndarray, " X"], y: Float[np.ndarray, " Y"]) -> Float64[np.ndarray, "Y X L"]:
    """Return the codes at each pair of values, the largest y in the first row, as a picture shows them."""
    points = np.stack(np.meshgrid(x, y[::-1]), -1).astype(np.float64)
    return plane.codes(points.reshape(-1, 2)).reshape(len(y), len(x), -1)
