"""The commands that measure a latent space, show it and walk through it, on both twins."""

import json
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from ae_core import latent
from ae_core.commands.cli import load_engine
from ae_core.data import cans, draw_cans, garments, load
from ae_core.files.weights import save_weights
from ae_core.metrics.evaluation import evaluate
from ae_core.spec import DenseBackbone, GaussianBottleneck, GaussianLikelihood, PlainBottleneck, Spec
from ae_core.tests.commands.command_line import TWINS, drawn, one_line, run

_PLAIN = Spec((8, 8, 1), DenseBackbone((6,)), PlainBottleneck(2))
SPECS = {
    "plain": _PLAIN,
    "vae": replace(_PLAIN, bottleneck=GaussianBottleneck(3)),
    "one": replace(_PLAIN, bottleneck=PlainBottleneck(1)),
    "large": Spec((16, 12, 1), DenseBackbone(()), GaussianBottleneck(2), GaussianLikelihood(0.1)),
}


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    folder = tmp_path_factory.mktemp("weights")
    for name, spec in SPECS.items():
        save_weights(folder / name, spec, drawn(spec))
    return {name: folder / name for name in SPECS}


def _model(name):
    spec = SPECS[name]
    return load_engine("torch").infer(spec, drawn(spec))


CANS = ("--data", "cans", "--count", 40)
FIGURES = {
    "scatter": (),
    "grid": ("--size", 3),
    "walk": ("--steps", 4),
    "traverse": ("--steps", 3),
    "attribute": ("--of", "width", "--steps", 3),
    "neighbours": ("--nearest", 3),
    "outliers": ("--quantile", 0.9),
}


@pytest.mark.parametrize("twin", TWINS)
@pytest.mark.parametrize("name", ["plain", "vae", "one"])
@pytest.mark.parametrize("command", FIGURES)
def test_every_figure(tmp_path, weights, capsys, command, name, twin):
    out = tmp_path / "figure.png"
    spot = ("--spot", *[0.5] * SPECS[name].latent_size) if command == "neighbours" else ()
    walk = ("--path", "straight") if (command, name) == ("walk", "one") else ()  # two numbers of opposite sign
    argv = (command, "--weights", weights[name], *CANS)
    assert run(twin, *argv, "--out", out, *FIGURES[command], *spot, *walk) == 0
    said = capsys.readouterr()
    assert said.err == ""
    assert said.out.count("\n") == 1
    assert said.out.endswith(f": {out}\n")
    with Image.open(out) as picture:
        picture.load()
        assert min(picture.size) > 100
    before = out.read_bytes()
    assert run(twin, *argv, "--out", out, *FIGURES[command], *spot, *walk) == 2
    one_line(capsys, twin, "is there already; give --force")
    assert out.read_bytes() == before


BAD = {
    "a colour that is not known": (("scatter", *CANS, "--colour", "hight"), 'did you mean "height"?'),
    "labels that are not there": (("attribute", *CANS), 'cans: nothing called "label" is known of its images'),
    "a label that is not there": (("attribute", "--data", "digits", "--of", "label=12"), 'no image has the label "12"'),
    "a label without its value": (("attribute", "--data", "digits"), 'no image has the label ""'),
    "too large a map": (("grid", *CANS, "--size", 100), "--size: given 100; expected 2 to 40"),
    "a latent that is not there": (
        ("grid", *CANS, "--span", "prior", "--dimensions", 1, 4),
        "given 4; expected 1 to 3",
    ),
    "an image that is not there": (("walk", *CANS, "--end", 40), "--end: given 40; expected 0 to 39"),
    "too short a walk": (("walk", *CANS, "--steps", 1), "--steps: given 1; expected 2 to 30"),
    "a latent from 0": (("traverse", *CANS, "--dimensions", 0), "--dimensions: given 0; expected 1 to 3"),
    "a spot of too few numbers": (
        ("neighbours", "--data", "digits", "--spot", 1, 2),
        "--spot: given 1 2; expected 3 finite",
    ),
    "no spot": (("neighbours", *CANS), "--spot: given none; expected 3 finite numbers"),
    "a quantile of few images": (("outliers", *CANS), "quantile: 0.99 takes 99 known images at least; given 40"),
    "a strength that is no number": (("attribute", *CANS, "--of", "width", "--strength", "nan"), "expected a finite"),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_input_is_refused_in_one_line(tmp_path, weights, capsys, name):
    argv, fragment = BAD[name]
    assert run("torch", argv[0], "--weights", weights["vae"], "--out", tmp_path / "y.png", *argv[1:]) == 2
    one_line(capsys, "torch", fragment)
    assert list(tmp_path.iterdir()) == []


def test_outliers_as_json(tmp_path, weights):
    out = tmp_path / "scores.json"
    np.save(tmp_path / "x.npy", np.concatenate([cans(5, (8, 8), 9).images, np.ones((1, 8, 8, 1), np.float32)]))
    argv = ("--weights", weights["plain"], "--data", tmp_path / "x.npy", "--known", "cans", "--count", 99)
    assert run("torch", "outliers", *argv, "--quantile", 0.9, "--out", out) == 0
    report = json.loads(out.read_text())
    model = _model("plain")
    detector = latent.fit_detector(model.encode, model.decode, cans(99, (8, 8)).images, 0.9)
    scores = detector.scores(model.encode, model.decode, np.load(tmp_path / "x.npy"))
    assert report["thresholds"] == {
        "reconstruction": detector.reconstruction,
        "distance": detector.distance,
        "pixel": detector.pixel,
    }
    np.testing.assert_allclose(report["reconstruction"], scores.reconstruction, rtol=1e-6)
    assert report["strange"] == detector.strange(scores).tolist()
    assert report["strange"][-1]


@pytest.mark.parametrize("twin", TWINS)
@pytest.mark.parametrize("sampler", ["gaussian", "mixture", "box"])
def test_samplers_make_a_generator_of_a_plain_autoencoder(tmp_path, weights, twin, sampler):
    out = tmp_path / "new.npy"
    argv = ("sample", "--weights", weights["plain"], "--out", out, "--count", 6, "--seed", 4, "--sampler", sampler)
    assert run(twin, *argv, "--data", "digits", "--components", 3) == 0
    model = _model("plain")
    codes = model.encode(load("digits", (8, 8, 1)).images)
    fitted = {
        "gaussian": latent.fit_gaussian,
        "mixture": lambda z: latent.fit_mixture(z, 3, 4),
        "box": latent.fit_box,
    }[sampler](codes)
    np.testing.assert_allclose(np.load(out), model.decode(fitted.draw(6, 4)), atol=1e-4)


def test_samplers_say_what_they_need(tmp_path, weights, capsys):
    argv = ("sample", "--weights", weights["plain"], "--out", tmp_path / "x.npy")
    assert run("torch", *argv, "--sampler", "mixture") == 2
    one_line(capsys, "torch", "--sampler mixture: it is fitted to codes; give --data")
    assert run("torch", *argv, "--sampler", "mixture", "--data", "digits", "--components", 0) == 2
    one_line(capsys, "torch", "mixture: given 0 components")
    assert list(tmp_path.iterdir()) == []


METRICS = {
    "mse", "psnr", "ssim", "bce", "bce_bits", "elbo", "elbo_bits", "log_likelihood", "log_likelihood_bits",
    "active_units", "kl", "energy_recon", "energy_gaussian", "energy_mixture", "energy_prior", "trustworthiness",
    "knn_agreement", "linear_r2", "smooth_r2", "mig", "sap", "dci_disentanglement", "dci_completeness", "dci_error",
    "monotone",
}  # fmt: skip
DENSITY = {"elbo", "elbo_bits", "log_likelihood", "log_likelihood_bits", "active_units", "kl"}
KNOWN = {"linear_r2", "smooth_r2", "mig", "sap", "dci_disentanglement", "dci_completeness", "dci_error", "monotone"}
MISSING = {
    ("plain", "cans"): DENSITY | {"ssim", "knn_agreement", "energy_prior"},
    ("plain", "digits"): DENSITY | KNOWN | {"ssim", "energy_prior"},
    ("vae", "cans"): {"ssim", "knn_agreement"},
    ("one", "cans"): DENSITY
    | {"ssim", "knn_agreement", "energy_prior"}
    | KNOWN - {"linear_r2", "smooth_r2", "monotone"},
    ("large", "cans"): {"bce", "bce_bits", "knn_agreement"},
}


@pytest.mark.parametrize("twin", TWINS)
@pytest.mark.parametrize(("name", "data"), MISSING)
def test_evaluate(tmp_path, weights, capsys, twin, name, data):
    out = tmp_path / "metrics.json"
    argv = ("evaluate", "--weights", weights[name], "--data", data, "--heldout", 0.4, "--seed", 2, "--json", out)
    argv += ("--count", 500) if data == "cans" else ()
    assert run(twin, *argv) == 0
    said = capsys.readouterr()
    assert said.err == ""
    report = json.loads(out.read_text(), parse_constant=lambda word: pytest.fail(f"{word} is not JSON"))
    assert report["missing"].keys() == MISSING[name, data]
    assert report["metrics"].keys() == METRICS - MISSING[name, data]
    assert report["engine"] == twin
    assert report["data"] == {"name": data, "images": 200 if data == "cans" else 719, "heldout": 0.4}
    for metric, entry in report["metrics"].items():
        assert f"{entry['value']:.5g}" in said.out
        assert metric in said.out
        assert entry["range"]
    for metric, why in report["missing"].items():
        assert metric in said.out
        assert why.split()[0] in said.out
    assert run(twin, *argv) == 2
    one_line(capsys, twin, "is there already")


def test_twins_measure_the_same(tmp_path, weights):
    reports = []
    for twin in TWINS:
        out = tmp_path / f"{twin}.json"
        assert run(twin, "evaluate", "--weights", weights["vae"], "--data", "cans", "--count", 200, "--json", out) == 0
        reports.append({name: entry["value"] for name, entry in json.loads(out.read_text())["metrics"].items()})
    # float32 models; float64 is compared to the last digits in parity_tests
    assert reports[0] == pytest.approx(reports[1], rel=1e-3, abs=1e-3)


def test_few_images_are_measured_as_far_as_it_goes():
    data = cans(4, (8, 8))
    result = evaluate(_model("vae"), SPECS["vae"], data)
    assert {"mse", "elbo", "log_likelihood", "kl"} <= result.metrics.keys()
    assert {"trustworthiness", "smooth_r2", "energy_mixture"} <= result.missing.keys()
    assert result.metrics.keys() | result.missing.keys() == METRICS
    still = data._replace(images=np.repeat(data.images[:1], 60, 0), factors=np.ones((60, 2)))
    result = evaluate(_model("plain"), SPECS["plain"], still)
    assert result.missing["linear_r2"] == result.missing["monotone"] == "the factors do not vary"
    assert result.missing["energy_mixture"] == "the codes are all the same"
    assert result.metrics["energy_gaussian"].value >= 0


def _reader(code):
    """A model whose codes are a function of the brightness of an image, as the twins' are of more."""
    model = _model("plain")
    model.encode = lambda images: np.stack([code(images.mean((1, 2, 3))), np.zeros(len(images))], 1)
    return model


def test_walks_are_of_images_drawn_anew():
    """A can grows brighter with its width and with its height, and a code that turns back shows it."""
    data = cans(60, (8, 8))
    drawn = []
    data = data._replace(draw=lambda labels, factors: drawn.append((labels, factors)) or draw_cans(factors, (8, 8)))
    parts = evaluate(_reader(lambda light: light), SPECS["plain"], data).metrics["monotone"].parts
    assert parts == {"width": 1, "height": 1}
    for i, (labels, factors) in enumerate(drawn):
        assert labels is None
        walks = factors.reshape(60, 17, 2)
        ends = data.factors[:, i].min(), data.factors[:, i].max()
        np.testing.assert_allclose(walks[:, :, i], np.broadcast_to(np.linspace(*ends, 17), (60, 17)), rtol=1e-15)
        np.testing.assert_array_equal(walks[:, :, 1 - i], np.broadcast_to(data.factors[:, 1 - i, None], (60, 17)))
    turning = evaluate(_reader(lambda light: (light - light.mean()) ** 2), SPECS["plain"], data).metrics["monotone"]
    assert turning.value < 0.5
    assert turning.value == pytest.approx(np.mean(list(turning.parts.values())))
    labelled = garments(60, (8, 8))
    draw = labelled.draw
    labelled = labelled._replace(draw=lambda labels, factors: drawn.append(labels) or draw(labels, factors))
    evaluate(_reader(lambda light: light), SPECS["plain"], labelled)
    np.testing.assert_array_equal(drawn[-1], labelled.labels.repeat(17))


def test_a_diverged_model_is_refused(tmp_path, weights, capsys):
    spec = SPECS["plain"]
    tensors = drawn(spec)
    save_weights(tmp_path / "w", spec, {name: np.full_like(tensor, 1e30) for name, tensor in tensors.items()})
    assert run("torch", "evaluate", "--weights", tmp_path / "w", "--data", "digits") == 2
    one_line(capsys, "torch", "the model makes numbers that are not finite of these images")
