"""Between the tensors of a weights file, which have PyTorch's names and layouts, and JAX's nested dicts.

One axis rule serves every kernel: PyTorch has [out, in, …space], JAX […space, in, out]; a transposed convolution has
in and out exchanged on both sides. One naming rule serves every module: Linen writes ``blocks_0`` where PyTorch
writes ``blocks.0``.
"""

import re
from collections.abc import Iterator, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from ae_core.files.weights import is_state
from ae_core.spec import Precision

STATE = "state"
"""Flax's collection of what training changes without a gradient; see `ae_core.files.weights.is_state`."""


def tensor_shapes(variables: Mapping[str, Any]) -> dict[str, tuple[int, ...]]:
    """Return names and shapes, in PyTorch's layout, of all arrays in the variables."""
    return {name: tuple(leaf.shape[axis] for axis in _torch_axes(leaf.ndim)) for name, leaf in _leaves(variables)}


def to_tensors(variables: Mapping[str, Any]) -> dict[str, np.ndarray]:
    """Return all arrays in the variables under PyTorch's names, in PyTorch's layout."""
    return {name: np.asarray(leaf).transpose(_torch_axes(leaf.ndim)).copy() for name, leaf in _leaves(variables)}


def from_tensors(tensors: Mapping[str, np.ndarray], precision: Precision) -> dict[str, Any]:
    """Return variables from tensors in PyTorch's names and layout.

    Raises:
        ValueError: float64 is wanted and JAX would silently narrow it.
    """
    if precision == "float64" and not jax.config.read("jax_enable_x64"):
        raise ValueError("float64 needs JAX's 64-bit mode: call inside `with jax.enable_x64(True):`")
    variables: dict[str, Any] = {"params": {}, STATE: {}}
    for name, tensor in tensors.items():
        *path, last = re.sub(r"\.(\d+)\.", r"_\1.", name).split(".")
        node = variables[STATE if is_state(name) else "params"]
        for key in path:
            node = node.setdefault(key, {})
        node[last] = jnp.asarray(tensor.transpose(_jax_axes(tensor.ndim)), dtype=precision)
    return variables


def _leaves(variables: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    for path, leaf in jax.tree_util.tree_leaves_with_path((variables["params"], variables.get(STATE, {}))):
        yield re.sub(r"_(\d+)\.", r".\1.", ".".join(key.key for key in path[1:])), leaf


def _jax_axes(ndim: int) -> tuple[int, ...]:
    return (*range(2, ndim), 1, 0) if ndim > 1 else tuple(range(ndim))


def _torch_axes(ndim: int) -> tuple[int, ...]:
    return (ndim - 1, ndim - 2, *range(ndim - 2)) if ndim > 1 else tuple(range(ndim))
