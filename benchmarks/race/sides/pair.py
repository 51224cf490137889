"""What both sides of a pair share: the pair of a file, and which of its numbers are trained."""

from pathlib import Path
from typing import NamedTuple

import numpy as np
from jaxtyping import Shaped

from parity_tests.pair.carry import Matches, match
from parity_tests.pair.pair import Pair, load_pair
from parity_tests.pair.tree import Tree, take_apart

LEARNING_RATE, BETAS, EPS = 1e-3, (0.9, 0.999), 1e-8
"""Of Adam, as both frameworks have it: eps is added to the root of the corrected second moment."""
TARGET = 1.0
"""What every number of the outputs is trained towards where the file has no losses; half the mean square is the loss.
One number for all, since the sides may have their axes in another order."""


class Setup(NamedTuple):
    """A pair and its weights, which are those of JAX on both sides."""

    pair: Pair
    tree: Tree
    """JAX's weights, taken apart."""
    arrays: dict[str, Shaped[np.ndarray, "..."]]
    """Its floats, by name."""
    matches: Matches
    """Which tensor of PyTorch is which."""
    trained: frozenset[str]
    """Names of the arrays that PyTorch trains; no others are trained in JAX either."""


def set_up(file: Path) -> Setup:
    """Run a pair's file and find out which tensor is which.

    Raises:
        PairError: the file brings no pair, or a tensor of PyTorch is left without its array.
    """
    pair = load_pair(file)
    tree = take_apart(pair.jax_params)
    arrays = tree.arrays()
    matches = match(pair.torch_module, arrays, pair.names or {})
    moving = {name for name, p in pair.torch_module.named_parameters(remove_duplicate=False) if p.requires_grad}
    sources = (matches.tensors[name].sources for name in moving if name in matches.tensors)
    return Setup(pair, tree, arrays, matches, frozenset(source for some in sources for source in some))


def cast(array: Shaped[np.ndarray, "..."], precision: str) -> Shaped[np.ndarray, "..."]:
    """Return floats in a precision, and all else as it is."""
    return array.astype(precision) if np.issubdtype(array.dtype, np.floating) else array
