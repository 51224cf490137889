"""What XLA is asked for when it compiles a program for a CPU. The options belong to a program; JAX's own stay."""

from functools import lru_cache
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

_ON_A_CPU: dict[str, bool | int] = {
    # the whole width of a core's vectors; narrower processors split them. By itself XLA takes half of it, for the sake
    # of processors that lower their clock for wide vectors
    "xla_cpu_prefer_vector_width": 512,
}
"""It takes a tenth off a step of a small dense model. Not here: ``xla_cpu_copy_insertion_use_region_analysis``, for
`after` spares the same copies and asks XLA for nothing."""


@lru_cache(maxsize=1)
def compiler_options() -> dict[str, bool | int]:
    """Return options for `jax.jit` on this platform, those that the installed XLA knows."""
    if jax.default_backend() != "cpu":
        return {}
    return {name: value for name, value in _ON_A_CPU.items() if known(name, value)}


def known(name: str, value: bool | int) -> bool:
    """Say whether the installed XLA has an option."""
    try:
        jax.jit(lambda: 0, compiler_options={name: value}).lower().compile()
    except (RuntimeError, ValueError):  # which of them it is depends on the version
        return False
    return True


def after(number: float | Float[Array, ""], tree: Any) -> Float[Array, ""]:
    """Return the number, in a way that has XLA work out all arrays of the tree before it.

    XLA writes new weights over the old ones only where nobody can still want to read these; else it copies every
    weight at each step. A learning rate that comes after all gradients shows it that nobody can.
    """
    total = sum(leaf.ravel()[0] for leaf in jax.tree.leaves(tree))
    return jnp.where(total > jnp.inf, total, number)  # nothing is greater, and no compiler looks into it
