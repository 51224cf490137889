"""Optimisers, with every hyper-parameter explicit, as Optax transformations without the learning rate.

The learning rate is an argument of each training step, so that both twins receive the same number.
"""

import math
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, Float, Int

from ae_core.spec import SGD, AdamW, Precision, Training
from ae_jax.tensors import from_tensors, to_tensors

_SLOTS = {"exp_avg": "mu", "exp_avg_sq": "nu", "momentum_buffer": "trace"}
"""PyTorch's names of what an optimiser remembers, and Optax's."""


def make_optimizer(training: Training) -> optax.GradientTransformation:
    """Return the transformation from gradients to the direction to go against, one learning rate far."""
    optimizer = training.optimizer
    if isinstance(optimizer, SGD):
        # without momentum there is nothing to remember, in PyTorch too
        momentum = optimizer.momentum
        direction = optax.trace(decay=momentum, nesterov=False) if momentum else optax.identity()
    else:
        direction = _scale_by_adam(optimizer.b1, optimizer.b2, optimizer.eps)
    decay = optax.add_decayed_weights(optimizer.weight_decay) if isinstance(optimizer, AdamW) else optax.identity()
    return optax.chain(clip_by_global_norm(training.clip_norm), direction, decay)


def clip_by_global_norm(max_norm: float | None) -> optax.GradientTransformation:
    """Scale gradients down to a global Euclidean norm of ``max_norm``, exactly; None leaves them as they are."""
    return optax.identity() if max_norm is None else optax.clip_by_global_norm(max_norm)


def moments(state: Any) -> dict[str, np.ndarray]:
    """Return what the optimiser remembers, under PyTorch's names: ``exp_avg.…``, ``momentum_buffer.…``."""
    found = {slot: optax.tree_utils.tree_get(state, key) for slot, key in _SLOTS.items()}
    return {
        f"{slot}.{name}": tensor
        for slot, tree in found.items()
        if tree is not None
        for name, tensor in to_tensors({"params": tree}).items()
    }


def with_moments(state: Any, tensors: Mapping[str, np.ndarray], step: int, precision: Precision) -> Any:
    """Return the optimiser's state with what `moments` gave after so many steps; other tensors are left out."""
    found: dict[str, Any] = {}
    for slot, key in _SLOTS.items():
        own = {name.removeprefix(f"{slot}."): t for name, t in tensors.items() if name.startswith(f"{slot}.")}
        if own:
            found[key] = from_tensors(own, precision)["params"]
    if "mu" in found:
        found["count"] = jnp.asarray(step, jnp.int32)
    return optax.tree_utils.tree_set(state, **found)


def _scale_by_adam(b1: float, b2: float, eps: float) -> optax.GradientTransformation:
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
