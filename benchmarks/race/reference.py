"""What every side has to agree with before it is timed: the twin in float64, and how far rounding may lead away.

A float32 product of K-long sums is the exact product of inputs that are each off by about √K·2⁻²⁴ of themselves
(Higham & Mary, "A new approach to probabilistic rounding error analysis", 2019, theorem 3.1). So the float64 twin is
run again from weights and inputs that are moved so far at random: what these controls do, a float32 side may do too.
"""

import math
from dataclasses import replace
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Float64

from ae_core.commands.cli import load_engine
from ae_core.rng import generator
from ae_core.training.engine import Inference
from benchmarks.race.session import CHECKED_STEPS
from benchmarks.race.workloads import Material, Workload, inputs, material, some

CONTROLS = 2
"""Runs from moved weights."""
FACTOR = 10.0
"""A side may be so many times as far away as the furthest control: the controls are moved once, at the start, while a
float32 run rounds again in each of tens of operations and at each step."""


class Agreement(NamedTuple):
    """How far a side's numbers are from the reference, normwise: at the step that is nearest to its limit."""

    distance: float
    limit: float

    @property
    def good(self) -> bool:
        """Whether the side may be timed."""
        return self.distance <= self.limit


def rounding(shapes: dict[str, tuple[int, ...]]) -> float:
    """Return √K·2⁻²⁴, where K is the longest sum of products in a layer of these tensors."""
    longest = max(math.prod(shape) // min(shape[:2]) for shape in shapes.values() if len(shape) > 1)
    return math.sqrt(longest) * 2.0**-24


def reference(workload: Workload) -> tuple[Float64[np.ndarray, "R ..."], float]:
    """Return the float64 twin's first losses, or its outputs, then those of the controls; and `rounding`."""
    engine = load_engine("jax")  # in float64 PyTorch has no fast convolution: minutes where JAX takes seconds
    spec = replace(workload.spec, training=replace(workload.spec.training, precision="float64"))
    shapes = engine.shapes(spec)
    numbers = material(workload, shapes)
    runs = []
    for control in range(1 + CONTROLS):
        moved = _moved(numbers, rounding(shapes) if control else 0.0, control)
        if workload.trains:
            trainers = [engine.train(spec, start, moved.images) for start in moved.tensors]
            steps = some(moved.steps, 0, CHECKED_STEPS)
            losses = [
                np.concatenate([t.advance(some(steps, i, 1))["loss"] for i in range(CHECKED_STEPS)]) for t in trainers
            ]
            runs.append(losses[0] if workload.phase == "train" else np.stack(losses, axis=1))
        else:
            model: Inference = engine.infer(spec, moved.tensors[0])
            runs.append(getattr(model, workload.phase)(inputs(workload, moved)))
    return np.stack(runs), rounding(shapes)


def _moved(numbers: Material, size: float, control: int) -> Material:
    def move(array: np.ndarray, *site: str | int) -> np.ndarray:
        return array.astype(np.float64) * (1 + size * generator(control, "moved", *site).standard_normal(array.shape))

    tensors = [{n: move(t, i, n) for n, t in start.items()} for i, start in enumerate(numbers.tensors)]
    return numbers._replace(tensors=tensors, images=move(numbers.images, "images"), codes=move(numbers.codes, "codes"))


def agreement(
    values: Float[np.ndarray, "..."], runs: Float[np.ndarray, "R ..."], trains: bool, size: float
) -> Agreement:
    """Hold a side's numbers against the reference, ``runs[0]``, and its controls, the rest.

    Losses are compared step by step, and a step may be as far off as any control has been by then; outputs are
    compared as a whole. ``size``, the rounding of the inputs themselves, is always allowed.
    """
    if values.shape != runs[0].shape or not np.isfinite(values).all():
        return Agreement(float("inf"), size)
    rows = len(values) if trains else 1

    def apart(run: np.ndarray) -> np.ndarray:
        pairs = zip(run.reshape(rows, -1), runs[0].reshape(rows, -1), strict=True)
        return np.array([np.linalg.norm(x - y) / np.linalg.norm(y) for x, y in pairs])

    controls = np.max([apart(control) for control in runs[1:]], axis=0)
    limits = size + FACTOR * np.maximum.accumulate(controls)
    distances = apart(values)
    worst = int(np.argmax(distances / limits))
    return Agreement(float(distances[worst]), float(limits[worst]))
