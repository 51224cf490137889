"""Samplers by name."""

from typing import Literal

import numpy as np
from jaxtyping import Float

from ae_core.latent.mixture import fit_mixture
from ae_core.latent.samplers import Sampler, fit_box, fit_gaussian

MAX_DRAWS = 10**7
"""The most codes that are drawn, and decoded, in one go."""

FittedSampler = Literal["gaussian", "mixture", "box"]
"""The densities that are fitted to codes."""


def fit_sampler(name: FittedSampler, codes: Float[np.ndarray, "N L"], components: int = 10, seed: int = 0) -> Sampler:
    """Return the sampler of that name, fitted to the codes; components and seed concern the mixture alone.

    Raises:
        ValueError: a mixture cannot be fitted to these codes; see `fit_mixture`.
    """
    match name:
        case "mixture":
            return fit_mixture(codes, components, seed)
        case "gaussian":
            return fit_gaussian(codes)
        case "box":
            return fit_box(codes)
