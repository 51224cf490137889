"""A tree of arrays, whoever's it is, as named tensors: what is a float travels, all else stays where it is."""

import re
from collections.abc import Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from parity_tests.pair.pair import Array

_WRAPPED = "value"
"""Under which the variables of NNX keep their arrays."""


class Tree(NamedTuple):
    """A tree taken apart: its leaves, and the names of those that are arrays of floats."""

    leaves: list[Any]
    structure: Any
    collections: tuple[str, ...]
    """Of Flax: parts at the top of a path that no name has."""
    places: dict[str, int]
    """Which leaf a name stands for; names are paths, joined by dots, without the name of a Flax collection."""

    def arrays(self) -> dict[str, Array]:
        """Return the floats, by name."""
        return {name: np.asarray(self.leaves[place]) for name, place in self.places.items()}

    def filled(self, arrays: Mapping[str, Any]) -> Any:
        """Return the tree with other floats in it."""
        leaves = list(self.leaves)
        for name, array in arrays.items():
            leaves[self.places[name]] = array
        return jax.tree.unflatten(self.structure, leaves)


def take_apart(tree: Any, collections: tuple[str, ...] = ()) -> Tree:
    """Take a tree of arrays apart; floats that are no arrays stay, as part of the function.

    Args:
        tree: of any library.
        collections: of Flax, where the tree has no "params" that tells them.
    """
    found, structure = jax.tree_util.tree_flatten_with_path(tree)
    if isinstance(tree, Mapping) and "params" in tree:
        collections = tuple(map(str, tree))
    places: dict[str, int] = {}
    for place, (path, leaf) in enumerate(found):
        if not (hasattr(leaf, "dtype") and hasattr(leaf, "shape") and jnp.issubdtype(leaf.dtype, jnp.floating)):
            continue
        parts = [_part(key) for key in path]
        if parts and parts[-1] == _WRAPPED:
            parts.pop()
        places[".".join(parts[parts[0] in collections :])] = place
    return Tree([leaf for _, leaf in found], structure, collections, places)


def _part(key: Any) -> str:
    for name in ("key", "idx", "name"):
        if hasattr(key, name):
            return str(getattr(key, name)).removeprefix(".")
    return str(key)


def parts_of(name: str) -> list[str]:
    """Return the parts of a path: Flax joins with a slash too."""
    return [part for part in re.split(r"[./]", name) if part]


def plain(name: str) -> str:
    """Return a path as it would be written in either framework.

    >>> plain("Encoder/Dense_0"), plain("encoder.dense.0")
    ('encoder.dense.0', 'encoder.dense.0')
    """
    return ".".join(re.sub(r"_(\d+)$", r".\1", part) for part in parts_of(name)).lower()


def natural(name: str) -> list[Any]:
    """Return a key that sorts layer 10 after layer 2."""
    return [(1, int(piece), "") if piece.isdigit() else (0, 0, piece) for piece in re.split(r"(\d+)", name)]
