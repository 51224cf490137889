"""The twins' estimators agree in float64: with the same weights, and after the same fit."""

import numpy as np
import pytest

import ae_jax
import ae_torch
from ae_core.rng import normal
from ae_core.spec import DenseBackbone, GaussianBottleneck, GaussianLikelihood, LayerNorm, Spec, Training
from parity_tests.check import IDENTITY_LIMIT, compare

TWINS = {"jax": ae_jax, "torch": ae_torch}
ROWS = normal((40, 6), 0, "rows")
NORM = Spec(
    (1, 2, 3),
    DenseBackbone((5,), "silu", norm=LayerNorm()),
    GaussianBottleneck(2),
    GaussianLikelihood(0.1),
    training=Training(batch_size=16, epochs=6),
)
PARAMETERS = {
    "plain": {"batch_size": 16, "epochs": 6},
    "bernoulli": {"likelihood": "bernoulli", "batch_size": 16, "epochs": 6},
    "variational": {"latent_size": 3, "hidden_sizes": (8, 4), "beta": 0.5, "batch_size": 16, "epochs": 6},
    "spec": {"spec": NORM},
}
"""With 40 rows, 6 epochs of 3 steps each: no more than those for which the identity limit is derived."""


def _rows(name):
    return np.clip(ROWS, 0, 1) if name == "bernoulli" else ROWS


def _answers(estimator, rows):
    codes = estimator.transform(rows)
    return {
        "transform": codes,
        "inverse_transform": estimator.inverse_transform(codes),
        "score_samples": estimator.score_samples(rows),
        "score": np.array([estimator.score(rows)]),
    }


@pytest.mark.parametrize("name", PARAMETERS)
def test_same_weights(name, tmp_path, hold):
    rows, path = _rows(name), tmp_path / "weights.safetensors"
    ae_jax.AutoencoderEstimator(precision="float64", **PARAMETERS[name]).fit(rows).save(path)
    ours, theirs = (_answers(twin.AutoencoderEstimator.load(path), rows) for twin in TWINS.values())
    hold(compare("estimator", ours, theirs, IDENTITY_LIMIT, "float64"))


@pytest.mark.parametrize("name", PARAMETERS)
@pytest.mark.parametrize("method", ["fit", "partial_fit"])
def test_same_fit(name, method, hold):
    rows, seen = _rows(name), []
    for twin in TWINS.values():
        estimator = twin.AutoencoderEstimator(precision="float64", **PARAMETERS[name])
        for part in (rows,) if method == "fit" else (rows, rows[:7], rows):
            getattr(estimator, method)(part)
        seen.append(_answers(estimator, rows) | dict(estimator.model_.tensors))
    hold(compare(method, *seen, IDENTITY_LIMIT, "float64"))


def test_another_seed_is_noticed():
    """The comparison can fail: one twin starts from other weights."""
    ours, theirs = (
        _answers(twin.AutoencoderEstimator(epochs=1, precision="float64", random_state=seed).fit(ROWS), ROWS)
        for seed, twin in enumerate(TWINS.values())
    )
    assert not any(check.passed for check in compare("fit", ours, theirs, IDENTITY_LIMIT, "float64"))
