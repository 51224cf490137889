"""A race of a pair: a JAX function and a PyTorch module that someone else wrote."""

import json
import os
import subprocess
import sys
from dataclasses import replace
from hashlib import sha256

import numpy as np
import pytest
import torch

from ae_core.commands.shell import run_program
from ae_core.errors import UserError
from benchmarks import NAME
from benchmarks.commands import run_command
from benchmarks.race import run
from benchmarks.race.custom import pair_workloads
from benchmarks.race.pair import compared, pair_reference
from benchmarks.race.process import Refusal, WorkerError
from benchmarks.race.reference import agreement
from benchmarks.race.session import CHECKED_STEPS
from benchmarks.race.sides import SIDES, pair_jax, pair_torch
from benchmarks.race.sides.pair import set_up
from benchmarks.race.workloads import PairWorkload, workload_from_json, workload_to_json
from benchmarks.report.analysis import analyse
from benchmarks.report.plots import plots
from benchmarks.report.tables import tables, verdict

# images with channels last and first, so that outputs are in two orders
FILE = """
import jax
import numpy as np
import torch
from flax import linen as nn


class Net(nn.Module):
    @nn.compact
    def __call__(self, x):
        x = nn.silu(nn.Conv(4, (3, 3), padding=1, name="first")(x))
        return nn.Conv(3, (3, 3), padding=1, name="last")(x)


class Module(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.first = torch.nn.Conv2d(2, 4, 3, padding=1)
        self.last = torch.nn.Conv2d(4, 3, 3, padding=1)

    def forward(self, x):
        return self.last(torch.nn.functional.silu(self.first(x)))


inputs = (np.random.default_rng(0).normal(size=(6, 5, 4, 2)).astype(np.float32),)
torch_inputs = (np.ascontiguousarray(np.moveaxis(inputs[0], -1, 1)),)
jax_apply, jax_params = Net().apply, Net().init(jax.random.key(0), inputs[0])
torch_module = Module()
"""
LOSSES = """
jax_loss = lambda output, x: (output**2).sum()
torch_loss = lambda output, x: (output**2).sum()
"""


@pytest.fixture(scope="module")
def file(tmp_path_factory):
    path = tmp_path_factory.mktemp("pair") / "my pair.py"
    path.write_text(FILE, encoding="utf-8")
    return path


def _workload(file, phase, **others):
    return PairWorkload(f"mine-{phase}-6", phase, file, 6, **others)


@pytest.fixture(scope="module", params=["forward", "train"])
def known(request, file):
    workload = _workload(file, request.param)
    return workload, *pair_reference(workload)


def _values(workload, side, variant):
    runner = SIDES[side].open(workload, variant)
    if not workload.trains:
        return runner.take(2)
    return np.concatenate([runner.take(1), runner.take(CHECKED_STEPS - 1, 1)])


def test_each_side_agrees_with_its_own_run(known):
    workload, runs, size = known
    assert size < 1e-6
    for side in ("pair-jax", "pair-torch"):
        for variant in SIDES[side].variants(workload):
            if variant != "compile":
                found = agreement(_values(workload, side, variant), runs[side], workload.trains, size)
                assert found.good, (side, variant, found)
    ours, theirs = runs["pair-jax"][0], runs["pair-torch"][0]
    assert np.allclose(np.sort(ours), np.sort(theirs), rtol=1e-10)
    assert np.allclose(ours, theirs, rtol=1e-10) == workload.trains  # outputs are in two orders


def test_another_model_does_not_agree(known, tmp_path):
    workload, runs, size = known
    for side, was, now in (("pair-torch", "functional.silu", "functional.relu"), ("pair-jax", "nn.silu", "nn.relu")):
        (tmp_path / "other.py").write_text(FILE.replace(was, now), encoding="utf-8")
        values = _values(replace(workload, file=tmp_path / "other.py"), side, SIDES[side].variants(workload)[0])
        assert not agreement(values, runs[side], workload.trains, size).good


def test_losses_of_the_file_are_taken(file, tmp_path):
    (tmp_path / "own.py").write_text(FILE + LOSSES, encoding="utf-8")
    own, usual = set_up(tmp_path / "own.py"), set_up(file)
    first = pair_jax.Forward(own).take(1)
    expected = {"own": (first**2).sum(), "usual": ((first - 1) ** 2).mean() / 2}
    for name, setup in (("own", own), ("usual", usual)):
        for runner in (pair_jax.Training(setup), pair_torch.Training(setup)):
            losses = runner.take(3)
            assert losses[0] == pytest.approx(expected[name], rel=1e-5)
            assert losses[2] < losses[1] < losses[0]


def test_what_pytorch_does_not_train_stays_in_jax_too(tmp_path):
    """And the user's own module is left as it was."""
    (tmp_path / "frozen.py").write_text(FILE + "torch_module.first.weight.requires_grad_(False)\n", encoding="utf-8")
    setup = set_up(tmp_path / "frozen.py")
    ours, theirs = pair_jax.Training(setup), pair_torch.Training(setup)
    before = {name: tensor.clone() for name, tensor in setup.pair.torch_module.state_dict().items()}
    ours.take(3)
    theirs.take(3)
    trained, held, _ = ours.state
    assert held.keys() == {"first.kernel"}
    assert trained.keys() == {"first.bias", "last.kernel", "last.bias"}
    assert (np.asarray(held["first.kernel"]) == setup.arrays["first.kernel"]).all()
    moved = {name: np.asarray(array) for name, array in {**trained, **held}.items()}
    for name, one in setup.matches.tensors.items():
        own = theirs.model.module.state_dict()[name].numpy()
        # Adam's steps of 1e-3 go the same way, but for rounding in gradients that are nearly 0
        assert np.abs(own - one.take(moved)).max() < 1e-4, name
        assert (own == one.take(setup.arrays)).all() == (name == "first.weight")
        assert torch.equal(setup.pair.torch_module.state_dict()[name], before[name])


def test_statistics_move_in_both(tmp_path):
    """A batch norm in training mode: JAX's function returns the state, which the next step starts from."""
    text = FILE.replace(
        'x = nn.silu(nn.Conv(4, (3, 3), padding=1, name="first")(x))',
        'x = nn.Conv(4, (3, 3), padding=1, name="first")(x)\n'
        '        x = nn.silu(nn.BatchNorm(False, momentum=0.9, epsilon=1e-5, name="norm")(x))',
    ).replace("silu(self.first(x))", "silu(self.norm(self.first(x)))")
    text = text.replace("        self.last =", "        self.norm = torch.nn.BatchNorm2d(4)\n        self.last =")
    text = text.replace("jax_apply, ", "jax_apply, returns_state, ").replace(
        "Net().apply, ", "lambda p, x: Net().apply(p, x, mutable=['batch_stats']), True, "
    )
    (tmp_path / "norm.py").write_text(text, encoding="utf-8")
    setup = set_up(tmp_path / "norm.py")
    ours, theirs = pair_jax.Training(setup), pair_torch.Training(setup)
    losses = ours.take(1), theirs.take(1)
    mean = np.asarray(ours.state[1]["norm.mean"])
    assert np.abs(mean).max() > 0
    assert np.allclose(mean, theirs.model.module.norm.running_mean.numpy(), rtol=1e-4, atol=1e-6)
    # later the bias before the norm, whose true gradient is 0, makes steps of rounding; the loss does not see it
    assert np.allclose([*losses[0], *ours.take(2)], [*losses[1], *theirs.take(2)], rtol=1e-5)
    assert (np.asarray(ours.state[1]["norm.mean"]) != mean).all()


def test_comparison_comes_first(file, tmp_path):
    assert compared(file)["passed"]
    (tmp_path / "other.py").write_text(FILE.replace("functional.silu", "functional.relu"), encoding="utf-8")
    found = compared(tmp_path / "other.py")
    assert (found["passed"], found["rows"]) == (False, 6)
    assert found["sentence"].startswith("Not the same model: ")
    assert "\n" not in found["sentence"]


def test_workloads_of_a_pair(file):
    made = pair_workloads(file, ("train",), lambda side, request: {"passed": True, "sentence": "", "rows": 6})
    digest = sha256(file.read_bytes()).hexdigest()
    assert made == [PairWorkload("my-pair-train-6", "train", file, 6, digest=digest)]
    told = workload_from_json(json.loads(json.dumps(workload_to_json(made[0]))))
    assert told == made[0]
    for error, expected in (
        (Refusal("mine.py: does not define inputs"), r"^mine\.py: does not define inputs$"),
        (WorkerError("no answer within 900 s"), r"my pair\.py: no answer within 900 s$"),
    ):

        def ask(side, request, error=error):
            raise error

        with pytest.raises(UserError, match=expected):
            pair_workloads(file, ("train",), ask)


REFUSED = {
    "a preset beside": (("--preset", "topk", "--pair", "x.py"), "given both --preset and --pair; expected one of them"),
    "phase": (("--pair", "x.py", "--phase", "forward,encode"), '--phase: unknown phase "encode"; '),
    "batch": (("--pair", "x.py", "--batch", "8"), "--batch: given with --pair; expected none"),
    "target": (("--pair", "x.py", "--target", "0.1"), "--target: given with --pair; expected none"),
    "phase of a pair": (("--preset", "topk", "--phase", "forward"), '--phase: unknown phase "forward"; valid: train'),
}


@pytest.mark.parametrize("name", REFUSED)
def test_refused_in_one_line(name, tmp_path, monkeypatch, capsys):
    flags, expected = REFUSED[name]
    monkeypatch.chdir(tmp_path)
    assert run_program(NAME, lambda: run_command(["race", "--out", "out", *flags])) == 2
    said = capsys.readouterr().err
    assert expected in said
    assert said.count("\n") == 1
    assert list(tmp_path.iterdir()) == []


@pytest.fixture
def answers(monkeypatch):
    """What a worker that is asked for one thing answers."""
    found = {"pair": {"passed": False, "sentence": "Not the same model: all differs", "rows": 6}, "environment": {}}

    def once(side, request, folder, timeout=0.0):
        if request["do"] not in found:
            raise WorkerError("not asked here")
        return found[request["do"]]

    monkeypatch.setattr(run, "_once", once)
    return found


@pytest.mark.usefixtures("answers")
def test_a_pair_that_is_not_one_model_has_no_numbers(file, tmp_path, capsys):
    out = tmp_path / "out"
    assert run_command(["race", "--pair", str(file), "--out", str(out)]) == 1
    result = json.loads((out / "race.json").read_text(encoding="utf-8"))
    assert {row["side"] for row in result["rows"]} == {"pair-jax", "pair-torch"}
    assert {row["reason"] for row in result["rows"]} == {"does not agree: Not the same model: all differs"}
    assert {row["images_per_second"] for row in result["rows"]} == {None}
    assert "no numbers: the pair does not agree: Not the same model: all differs" in capsys.readouterr().err
    assert not verdict(result)[0]


@pytest.mark.usefixtures("answers")
def test_sides_that_take_no_part_are_refused(file, tmp_path):
    with pytest.raises(UserError, match="--side: given flax, which take no part in this; valid: pair-jax, pair-torch"):
        run_command(["race", "--pair", str(file), "--side", "flax", "--out", str(tmp_path / "out")])
    with pytest.raises(UserError, match="--side: given pair-jax, which take no part in this; valid: jax, torch"):
        run_command(["race", "--workload", "dense-small", "--side", "pair-jax", "--out", str(tmp_path / "out")])
    assert not (tmp_path / "out").exists()


@pytest.fixture(scope="module")
def raced(file):
    """A real race of passes, on one core."""
    command = [sys.executable, "-m", "benchmarks", "race", "--pair", file.name, "--phase", "forward", "--quick"]
    cores = os.sched_getaffinity(0)
    os.sched_setaffinity(0, sorted(cores)[:1])
    try:
        done = subprocess.run([*command, "--out", "out"], cwd=file.parent, capture_output=True, text=True, timeout=1200)
    finally:
        os.sched_setaffinity(0, cores)
    assert done.returncode == 0, done.stderr
    return file.parent / "out", done.stderr


def test_race_of_a_pair(raced, capsys):
    out, shown = raced
    result = json.loads((out / "race.json").read_text(encoding="utf-8"))
    assert [(w["name"], w["pair"], w["batch"]) for w in result["workloads"]] == [("my-pair-forward-6", "my pair.py", 6)]
    (ratio,) = result["ratios"]
    assert 0 < ratio["ci"][0] <= ratio["ratio_best"] <= ratio["ci"][1]
    assert ratio["a_a"].keys() == {"pair-jax", "pair-torch"}
    for row in result["rows"]:
        assert row["distance"] <= row["limit"] < 1e-5
        assert row["operations"] is row["gflops"] is None
        assert row["peak_bytes"] > 10**7
    assert result["targets"] == result["peers"] == []
    good, said = verdict(result)
    assert good or "busy" in said
    assert "the pair's PyTorch, eager: first step after" in shown
    text = (out / "report.md").read_text(encoding="utf-8")
    assert "A quick race of my pair.py" in text
    assert "## JAX against PyTorch" in text
    assert (out / "report.html").read_text(encoding="utf-8").count("data:image/png;base64,") == 4  # no roofline
    assert run_command(["compare", str(out), str(out)]) == 0
    assert "nothing is worse" in capsys.readouterr().out


def test_report_of_a_pair_beside_a_spec():
    """A pair's sides are compared with each other, and its rows have no operations to be put under a roof."""
    named = {"name": "w", "phase": "train", "batch": 6, "models": 1, "target": 0.0, "pair": "x.py"}
    records = [{"kind": "workload", **named}, {"kind": "peak", "gflops": 100.0, "gbytes": 10.0}]
    for side, variant, seconds in (("pair-jax", "jit", 1.0), ("pair-torch", "eager", 3.0)):
        for copy in (0, 1):
            entry = {"workload": "w", "side": side, "variant": variant, "copy": copy}
            start = {"stages": {"build": 1.0, "first": 1.0}, "distance": 0.0, "limit": 1.0}
            records.append({"kind": "start", **entry, **start})
            stages = ("final",) if copy else ("screening", "final")
            blocks = [
                {"stage": stage, "round": i, "steps": 1, "seconds": seconds} for stage in stages for i in range(5)
            ]
            records += [{"kind": "block", **entry, **block} for block in blocks]
    result = analyse(records)
    assert result["ratios"][0]["ratio_best"] == result["ratios"][0]["ratio_default"] == pytest.approx(3)
    made = {table.title: table.rows for table in tables(result)}
    assert made["JAX against PyTorch"][0][1] == "3.00 ×"
    assert made["Speed"][0][3:5] == ["—", "—"]
    assert len(plots(result)) == 3
