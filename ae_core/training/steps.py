"""The steps of a training, worked out in NumPy: which images, at which learning rate, with which coefficients."""

import numpy as np
from jaxtyping import Float64, Int64

from ae_core.data import batch_indices, steps_per_epoch
from ae_core.spec import Schedule, Spec
from ae_core.training.engine import Steps


def make_steps(spec: Spec, count: int, seed: int, epoch: int, first: int, number: int) -> Steps:
    """Return ``number`` steps of an epoch (counted from 0) of ``count`` images, from step ``first`` on.

    The last batch of an epoch may be shorter.
    """
    batch = min(spec.training.batch_size, count)
    per_epoch = steps_per_epoch(count, batch)
    numbers = epoch * per_epoch + np.arange(first, first + number)
    indices = np.zeros((number, batch), np.int64)
    sizes = np.zeros(number, np.int64)
    for row in range(number):
        chosen = batch_indices(count, batch, seed, epoch, first + row)
        indices[row, : len(chosen)] = chosen
        sizes[row] = len(chosen)
    total = per_epoch * spec.training.epochs
    return Steps(
        indices, sizes, numbers, seed, learning_rates(spec, numbers, total), coefficients(spec, numbers, total)
    )


def learning_rates(spec: Spec, steps: Int64[np.ndarray, " K"], total_steps: int) -> Float64[np.ndarray, " K"]:
    """Return the learning rates of the given steps (counted from 0) of a training of ``total_steps``."""
    return spec.training.optimizer.learning_rate * _values(spec.training.schedule, steps, total_steps)


def coefficients(spec: Spec, steps: Int64[np.ndarray, " K"], total_steps: int) -> dict[str, Float64[np.ndarray, " K"]]:
    """Return each of the spec's coefficients at the given steps (counted from 0) of a training of ``total_steps``."""
    return {name: _values(value, steps, total_steps) for name, value in spec.coefficients.items()}


def _values(number: Schedule | float, steps: Int64[np.ndarray, " K"], total_steps: int) -> Float64[np.ndarray, " K"]:
    if not isinstance(number, Schedule):
        return np.full(len(steps), float(number))
    return np.array([number.value(step, total_steps) for step in steps.tolist()], np.float64)
