"""Where new codes come from: a prior, a box, or a density fitted to the codes of images after training.

The last makes a generator of a plain autoencoder, which has no prior: Ghosh et al. (2020), "From variational to
deterministic autoencoders", section 4.
"""

from typing import NamedTuple, Protocol, runtime_checkable

import numpy as np
from jaxtyping import Float, Float64

from ae_core.rng import generator, normal


@runtime_checkable
class Sampler(Protocol):
    """A density of codes."""

    def draw(self, count: int, seed: int) -> Float64[np.ndarray, "N L"]:
        """Return draws; fewer of the same seed are the first of more."""
        ...


class Prior(NamedTuple):
    """N(0, I), of which a variational autoencoder's codes are meant to be."""

    latent: int

    def draw(self, count: int, seed: int) -> Float64[np.ndarray, "N L"]:
        """Return draws; fewer of the same seed are the first of more."""
        return normal((count, self.latent), seed, "sample")


class Box(NamedTuple):
    """Uniform between two corners."""

    low: Float64[np.ndarray, " L"]
    high: Float64[np.ndarray, " L"]

    def draw(self, count: int, seed: int) -> Float64[np.ndarray, "N L"]:
        """Return draws; fewer of the same seed are the first of more."""
        return self.low + (self.high - self.low) * generator(seed, "sample", "box").random((count, len(self.low)))


class Gaussian(NamedTuple):
    """N(mean, factor·factorᵀ)."""

    mean: Float64[np.ndarray, " L"]
    factor: Float64[np.ndarray, "L L"]

    def draw(self, count: int, seed: int) -> Float64[np.ndarray, "N L"]:
        """Return draws; fewer of the same seed are the first of more."""
        return self.mean + normal((count, len(self.mean)), seed, "sample", "gaussian") @ self.factor.T


def fit_box(codes: Float[np.ndarray, "N L"]) -> Box:
    """Return the smallest box around the codes."""
    return Box(codes.min(0).astype(np.float64), codes.max(0).astype(np.float64))


def fit_gaussian(codes: Float[np.ndarray, "N L"]) -> Gaussian:
    """Return the Gaussian of greatest likelihood: mean and covariance of the codes, which may be singular."""
    mean = codes.mean(0, dtype=np.float64)
    return Gaussian(mean, covariance_factor((codes - mean).T @ (codes - mean) / len(codes)))


def covariance_factor(covariance: Float[np.ndarray, "L L"]) -> Float64[np.ndarray, "L L"]:
    """Return the symmetric root of a covariance, which unlike Cholesky's exists where it is singular."""
    values, vectors = np.linalg.eigh(covariance)
    root: np.ndarray = (vectors * np.sqrt(np.maximum(values, 0))) @ vectors.T
    return root
