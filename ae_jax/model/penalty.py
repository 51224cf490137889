"""Penalties: further terms of the loss."""

from functools import singledispatch
from typing import Any, NamedTuple

from jaxtyping import Array, Float

from ae_core.spec import Penalty, missing
from ae_jax.model.norm import Mask


class Seen(NamedTuple):
    """What a penalty may look at, in one training step."""

    x: Float[Array, "B H W C"]
    """The clean images."""
    code: Any
    """The code, with all its fields; see `ae_jax.model.bottleneck.Code`."""
    output: Float[Array, "B H W C"]
    """Logits or means of the reconstruction."""
    mask: Mask
    """1 for each sample, 0 for those that only fill up the batch."""


@singledispatch
def penalty(penalty: Penalty, seen: Seen) -> Float[Array, "..."]:
    """Return the penalty of each sample, [B], or one number where it couples them; without its weight.

    A penalty of each sample need not look at the mask; one of the batch has to leave out samples where it is 0.

    Raises:
        MissingError: nothing is registered for this kind.
    """
    raise missing("ae_jax", "penalty", penalty)
