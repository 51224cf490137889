"""What both twins' sides share: steps taken through their public engines."""

import time
from collections.abc import Callable
from dataclasses import replace
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float

from ae_core.data import split
from ae_core.training.engine import INFERENCE_BATCH, Inference, Trainer
from ae_core.training.initial import initial_weights
from ae_core.training.steps import make_steps
from benchmarks.race.workloads import Material, Workload, inputs, pictures

IN_ONE_CALL = 16
"""Batches in one call of encode, decode or reconstruct where they are as large as the engines' own; a smaller batch is
a call of its own."""

QUALITY_IMAGES, QUALITY_SHARE = 5_000, 0.1
"""Images in a training to quality, and the share of them that is held out."""
QUALITY_SECONDS = 120.0
"""Time after which a training to quality has failed."""
CHECKS = 4
"""Evaluations of the held-out loss in an epoch."""


class Training:
    """Training steps: one call takes many and waits once."""

    def __init__(self, trainer: Trainer, arrays: Material, settle: Callable[[Any], object]) -> None:
        self.trainer, self.steps, self.wait = trainer, arrays.steps, settle
        self.most = trainer.capacity

    def take(self, steps: int, first: int = 0) -> Float[np.ndarray, " K"]:
        """Return the loss of each step."""
        losses = []
        while steps:
            first %= len(self.steps.sizes)
            count = min(steps, self.most, len(self.steps.sizes) - first)
            losses.append(self.trainer.advance(self.steps.part(first, count))["loss"])
            first, steps = first + count, steps - count
        return np.concatenate(losses)

    def settle(self) -> None:
        """Wait for the weights."""
        self.wait(self.trainer)


class Inferring:
    """Encode, decode or reconstruct. The outputs are NumPy arrays, so nothing is under way after a call."""

    def __init__(self, model: Inference, workload: Workload, arrays: Material) -> None:
        self.function = getattr(model, workload.phase)
        self.batch, self.most = workload.batch, IN_ONE_CALL if workload.batch == INFERENCE_BATCH else 1
        one = inputs(workload, arrays)
        self.inputs = np.tile(one, (self.most, *(1,) * (one.ndim - 1)))

    def take(self, steps: int, first: int = 0) -> Float[np.ndarray, "B ..."]:
        """Return the outputs of the last step."""
        outputs = self.inputs[:0]
        while steps:
            count = min(steps, self.most)
            outputs = self.function(self.inputs[: count * self.batch])
            steps -= count
        return outputs[-self.batch :]

    def settle(self) -> None:
        """Nothing is under way."""


class Quality(NamedTuple):
    """The outcome of a training to a held-out loss."""

    seconds: float
    """Time until the held-out loss was reached, compilation and evaluations included."""
    steps: int
    loss: float
    """The held-out loss at the end."""
    reached: bool


def train_to_quality(
    workload: Workload,
    train: Callable[..., Trainer],
    shapes: dict[str, tuple[int, ...]],
    seed: int,
    clock: Callable[[], float] = time.perf_counter,
) -> Quality:
    """Train from a seed's initial weights until the held-out loss is at the workload's target or time is up."""
    images = pictures(workload.spec, QUALITY_IMAGES)
    chosen, kept = split(len(images), QUALITY_SHARE, seed)
    spec = replace(workload.spec, training=replace(workload.spec.training, epochs=1_000))
    start = {name: t.astype(np.float32) for name, t in initial_weights(shapes, spec, seed).items()}
    per_epoch = -(-len(chosen) // workload.batch)
    began, taken, loss = clock(), 0, float("inf")
    trainer = train(spec, start, images[chosen])
    for epoch in range(spec.training.epochs):
        cuts = np.linspace(0, per_epoch, CHECKS + 1).astype(int)
        for first, last in pairwise(cuts):
            trainer.advance(make_steps(spec, len(chosen), seed, epoch, int(first), int(last - first)))
            taken += int(last - first)
            loss = trainer.evaluate(images[kept])["loss"]
            if loss <= workload.target or clock() - began > QUALITY_SECONDS:
                return Quality(clock() - began, taken, loss, loss <= workload.target)
    return Quality(clock() - began, taken, loss, False)
