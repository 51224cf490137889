"""The whole project on a package that nothing in it knows: the attention autoencoder of examples/."""

import json
import shutil
import tomllib
from dataclasses import fields, replace
from importlib import import_module

import numpy as np
import pytest
import torch

import ae_jax
import ae_jax.engine
import ae_torch
import ae_torch.engine
from ae_core.commands import cli
from ae_core.data.digits import digits
from ae_core.errors import SpecError, UserError
from ae_core.files.weights import load_weights, save_weights
from ae_core.spec import GaussianBottleneck, GaussianLikelihood, kinds, spec_from_json, spec_to_json
from ae_core.spec.plugins import GROUP
from ae_core.spec.presets import PRESETS
from ae_core.training.initial import initial_weights
from ae_core.training.steps import make_steps
from ae_jax.execution.plan import Plan
from ae_torch.execution.variants import Variant
from parity_tests import oracle
from parity_tests.cases import images_of
from parity_tests.check import IDENTITY_LIMIT, compare
from parity_tests.gates.drift import check_layers, check_network
from parity_tests.gates.identity import check_forward, check_identity, with_precision
from parity_tests.gates.order import check_order
from parity_tests.gates.trajectory import check_trajectory, in_batches
from parity_tests.report import Report, run_report
from parity_tests.tests.outside import ATTENTION, TWINS, command, loaded
from parity_tests.twins import compiled_pass

NAME = "attention-digits"
FLAGS = ("--plugin", ATTENTION, "--preset", NAME)
FEW = 48
"""Images that commands are given."""
CASES = ("mean", "flatten", "3 channels, vae")


@pytest.fixture(autouse=True, scope="module")
def _package():
    with loaded(ATTENTION):
        yield


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    path = tmp_path_factory.mktemp("data") / "few.npy"
    np.save(path, digits().images[:FEW])
    return path


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    path, spec = tmp_path_factory.mktemp("weights") / "weights.safetensors", PRESETS[NAME]
    save_weights(path, spec, initial_weights(ae_torch.build(spec).shapes, spec, 1))
    return path


def case(name):
    """Return the preset, smaller, as one of CASES."""
    spec = PRESETS[NAME]
    backbone = replace(spec.backbone, width=8, depth=2 if name == "mean" else 1, heads=2, mlp_width=12)
    spec = replace(spec, backbone=backbone, training=replace(spec.training, batch_size=6, epochs=5))
    if name == "flatten":
        return replace(spec, backbone=replace(backbone, pool="flatten", activation="gelu_erf"))
    if name == "3 channels, vae":
        backbone = replace(backbone, patch=3, eps=1e-3)
        return replace(
            spec,
            input_shape=(6, 9, 3),
            backbone=backbone,
            bottleneck=GaussianBottleneck(3, 0.7),
            likelihood=GaussianLikelihood(0.3, "sum"),
        )
    return spec


@pytest.mark.usefixtures("unoptimised")
@pytest.mark.parametrize("name", CASES)
def test_identity(name, hold):
    spec = case(name)
    hold(check_identity(spec, images_of(spec), 1))


@pytest.mark.parametrize("name", CASES)
def test_no_oracle(name, hold):
    """Layers are not judged, for the oracle has none of them; whole nets are, by a twin in float64."""
    spec = case(name)
    assert oracle.without_oracle(spec) == ("attention",)
    assert check_layers(spec, images_of(spec), 1, "float32") == []
    checks = check_network(spec, images_of(spec), 1)
    assert {check.place for check in checks} == {f"{t} {w}" for t in TWINS for w in ("forward", "gradient", "loss")}
    hold(checks)


@pytest.mark.parametrize("twin", TWINS)
def test_each_float32_twin_is_held_to_the_run_in_float64(twin, monkeypatch):
    """Layer norms that are rounded to bfloat16 in one twin's float32 alone: nothing in float64 can tell."""
    norm, name = import_module(f"twin_attention.{twin}").LayerNorm, "forward" if twin == "torch" else "__call__"
    right = getattr(norm, name)

    def rough(self, x):
        y = right(self, x)
        if twin == "torch":
            return y.bfloat16().to(y.dtype) if y.dtype == torch.float32 else y
        return y.astype("bfloat16").astype(y.dtype) if y.dtype == "float32" else y

    spec = case("3 channels, vae")
    monkeypatch.setattr(norm, name, rough)
    compiled_pass.cache_clear()
    try:
        assert all(check.passed for check in check_forward(spec, images_of(spec), 1, IDENTITY_LIMIT, "float64"))
        failed = {check.place for check in check_network(spec, images_of(spec), 1) if not check.passed}
    finally:
        compiled_pass.cache_clear()
    assert failed >= {f"{twin} forward", f"{twin} gradient"}
    assert all(place.startswith(twin) for place in failed)


def test_order(hold):
    spec = case("3 channels, vae")
    hold(check_order(spec, images_of(spec, count=13), 1, resume_at=(0, 4)))


@pytest.mark.parametrize("precision", ["float64", "float32"])
def test_trajectory(precision, hold):
    spec, count = in_batches(case("flatten"), 6)
    checks = check_trajectory(spec, images_of(spec, count=count), 0, 50, precision)
    assert len(checks) == 6  # after 1, 2, 5, 10, 20 and 50 steps: it has no kinks, so that float32 is judged too
    hold([check._replace(limit=1.0, worst=check.worst / check.limit) for check in checks])


def test_divided_batches(hold):
    """Samples are independent: the same training with batches in parts, in either twin."""
    spec = with_precision(case("flatten"), "float64")
    images = images_of(spec)
    start = initial_weights(ae_torch.build(spec).shapes, spec, 1)
    trainers = [
        ae_jax.engine.Trainer(spec, start, images, Plan(devices=1)),
        ae_jax.engine.Trainer(spec, start, images, Plan(devices=1, micro_batch=2)),
        ae_torch.engine.Trainer(spec, start, images, Variant(micro_batch=2)),
    ]
    whole, *parts = trainers
    for trainer in trainers:
        trainer.advance(make_steps(spec, len(images), 1, 0, 0, 3))
    assert whole.division.parts == 1
    assert parts[0].division.parts == 3
    for trainer in parts:
        hold(compare("parts", trainer.snapshot().tensors, whole.snapshot().tensors, IDENTITY_LIMIT, "float64"))


@pytest.mark.usefixtures("unoptimised")
def test_float64_gate_can_fail(monkeypatch):
    """1e-6 for 1e-3 in the layer norms of one twin."""
    import twin_attention.torch

    right = twin_attention.torch.LayerNorm
    monkeypatch.setattr(twin_attention.torch, "LayerNorm", lambda width, eps: right(width, eps * 1e-3))
    spec = case("3 channels, vae")
    failed = {check.place for check in check_identity(spec, images_of(spec), 1) if not check.passed}
    assert "encoder.blocks.0.attention_norm" in failed
    assert "encoder.positions" not in failed


def test_start():
    """Positions start where the component says, norms at 1, and a file knows all by PyTorch's names and layouts."""
    spec = PRESETS[NAME]
    shapes = ae_torch.build(spec).shapes
    with pytest.raises(KeyError):
        shapes["encoder.blocks.0.attention.key.bias"]  # it would learn nothing
    assert shapes["encoder.positions.weight"] == (16, 32)
    assert shapes["decoder.blocks.1.mlp.inner.weight"] == (64, 32)
    start = initial_weights(shapes, spec, 0)
    # 512 draws: their deviation is within 4 of its standard errors, 1 / √(2·512) of it each
    assert start["encoder.positions.weight"].std() == pytest.approx(0.02, rel=4 / 32)
    assert (start["decoder.norm.weight"] == 1).all()
    assert ae_jax.build(spec).shapes == shapes


def test_json():
    spec = PRESETS[NAME]
    assert kinds("backbone").keys() >= {"attention", "conv", "dense"}
    value = spec_to_json(spec)
    assert value["backbone"]["kind"] == "attention"
    assert spec_from_json(json.loads(json.dumps(value))) == spec


def test_twins_are_mirrored():
    import twin_attention.jax
    import twin_attention.torch

    def public(module):
        return [n for n, v in vars(module).items() if getattr(v, "__module__", "") == module.__name__ and n[0] != "_"]

    ours, theirs = public(twin_attention.jax), public(twin_attention.torch)
    assert ours == theirs
    assert len(ours) == 10


BAD = {
    "patch": ({"patch": 3}, "backbone.patch: given 3; expected a divisor of both sides of the 8×8 pixels"),
    "heads": ({"heads": 5}, "spec.backbone: heads: given 5; expected a divisor of the width 32"),
    "activation": ({"activation": "gelu"}, 'did you mean "gelu_erf"?'),
    "pool": ({"pool": "max"}, 'did you mean "mean"? valid: mean, flatten'),
    "field": ({"head": 5}, 'unknown key "head"; did you mean "heads"?'),
    "deviation": ({"position_std": 0.0}, "position_std: given 0.0; expected a number above 0"),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_spec(name):
    changes, message = BAD[name]
    value = spec_to_json(PRESETS[NAME])
    with pytest.raises(SpecError) as error:
        spec_from_json(value | {"backbone": value["backbone"] | changes})
    assert message in str(error.value)


@pytest.mark.parametrize("twin", TWINS)
def test_commands(twin, data, weights, tmp_path, capsys):
    def run(*argv):
        assert cli.main(twin, [str(a) for a in argv]) == 0
        return capsys.readouterr().out

    plugin, out = ("--plugin", ATTENTION), tmp_path
    run("train", *FLAGS, "--data", data, "--epochs", "1", "--batch-size", "16", "--out", out / "run")
    trained = out / "run" / "weights.safetensors"
    report = json.loads((out / "run" / "report.json").read_text(encoding="utf-8"))
    assert report["spec"]["backbone"]["kind"] == "attention"
    assert report.get("failed", []) == []
    assert '"attention"' in run("info", *plugin, "--weights", trained)
    given = ("--weights", trained, "--images", data)
    run("encode", *plugin, *given, "--out", out / "codes.npy")
    run("decode", *plugin, "--weights", trained, "--codes", out / "codes.npy", "--out", out / "decoded.npy")
    run("reconstruct", *plugin, *given, "--out", out / "again.npy")
    codes, decoded, again = (np.load(out / f"{name}.npy") for name in ("codes", "decoded", "again"))
    assert codes.shape == (FEW, 8)
    assert decoded.shape == (FEW, 8, 8, 1)
    # the same codes by two ways, in float32; sigmoid has a slope of at most ¼
    np.testing.assert_allclose(decoded, again, atol=1e-5)
    run("sample", *plugin, "--weights", trained, "--sampler", "gaussian", "--data", data, "--out", out / "new.npy")
    assert np.load(out / "new.npy").shape == (16, 8, 8, 1)
    assert "bce" in run("evaluate", *plugin, "--weights", trained, "--data", data).lower()
    said = run("atlas", *plugin, "--weights", trained, "--data", data, "--out", out / "atlas.html")
    assert "blended from a grid" in said
    assert "attention" in (out / "atlas.html").read_text(encoding="utf-8")  # the reason


def test_twins_open_each_others_weights(weights, hold):
    spec, tensors = load_weights(weights)
    spec = with_precision(spec, "float64")
    images = images_of(spec)
    answers = [twin.ENGINE.infer(spec, tensors).reconstruct(images) for twin in (ae_jax.engine, ae_torch.engine)]
    hold(compare("reconstruct", *({"": answer} for answer in answers), IDENTITY_LIMIT, "float64"))


def test_estimator(hold, tmp_path):
    rows, seen = digits().images[:FEW].reshape(FEW, -1), []
    for twin in (ae_jax, ae_torch):
        estimator = twin.AutoencoderEstimator(spec=NAME, epochs=2, batch_size=16, precision="float64").fit(rows)
        path = tmp_path / f"{twin.__name__}.safetensors"
        estimator.save(path)
        codes = twin.AutoencoderEstimator.load(path).transform(rows)
        assert codes.shape == (FEW, 8)
        seen.append(
            {"codes": codes, "back": estimator.inverse_transform(codes), "score": estimator.score_samples(rows)}
        )
    hold(compare("estimator", *seen, IDENTITY_LIMIT, "float64"))


def test_main_job(data, tmp_path):
    """As a process of its own, which hands the package on to the two that train."""
    out = tmp_path / "run"
    small = ("--data", data, "--epochs", 1, "--batch-size", 16)
    done = command("benchmarks", *FLAGS, *small, "--out", out)
    assert done.returncode == 0, done.stderr
    report = json.loads((out / "report.json").read_text(encoding="utf-8"))
    assert report["verdict"] == "pass"
    assert report["failed"] == []
    assert report["spec"]["backbone"]["kind"] == "attention"
    assert report["training"].keys() == set(TWINS)
    assert {"report.html", "atlas.html", "grid.png"} <= {path.name for path in out.iterdir()}
    assert "attention" in (out / "atlas.html").read_text(encoding="utf-8")


def test_drift_report(tmp_path):
    path, spec = tmp_path / "drift.json", tmp_path / "spec.json"
    spec.write_text(json.dumps(spec_to_json(case("flatten"))), encoding="utf-8")
    given = ("--plugin", ATTENTION, "--spec", spec, "--steps", 2, "--batch", 4)
    done = command("parity_tests", *given, "--json", path)
    assert done.returncode == 0, done.stderr
    report = json.loads(path.read_text(encoding="utf-8"))
    assert report["verdict"] == "pass"
    assert report["layers"] == []
    assert "attention" in done.stdout + done.stderr


def test_the_gate_of_layers_alone_is_refused(tmp_path):
    spec = tmp_path / "spec.json"
    spec.write_text(json.dumps(spec_to_json(case("flatten"))), encoding="utf-8")
    with pytest.raises(UserError, match="--gate layers: no oracle for attention; expected identity or network"):
        run_report(Report(spec=spec, gate=("layers",)))


@pytest.mark.parametrize("twin", TWINS)
def test_weights_without_the_plugin(twin, weights, tmp_path):
    done = command(f"ae_{twin}", "info", "--weights", weights)
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1
    assert 'spec.backbone: unknown backbone "attention"; valid: conv, dense' in done.stderr
    assert "--plugin" in done.stderr


@pytest.mark.parametrize("twin", TWINS)
def test_a_half_that_is_missing(twin, tmp_path):
    folder = tmp_path / "twin_attention"
    shutil.copytree(ATTENTION, folder, ignore=shutil.ignore_patterns("__pycache__", f"{twin}.py"))
    done = command(f"ae_{twin}", "info", "--plugin", folder, "--preset", NAME)
    assert done.returncode == 2
    assert done.stderr == (
        f'ae-{twin}: ae_{twin} has no make_encoder for "attention"; expected @make_encoder.register in the {twin} half '
        "of the plugin that brings it\n"
    )


def test_installed_package_has_an_entry_point():
    project = tomllib.loads((ATTENTION.parent / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert project["entry-points"] == {GROUP: {"attention": ATTENTION.name}}


def test_readme(monkeypatch, tmp_path):
    """Its code runs, and its table has the fields of the kind."""
    readme = (ATTENTION.parent / "README.md").read_text(encoding="utf-8")
    _, *blocks = readme.split("```python\n")
    monkeypatch.chdir(tmp_path)
    for block in blocks:
        exec(block.partition("```")[0], {})
    assert blocks
    for field in fields(kinds("backbone")["attention"]):
        assert f"| `{field.name}` |" in readme
