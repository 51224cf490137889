"""Dropout."""

import jax.numpy as jnp
from flax import linen as nn
from jaxtyping import Array, Float

from ae_core.spec.backbone import kept


class Dropout(nn.Module):
    """y = x/(1 − share) where a uniform number is not below share, else 0; without noise y = x.

    Source: Srivastava et al. (2014), section 10, where what stays is made larger in training.
    """

    share: float

    def __call__(self, x: Float[Array, "B ..."], noise: Float[Array, "B ..."] | None) -> Float[Array, "B ..."]:
        if noise is None:
            return x
        threshold, factor = kept(self.share)
        return jnp.where(noise < threshold, 0, x * factor)


def make_dropout(share: float) -> Dropout | None:
    """Return the module, None where nothing is left out."""
    return Dropout(share) if share else None
