"""Penalties: further terms of the loss."""

import math
from functools import singledispatch
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float

from ae_core.spec import Penalty, missing
from ae_core.spec.penalty import L1, SparseKL
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


@penalty.register
def _l1(penalty: L1, seen: Seen) -> Float[Array, " B"]:
    z = seen.code.z.reshape(len(seen.code.z), -1)
    return (z * lax.stop_gradient(jnp.sign(z))).sum(1)


@penalty.register
def _sparse_kl(penalty: SparseKL, seen: Seen) -> Float[Array, ""]:
    def log_mean(logs: Float[Array, "B L"]) -> Float[Array, " L"]:
        """Return the logarithm of a mean from logarithms, which is finite where the mean itself would round to 0."""
        counted = jnp.where(seen.mask[:, None] > 0, logs, -jnp.inf)
        return jax.nn.logsumexp(counted, axis=0) - jnp.log(seen.mask.sum())

    rate, logits = penalty.rate, seen.code.logits
    on, off = log_mean(jax.nn.log_sigmoid(logits)), log_mean(jax.nn.log_sigmoid(-logits))
    return (rate * (math.log(rate) - on) + (1 - rate) * (math.log1p(-rate) - off)).sum()
