"""Optimisers, with every hyper-parameter explicit, as Optax transformations without the learning rate.

The learning rate is an argument of each training step, so that both twins receive the same number.
"""

import math
from collections.abc import Mapping
from functools import singledispatch
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, Float, Int

from ae_core.spec import SGD, Adam, AdamW, Optimizer, Precision, Training, missing
from ae_jax.tensors import from_tensors, to_tensors


def make_optimizer(training: Training) -> optax.GradientTransformation:
    """Return the transformation from gradients to the direction to go against, one learning rate far."""
    return optax.chain(clip_by_global_norm(training.clip_norm), make_direction(training.optimizer))


@singledispatch
def make_direction(optimizer: Optimizer) -> optax.GradientTransformation:
    """Return the transformation from clipped gradients to the direction to go against, one learning rate far.

    What it remembers from step to step are fields of its state, trees like the parameters, see `slots_of`, and where it
    has one the number of steps, in ``count``.

    Raises:
        MissingError: none is registered for this kind.
    """
    raise missing("ae_jax", "make_direction", optimizer)


@singledispatch
def slots_of(optimizer: Optimizer) -> Mapping[str, str]:
    """Return PyTorch's names of what an optimiser remembers, and those of the fields in the state of its direction.

    Raises:
        MissingError: none are registered for this kind.
    """
    raise missing("ae_jax", "slots_of", optimizer)


@make_direction.register
def _adam(optimizer: Adam) -> optax.GradientTransformation:
    return scale_by_adam(optimizer.b1, optimizer.b2, optimizer.eps)


@make_direction.register
def _adamw(optimizer: AdamW) -> optax.GradientTransformation:
    adam = scale_by_adam(optimizer.b1, optimizer.b2, optimizer.eps)
    return optax.chain(adam, optax.add_decayed_weights(optimizer.weight_decay))


@make_direction.register
def _sgd(optimizer: SGD) -> optax.GradientTransformation:
    # without momentum there is nothing to remember, in PyTorch too
    return optax.trace(decay=optimizer.momentum, nesterov=False) if optimizer.momentum else optax.identity()


@slots_of.register(Adam)
@slots_of.register(AdamW)
def _moments_of_adam(optimizer: Optimizer) -> Mapping[str, str]:
    return {"exp_avg": "mu", "exp_avg_sq": "nu"}


@slots_of.register
def _velocity_of_sgd(optimizer: SGD) -> Mapping[str, str]:
    return {"momentum_buffer": "trace"} if optimizer.momentum else {}


def clip_by_global_norm(max_norm: float | None) -> optax.GradientTransformation:
    """Scale gradients down to a global Euclidean norm of ``max_norm``, exactly; None leaves them as they are."""
    return optax.identity() if max_norm is None else optax.clip_by_global_norm(max_norm)


def moments(optimizer: Optimizer, state: Any) -> dict[str, np.ndarray]:
    """Return what the optimiser remembers, under PyTorch's names: ``exp_avg.…``, ``momentum_buffer.…``."""
    return {
        f"{slot}.{name}": tensor
        for slot, field in slots_of(optimizer).items()
        for name, tensor in to_tensors({"params": optax.tree_utils.tree_get(state, field)}).items()
    }


def with_moments(
    optimizer: Optimizer, state: Any, tensors: Mapping[str, np.ndarray], step: int, precision: Precision
) -> Any:
    """Return the optimiser's state with what `moments` gave after so many steps; other tensors are left out."""
    found: dict[str, Any] = {}
    for slot, field in slots_of(optimizer).items():
        own = {name.removeprefix(f"{slot}."): t for name, t in tensors.items() if name.startswith(f"{slot}.")}
        if own:
            found[field] = from_tensors(own, precision)["params"]
    if optax.tree_utils.tree_get(state, "count") is not None:
        found["count"] = jnp.asarray(step, jnp.int32)
    return optax.tree_utils.tree_set(state, **found)


def scale_by_adam(b1: float, b2: float, eps: float) -> optax.GradientTransformation:
    """Return Adam's direction, m̂ / (√v̂ + eps), with bias corrections that are exact in float32 too."""

    # optax.scale_by_adam works out 1 − b2ᵗ in float32, which is off by 1e-5 in the first steps; the same number by
    # expm1, from a logarithm taken in float64, is exact to the last bit or two
    def correction(decay: float, count: Int[Array, ""], dtype: Any) -> Float[Array, ""]:
        return -jnp.expm1(count.astype(dtype) * math.log(decay)) if decay > 0 else jnp.ones((), dtype)

    def init(params: Any) -> optax.ScaleByAdamState:
        zeros = optax.tree.zeros_like(params)
        return optax.ScaleByAdamState(count=jnp.zeros((), jnp.int32), mu=zeros, nu=optax.tree.zeros_like(params))

    def update(grads: Any, state: Any, params: Any = None) -> tuple[Any, optax.ScaleByAdamState]:
        count = state.count + 1
        mu = optax.tree.update_moment(grads, state.mu, b1, 1)
        nu = optax.tree.update_moment(grads, state.nu, b2, 2)

        def direction(m: Array, v: Array) -> Array:
            root = jnp.sqrt(v / correction(b2, count, v.dtype))
            return m / correction(b1, count, m.dtype) / (root + eps)

        return jax.tree.map(direction, mu, nu), optax.ScaleByAdamState(count=count, mu=mu, nu=nu)

    return optax.GradientTransformation(init, update)
