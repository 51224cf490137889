"""The scikit-learn estimators, on both twins."""

import json
import os
import pickle
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import jax
import numpy as np
import pandas
import pytest
from scipy.stats import norm
from sklearn.base import clone
from sklearn.exceptions import ConvergenceWarning, NotFittedError
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

import ae_jax
import ae_torch
from ae_core import WeightsError, preset
from ae_core.commands import cli
from ae_core.data import load
from ae_core.rng import normal
from ae_core.spec import (
    SGD,
    Adam,
    BatchNorm,
    BernoulliLikelihood,
    Constant,
    ConvBackbone,
    Cosine,
    DenseBackbone,
    GaussianBottleneck,
    GaussianLikelihood,
    PlainBottleneck,
    Spec,
    Training,
)
from ae_core.training.loop import Silence, train

TWINS = {"jax": ae_jax, "torch": ae_torch}
X = normal((40, 2), 0, "codes") @ normal((2, 5), 0, "map") + 0.1 * normal((40, 5), 0, "rest")
"""Rows that two numbers nearly describe."""
PIXELS = load("digits", (8, 8, 1)).images[:50].reshape(50, -1)

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.mark.parametrize("name", TWINS)
def test_scikit_learns_own_checks(name):
    script = Path(__file__).with_name("estimator_checks.py")
    # a second thread only waits, on arrays so small
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-W", "error", str(script), name]
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    results = json.loads(done.stdout)
    for instance in ("default", "variational"):
        assert len(results[instance]) > 45
        assert {check: said for check, said in results[instance].items() if said != "passed "} == {}
    if name == "torch":
        failed = {check.split()[1] for check, said in results["broken"].items() if said.startswith("failed")}
        assert {"check_fit_idempotent", "check_methods_subset_invariance", "check_pipeline_consistency"} <= failed


DENSE = Spec(
    (1, 1, 5),
    DenseBackbone((64,)),
    PlainBottleneck(2),
    GaussianLikelihood(0.5, "sum"),
    training=Training(Adam(1e-3), batch_size=64, epochs=50),
)
"""What the docstring says of an estimator without parameters."""
IMAGE = Spec((5, 1, 1), ConvBackbone((2,), (1,)), GaussianBottleneck(3, 0.5), BernoulliLikelihood())
PARAMETERS = {
    "none": ({}, DENSE),
    "latent_size": ({"latent_size": 3}, replace(DENSE, bottleneck=PlainBottleneck(3))),
    "hidden_sizes": ({"hidden_sizes": (8, 4)}, replace(DENSE, backbone=DenseBackbone((8, 4)))),
    "linear": ({"hidden_sizes": []}, replace(DENSE, backbone=DenseBackbone(()))),
    "activation": ({"activation": "silu"}, replace(DENSE, backbone=DenseBackbone((64,), "silu"))),
    "likelihood": ({"likelihood": "bernoulli"}, replace(DENSE, likelihood=BernoulliLikelihood("sum"))),
    "beta": ({"beta": 2}, replace(DENSE, bottleneck=GaussianBottleneck(2, 2.0))),
    "both": ({"beta": 0.5, "latent_size": 4}, replace(DENSE, bottleneck=GaussianBottleneck(4, 0.5))),
    "training": (
        {"epochs": 3, "batch_size": 8, "learning_rate": 0.01, "precision": "float64"},
        replace(DENSE, training=Training(Adam(0.01), batch_size=8, epochs=3, precision="float64")),
    ),
    "spec": ({"spec": IMAGE}, IMAGE),
    "spec and size": ({"spec": IMAGE, "latent_size": 2}, replace(IMAGE, bottleneck=GaussianBottleneck(2, 0.5))),
    "spec and epochs": ({"spec": IMAGE, "epochs": 1}, replace(IMAGE, training=Training(epochs=1))),
}


@pytest.mark.parametrize("name", PARAMETERS)
def test_parameters(twin, name):
    parameters, spec = PARAMETERS[name]
    estimator = twin.AutoencoderEstimator(**{"epochs": 1, **parameters})
    rows = np.clip(X, 0, 1)
    assert estimator.fit(rows).model_.spec == replace(
        spec, training=replace(spec.training, epochs=parameters.get("epochs", 1))
    )
    assert estimator.partial_fit(rows).model_.spec == estimator.model_.spec
    if "epochs" not in parameters:
        assert twin.AutoencoderEstimator(**parameters).partial_fit(rows).model_.spec == spec
    assert clone(estimator).get_params() == estimator.get_params()


def test_numbers_of_numpy(twin):
    estimator = twin.AutoencoderEstimator(epochs=1)
    estimator.set_params(latent_size=np.int64(3), hidden_sizes=np.array([4]), learning_rate=np.float32(0.5))
    made = estimator.fit(X).model_.spec
    assert (made.bottleneck.latent, made.backbone.hidden, made.training.optimizer.learning_rate) == (3, (4,), 0.5)


def test_images_by_the_name_of_a_preset(twin):
    estimator = twin.AutoencoderEstimator(spec="dense-digits", epochs=2).fit(PIXELS)
    assert estimator.model_.spec == replace(
        preset("dense-digits"), training=replace(preset("dense-digits").training, epochs=2)
    )
    images = PIXELS.reshape(-1, 8, 8, 1)
    np.testing.assert_array_equal(estimator.transform(PIXELS), estimator.model_.encode(images))
    recon = estimator.inverse_transform(estimator.transform(PIXELS))
    np.testing.assert_array_equal(recon.reshape(images.shape), estimator.model_.decode(estimator.transform(PIXELS)))
    assert estimator.get_feature_names_out().tolist() == ["autoencoderestimator0", "autoencoderestimator1"]


def test_fit_is_the_training_loops(twin):
    estimator = twin.AutoencoderEstimator(epochs=3, batch_size=16, random_state=7).fit(X)
    rows = X.reshape(-1, 1, 1, 5)
    result = train(twin.Fitted.engine, estimator.model_.spec, rows, rows, 7, Silence(), lambda tensors: None)
    for name, tensor in result.tensors.items():
        np.testing.assert_array_equal(estimator.model_.tensors[name], tensor)
    assert estimator.model_.history.step_losses == result.step_losses


def test_it_learns(twin):
    estimator = twin.AutoencoderEstimator(learning_rate=1e-2, batch_size=8).fit(X)
    recon = estimator.inverse_transform(estimator.transform(X))
    # the rest of the variance that two numbers cannot describe is 0.1²; all of it is above 1
    assert ((X - recon) ** 2).mean() < 0.1 * X.var(0).mean()


SCORED = {
    "gaussian": {},
    "bernoulli": {"likelihood": "bernoulli"},
    "variational": {"beta": 3.0},
    "weighted": {"spec": replace(DENSE, likelihood=GaussianLikelihood(0.1, "mean", weight=7.0))},
}


@pytest.mark.parametrize("name", SCORED)
def test_scores(twin, name):
    rows = np.clip(X, 0.0, 1.0)
    estimator = twin.AutoencoderEstimator(precision="float64", epochs=3, **SCORED[name]).fit(rows)
    recon = estimator.inverse_transform(estimator.transform(rows))
    if name == "bernoulli":
        expected = (rows * np.log(recon) + (1 - rows) * np.log(1 - recon)).sum(1)
    else:
        expected = norm.logpdf(rows, recon, np.sqrt(0.1 if name == "weighted" else 0.5)).sum(1)
    if name == "variational":
        mean, logvar = estimator.model_.inference.posterior(rows.reshape(-1, 1, 1, 5))
        kl = 0.5 * (mean**2 + np.exp(logvar) - 1 - logvar).sum(1)
        assert kl.min() > 0
        expected = expected - kl
    # sums of tens of float64 numbers, of which none is above 1e3
    np.testing.assert_allclose(estimator.score_samples(rows), expected, rtol=0, atol=100 * 1e3 * 2**-53)
    assert estimator.score(rows) == pytest.approx(expected.mean(), rel=1e-12)


def test_a_pipeline_and_a_search(twin):
    pipeline = make_pipeline(StandardScaler(), twin.AutoencoderEstimator(epochs=2, batch_size=8))
    grid = {"autoencoderestimator__latent_size": [1, 2], "autoencoderestimator__learning_rate": [1e-9, 1e-2]}
    search = GridSearchCV(pipeline, grid, cv=2).fit(X)
    assert np.isfinite(search.cv_results_["mean_test_score"]).all()
    assert search.best_params_["autoencoderestimator__learning_rate"] == 1e-2
    codes = search.transform(X)
    assert codes.shape == (40, search.best_params_["autoencoderestimator__latent_size"])
    assert search.inverse_transform(codes).shape == X.shape
    best = search.best_estimator_
    assert search.score(X) == best[-1].score(best[0].transform(X))


def test_frames(twin):
    frame = pandas.DataFrame(X, columns=list("abcde"), index=np.arange(100, 140))
    estimator = twin.AutoencoderEstimator(3, epochs=1).set_output(transform="pandas").fit(frame)
    codes = estimator.transform(frame)
    assert isinstance(codes, pandas.DataFrame)
    assert codes.columns.tolist() == [f"autoencoderestimator{i}" for i in range(3)]
    assert codes.index.equals(frame.index)
    assert estimator.feature_names_in_.tolist() == list("abcde")
    with pytest.raises(ValueError, match="feature names should match"):
        estimator.transform(frame[list("edcba")])


def _tensors_equal(one, other):
    return all(np.array_equal(one[name], other[name]) for name in one.keys() | other.keys())


@pytest.mark.parametrize("optimizer", [Adam(0.01), SGD(0.001)], ids=["adam", "sgd"])
def test_partial_fit_remembers(twin, optimizer):
    spec = replace(DENSE, bottleneck=GaussianBottleneck(2), training=Training(optimizer, batch_size=8))
    whole, halted = (twin.AutoencoderEstimator(spec=spec, random_state=3) for _ in range(2))
    before = whole.partial_fit(X).score(X)
    for _ in range(9):
        whole.partial_fit(X)
    assert whole.score(X) > before
    for _ in range(5):
        halted.partial_fit(X)
    halted = pickle.loads(pickle.dumps(halted))
    for _ in range(5):
        halted.partial_fit(X)
    assert _tensors_equal(whole.model_.tensors, halted.model_.tensors)


def test_partial_fit_takes_the_peak_rate_and_any_number_of_rows(twin):
    schedule = Cosine(1000)
    spec, slow = (replace(DENSE, training=Training(SGD(0.01), s, batch_size=8)) for s in (Constant(), schedule))
    one, other = (twin.AutoencoderEstimator(spec=s) for s in (spec, slow))
    for rows in (X, X[:1], X[:13]):
        one.partial_fit(rows)
        other.partial_fit(rows)
    assert _tensors_equal(one.model_.tensors, other.model_.tensors)
    # an order of its own at each call, of which the rows are a part
    same = twin.AutoencoderEstimator(spec=spec).partial_fit(X).partial_fit(X[:1]).partial_fit(X[:13])
    assert _tensors_equal(one.model_.tensors, same.model_.tensors)
    other = twin.AutoencoderEstimator(spec=spec, random_state=1).partial_fit(X).partial_fit(X[:1]).partial_fit(X[:13])
    assert not _tensors_equal(one.model_.tensors, other.model_.tensors)


def test_partial_fit_goes_on_from_a_fit(twin, tmp_path):
    estimator = twin.AutoencoderEstimator(epochs=3, learning_rate=0.01, batch_size=8).fit(X)
    before = estimator.model_
    estimator.save(tmp_path / "weights.safetensors")
    loaded = twin.AutoencoderEstimator.load(tmp_path / "weights.safetensors").partial_fit(X)
    estimator.partial_fit(X)
    assert _tensors_equal(loaded.model_.tensors, estimator.model_.tensors)
    assert not _tensors_equal(before.tensors, estimator.model_.tensors)
    assert estimator.fit(X).score(X) == clone(estimator).fit(X).score(X)


def test_files(twin, tmp_path):
    path = tmp_path / "weights.safetensors"
    estimator = twin.AutoencoderEstimator(spec="dense-digits", epochs=1).fit(PIXELS)
    estimator.save(str(path))
    for other in TWINS.values():
        loaded = other.AutoencoderEstimator.load(path)
        assert type(loaded) is other.AutoencoderEstimator
        assert loaded.n_features_in_ == 64
        assert _tensors_equal(loaded.model_.tensors, estimator.model_.tensors)
        assert loaded.get_params()["spec"] == estimator.model_.spec
        assert loaded.fit(PIXELS).transform(PIXELS).shape == (50, 2)
    loaded = twin.AutoencoderEstimator.load(path)
    np.testing.assert_array_equal(loaded.transform(PIXELS), estimator.transform(PIXELS))
    np.testing.assert_array_equal(loaded.score_samples(PIXELS), estimator.score_samples(PIXELS))
    assert cli.main(twin.__name__.removeprefix("ae_"), ["info", "--weights", str(path)]) == 0
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(WeightsError, match="truncated, damaged"):
        twin.AutoencoderEstimator.load(path)
    with pytest.raises(NotFittedError):
        twin.AutoencoderEstimator().save(path)


def test_random_states(twin):
    def codes(state):
        return twin.AutoencoderEstimator(epochs=1).set_params(random_state=state).fit(X).transform(X)

    np.testing.assert_array_equal(codes(5), codes(5))
    np.testing.assert_array_equal(codes(5), codes(np.int64(5)))
    np.testing.assert_array_equal(codes(np.random.RandomState(5)), codes(np.random.RandomState(5)))
    assert not np.array_equal(codes(5), codes(6))
    assert not np.array_equal(codes(None), codes(None))


BAD = {
    "an epoch of none": ({"epochs": 0}, X, "epochs: given 0; expected an integer from 1"),
    "a size of none": ({"latent_size": 0}, X, "latent: given 0; expected an integer from 1"),
    "half a layer": ({"hidden_sizes": (2.5,)}, X, r"spec.backbone.hidden\[0\]: given 2.5; expected an integer"),
    "layers of convolutions": ({"spec": IMAGE, "hidden_sizes": (3,)}, X, 'spec.backbone: unknown key "hidden"'),
    "an activation": ({"activation": "rel"}, X, 'spec.backbone.activation: given .rel.; did you mean "relu"?'),
    "a likelihood": (
        {"likelihood": "gausian"},
        X,
        'spec.likelihood: unknown likelihood "gausian"; did you mean "gaussian"?',
    ),
    "a preset": ({"spec": "dense-digit"}, X, 'unknown preset "dense-digit"; did you mean "dense-digits"?'),
    "pixels": ({"spec": "dense-digits"}, X, "X: given 5 features; expected 64, those of the spec's 8×8×1 images"),
    "no probabilities": ({"likelihood": "bernoulli"}, X, r"X: given numbers from -\d.* where the likelihood is bern"),
    "too large": ({}, 1e39 * X, "X: given numbers beyond float32, the model's precision"),
    "a batch of one": (
        {"spec": replace(DENSE, backbone=DenseBackbone((3,), norm=BatchNorm())), "batch_size": 39},
        X,
        "training.batch_size: given 39, which leaves a batch of 1 of 40 images",
    ),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_input_is_refused_in_one_line(twin, name):
    parameters, rows, message = BAD[name]
    estimator = twin.AutoencoderEstimator().set_params(**parameters)
    for method in (estimator.fit, estimator.partial_fit):
        with pytest.raises(ValueError, match=message) as caught:
            method(rows)
        assert "\n" not in str(caught.value)
        assert not hasattr(estimator, "model_")


def test_bad_questions_are_refused_in_one_line(twin):
    estimator = twin.AutoencoderEstimator(likelihood="bernoulli", epochs=1).fit(np.clip(X, 0, 1))
    with pytest.raises(ValueError, match="inverse_transform: given 3 columns; expected 2, the latent_size"):
        estimator.inverse_transform(np.zeros((4, 3)))
    with pytest.raises(ValueError, match=r"X: given numbers from .* expected 0 to 1"):
        estimator.score(X)
    for method in ("transform", "inverse_transform", "score", "score_samples"):
        with pytest.raises(NotFittedError):
            getattr(twin.AutoencoderEstimator(), method)(X)


def test_a_training_that_fails_says_so(twin):
    estimator = twin.AutoencoderEstimator(learning_rate=1e38, batch_size=8)
    with pytest.warns(ConvergenceWarning, match="^training diverged: the loss is .* in epoch 1"):
        estimator.fit(X)
    assert np.isfinite(estimator.transform(X)).all()
    weights = estimator.model_.tensors
    with pytest.raises(ValueError, match=r"partial_fit: training diverged at learning_rate 1e\+38; expected"):
        estimator.partial_fit(X)
    assert estimator.model_.tensors is weights


def test_an_interrupt_is_no_result(twin, monkeypatch):
    def interrupted(*arguments):
        result = train(*arguments)
        result.status = "interrupted"
        return result

    monkeypatch.setattr("ae_core.estimator.train", interrupted)
    estimator = twin.AutoencoderEstimator(epochs=1)
    with pytest.raises(KeyboardInterrupt):
        estimator.fit(X)
    assert not hasattr(estimator, "model_")


def test_jax_is_left_as_it_is():
    before = dict(jax.config.values)
    ae_jax.AutoencoderEstimator(precision="float64", epochs=1).fit(X).partial_fit(X).score(X)
    assert dict(jax.config.values) == before
