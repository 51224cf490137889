"""Training by the command line, on both twins: what a run leaves."""

import json
import math
import re
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from ae_core.commands.run import FILES
from ae_core.files.weights import load_weights
from ae_core.spec import (
    SGD,
    Adam,
    BatchNorm,
    ConvBackbone,
    DenseBackbone,
    GaussianLikelihood,
    PlainBottleneck,
    Spec,
    Training,
    spec_to_json,
)
from ae_core.spec.presets import preset
from ae_core.tests.commands.command_line import TWINS, VAE, listing, one_line, run, saved


@pytest.fixture(scope="module", params=TWINS)
def trained(request, tmp_path_factory):
    """A twin and the folder of a short training."""
    folder = tmp_path_factory.mktemp("run") / "new" / "run"
    argv = ("train", "--preset", "dense-digits", "--data", "digits", "--epochs", 2, "--seed", 3, "--out", folder)
    assert run(request.param, *argv) == 0
    return request.param, folder


def test_train_leaves_weights_report_and_figures(trained):
    _, folder = trained
    assert sorted(path.name for path in folder.iterdir()) == sorted(FILES)
    for name in FILES[2:]:
        with Image.open(folder / name) as picture:
            picture.load()
            assert picture.format == "PNG"
            assert min(picture.size) >= 100
    expected = preset("dense-digits")
    spec, tensors = load_weights(folder / FILES[0])
    assert spec == replace(expected, training=replace(expected.training, epochs=2))
    assert all(tensor.dtype == np.float32 for tensor in tensors.values())


def test_report(trained):
    twin, folder = trained
    text = (folder / "report.json").read_text(encoding="utf-8")
    report = json.loads(text, parse_constant=lambda name: pytest.fail(f"{name} is not JSON"))
    assert list(report) == [
        "schema",
        "engine",
        "variant",
        "status",
        "message",
        "environment",
        "spec",
        "data",
        "seed",
        "epochs",
        "best_epoch",
        "heldout",
        "curve",
        "images_per_second",
        "seconds",
        "failed",
    ]
    assert report["failed"] == []
    assert (report["engine"], report["status"], report["message"], report["seed"]) == (twin, "finished", "", 3)
    assert report["spec"] == spec_to_json(load_weights(folder / FILES[0]).spec)
    assert report["data"] | {"sha256": 0} == {
        "name": "digits",
        "shape": [1797, 8, 8, 1],
        "train": 1617,
        "heldout": 180,
        "adapt": "exact",
        "channels": "exact",
        "sha256": 0,
    }
    assert re.fullmatch("[0-9a-f]{64}", report["data"]["sha256"])
    assert [epoch["epoch"] for epoch in report["epochs"]] == [0, 1, 2]
    assert report["best_epoch"] == 2
    assert report["epochs"][2]["heldout"]["loss"] == report["heldout"]["loss"] < report["epochs"][0]["heldout"]["loss"]
    assert report["heldout"].keys() == {"loss", "reconstruction", "mse", "pca_mse"}
    steps = report["curve"]["steps"]
    assert steps == list(range(1, 2 * math.ceil(1617 / 64) + 1))
    assert len(report["curve"]["losses"]) == len(steps)
    assert report["images_per_second"] is None or report["images_per_second"] > 0  # too short to be measured
    assert report["environment"].keys() >= {"date", "python", "system", "processor", "cores", "numpy", "device", twin}


def test_nothing_is_overwritten_without_force(trained, capsys):
    twin, folder = trained
    before = listing(folder)
    argv = ("train", "--preset", "dense-digits", "--data", "digits", "--epochs", 1, "--out", folder)
    assert run(twin, *argv) == 2
    one_line(capsys, twin, "holds something already; give --force")
    assert listing(folder) == before


@pytest.mark.parametrize("twin", TWINS)
def test_force_replaces_the_run(tmp_path, twin):
    argv = ("train", "--preset", "dense-digits", "--data", "cans", "--count", 50, "--epochs", 1, "--out", tmp_path)
    (tmp_path / "latent.png").write_bytes(b"old")
    (tmp_path / "notes.txt").write_bytes(b"mine")
    assert run(twin, *argv, "--force", "--batch-size", 20, "--learning-rate", 0.5, "--heldout", 0.2) == 0
    assert sorted(p.name for p in tmp_path.iterdir()) == sorted((*FILES, "notes.txt"))
    assert (tmp_path / "latent.png").read_bytes()[:4] == b"\x89PNG"
    training = load_weights(tmp_path / FILES[0]).spec.training
    assert (training.batch_size, training.optimizer.learning_rate) == (20, 0.5)
    report = json.loads((tmp_path / "report.json").read_text())
    assert (report["data"]["train"], report["data"]["heldout"], len(report["curve"]["steps"])) == (40, 10, 2)


@pytest.mark.parametrize(("one", "other"), [("jax", "torch"), ("torch", "jax")])
def test_each_twin_reads_what_the_other_trained(tmp_path, one, other):
    spec = replace(
        VAE,
        backbone=ConvBackbone((4,), (2,), norm=BatchNorm(momentum=0.5)),
        training=Training(Adam(0.01), batch_size=16, epochs=5, precision="float64"),
    )
    (tmp_path / "spec.json").write_text(json.dumps(spec_to_json(spec)))
    folder = tmp_path / "run"
    argv = ("train", "--spec", tmp_path / "spec.json", "--data", "cans", "--count", 60, "--out", folder)
    assert run(one, *argv) == 0
    assert all(tensor.dtype == np.float64 for tensor in load_weights(folder / FILES[0]).tensors.values())
    recons = []
    for twin in (one, other):
        argv = ("--images", "cans", "--count", 10, "--data-seed", 5, "--out", tmp_path / f"{twin}.npy")
        assert run(twin, "reconstruct", "--weights", folder / FILES[0], *argv) == 0
        recons.append(saved(tmp_path / f"{twin}.npy"))
    assert json.loads((folder / "report.json").read_text())["best_epoch"] > 0
    assert np.ptp(recons[0]) > 0.01
    np.testing.assert_allclose(*recons, atol=1e-6, rtol=0)


@pytest.mark.parametrize("twin", TWINS)
def test_start_goes_on_from_a_weights_file(tmp_path, trained, twin):
    _, folder = trained
    argv = (
        "train",
        "--preset",
        "dense-digits",
        "--data",
        "digits",
        "--epochs",
        1,
        "--seed",
        3,
        "--out",
        tmp_path / "r",
    )
    assert run(twin, *argv, "--start", folder / FILES[0]) == 0
    before, after = (json.loads((f / "report.json").read_text()) for f in (folder, tmp_path / "r"))
    assert after["epochs"][0]["heldout"]["loss"] == pytest.approx(before["heldout"]["loss"], rel=1e-5)


@pytest.mark.parametrize("twin", TWINS)
def test_divergence(tmp_path, capsys, twin):
    training = Training(SGD(1e-3), batch_size=32, epochs=3)
    spec = Spec((8, 8, 1), DenseBackbone((8,)), PlainBottleneck(2), GaussianLikelihood(), training=training)
    (tmp_path / "spec.json").write_text(json.dumps(spec_to_json(spec)))
    folder = tmp_path / "run"
    argv = ("train", "--spec", tmp_path / "spec.json", "--data", "digits", "--learning-rate", "1e30", "--out", folder)
    assert run(twin, *argv) == 1
    line = capsys.readouterr().out.splitlines()[0]
    told = r"the loss is (nan|inf) in epoch 1, step \d+ of 51, at learning rate 1e\+30"
    assert re.fullmatch(f"training diverged: {told}; the weights of epoch 0 are kept", line)
    assert all(np.isfinite(tensor).all() for tensor in load_weights(folder / FILES[0]).tensors.values())
    report = json.loads((folder / "report.json").read_text())
    assert (report["status"], report["best_epoch"]) == ("diverged", 0)
    assert re.fullmatch(told, report["message"])
    assert report["curve"]["losses"][-1] is None
    assert sorted(path.name for path in folder.iterdir()) == sorted(FILES)
    assert run(twin, "info", "--weights", folder / FILES[0]) == 0
