"""One array in two layouts: JAX keeps channels last, PyTorch first, and attention may keep its heads apart."""

from collections.abc import Callable, Iterator

import numpy as np

from parity_tests.check import normwise
from parity_tests.pair.pair import Array

Turn = Callable[[Array], Array]


def turn_of(ours: Array, theirs: Array) -> Turn | None:
    """Return what turns JAX's array into PyTorch's layout, or None where their shapes are not of one array.

    Where several layouts fit, as of a map as high as it has channels, the one that brings the numbers nearest is taken:
    a layout is no difference, and a wrong order of numbers shows in what is computed from them.
    """
    fits = [turn for turn in _turns(ours) if turn(ours).shape == theirs.shape]
    if len(fits) > 1:
        return min(fits, key=lambda turn: normwise(turn(ours), theirs))
    return fits[0] if fits else _merged(ours, theirs)


def _turns(array: Array) -> Iterator[Turn]:
    yield lambda a: a
    if array.ndim > 2:
        yield lambda a: np.moveaxis(a, -1, 1)
        yield lambda a: np.moveaxis(a, 1, -1)
        yield lambda a: np.swapaxes(a, 0, 1)


def _merged(ours: Array, theirs: Array) -> Turn | None:
    """Axes of one beside the product of them in the other, and axes of length 1."""
    if ours.size != theirs.size or not ours.size:
        return None
    left, right = [[n for n in array.shape if n > 1] for array in (ours, theirs)]
    shorter, longer = sorted((left, right), key=len)
    return (lambda a: a.reshape(theirs.shape)) if _groups(shorter, longer) else None


def _groups(shorter: list[int], longer: list[int]) -> bool:
    """Whether neighbours of the longer shape multiply to the shorter."""
    rest = list(longer)
    for side in shorter:
        product = 1
        while rest and product < side:
            product *= rest.pop(0)
        if product != side:
            return False
    return not rest
