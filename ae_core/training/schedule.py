"""The learning rate of each step, worked out once in NumPy float64 and given to both twins as a number."""

import numpy as np
from jaxtyping import Float64, Int64

from ae_core.spec import Training


def learning_rates(training: Training, steps: Int64[np.ndarray, " K"], total_steps: int) -> Float64[np.ndarray, " K"]:
    """Return the learning rates of the given steps (counted from 0) of a training of ``total_steps``.

    Source of the cosine: Loshchilov & Hutter (2017), eq. 5, without restarts.
    """
    schedule = training.schedule
    warmup = schedule.warmup_steps
    factor = np.ones(len(steps))
    if schedule.shape == "cosine":
        progress = np.clip((steps - warmup) / max(total_steps - warmup, 1), 0, 1)
        factor = schedule.final + (1 - schedule.final) * 0.5 * (1 + np.cos(np.pi * progress))
    if warmup:
        factor = np.where(steps < warmup, (steps + 1) / warmup, factor)
    return training.optimizer.learning_rate * factor
