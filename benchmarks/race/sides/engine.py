"""What both twins' sides share: steps taken through the public engines."""

import time
from collections.abc import Callable
from dataclasses import replace
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float

from ae_core.data import split
from ae_core.data.cans import cans
from ae_core.training.engine import INFERENCE_BATCH, Inference, Trainer
from ae_core.training.initial import initial_weights
from ae_core.training.loop import make_steps
from benchmarks.race.workloads import Material, Workload, inputs, some

IN_ONE_CALL = 16
"""Batches that one call of encode, decode or reconstruct is given, where they are as large as the engines' own;
a smaller batch is a call of its own."""

QUALITY_IMAGES = 5_000
"""Images of a training to quality, a tenth of them held out."""
QUALITY_SECONDS = 120.0
"""A training that has not reached its quality by then has failed."""
CHECKS = 4
"""How often in an epoch the held-out loss is looked at."""


class Training:
    """Training steps: one call takes many and waits once."""

    def __init__(self, trainer: Trainer, numbers: Material, settle: Callable[[Any], object]) -> None:
        self.trainer, self.steps, self.wait = trainer, numbers.steps, settle
        self.most = trainer.capacity

    def take(self, steps: int, first: int = 0) -> Float[np.ndarray, " K"]:
        """Return the loss of each step."""
        losses = []
        while steps:
            first %= len(self.steps.sizes)
            count = min(steps, self.most, len(self.steps.sizes) - first)
            losses.append(self.trainer.advance(some(self.steps, first, count))["loss"])
            first, steps = first + count, steps - count
        return np.concatenate(losses)

    def settle(self) -> None:
        """Wait for the weights."""
        self.wait(self.trainer)


class Inferring:
    """Encode, decode or reconstruct. What comes back is NumPy's, so nothing is under way afterwards."""

    def __init__(self, model: Inference, workload: Workload, numbers: Material) -> None:
        self.function = getattr(model, workload.phase)
        self.batch, self.most = workload.batch, IN_ONE_CALL if workload.batch == INFERENCE_BATCH else 1
        one = inputs(workload, numbers)
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
    """A training to a held-out loss."""

    seconds: float
    """From before the engine was given anything, with compilation, to the held-out loss; looking at it is included."""
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
    """Train from the weights of a seed until the held-out loss is at the workload's target, or time is up."""
    height, width, channels = workload.spec.input_shape
    images = cans(QUALITY_IMAGES, (height, width), channels=channels).images
    chosen, kept = split(len(images), 0.1, seed)
    spec = replace(workload.spec, training=replace(workload.spec.training, epochs=1_000))
    start = {name: t.astype(np.float32) for name, t in initial_weights(shapes, spec.initializer, seed).items()}
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
