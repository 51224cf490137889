"""Disentanglement, completeness and informativeness of codes with known factors.

Source: Eastwood & Williams (2018), "A framework for the quantitative evaluation of disentangled representations".
"""

from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Float64

from ae_core.metrics.factors import standardised

ALPHA = 0.01
"""Weight of the lasso's penalty, on latents and factors of variance 1: a latent whose correlation with what the others
leave of a factor is below it has no importance."""

SWEEPS, TOLERANCE = 10_000, 1e-13
"""The lasso ends after so many rounds over the latents, or when no weight moves further than this."""


class Dci(NamedTuple):
    """The three scores."""

    disentanglement: float
    """From 0 to 1, where every latent number is important for one factor at most."""
    completeness: float
    """From 0 to 1, where for every factor one latent number is important."""
    error: Float64[np.ndarray, " F"]
    """Informativeness: root mean squared error of each unseen factor, in its standard deviations; 0 is the best, and
    the mean alone has about 1."""


def dci(
    codes: Float[np.ndarray, "N L"],
    factors: Float[np.ndarray, "N F"],
    unseen: Float[np.ndarray, "M L"],
    truth: Float[np.ndarray, "M F"],
) -> Dci:
    """Return the scores, with a `lasso` to each factor as the regressor and its absolute weights as importance.

    The lasso is one of the paper's two regressors (section 4.3): linear, so that what is told in a curved way counts
    as not told. Errors are those of codes that it was not fitted to.

    Raises:
        ValueError: there is one latent number or one factor alone, for which the scores mean nothing.
    """
    if min(codes.shape[1], factors.shape[1]) < 2:
        given = f"{codes.shape[1]} latents and {factors.shape[1]} factors"
        raise ValueError(f"dci: given {given}; expected at least two of each")
    (x, y), (v, w) = standardised(codes, unseen), standardised(factors, truth)
    weights = lasso(x, v, ALPHA)
    disentanglement, completeness = dci_scores(np.abs(weights))
    return Dci(disentanglement, completeness, np.sqrt(((y @ weights - w) ** 2).mean(0)))


def dci_scores(importance: Float[np.ndarray, "L F"]) -> tuple[float, float]:
    """Return disentanglement and completeness of a matrix of importances, at least 0, of latents for factors.

    Disentanglement: 1 − H of each row over F factors, logarithms to base F, averaged by the rows' shares of the whole.
    Completeness: 1 − H of each column over L latents, to base L, averaged over factors; a factor that no latent is
    important for counts as 0. Source: section 2 of the paper.
    """
    rows, columns = importance.sum(1), importance.sum(0)
    whole = rows.sum()
    if whole == 0:
        return 0.0, 0.0
    shares = importance / np.where(rows > 0, rows, 1)[:, None]
    disentanglement = (rows / whole) @ (1 - _entropy(shares.T))
    told = 1 - _entropy(importance / np.where(columns > 0, columns, 1))
    return float(disentanglement), float(np.where(columns > 0, told, 0).mean())


def lasso(x: Float[np.ndarray, "N L"], y: Float[np.ndarray, "N F"], alpha: float) -> Float64[np.ndarray, "L F"]:
    """Return the weights that minimise ‖y − x·w‖² / 2N + alpha·‖w‖₁, of each column of y, without an intercept.

    Source: Tibshirani (1996); coordinate descent by Friedman, Hastie & Tibshirani (2010), eq. 5, on products of the
    columns. Columns of x that are 0 get the weight 0.
    """
    products, targets = x.T @ x / len(x), x.T @ y / len(x)
    weights = np.zeros(targets.shape)
    for _ in range(SWEEPS):
        moved = 0.0
        for i, own in enumerate(np.diag(products)):
            if own == 0:
                continue
            rest = targets[i] - products[i] @ weights + own * weights[i]
            new = np.sign(rest) * np.maximum(np.abs(rest) - alpha, 0) / own
            moved = max(moved, float(np.abs(new - weights[i]).max()))
            weights[i] = new
        if moved <= TOLERANCE:
            break
    return weights


def _entropy(shares: Float64[np.ndarray, "K M"]) -> Float64[np.ndarray, " M"]:
    """Return the entropy of each column, logarithms to the base of its length."""
    logs = np.log(np.where(shares > 0, shares, 1))
    return -(shares * logs).sum(0) / np.log(len(shares))
