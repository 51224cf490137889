"""Penalties: further terms of the loss."""

import math
from collections.abc import Callable
from functools import singledispatch
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float

from ae_core.spec import Penalty, missing
from ae_core.spec.penalty import L1, Contractive, SparseKL
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
    encode: Callable[..., Any]
    """From images to a code with all its fields, without noise; for a penalty that says that it needs the encoder."""


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


@penalty.register
def _contractive(penalty: Contractive, seen: Seen) -> Float[Array, " B"]:
    z, pull = jax.vjp(lambda x: seen.encode(x).z.reshape(len(x), -1), seen.x)
    # images do not depend on each other: going back from one latent dimension gives a row of each one's Jacobian
    units = jnp.broadcast_to(jnp.eye(z.shape[1], dtype=z.dtype)[:, None], (z.shape[1], *z.shape))
    (rows,) = jax.vmap(pull)(units)
    return (rows**2).sum((0, 2, 3, 4))
