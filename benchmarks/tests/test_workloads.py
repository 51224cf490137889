"""The table of workloads and the arrays that all sides are handed."""

import json

import numpy as np
import pytest

from ae_core.commands.cli import load_engine
from ae_core.spec.presets import PRESETS
from benchmarks.race.custom import convolves
from benchmarks.race.run import QUICK
from benchmarks.race.sides import choose_sides
from benchmarks.race.workloads import (
    WORKLOADS,
    choose_workloads,
    material,
    with_noise,
    workload_from_json,
    workload_to_json,
)


def test_tables_of_workloads_and_sides():
    public = [w for w in WORKLOADS.values() if not w.hidden]
    assert {w.phase for w in public} == {"train", "encode", "decode", "reconstruct", "many", "quality"}
    assert {w.name for w in choose_workloads((), quick=True)} < {w.name for w in public}
    assert len(choose_workloads((), quick=False)) == len(public) == 20
    for side in choose_sides(()):
        for workload in public:
            grid = side.grid(workload)
            assert len(set(grid)) == len(grid)
            assert grid == () or not side.name.startswith("pair-")
            if side.name in ("jax", "torch"):
                assert grid
                assert any(variant in QUICK[side.name] for variant in grid)


@pytest.mark.parametrize("name", ["foster-ae", "foster-vae", "dense-mnist", "dense-digits", "wardrobe"])
def test_presets_are_raced(name):
    raced = {(w.spec.backbone, w.spec.bottleneck) for w in choose_workloads((), quick=False) if w.phase == "train"}
    assert (PRESETS[name].backbone, PRESETS[name].bottleneck) in raced


def test_same_numbers_for_all():
    workload = WORKLOADS["tiny-many"]
    one, two = (material(workload, {"a.weight": (2, 3), "a.bias": (2,)}) for _ in range(2))
    assert len(one.tensors) == 3
    assert (one.tensors[0]["a.weight"] != one.tensors[1]["a.weight"]).any()
    for a, b in zip(one.tensors, two.tensors, strict=True):
        assert all((a[name] == b[name]).all() for name in a)
    assert (one.images == two.images).all()
    assert one.images.shape == (64, 6, 6, 1)


def test_noise_for_peers_is_that_of_the_steps():
    """Each step has its own, whichever steps come with it, since it follows from the step's number alone."""
    spec = WORKLOADS["tiny-vae"].spec
    steps = material(WORKLOADS["tiny-vae"], {}).steps
    assert not steps.noise  # a twin makes its own
    whole = with_noise(steps, spec).noise
    assert {name: values.shape for name, values in whole.items()} == {"bottleneck": (8, 8, 2)}
    assert (with_noise(steps.part(3, 2), spec).noise["bottleneck"] == whole["bottleneck"][3:5]).all()
    assert len(np.unique(whole["bottleneck"])) == whole["bottleneck"].size


@pytest.mark.parametrize("name", WORKLOADS)
def test_what_the_table_says_of_a_model_is_so(name):
    """Whether it convolves, by which grids go; and that a worker is told all that it needs."""
    workload = WORKLOADS[name]
    assert workload.convolves == convolves(load_engine("torch").shapes(workload.spec))
    told = workload_from_json(json.loads(json.dumps(workload_to_json(workload))))
    assert told == workload
