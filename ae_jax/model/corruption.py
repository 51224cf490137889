"""Corruptions: what is done to the images that the encoder sees."""

from functools import singledispatch

import jax.numpy as jnp
from jaxtyping import Array, Float

from ae_core.spec import Corruption, missing
from ae_core.spec.corruption import GaussianNoise, MaskingNoise, SaltAndPepper


@singledispatch
def corrupt(
    corruption: Corruption, x: Float[Array, "B H W C"], noise: Float[Array, "B H W C"]
) -> Float[Array, "B H W C"]:
    """Return corrupted images; ``noise`` is that of the site ``corruption``.

    Raises:
        MissingError: nothing is registered for this kind.
    """
    raise missing("ae_jax", "corrupt", corruption)


@corrupt.register
def _gaussian(
    corruption: GaussianNoise, x: Float[Array, "B H W C"], noise: Float[Array, "B H W C"]
) -> Float[Array, "B H W C"]:
    return x + corruption.sigma * noise


@corrupt.register
def _masking(
    corruption: MaskingNoise, x: Float[Array, "B H W C"], noise: Float[Array, "B H W C"]
) -> Float[Array, "B H W C"]:
    return jnp.where(noise < corruption.threshold, 0, x)


@corrupt.register
def _salt_and_pepper(
    corruption: SaltAndPepper, x: Float[Array, "B H W C"], noise: Float[Array, "B H W C"]
) -> Float[Array, "B H W C"]:
    black, white = corruption.thresholds
    return jnp.where(noise < black, 0, jnp.where(noise > white, 1, x))
