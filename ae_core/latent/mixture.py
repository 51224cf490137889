"""A mixture of Gaussians, fitted to codes by expectation maximisation."""

from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Float64

from ae_core.latent.samplers import covariance_factor
from ae_core.metrics.knn import squared_distances
from ae_core.rng import generator, normal

FLOOR = 1e-6
"""Added to the variance of each component along each axis, in parts of the codes' mean variance."""

ROUNDS, GAIN = 200, 1e-6
"""The fit ends after so many rounds, or when one raises the mean log-likelihood by less than this."""


class Mixture(NamedTuple):
    """Σ weight·N(mean, covariance)."""

    weights: Float64[np.ndarray, " K"]
    """Sum to 1."""
    means: Float64[np.ndarray, "K L"]
    covariances: Float64[np.ndarray, "K L L"]

    def draw(self, count: int, seed: int) -> Float64[np.ndarray, "N L"]:
        """Return draws; fewer of the same seed are the first of more."""
        where = generator(seed, "sample", "component").random(count)
        chosen = np.minimum(np.searchsorted(np.cumsum(self.weights), where, "right"), len(self.weights) - 1)
        noise = normal((count, self.means.shape[1]), seed, "sample", "mixture")
        for k, covariance in enumerate(self.covariances):
            noise[chosen == k] = noise[chosen == k] @ covariance_factor(covariance).T
        return self.means[chosen] + noise

    def log_density(self, codes: Float[np.ndarray, "N L"]) -> Float64[np.ndarray, " N"]:
        """Return the logarithm of the density at each code, in nats."""
        return _log_sum(self.log_parts(codes))

    def log_parts(self, codes: Float[np.ndarray, "N L"]) -> Float64[np.ndarray, "N K"]:
        """Return log(weight·N(code; mean, covariance)) of each component."""
        parts = np.empty((len(codes), len(self.weights)))
        for k, (weight, mean, covariance) in enumerate(zip(*self, strict=True)):
            factor = np.linalg.cholesky(covariance)
            scaled = np.linalg.solve(factor, (codes - mean).T)
            logdet = 2 * np.log(np.diag(factor)).sum() + len(mean) * np.log(2 * np.pi)
            with np.errstate(divide="ignore"):  # a component of weight 0
                parts[:, k] = np.log(weight) - 0.5 * ((scaled**2).sum(0) + logdet)
        return parts


def fit_mixture(codes: Float[np.ndarray, "N L"], components: int, seed: int = 0) -> Mixture:
    """Return a mixture fitted to the codes; the seed places its first centres.

    Expectation maximisation (Dempster, Laird & Rubin, 1977) with full covariances, from centres that are codes, chosen
    far apart as k-means++ does (Arthur & Vassilvitskii, 2007), and the covariances of the codes nearest to each.

    Raises:
        ValueError: there are not at least twice as many codes as components, or they are all the same.
    """
    x = codes.astype(np.float64)
    if not 1 <= components <= len(x) / 2:
        raise ValueError(f"mixture: given {components} components for {len(x)} codes; expected 1 to {len(x) // 2}")
    floor = FLOOR * float(x.var(0).mean()) * np.eye(x.shape[1])
    if floor[0, 0] == 0:
        raise ValueError("mixture: the codes are all the same; expected codes that differ")
    centres = _far_apart(x, components, seed)
    nearest = squared_distances(x, centres).argmin(1)
    mixture = maximised(x, (nearest[:, None] == np.arange(components)).astype(np.float64), floor)
    likelihood = -np.inf
    for _ in range(ROUNDS):
        parts = mixture.log_parts(x)
        total = _log_sum(parts)
        if total.mean() - likelihood < GAIN:
            break
        likelihood = float(total.mean())
        mixture = maximised(x, np.exp(parts - total[:, None]), floor)
    return mixture


def maximised(
    codes: Float64[np.ndarray, "N L"], shares: Float64[np.ndarray, "N K"], floor: Float64[np.ndarray, "L L"]
) -> Mixture:
    """Return the mixture of greatest likelihood for given shares of each component in each code, plus the floor."""
    counts = shares.sum(0) + 10 * np.finfo(np.float64).eps  # a component may have lost all codes
    means = shares.T @ codes / counts[:, None]
    covariances = np.empty((len(counts), codes.shape[1], codes.shape[1]))
    for k, (count, mean) in enumerate(zip(counts, means, strict=True)):
        apart = codes - mean
        covariances[k] = (shares[:, k] * apart.T) @ apart / count + floor
    return Mixture(counts / counts.sum(), means, covariances)


def _far_apart(codes: Float64[np.ndarray, "N L"], count: int, seed: int) -> Float64[np.ndarray, "K L"]:
    rng = generator(seed, "mixture")
    centres = [codes[rng.integers(len(codes))]]
    closest = np.full(len(codes), np.inf)
    for _ in range(count - 1):
        closest = np.minimum(closest, ((codes - centres[-1]) ** 2).sum(1))
        reach = np.cumsum(closest)
        centres.append(codes[min(int(np.searchsorted(reach, rng.random() * reach[-1], "right")), len(codes) - 1)])
    return np.stack(centres)


def _log_sum(parts: Float64[np.ndarray, "N K"]) -> Float64[np.ndarray, " N"]:
    largest: np.ndarray = parts.max(1)
    return largest + np.log(np.exp(parts - largest[:, None]).sum(1))
