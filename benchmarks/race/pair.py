"""A pair in the race: whether its two sides are the same model, and what each has to agree with before it is timed."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Shaped

from ae_core.rng import generator
from benchmarks.race.reference import CONTROLS, rounding
from benchmarks.race.session import CHECKED_STEPS
from benchmarks.race.sides import pair_jax, pair_torch
from benchmarks.race.sides.pair import Setup, set_up
from benchmarks.race.workloads import PairWorkload
from parity_tests.pair.compare import run_pair
from parity_tests.pair.pair import load_pair


def compared(file: Path) -> dict[str, Any]:
    """Return whether a file's two sides are the same model, that in one sentence, and the rows of their first input.

    Raises:
        PairError: the file brings no pair, or the two cannot be compared.
    """
    pair = load_pair(file)
    found = run_pair(pair)
    traps = "".join(f"; looks like a trap: {finding}" for finding in found.findings)
    return {"passed": found.passed, "sentence": found.sentence + traps, "rows": len(np.atleast_1d(pair.inputs[0]))}


def pair_reference(workload: PairWorkload) -> tuple[dict[str, Shaped[np.ndarray, "..."]], float]:
    """Return by side the losses of its first steps in float64, or its outputs, then those of controls; and `rounding`.

    Each side has a run of its own, for outputs may have their axes in another order there. That both sides compute the
    same in float64 is what `compared` has found out. A control starts from weights and inputs moved by rounding.
    """
    setup = set_up(workload.file)
    size = rounding({name: tuple(t.shape) for name, t in setup.pair.torch_module.state_dict().items()})
    runs: dict[str, list[np.ndarray]] = {"pair-jax": [], "pair-torch": []}
    for control in range(1 + CONTROLS):
        moved = _moved(setup, size if control else 0.0, control)
        if workload.trains:
            runs["pair-jax"].append(pair_jax.Training(moved, "float64").take(CHECKED_STEPS))
            runs["pair-torch"].append(pair_torch.Training(moved, precision="float64").take(CHECKED_STEPS))
        else:
            runs["pair-jax"].append(pair_jax.Forward(moved, "float64").take(1))
            runs["pair-torch"].append(pair_torch.Forward(moved, precision="float64").take(1))
    return {side: np.stack(values) for side, values in runs.items()}, size


def _moved(setup: Setup, size: float, control: int) -> Setup:
    def perturb(array: np.ndarray, *site: str | int) -> np.ndarray:
        if not np.issubdtype(array.dtype, np.floating):
            return array
        return array.astype(np.float64) * (1 + size * generator(control, "moved", *site).standard_normal(array.shape))

    def all_of(arrays: tuple[np.ndarray, ...], site: str) -> tuple[np.ndarray, ...]:
        return tuple(perturb(array, site, place) for place, array in enumerate(arrays))

    pair, own = setup.pair, setup.pair.torch_inputs
    inputs, theirs = all_of(pair.inputs, "inputs"), None if own is None else all_of(own, "torch inputs")
    moved = {name: perturb(array, "arrays", name) for name, array in setup.arrays.items()}
    return setup._replace(pair=replace(pair, inputs=inputs, torch_inputs=theirs), arrays=moved)
