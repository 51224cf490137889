"""A race of a model that a user brings: what is refused, which workloads it makes, and all of it from end to end."""

import json
import os
import subprocess
import sys
from dataclasses import replace
from functools import lru_cache
from importlib import import_module

import numpy as np
import pytest

from ae_core.commands.shell import run_program
from ae_core.errors import SpecError, UserError
from ae_core.spec import (
    Adam,
    BatchNorm,
    ConvBackbone,
    DenseBackbone,
    GaussianBottleneck,
    PlainBottleneck,
    Spec,
    Training,
    spec_to_json,
)
from ae_core.spec.corruption import MaskingNoise
from ae_core.spec.presets import PRESETS
from ae_core.spec.schedule import Ramp
from benchmarks import NAME
from benchmarks.commands import run_command
from benchmarks.race.custom import PHASES, convolves, custom_workloads, plain_name, shapes_of
from benchmarks.race.process import Refusal, WorkerError
from benchmarks.race.reference import agreement, reference
from benchmarks.race.sides import SIDES
from benchmarks.race.sides.engine import train_to_quality
from benchmarks.race.workloads import WORKLOADS, material, pictures
from benchmarks.report.compare import changes
from benchmarks.tests.test_plugins import FILES, write

SPEC = Spec((6, 6, 1), DenseBackbone((8,)), PlainBottleneck(2), training=Training(batch_size=8))

REFUSED = {
    "two models": (("--preset", "foster-ae", "--spec", "mine.json"), "given both --preset and --spec; expected one"),
    "a workload beside": (("--workload", "dense-small", "--preset", "topk"), "given both --workload and --preset;"),
    "unknown preset": (("--preset", "foster-ea"), 'unknown preset "foster-ea"; did you mean "foster-ae"?'),
    "nameless preset": (("--preset", ""), 'unknown preset ""; valid: foster-ae'),
    "no such file": (("--spec", "nowhere.json"), "nowhere.json: cannot be read as a spec"),
    "no spec": (("--spec", "broken.json"), "broken.json: not JSON"),
    "float64": (("--spec", "double.json"), "training.precision: given float64; expected float32"),
    "unknown phase": (("--preset", "topk", "--phase", "train,endcode"), 'phase "endcode"; did you mean "encode"?'),
    "empty phase": (("--preset", "topk", "--phase", "train,"), '--phase: unknown phase ""; valid: train,'),
    "a batch of none": (("--preset", "topk", "--batch", "32,0"), '--batch: given "0"; expected integers from 1'),
    "no number": (("--preset", "topk", "--batch", "3e1"), '--batch: given "3e1"; expected integers from 1'),
    "phase alone": (("--phase", "train"), "--phase: given without a model; expected --preset, --spec or --pair"),
    "batch alone": (("--batch", "8"), "--batch: given without a model; expected --preset, --spec or --pair"),
    "target alone": (("--target", "0.3"), "--target: given without a model; expected --preset, --spec or --pair"),
    "no target": (("--preset", "topk", "--phase", "quality"), "--phase quality: given no --target; expected the held"),
    "idle target": (("--preset", "topk", "--target", "0.3"), "--target: given 0.3; expected a number, and only with"),
    "endless target": (
        ("--preset", "topk", "--phase", "quality", "--target", "nan"),
        "--target: given nan; expected a number, and only with",
    ),
    "a batch too small": (("--spec", "norm.json", "--batch", "1"), "training.batch_size: given 1, which leaves a"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_refused_in_one_line(name, tmp_path, monkeypatch, capsys):
    flags, expected = REFUSED[name]
    monkeypatch.chdir(tmp_path)
    (tmp_path / "broken.json").write_text("{", encoding="utf-8")
    double = replace(SPEC, training=replace(SPEC.training, precision="float64"))
    norm = replace(SPEC, backbone=DenseBackbone((8,), norm=BatchNorm()))
    for file, spec in (("double", double), ("norm", norm)):
        (tmp_path / f"{file}.json").write_text(json.dumps(spec_to_json(spec)), encoding="utf-8")
    before = set(tmp_path.iterdir())
    assert run_program(NAME, lambda: run_command(["race", "--out", "out", *flags])) == 2
    said = capsys.readouterr().err
    assert expected in said
    assert said.count("\n") == 1
    assert set(tmp_path.iterdir()) == before


def _made(spec, phases=PHASES, batches=(8,), target=0.3):
    return {workload.name: workload for workload in custom_workloads("mine", spec, phases, batches, target)}


def test_workloads_of_a_spec():
    made = _made(SPEC, batches=(4, 8))
    assert [*made] == [f"mine-{phase}-{batch}" for phase in PHASES for batch in (4, 8)]
    for workload in made.values():
        assert replace(workload.spec, training=SPEC.training) == SPEC
        assert workload.spec.training.batch_size == workload.batch
    assert {name: w.models for name, w in made.items() if w.models > 1} == {"mine-many-4": 16, "mine-many-8": 16}
    assert {name for name, w in made.items() if w.target} == {"mine-quality-4", "mine-quality-8"}
    for phase in set(PHASES) - {"quality"}:
        workload = made[f"mine-{phase}-8"]
        arrays = material(workload, {"a.weight": (2, 3)})
        assert len(arrays.tensors) == workload.models
        assert len(arrays.images) == 8 * (workload.steps if workload.trains else 1)


def test_a_pass_over_large_images_is_short():
    """A quarter of a gigabyte of images, if only that is some steps."""
    large = replace(SPEC, input_shape=(512, 512, 3))
    steps = {batch: _made(large, ("train",), (batch,), None)[f"mine-train-{batch}"].steps for batch in (1, 16, 256)}
    assert steps == {1: 85, 16: 5, 256: 4}
    assert _made(SPEC, ("train",), (1,), None)["mine-train-1"].steps == 256


@pytest.mark.parametrize(("channels", "same"), [(1, True), (2, True), (3, False), (5, True)])
def test_images_have_the_channels_of_the_spec(channels, same):
    images = pictures(replace(SPEC, input_shape=(6, 7, channels)), 3)
    assert images.shape == (3, 6, 7, channels)
    assert (images == images[..., :1]).all() == same


def test_names():
    assert [plain_name(text) for text in ("a,b/c", "..", "v1.2_x", "größe")] == ["a-b-c", "model", "v1.2_x", "größe"]


def test_what_no_twin_can_build_is_refused():
    """By what is missing; and what a broken plugin raises is said."""

    def ask(error):
        def answer(side, request):
            if side == "torch":
                raise error
            return {"shapes": {"a.weight": [2, 3, 4, 4]}}

        return answer

    with pytest.raises(SpecError, match=r"^cannot build this model: ae_torch has no make_encoder"):
        shapes_of(SPEC, ("jax", "torch"), ask(Refusal("ae_torch has no make_encoder")))
    with pytest.raises(UserError, match=r"^ae_torch cannot build this model: TypeError: no"):
        shapes_of(SPEC, ("jax", "torch"), ask(WorkerError("TypeError: no")))
    assert convolves(shapes_of(SPEC, ("jax",), ask(None)))
    assert not convolves({"a.weight": (2, 3, 4)})


GRIDS = {
    "dense": (SPEC, 64, {"one device"}, {"whole batch", "plain convolutions", "micro-batches", "padded"}),
    "conv": (PRESETS["foster-ae"], 64, {"whole batch", "micro-batches"}, {"plain convolutions", "padded"}),
    "small batches": (PRESETS["foster-ae"], 8, {"plain convolutions"}, {"micro-batches"}),
    "coupled": (
        replace(SPEC, input_shape=(8, 8, 1), backbone=ConvBackbone((4,), (2,), norm=BatchNorm())),
        64,
        {"single steps", "compile"},
        {"one device", "whole batch", "micro-batches", "compile+micro-batches"},
    ),
}


@pytest.mark.parametrize("name", GRIDS)
def test_variants_that_a_model_has_no_use_for_are_left_out(name):
    spec, batch, there, absent = GRIDS[name]
    (workload,) = _made(spec, ("train",), (batch,), None).values()
    workload = replace(workload, convolves=name != "dense")
    grid = {variant for side in ("jax", "torch") for variant in SIDES[side].grid(workload)}
    assert there <= grid
    assert not absent & grid


RICH = replace(
    SPEC,
    bottleneck=GaussianBottleneck(2, Ramp(0.1, 0.5, 3)),
    corruption=MaskingNoise(0.5),
    training=Training(Adam(1e-2), batch_size=8),
)


@lru_cache
def known(workload):
    return reference(workload)


@pytest.mark.parametrize(
    ("side", "variant"), [("jax", "in turn"), ("jax", "vmap"), ("torch", "func"), ("torch", "in turn")]
)
def test_many_models_of_any_spec(side, variant):
    """Noise, and weights that change from step to step, are each side's own; all agree with the reference."""
    workload = replace(WORKLOADS["tiny-many"], spec=RICH)
    runs, size = known(workload)
    runner = SIDES[side].open(workload, variant)
    values = np.concatenate([runner.take(1), runner.take(2, 1)])
    found = agreement(values, runs, True, size)
    assert found.good, found
    other = SIDES[side].open(replace(workload, spec=replace(RICH, corruption=None)), variant)
    assert not agreement(other.take(3), runs, True, size).good


def test_many_models_that_have_state():
    workload = replace(WORKLOADS["tiny-many"], spec=replace(RICH, backbone=DenseBackbone((8,), norm=BatchNorm())))
    runs, size = known(workload)
    for side, variant in (("jax", "vmap"), ("torch", "in turn")):
        assert agreement(SIDES[side].open(workload, variant).take(3), runs, True, size).good


@pytest.mark.parametrize("side", ["jax", "torch"])
def test_training_of_any_spec_to_quality(side):
    module, variant = import_module(SIDES[side].module), "default" if side == "jax" else "eager"
    for target, reached in ((0.68, True), (-1.0, False)):
        (workload,) = _made(RICH, ("quality",), (64,), target).values()
        clock = iter(range(0, 10**6, 50))  # each look at it is fifty seconds later
        train = module.trainer_of(workload, variant)
        found = train_to_quality(workload, train, module.shapes(workload), 0, lambda clock=clock: float(next(clock)))
        assert (found.reached, found.loss <= target) == (reached, reached)
        assert found.steps > 0


@pytest.fixture(scope="module")
def raced(tmp_path_factory):
    """A real race of a spec with a penalty from outside, on one core, in a process of its own."""
    folder = tmp_path_factory.mktemp("custom")
    write(folder / "plugged_penalty", FILES)
    spec = spec_to_json(SPEC) | {"penalties": [{"kind": "plugged_small", "weight": 0.01}]}
    (folder / "my model.json").write_text(json.dumps(spec), encoding="utf-8")
    flags = ["--spec", "my model.json", "--phase", "train", "--quick", "--out", "out"]
    command = [sys.executable, "-m", "benchmarks", "race", *flags, "--plugin", "plugged_penalty"]
    cores = os.sched_getaffinity(0)
    os.sched_setaffinity(0, sorted(cores)[:1])
    try:
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=1200)
    finally:
        os.sched_setaffinity(0, cores)
    assert done.returncode == 0, done.stderr
    return folder, done.stderr, json.loads((folder / "out" / "race.json").read_text(encoding="utf-8"))


def test_race_of_a_spec(raced):
    folder, shown, race = raced
    assert [(w["name"], w["spec"]["penalties"] == []) for w in race["workloads"]] == [("my-model-train-8", False)]
    (ratio,) = race["ratios"]
    assert (ratio["workload"], ratio["phase"], ratio["batch"]) == ("my-model-train-8", "train", 8)
    assert 0 < ratio["ci"][0] <= ratio["ratio_best"] <= ratio["ci"][1]
    assert race["options"]["spec"] == "my model.json"
    assert race["options"]["phase"] == ["train"]
    assert race["targets"] == []
    rows = {row["side"]: row for row in race["rows"]}
    assert rows.keys() == {name for name in SIDES if not name.startswith("pair-")}
    for side, row in rows.items():
        if SIDES[side].ours:
            assert row["distance"] <= row["limit"] < 1e-5
            assert row["operations"] == 8 * 2 * (3 * (36 * 8 + 8 * 2) * 2 - 36 * 8)
        else:
            refused = 'cannot build this model: penalty: given "plugged_small"; expected none'
            assert row["reason"] == refused
            assert f"{row['label']}, {row['variant']}: {refused}" in shown
    text = (folder / "out" / "report.md").read_text(encoding="utf-8")
    assert "A quick race of my model.json" in text
    assert "JAX is faster at " in text
    assert "## Targets" not in text
    assert f"| my-model-train-8: pythae, eager | {rows['pythae']['reason']} |" in text
    page = (folder / "out" / "report.html").read_text(encoding="utf-8")
    assert page.count("data:image/png;base64,") == 5


def _again(folder, *arguments):
    command = [sys.executable, "-m", "benchmarks", *arguments, "--plugin", "plugged_penalty"]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=300)


def test_report_and_comparison_of_it(raced):
    folder, _, race = raced
    done = _again(folder, "report", "out", "--out", "again")
    assert done.returncode == 0, done.stderr
    assert (folder / "again" / "race.json").read_bytes() == (folder / "out" / "race.json").read_bytes()
    done = _again(folder, "compare", "out", "again")
    assert (done.returncode, "nothing is worse" in done.stdout) == (0, True)
    assert {change.verdict for change in changes(race, race)} == {"same"}


def test_another_model_of_the_same_name_is_not_compared():
    def race(spec, ratio):
        row = {"workload": "w", "ratio_best": ratio, "ci": [ratio, ratio], "noise": 0.0}
        ratios = [row | {"ratio_default": None, "ci_default": None}]
        return {"ratios": ratios, "rows": [], "environment": {}, "workloads": [{"name": "w", "spec": spec}]}

    old = spec_to_json(SPEC)
    wider = spec_to_json(replace(SPEC, backbone=DenseBackbone((9,))))
    assert [c.verdict for c in changes(race(old, 2.0), race(wider, 1.0))] == ["another model"]
    without = {name: value for name, value in old.items() if name != "initializer"}  # as of a time that had only one
    assert [c.verdict for c in changes(race(without, 2.0), race(old, 1.0))] == ["worse"]
    strange = old | {"penalties": [{"kind": "not installed"}]}
    assert [c.verdict for c in changes(race(strange, 2.0), race(strange, 2.0))] == ["same"]
    assert [c.verdict for c in changes(race(strange, 2.0), race(old, 2.0))] == ["another model"]


def test_another_pair_of_the_same_name_is_not_compared():
    def race(digest):
        row = {"workload": "w", "ratio_best": 2.0, "ci": [2.0, 2.0], "noise": 0.0}
        ratios = [row | {"ratio_default": None, "ci_default": None}]
        workload = {"name": "w", "pair": "pair.py", "digest": digest}
        return {"ratios": ratios, "rows": [], "environment": {}, "workloads": [workload]}

    assert [c.verdict for c in changes(race("a"), race("b"))] == ["another model"]
    assert [c.verdict for c in changes(race("a"), race("a"))] == ["same"]
