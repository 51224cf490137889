"""What every side has to agree with before it is timed: the twin in float64, within the reach of rounding.

A float32 product with sums of K terms is the exact product of inputs with a relative error of about √K·2⁻²⁴ (Higham &
Mary, "A new approach to probabilistic rounding error analysis", 2019, theorem 3.1). So the float64 twin runs again from
weights and inputs that are perturbed at random by as much: a float32 side may be as far off as these controls are.
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
from benchmarks.race.workloads import Material, Workload, inputs, material, with_noise

CONTROLS = 2
"""Number of runs from perturbed weights and inputs."""
FACTOR = 10.0
"""A side may be this many times as far away as the furthest control: controls are perturbed once, at the start, while a
float32 run rounds in each of tens of operations at every step."""


class Agreement(NamedTuple):
    """A side's normwise distance from the reference and its limit, at the step where they are closest to each other."""

    distance: float
    limit: float

    @property
    def good(self) -> bool:
        """Whether the side may be timed."""
        return self.distance <= self.limit


def rounding(shapes: dict[str, tuple[int, ...]]) -> float:
    """Return √K·2⁻²⁴, where K is the length of the longest sum of products in a layer with these tensors."""
    longest = max((math.prod(s) // min(s[:2]) for s in shapes.values() if len(s) > 1 and min(s) > 0), default=1)
    return math.sqrt(longest) * 2.0**-24


def reference(workload: Workload) -> tuple[Float64[np.ndarray, "R ..."], float]:
    """Return the losses of the float64 twin's first steps, or its outputs, then those of the controls; and `rounding`.

    Its noise is that of NumPy's reference, which a twin that makes its own has to agree with too.
    """
    engine = load_engine("jax")  # in float64 PyTorch has no fast convolution: minutes where JAX takes seconds
    spec = replace(workload.spec, training=replace(workload.spec.training, precision="float64"))
    shapes = engine.shapes(spec)
    arrays = material(workload, shapes)
    steps = with_noise(arrays.steps, spec).part(0, CHECKED_STEPS)
    runs = []
    for control in range(1 + CONTROLS):
        moved = _perturbed(arrays, rounding(shapes) if control else 0.0, control)
        if workload.trains:
            trainers = [engine.train(spec, start, moved.images) for start in moved.tensors]
            losses = [
                np.concatenate([t.advance(steps.part(i, 1))["loss"] for i in range(CHECKED_STEPS)]) for t in trainers
            ]
            runs.append(losses[0] if workload.phase == "train" else np.stack(losses, axis=1))
        else:
            model: Inference = engine.infer(spec, moved.tensors[0])
            runs.append(getattr(model, workload.phase)(inputs(workload, moved)))
    return np.stack(runs), rounding(shapes)


def _perturbed(arrays: Material, size: float, control: int) -> Material:
    def perturb(array: np.ndarray, *site: str | int) -> np.ndarray:
        return array.astype(np.float64) * (1 + size * generator(control, "moved", *site).standard_normal(array.shape))

    tensors = [{n: perturb(t, i, n) for n, t in start.items()} for i, start in enumerate(arrays.tensors)]
    images, codes = perturb(arrays.images, "images"), perturb(arrays.codes, "codes")
    return arrays._replace(tensors=tensors, images=images, codes=codes)


def agreement(
    values: Float[np.ndarray, "..."], runs: Float[np.ndarray, "R ..."], trains: bool, size: float
) -> Agreement:
    """Compare a side's losses or outputs with the reference, ``runs[0]``, and with its controls, the other runs.

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
