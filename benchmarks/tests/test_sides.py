"""Every side computes the same as the reference on small models, and the check can fail."""

from functools import lru_cache

import numpy as np
import pytest

from benchmarks.race.process import Process, variables
from benchmarks.race.reference import agreement, reference
from benchmarks.race.session import CHECKED_STEPS
from benchmarks.race.sides import SIDES
from benchmarks.race.workloads import WORKLOADS, workload_to_json

CASES = [
    (side, workload)
    for workload in ("tiny-conv", "tiny-vae", "tiny-dense", "tiny-wardrobe")
    for side in SIDES
    if SIDES[side].grid(WORKLOADS[workload]) and not SIDES[side].refusal(WORKLOADS[workload])
]


@lru_cache
def known(workload):
    return reference(WORKLOADS[workload])


@pytest.mark.parametrize(("side", "workload"), CASES)
def test_default_agrees(side, workload, tmp_path):
    missing = SIDES[side].missing()
    if missing:
        pytest.skip(missing)
    variant = SIDES[side].grid(WORKLOADS[workload])[0]
    request = {"do": "open", "side": side, "workload": workload_to_json(WORKLOADS[workload]), "variant": variant}
    worker = Process(
        variables(SIDES[side].framework, tmp_path) | dict(SIDES[side].environment) | {"OMP_NUM_THREADS": "1"}
    )
    try:
        worker.ask({**request, "values": str(tmp_path / "values.npy")}, 300)
    finally:
        worker.close()
    values = np.load(tmp_path / "values.npy")
    runs, size = known(workload)
    found = agreement(values, runs, True, size)
    assert found.good, found
    # a learning rate that is off by one percent, or losses in another order, would not pass
    assert not agreement(values[0] + 1.01 * (values - values[0]), runs, True, size).good
    assert not agreement(values[::-1], runs, True, size).good


def test_noise_of_another_seed_does_not_agree():
    """A twin makes its noise itself, and the reference is handed NumPy's: the comparison tells them apart."""
    runs, size = known("tiny-vae")
    for seed, good in ((0, True), (1, False)):
        runner = SIDES["jax"].open(WORKLOADS["tiny-vae"], "default")
        runner.steps = runner.steps._replace(seed=seed)
        assert agreement(runner.take(CHECKED_STEPS), runs, True, size).good == good


def test_controls_differ_from_the_reference_by_little():
    for workload in ("tiny-conv", "tiny-vae", "tiny-dense"):
        runs, size = known(workload)
        assert size < 1e-6
        assert (runs[1:] != runs[0]).all()
        assert np.abs(runs[1:] / runs[0] - 1).max() < 1e-5
