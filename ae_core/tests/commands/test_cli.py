"""The command line, on both twins: what it writes, what it refuses, and how it ends."""

import dataclasses
import gzip
import io
import json
import math
import os
import re
import signal
import struct
import subprocess
import sys
import sysconfig
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.numpy import save as serialize

from ae_core.commands import cli
from ae_core.commands import menu as commands
from ae_core.commands.run import FILES
from ae_core.data import cans
from ae_core.files.weights import checksum, load_weights, save_weights
from ae_core.rng import normal
from ae_core.spec import (
    SGD,
    Adam,
    BatchNorm,
    BernoulliLikelihood,
    ConvBackbone,
    DenseBackbone,
    GaussianBottleneck,
    GaussianLikelihood,
    PlainBottleneck,
    Spec,
    Training,
    spec_to_json,
)
from ae_core.spec.presets import PRESETS, preset
from ae_core.training.initial import initial_weights

TWINS = ("jax", "torch")

_PLAIN = Spec((8, 8, 1), DenseBackbone((6,)), PlainBottleneck(2))
_VAE = Spec((8, 8, 1), ConvBackbone((2,), (2,)), GaussianBottleneck(3), BernoulliLikelihood())
_COLOUR = Spec((8, 4, 3), DenseBackbone(()), PlainBottleneck(2), GaussianLikelihood())
_SPECS = {"plain": _PLAIN, "vae": _VAE, "colour": _COLOUR}


@pytest.fixture(autouse=True, scope="module")
def _one_thread():
    """Models are tiny here: a second thread would only spin, and for long where the cores are busy."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def _run(twin, *argv):
    return cli.main(twin, [str(a) for a in argv])


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    """Weights files that nobody trained, by the name of their spec."""
    folder = tmp_path_factory.mktemp("weights")
    for name, spec in _SPECS.items():
        save_weights(folder / name, spec, initial_weights(_shapes(spec), "he_normal", 1))
    return {name: folder / name for name in _SPECS}


def _shapes(spec):
    return cli.load_engine("torch").shapes(spec)


@pytest.fixture(scope="module", params=TWINS)
def trained(request, tmp_path_factory):
    """A twin and the folder of a short training."""
    folder = tmp_path_factory.mktemp("run") / "new" / "run"
    argv = ("train", "--preset", "dense-digits", "--data", "digits", "--epochs", 2, "--seed", 3, "--out", folder)
    assert _run(request.param, *argv) == 0
    return request.param, folder


@pytest.fixture
def images(tmp_path):
    path = tmp_path / "images.npy"
    np.save(path, cans(5, (8, 8)).images)
    return path


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
    ]
    assert (report["engine"], report["status"], report["message"], report["seed"]) == (twin, "finished", "", 3)
    assert report["spec"] == spec_to_json(load_weights(folder / FILES[0]).spec)
    assert report["data"] | {"sha256": 0} == {
        "name": "digits",
        "shape": [1797, 8, 8, 1],
        "train": 1617,
        "heldout": 180,
        "fit": "exact",
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
    before = _listing(folder)
    argv = ("train", "--preset", "dense-digits", "--data", "digits", "--epochs", 1, "--out", folder)
    assert _run(twin, *argv) == 2
    _one_line(capsys, twin, "holds something already; give --force")
    assert _listing(folder) == before


@pytest.mark.parametrize("twin", TWINS)
def test_force_replaces_the_run(tmp_path, twin):
    argv = ("train", "--preset", "dense-digits", "--data", "cans", "--count", 50, "--epochs", 1, "--out", tmp_path)
    (tmp_path / "latent.png").write_bytes(b"old")
    (tmp_path / "notes.txt").write_bytes(b"mine")
    assert _run(twin, *argv, "--force", "--batch-size", 20, "--learning-rate", 0.5, "--heldout", 0.2) == 0
    assert sorted(p.name for p in tmp_path.iterdir()) == sorted((*FILES, "notes.txt"))
    assert (tmp_path / "latent.png").read_bytes()[:4] == b"\x89PNG"
    training = load_weights(tmp_path / FILES[0]).spec.training
    assert (training.batch_size, training.optimizer.learning_rate) == (20, 0.5)
    report = json.loads((tmp_path / "report.json").read_text())
    assert (report["data"]["train"], report["data"]["heldout"], len(report["curve"]["steps"])) == (40, 10, 2)


def _saved(path):
    array = np.load(path, allow_pickle=False)
    assert array.dtype == np.float32
    assert np.isfinite(array).all()
    return array


@pytest.mark.parametrize("twin", TWINS)
@pytest.mark.parametrize(("name", "latent"), [("plain", 2), ("vae", 3)])
def test_encode_then_decode_is_reconstruct(tmp_path, weights, images, capsys, twin, name, latent):
    common = ("--weights", weights[name])
    z, x, y = (tmp_path / file for file in ("z.npy", "x.npy", "y.npy"))
    assert _run(twin, "encode", *common, "--images", images, "--out", z) == 0
    assert _run(twin, "decode", *common, "--codes", z, "--out", x) == 0
    assert _run(twin, "reconstruct", *common, "--images", images, "--out", y) == 0
    said = capsys.readouterr()
    assert said.err == ""
    assert said.out.splitlines() == [
        f"codes [5, {latent}]: {z}",
        f"images [5, 8, 8, 1]: {x}",
        f"reconstructions [5, 8, 8, 1]: {y}",
    ]
    assert _saved(z).shape == (5, latent)
    recon = _saved(y)
    assert recon.shape == (5, 8, 8, 1)
    assert 0 <= recon.min() < recon.max() <= 1
    np.testing.assert_allclose(_saved(x), recon, atol=1e-6)


def test_encoding_is_the_same_on_both_twins(tmp_path, weights, images):
    for name in ("plain", "vae"):
        codes = []
        for twin in TWINS:
            out = tmp_path / f"{name}-{twin}.npy"
            assert _run(twin, "encode", "--weights", weights[name], "--images", images, "--out", out) == 0
            codes.append(_saved(out))
        np.testing.assert_allclose(*codes, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(("one", "other"), [("jax", "torch"), ("torch", "jax")])
def test_each_twin_reads_what_the_other_trained(tmp_path, one, other):
    spec = replace(
        _VAE,
        backbone=ConvBackbone((4,), (2,), norm=BatchNorm(momentum=0.5)),
        training=Training(Adam(0.01), batch_size=16, epochs=5, precision="float64"),
    )
    (tmp_path / "spec.json").write_text(json.dumps(spec_to_json(spec)))
    run = tmp_path / "run"
    argv = ("train", "--spec", tmp_path / "spec.json", "--data", "cans", "--count", 60, "--out", run)
    assert _run(one, *argv) == 0
    assert all(tensor.dtype == np.float64 for tensor in load_weights(run / FILES[0]).tensors.values())
    recons = []
    for twin in (one, other):
        argv = ("--images", "cans", "--count", 10, "--data-seed", 5, "--out", tmp_path / f"{twin}.npy")
        assert _run(twin, "reconstruct", "--weights", run / FILES[0], *argv) == 0
        recons.append(_saved(tmp_path / f"{twin}.npy"))
    assert json.loads((run / "report.json").read_text())["best_epoch"] > 0
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
    assert _run(twin, *argv, "--start", folder / FILES[0]) == 0
    before, after = (json.loads((f / "report.json").read_text()) for f in (folder, tmp_path / "r"))
    assert after["epochs"][0]["heldout"]["loss"] == pytest.approx(before["heldout"]["loss"], rel=1e-5)


@pytest.mark.parametrize("twin", TWINS)
@pytest.mark.parametrize(("name", "mode"), [("vae", "L"), ("colour", "RGB")])
def test_png(tmp_path, weights, twin, name, mode):
    out = tmp_path / "y.png"
    shape = _SPECS[name].input_shape
    np.save(tmp_path / "x.npy", cans(5, shape[:2], channels=shape[2]).images)
    assert _run(twin, "reconstruct", "--weights", weights[name], "--images", tmp_path / "x.npy", "--out", out) == 0
    with Image.open(out) as picture:
        picture.load()
        assert (picture.format, picture.mode) == ("PNG", mode)


@pytest.mark.parametrize("command", ["encode", "reconstruct", "decode", "sample"])
@pytest.mark.parametrize("twin", TWINS)
def test_outputs_are_overwritten_with_force_alone(tmp_path, weights, images, capsys, twin, command):
    out = tmp_path / "y.npy"
    np.save(tmp_path / "z.npy", np.zeros((4, 3)))
    given = {"decode": ("--codes", tmp_path / "z.npy"), "sample": ("--count", 4)}.get(command, ("--images", images))
    out.write_bytes(b"old")
    argv = (command, "--weights", weights["vae"], *given, "--out", out)
    assert _run(twin, *argv) == 2
    _one_line(capsys, twin, f"{out}: is there already; give --force to overwrite it, or another path")
    assert out.read_bytes() == b"old"
    assert _run(twin, *argv, "--force") == 0
    assert len(_saved(out)) == (4 if command in ("decode", "sample") else 5)


@pytest.mark.parametrize("twin", TWINS)
def test_sample_is_the_decoded_prior(tmp_path, weights, twin):
    outs = {}
    for name, flags in {
        "a": ("--count", 7, "--seed", 2),
        "again": ("--count", 7, "--seed", 2),
        "other": ("--count", 7, "--seed", 4),
        "default": (),
    }.items():
        out = tmp_path / f"{name}.npy"
        assert _run(twin, "sample", "--weights", weights["vae"], "--out", out, *flags) == 0
        outs[name] = _saved(out)
    assert outs["a"].shape == (7, 8, 8, 1)
    assert outs["default"].shape == (16, 8, 8, 1)
    np.testing.assert_array_equal(outs["a"], outs["again"])
    assert not np.allclose(outs["a"], outs["other"])
    np.save(tmp_path / "z.npy", normal((7, 3), 2, "sample"))
    assert (
        _run(twin, "decode", "--weights", weights["vae"], "--codes", tmp_path / "z.npy", "--out", tmp_path / "d.npy")
        == 0
    )
    np.testing.assert_array_equal(_saved(tmp_path / "d.npy"), outs["a"])


@pytest.mark.parametrize("twin", TWINS)
@pytest.mark.parametrize("dtype", [np.float64, np.float32, np.int64, np.uint8])
def test_sample_of_a_plain_bottleneck_at_given_points(tmp_path, weights, twin, dtype):
    np.save(tmp_path / "z.npy", np.array([[0, 1], [2, 3], [4, 5]], dtype))
    argv = ("sample", "--weights", weights["plain"], "--points", tmp_path / "z.npy", "--out", tmp_path / "y.npy")
    assert _run(twin, *argv) == 0
    assert _saved(tmp_path / "y.npy").shape == (3, 8, 8, 1)


@pytest.mark.parametrize("twin", TWINS)
@pytest.mark.parametrize(("name", "parameters"), [("foster-ae", "343,043"), ("foster-vae", "347,141")])
def test_info_of_a_preset(capsys, twin, name, parameters):
    assert _run(twin, "info", "--preset", name) == 0
    text = capsys.readouterr().out
    assert json.loads(text[: text.index("\n}\n") + 3]) == spec_to_json(PRESETS[name])
    assert text.endswith(f"\n{parameters} parameters\n")
    assert "sha256" not in text


@pytest.mark.parametrize("twin", TWINS)
def test_info_of_a_weights_file(capsys, weights, twin):
    assert _run(twin, "info", "--weights", weights["vae"]) == 0
    text = capsys.readouterr().out
    assert json.loads(text[: text.index("\n}\n") + 3]) == spec_to_json(_VAE)
    tensors = load_weights(weights["vae"]).tensors
    rows = [line.split() for line in text.splitlines() if line.startswith(("encoder.", "decoder."))]
    assert [(row[0], row[-1]) for row in rows] == [(name, checksum(tensors[name])) for name in sorted(tensors)]
    assert text.endswith(f"\n{sum(tensor.size for tensor in tensors.values()):,} parameters\n")


def test_info_counts_no_running_statistics(tmp_path, capsys):
    spec = replace(_PLAIN, backbone=DenseBackbone((6,), norm=BatchNorm()))
    (tmp_path / "spec.json").write_text(json.dumps(spec_to_json(spec)))
    assert _run("torch", "info", "--spec", tmp_path / "spec.json") == 0
    text = capsys.readouterr().out
    # 64·6 and its norm's 2·6, 6·2 without bias, 2·6 and the norm's 2·6, 6·64 + 64
    assert text.endswith("\n880 parameters\n")
    assert "running_mean" in text


@pytest.mark.parametrize("twin", TWINS)
@pytest.mark.parametrize("name", ["", "train", "encode", "decode", "reconstruct", "sample", "atlas", "info"])
def test_help_comes_from_the_dataclasses(monkeypatch, capsys, twin, name):
    monkeypatch.setenv("COLUMNS", "200")
    with pytest.raises(SystemExit) as caught:
        _run(twin, *([name] if name else []), "--help")
    assert caught.value.code == 0
    text = " ".join(re.sub("[│╭╮╰╯─]", " ", capsys.readouterr().out).split())
    assert f"ae-{twin}" in text
    if not name:
        names = ("train", "encode", "decode", "reconstruct", "sample", "atlas", "info")
        assert all(command in text for command in names)
        assert "leaves weights, report and figures in a folder" in text
        return
    command = getattr(commands, name.capitalize())
    for field in dataclasses.fields(command):
        if field.name != "data_options":
            assert f"--{field.name.replace('_', '-')} " in text
    expected = {
        "train": "Of the split, initial weights, batch order and noise.",
        "encode": "Images of another size: refused (exact), centred in zeros (pad), or stretched, bilinear (resize).",
        "decode": "Codes, [N, latent], as .npy.",
        "reconstruct": "Overwrite the output file.",
        "sample": "prior: N(0, I), of a variational autoencoder; the others are fitted to the codes of --data.",
        "atlas": "The most images to show, evenly chosen; fewer where they are large.",
        "info": "JSON file with a spec.",
    }
    assert expected[name] in text


# Bad input: one line, exit status 2, nothing left behind.


def _listing(folder):
    return {path.relative_to(folder): path.read_bytes() if path.is_file() else None for path in folder.rglob("*")}


def _one_line(capsys, twin, fragment):
    said = capsys.readouterr()
    assert said.out == ""
    assert said.err.startswith(f"ae-{twin}: ")
    assert said.err.count("\n") == 1
    assert said.err.endswith("\n")
    assert fragment in said.err


def _npy(array):
    buffer = io.BytesIO()
    np.save(buffer, array)
    return buffer.getvalue()


def _npz(**arrays):
    buffer = io.BytesIO()
    np.savez(buffer, **arrays)
    return buffer.getvalue()


def _json(spec=_PLAIN, **changes):
    return json.dumps(spec_to_json(spec) | changes).encode()


def _idx(shape=(3, 8, 8), magic=b"\0\0\x08\x03"):
    return magic + struct.pack(">3I", *shape) + bytes(math.prod(shape))


_GOOD = np.full((3, 8, 8, 1), 0.5, np.float32)


def _with(value):
    bad = _GOOD.copy()
    bad[1, 2, 3, 0] = value
    return _npy(bad)


_CONV = spec_to_json(_VAE)["backbone"]

BAD_SPECS = {
    "unknown key": (_json(backbonee=1), 'unknown key "backbonee"; did you mean "backbone"?'),
    "a key of two lines": (_json(**{"back\nbon": 1}), 'unknown key "back bon"; did you mean "backbone"?'),
    "unknown kind": (_json(bottleneck={"kind": "gausian", "latent": 2}), 'did you mean "gaussian"?'),
    "unknown deep key": (_json(training={"epoch": 2}), 'training: unknown key "epoch"; did you mean "epochs"?'),
    "stride that does not divide": (
        _json(backbone=_CONV | {"strides": [3]}),
        "backbone.strides[0]: given 3; expected a divisor of both sides of the 8×8 pixels",
    ),
    "zero latents": (
        _json(bottleneck={"kind": "plain", "latent": 0}),
        "latent: given 0; expected an integer from 1 to",
    ),
    "no channels": (_json(backbone=_CONV | {"channels": [], "strides": []}), "channels: given []"),
    "even kernel": (_json(backbone=_CONV | {"kernel": 4, "padding": "torch"}), "kernel: given 4; expected odd"),
    "zero height": (_json(input_shape=[0, 8, 1]), "input_shape: given [0, 8, 1]"),
    "NaN": (_json(likelihood={"kind": "gaussian", "variance": math.nan}), "variance: given nan"),
    "a number beyond all floats": (_json(likelihood={"kind": "gaussian", "variance": 10**400}), "variance: given 1000"),
    "not JSON": (b"{", "not JSON: "),
    "nothing": (b"", "not JSON: "),
    "not text": (b"\xff\xff", "not UTF-8 text"),
}

BAD_IMAGES = {
    "too wide": ("x.npy", _npy(np.zeros((3, 8, 9, 1), np.float32)), "images are 8×9×1"),
    "too many channels": ("x.npy", _npy(np.zeros((3, 8, 8, 3), np.float32)), "images are 8×8×3"),
    "flat": ("x.npy", _npy(np.zeros((3, 64), np.float32)), "shape is (3, 64)"),
    "none": ("x.npy", _npy(np.zeros((0, 8, 8, 1), np.float32)), "there must be at least one image"),
    "integers": ("x.npy", _npy(np.zeros((3, 8, 8, 1), np.int64)), "dtype is int64"),
    "complex": ("x.npy", _npy(np.zeros((3, 8, 8, 1), np.complex64)), "dtype is complex64"),
    "objects": ("x.npy", _npy(np.full((3, 8, 8, 1), None)), "not a .npy file"),
    "above 1": ("x.npy", _with(1.5), "image 1 ranges from 0.5 to 1.5"),
    "below 0": ("x.npy", _with(-0.1), "image 1 ranges from -0.1 to 0.5"),
    "NaN": ("x.npy", _with(np.nan), "image 1 holds NaN"),
    "infinity": ("x.npy", _with(np.inf), "image 1 holds infinity"),
    "minus infinity": ("x.npy", _with(-np.inf), "image 1 holds infinity"),
    "truncated npy": ("x.npy", _npy(_GOOD)[:-1], "not a .npy file"),
    "empty npy": ("x.npy", b"", "not a .npy file"),
    "truncated npz": ("x.npz", _npz(images=_GOOD)[:-30], "not a .npz file"),
    "npz without images": ("x.npz", _npz(a=_GOOD, b=_GOOD), "holds a, b, images must be in one of"),
    "empty IDX": ("x-idx3-ubyte", b"", "has 0 bytes"),
    "truncated IDX": ("x-idx3-ubyte", _idx()[:-1], "truncated: has 207 bytes"),
    "IDX without its header": ("x-idx3-ubyte", _idx()[:9], "the header of an IDX file of rank 3 has 16"),
    "over-long IDX": ("x-idx3-ubyte", _idx() + b"\0", "over-long: has 209 bytes"),
    "wrong magic": ("x-idx3-ubyte", _idx(magic=b"\0\1\x08\x03"), "begins with 00 01 08 03"),
    "unknown IDX type": ("x-idx3-ubyte", _idx(magic=b"\0\0\x07\x03"), "begins with 00 00 07 03"),
    "IDX of labels": ("x-idx1-ubyte", b"\0\0\x08\x01\0\0\0\x03\0\1\2", "shape is (3,)"),
    "truncated gzip": ("x.gz", gzip.compress(_idx())[:-5], "damaged or truncated"),
    "no picture": ("x.png", b"\x89PNG", "x.png"),
    "nothing there": ("x.npy", None, "no data set, file or folder"),
}


def _changed(path, change):
    """Return the bytes of a weights file whose tensors are changed, with checksums that are right again."""
    spec, tensors = load_weights(path)
    out = path.with_name("changed")
    save_weights(out, spec, change(tensors))
    data = out.read_bytes()
    out.unlink()
    return data


def _flipped(data, position):
    changed = bytearray(data)
    changed[position] ^= 4
    return bytes(changed)


_BIAS = "decoder.output.bias"

BAD_WEIGHTS = {
    "truncated": (lambda path: path.read_bytes()[:-1], "not a safetensors file"),
    "cut to its header": (lambda path: path.read_bytes()[:100], "not a safetensors file"),
    "empty": (lambda path: b"", "not a safetensors file"),
    "over-long": (lambda path: path.read_bytes() + b"\0", "not a safetensors file"),
    "a flipped bit in a tensor": (lambda path: _flipped(path.read_bytes(), -7), "is damaged: its checksum"),
    "a flipped bit in the spec": (
        lambda path: path.read_bytes().replace(b'\\"latent\\": 2', b'\\"latent\\": 3'),
        "the spec is damaged",
    ),
    "a missing tensor": (
        lambda path: _changed(path, lambda t: {k: v for k, v in t.items() if k != _BIAS}),
        f'tensor "{_BIAS}" is missing; the spec wants it with shape (64,)',
    ),
    "an extra tensor": (
        lambda path: _changed(path, lambda t: t | {"encoder.more": np.zeros(1)}),
        'tensor "encoder.more" is extra; the spec has none of that name',
    ),
    "a misshapen tensor": (
        lambda path: _changed(path, lambda t: t | {_BIAS: np.zeros(63)}),
        f'tensor "{_BIAS}" has shape (63,); the spec wants (64,)',
    ),
    "foreign": (lambda path: serialize({"weight": np.zeros(3)}), 'foreign file: its format is "none"'),
    "foreign spec": (lambda path: _foreign(path), 'foreign spec: spec: unknown key "layers"'),
    "nothing there": (lambda path: None, "no such file"),
}


def _foreign(path):
    import hashlib

    text = json.dumps({"layers": 3})
    digest = hashlib.sha256(text.encode()).hexdigest()
    metadata = {"format": "twin-autoencoders/1", "spec": text, "spec_sha256": digest, "sha256": "{}"}
    return serialize({}, metadata)


BAD_CODES = {
    "too many latents": (_npy(np.zeros((3, 4))), "given shape (3, 4); expected [N, 2], N at least 1"),
    "one axis": (_npy(np.zeros(2)), "given shape (2,)"),
    "none": (_npy(np.zeros((0, 2))), "given shape (0, 2)"),
    "NaN": (_npy(np.full((3, 2), np.nan)), "given NaN or infinity; expected finite numbers"),
    "infinity": (_npy(np.full((3, 2), np.inf)), "given NaN or infinity"),
    "complex": (_npy(np.zeros((3, 2), complex)), "given dtype complex128"),
    "truth values": (_npy(np.zeros((3, 2), bool)), "given dtype bool"),
    "objects": (_npy(np.full((3, 2), None)), "not a .npy array"),
    "truncated": (_npy(np.zeros((3, 2)))[:-1], "not a .npy array"),
    "empty": (b"", "not a .npy array"),
    "damaged zip": (b"PK\x03\x04" + bytes(30), "not a .npy array"),
    "an archive": (_npz(z=np.zeros((3, 2))), "given an .npz archive"),
    "text": (b"0 1\n2 3\n", "not a .npy array"),
    "nothing there": (None, "no such file"),
}

_TRAIN = ("train", "--out", "{out}/run", "--epochs", "1")
_SMALL = (*_TRAIN, "--preset", "dense-digits", "--data", "digits")

BAD_OPTIONS = {
    "unknown preset": (
        (*_TRAIN, "--data", "digits", "--preset", "dense-digts"),
        'unknown preset "dense-digts"; did you mean "dense-digits"?',
    ),
    "unknown preset in info": (("info", "--preset", "foster"), 'unknown preset "foster"; did you mean "foster-ae"?'),
    "preset and spec": ((*_SMALL, "--spec", "{in}/spec.json"), "given both --preset and --spec; expected one of them"),
    "info of nothing": (("info",), "expected exactly one of --weights, --preset and --spec"),
    "info of two": (("info", "--preset", "foster-ae", "--spec", "{in}/spec.json"), "expected exactly one of"),
    "spec that is a folder": ((*_TRAIN, "--data", "digits", "--spec", "{in}"), "Is a directory"),
    "unknown data": ((*_SMALL[:-1], "digit"), 'no data set, file or folder "digit": did you mean "digits"?'),
    "no epochs": ((*_SMALL, "--epochs", "0"), "epochs: given 0; expected an integer from 1 to"),
    "no batch": ((*_SMALL, "--batch-size", "0"), "batch_size: given 0"),
    "learning rate 0": ((*_SMALL, "--learning-rate", "0"), "learning_rate: given 0.0; expected a number above 0"),
    "learning rate inf": ((*_SMALL, "--learning-rate", "inf"), "learning_rate: given inf"),
    "learning rate nan": ((*_SMALL, "--learning-rate", "nan"), "learning_rate: given nan"),
    "nothing held out": ((*_SMALL, "--heldout", "0"), "held-out fraction is 0"),
    "all held out": ((*_SMALL, "--heldout", "1"), "held-out fraction is 1"),
    "no cans": ((*_TRAIN, "--preset", "dense-digits", "--count", "0"), "count is 0, must be 1 to"),
    "images that do not fit": ((*_TRAIN, "--preset", "foster-ae", "--data", "digits"), "images are 8×8×1"),
    "a batch of one": (
        (*_TRAIN, "--spec", "{in}/norm.json", "--data", "digits", "--batch-size", "1"),
        "training.batch_size: given 1",
    ),
    "sample of a plain bottleneck": (
        ("sample", "--weights", "{in}/plain", "--out", "{out}/y.npy"),
        "a plain bottleneck has no prior to draw from; give --points codes.npy",
    ),
    "no samples": (
        ("sample", "--weights", "{in}/vae", "--out", "{out}/y.npy", "--count", "0"),
        "--count: given 0; expected 1 to",
    ),
}

# The folder that each command is to write to is {out}; file and full/a are there already.
BAD_OUTPUTS = {
    "missing folder": ("{out}/missing/y.npy", "missing is not a folder"),
    "under a file": ("{out}/file/y.npy", "file is not a folder"),
    "a folder": ("{out}/folder.npy", "it is a folder"),
    "there already": ("{out}/old.npy", "is there already; give --force"),
    "another suffix": ("{out}/y.jpg", 'given the suffix ".jpg"; expected .npy'),
    "no suffix": ("{out}/y", 'given the suffix ""; expected .npy'),
    "too long": ("{out}/" + "x" * 300 + ".npy", "File name too long"),
}
BAD_RUNS = {
    "a file": ("{out}/file", "it is not a folder"),
    "under a file": ("{out}/file/run", "Not a directory"),
    "full": ("{out}/full", "holds something already; give --force"),
    "too long": ("{out}/" + "x" * 300, "File name too long"),
}


@pytest.fixture
def refuse(tmp_path, weights, capsys):
    """Return a function that runs a command which must be refused, and must change nothing."""
    inputs, outputs = tmp_path / "in", tmp_path / "out"
    for folder in (inputs, outputs, outputs / "full", outputs / "folder.npy"):
        folder.mkdir()
    for file in ("file", "full/a", "old.npy"):
        (outputs / file).write_bytes(b"kept")
    for name, path in weights.items():
        (inputs / name).write_bytes(path.read_bytes())
    np.save(inputs / "z.npy", np.zeros((3, 2)))
    np.save(inputs / "x.npy", _GOOD)
    (inputs / "spec.json").write_bytes(_json())
    (inputs / "norm.json").write_bytes(_json(replace(_PLAIN, backbone=DenseBackbone((4,), norm=BatchNorm()))))

    def refuse(twin, argv, message, **files):
        for name, content in files.items():
            path = inputs / name.replace("__", ".").replace("_", "-")
            path.unlink(missing_ok=True)
            if content is not None:
                path.write_bytes(content)
        before = _listing(tmp_path)
        argv = [a.replace("{in}", str(inputs)).replace("{out}", str(outputs)) for a in argv]
        assert _run(twin, *argv) == 2
        _one_line(capsys, twin, message)
        assert _listing(tmp_path) == before

    return refuse


@pytest.mark.parametrize("twin", TWINS)
@pytest.mark.parametrize("case", BAD_SPECS)
def test_bad_spec(refuse, twin, case):
    content, message = BAD_SPECS[case]
    refuse(twin, (*_TRAIN, "--data", "digits", "--spec", "{in}/bad.json"), message, bad__json=content)
    refuse(twin, ("info", "--spec", "{in}/bad.json"), message)


@pytest.mark.parametrize("twin", TWINS)
@pytest.mark.parametrize("case", BAD_IMAGES)
def test_bad_images(refuse, twin, case):
    name, content, message = BAD_IMAGES[case]
    file = {name.replace(".", "__").replace("-", "_"): content}
    refuse(
        twin, ("train", "--spec", "{in}/spec.json", "--data", f"{{in}}/{name}", "--out", "{out}/run"), message, **file
    )
    for command in ("encode", "reconstruct"):
        argv = (command, "--weights", "{in}/plain", "--images", f"{{in}}/{name}", "--out", "{out}/y.npy")
        refuse(twin, argv, message)


@pytest.mark.parametrize("twin", TWINS)
@pytest.mark.parametrize("case", BAD_WEIGHTS)
def test_bad_weights(refuse, weights, twin, case):
    change, message = BAD_WEIGHTS[case]
    content = change(weights["plain"])
    assert content != weights["plain"].read_bytes()
    for argv in (
        ("encode", "--weights", "{in}/bad", "--images", "{in}/x.npy", "--out", "{out}/z.npy"),
        ("reconstruct", "--weights", "{in}/bad", "--images", "{in}/x.npy", "--out", "{out}/y.png"),
        ("decode", "--weights", "{in}/bad", "--codes", "{in}/z.npy", "--out", "{out}/y.npy"),
        ("sample", "--weights", "{in}/bad", "--points", "{in}/z.npy", "--out", "{out}/y.npy"),
        ("info", "--weights", "{in}/bad"),
        ("train", "--spec", "{in}/spec.json", "--data", "digits", "--start", "{in}/bad", "--out", "{out}/run"),
    ):
        refuse(twin, argv, message, bad=content)


@pytest.mark.parametrize("twin", TWINS)
@pytest.mark.parametrize("case", BAD_CODES)
def test_bad_codes(refuse, twin, case):
    content, message = BAD_CODES[case]
    for argv in (("decode", "--codes", "{in}/bad.npy"), ("sample", "--points", "{in}/bad.npy")):
        refuse(twin, (*argv, "--weights", "{in}/plain", "--out", "{out}/y.npy"), message, bad__npy=content)


@pytest.mark.parametrize("twin", TWINS)
@pytest.mark.parametrize("case", BAD_OPTIONS)
def test_bad_options(refuse, twin, case):
    argv, message = BAD_OPTIONS[case]
    refuse(twin, argv, message)


@pytest.mark.parametrize("twin", TWINS)
@pytest.mark.parametrize("case", BAD_OUTPUTS)
def test_bad_output(refuse, twin, case):
    out, message = BAD_OUTPUTS[case]
    for argv in (
        ("encode", "--weights", "{in}/plain", "--images", "{in}/x.npy"),
        ("reconstruct", "--weights", "{in}/plain", "--images", "{in}/x.npy"),
        ("decode", "--weights", "{in}/plain", "--codes", "{in}/z.npy"),
        ("sample", "--weights", "{in}/vae"),
    ):
        refuse(twin, (*argv, "--out", out), message)


@pytest.mark.parametrize("twin", TWINS)
@pytest.mark.parametrize("case", BAD_RUNS)
def test_bad_folder_for_a_run(refuse, twin, case):
    out, message = BAD_RUNS[case]
    refuse(twin, ("train", "--preset", "dense-digits", "--data", "digits", "--out", out), message)


@pytest.mark.parametrize("twin", TWINS)
@pytest.mark.parametrize("suffix", [".npy", ".png"])
def test_a_full_disk(refuse, monkeypatch, twin, suffix):
    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    argv = ("reconstruct", "--weights", "{in}/plain", "--images", "{in}/x.npy", "--out", "{out}/y" + suffix)
    refuse(twin, argv, "cannot be written: No space left on device")


@pytest.mark.parametrize("twin", TWINS)
@pytest.mark.parametrize("argv", [(), ("trian",), ("train",), ("train", "--out", "{out}/run", "--epochs", "many")])
def test_usage_errors(tmp_path, capsys, twin, argv):
    assert _run(twin, *(a.replace("{out}", str(tmp_path)) for a in argv)) == 2
    shown = capsys.readouterr()
    assert shown.out == ""
    assert shown.err.startswith(f"ae-{twin}: ")
    assert shown.err.endswith("--help\n")
    assert shown.err.count("\n") == 1
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("twin", TWINS)
def test_divergence(tmp_path, capsys, twin):
    training = Training(SGD(1e-3), batch_size=32, epochs=3)
    spec = Spec((8, 8, 1), DenseBackbone((8,)), PlainBottleneck(2), GaussianLikelihood(), training=training)
    (tmp_path / "spec.json").write_text(json.dumps(spec_to_json(spec)))
    run = tmp_path / "run"
    argv = ("train", "--spec", tmp_path / "spec.json", "--data", "digits", "--learning-rate", "1e30", "--out", run)
    assert _run(twin, *argv) == 1
    line = capsys.readouterr().out.splitlines()[0]
    told = r"the loss is (nan|inf) in epoch 1, step \d+ of 51, at learning rate 1e\+30"
    assert re.fullmatch(f"training diverged: {told}; the weights of epoch 0 are kept", line)
    assert all(np.isfinite(tensor).all() for tensor in load_weights(run / FILES[0]).tensors.values())
    report = json.loads((run / "report.json").read_text())
    assert (report["status"], report["best_epoch"]) == ("diverged", 0)
    assert re.fullmatch(told, report["message"])
    assert report["curve"]["losses"][-1] is None
    assert sorted(path.name for path in run.iterdir()) == sorted(FILES)
    assert _run(twin, "info", "--weights", run / FILES[0]) == 0


_LONG = ("train", "--preset", "dense-digits", "--data", "digits", "--epochs", "1000000")


@pytest.mark.parametrize("twin", TWINS)
def test_ctrl_c_leaves_the_best_weights_so_far(tmp_path, twin):
    run = tmp_path / "run"
    command = [sys.executable, "-m", f"ae_{twin}", *_LONG, "--out", str(run)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        try:
            deadline = time.monotonic() + 120
            while not (run / FILES[0]).exists() and process.poll() is None and time.monotonic() < deadline:
                time.sleep(0.05)
            process.send_signal(signal.SIGINT)
            out, err = process.communicate(timeout=120)
        finally:
            process.kill()
    assert process.returncode == 130, err
    assert re.match(r"training interrupted: interrupted in epoch \d+; the weights of epoch \d+ are kept\n", out)
    assert "Traceback" not in err
    spec, tensors = load_weights(run / FILES[0])
    assert tensors.keys() == _shapes(spec).keys()
    report = json.loads((run / "report.json").read_text())
    assert report["status"] == "interrupted"
    assert report["best_epoch"] <= report["epochs"][-1]["epoch"] < 1_000_000
    assert sorted(path.name for path in run.iterdir()) == sorted(FILES)


@pytest.mark.parametrize("twin", TWINS)
def test_ctrl_c_elsewhere(monkeypatch, capsys, twin):
    def interrupt(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(commands.Info, "run", interrupt)
    assert _run(twin, "info", "--preset", "foster-ae") == 130
    assert capsys.readouterr() == ("", f"ae-{twin}: interrupted\n")


@pytest.mark.parametrize("twin", TWINS)
def test_console_script(tmp_path, twin):
    script = Path(sysconfig.get_path("scripts")) / f"ae-{twin}"
    result = subprocess.run(
        [script, "info", "--preset", "foster-ea"], cwd=tmp_path, capture_output=True, text=True, timeout=120
    )
    line = f'ae-{twin}: unknown preset "foster-ea"; did you mean "foster-ae"? valid: {", ".join(PRESETS)}\n'
    assert (result.returncode, result.stdout, result.stderr) == (2, "", line)


@pytest.mark.parametrize("twin", TWINS)
def test_a_reader_that_has_gone(twin, monkeypatch):
    monkeypatch.delenv("PYTHONUNBUFFERED", raising=False)  # with it, nothing is left to flush at exit
    command = f"{sys.executable} -m ae_{twin} info --preset foster-ae | true"
    result = subprocess.run(["bash", "-c", command], capture_output=True, text=True, timeout=120)
    assert (result.returncode, result.stderr) == (0, "")
