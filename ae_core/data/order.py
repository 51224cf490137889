"""Which image comes when: pure functions of (seed, epoch, step), the same for both twins and after any resume."""

from functools import lru_cache

import numpy as np
from jaxtyping import Int64

from ae_core.errors import DataError
from ae_core.rng import generator


def split(count: int, heldout: float, seed: int) -> tuple[Int64[np.ndarray, " train"], Int64[np.ndarray, " heldout"]]:
    """Return the indices, each sorted, of the images to train on and of the fraction ``heldout`` that is kept back.

    Raises ``DataError`` when ``heldout`` is not in (0, 1) or either part would be empty.
    """
    if not 0 < heldout < 1:
        raise DataError(f"split: the held-out fraction is {heldout:g}, must be between 0 and 1")
    kept = round(count * heldout)
    if not 0 < kept < count:
        empty = "training" if kept else "held-out"
        raise DataError(f"split: a held-out fraction of {heldout:g} of {count} images leaves the {empty} part empty")
    order = generator(seed, "split").permutation(count)
    return np.sort(order[kept:]), np.sort(order[:kept])


def epoch_order(count: int, seed: int, epoch: int) -> Int64[np.ndarray, " count"]:
    """Return the order in which one epoch visits ``count`` images, each exactly once."""
    return _epoch_order(count, seed, epoch).copy()


def batch_indices(count: int, batch: int, seed: int, epoch: int, step: int) -> Int64[np.ndarray, " B"]:
    """Return the images of one batch; ``step`` counts within the epoch, whose last batch may be shorter.

    Raises ``DataError`` for a count or batch below one, ``IndexError`` for a step that the epoch does not have.
    """
    steps = steps_per_epoch(count, batch)
    if not 0 <= step < steps:
        raise IndexError(f"step is {step}, an epoch of {count} images in batches of {batch} has steps 0 to {steps - 1}")
    return _epoch_order(count, seed, epoch)[step * batch : (step + 1) * batch].copy()


def steps_per_epoch(count: int, batch: int) -> int:
    """Return the number of batches in an epoch, the shorter last one included.

    Raises ``DataError`` for a count or batch below one.
    """
    if count < 1:
        raise DataError(f"batches: the number of images is {count}, must be at least 1")
    if batch < 1:
        raise DataError(f"batches: the batch size is {batch}, must be at least 1")
    return -(-count // batch)


# Every step of an epoch asks for the same order; drawing it anew would cost as much as a small step.
@lru_cache(maxsize=4)
def _epoch_order(count: int, seed: int, epoch: int) -> Int64[np.ndarray, " count"]:
    return generator(seed, "epoch", epoch).permutation(count)
