"""Losses against NumPy, and what the kinks of activations have for a slope."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import ae_jax
from ae_core.rng import generator, normal
from ae_core.spec import (
    BernoulliLikelihood,
    DenseBackbone,
    GaussianBottleneck,
    GaussianLikelihood,
    PlainBottleneck,
    Spec,
    Training,
)
from ae_jax.model.bottleneck import GaussianCode, PlainCode
from ae_jax.model.layers import make_activation
from ae_jax.model.likelihood import make_likelihood

_DTYPES = {"float32": 1e-6, "float64": 1e-14}


@pytest.fixture(autouse=True)
def _float64():
    with jax.enable_x64(True):
        yield


def _bce(logits, x):
    """−x·log p − (1 − x)·log(1 − p), with both logarithms as −log(1 + exp(∓logit)), free of overflow."""
    log_p = -np.log1p(np.exp(-np.abs(logits))) + np.minimum(logits, 0)
    log_q = -np.log1p(np.exp(-np.abs(logits))) - np.maximum(logits, 0)
    return -x * log_p - (1 - x) * log_q


def _pixels():
    x = generator(0, "pixels").random((3, 2, 5, 2))
    x[0], x[1] = np.round(x[0]), 0.5
    return x


def _inputs():
    return jnp.asarray(generator(0, "x").random((5, 2, 3, 1))), {"bottleneck": jnp.asarray(normal((5, 4), 0, "noise"))}


def _reduce(values, reduction):
    return getattr(values, reduction)((1, 2, 3))


@pytest.mark.parametrize("dtype", _DTYPES)
@pytest.mark.parametrize("reduction", ["mean", "sum"])
@pytest.mark.parametrize("scale", [1, 40, 1000])
def test_bernoulli(scale, reduction, dtype):
    likelihood = make_likelihood(BernoulliLikelihood(reduction))
    logits = (scale * normal((3, 2, 5, 2), 0, "logits")).clip(-scale, scale).astype(dtype)
    logits.flat[:3] = 0, scale, -scale
    x = _pixels().astype(dtype)
    values = likelihood.negative_log_likelihood(jnp.asarray(logits), jnp.asarray(x))
    assert values.dtype == dtype
    expected = _reduce(_bce(logits.astype(np.float64), x.astype(np.float64)), reduction)
    np.testing.assert_allclose(values, expected, rtol=_DTYPES[dtype])
    slope = jax.grad(lambda logits: likelihood.negative_log_likelihood(logits, jnp.asarray(x)).sum())(
        jnp.asarray(logits)
    )
    probability = 0.5 * (1 + np.tanh(logits.astype(np.float64) / 2))
    pixels = 1 if reduction == "sum" else 20
    np.testing.assert_allclose(slope, (probability - x) / pixels, rtol=0, atol=4 * _DTYPES[dtype])
    np.testing.assert_allclose(likelihood.mean(jnp.asarray(logits)), probability, rtol=0, atol=_DTYPES[dtype])


@pytest.mark.parametrize("dtype", _DTYPES)
@pytest.mark.parametrize("reduction", ["mean", "sum"])
@pytest.mark.parametrize("variance", [0.5, 0.1])
def test_gaussian(variance, reduction, dtype):
    likelihood = make_likelihood(GaussianLikelihood(variance, reduction))
    mean, x = normal((3, 2, 5, 2), 0, "means").astype(dtype), _pixels().astype(dtype)
    expected = _reduce((x.astype(np.float64) - mean) ** 2, reduction) / (2 * variance)
    values = likelihood.negative_log_likelihood(jnp.asarray(mean), jnp.asarray(x))
    np.testing.assert_allclose(values, expected, rtol=4 * _DTYPES[dtype])
    np.testing.assert_array_equal(likelihood.mean(jnp.asarray(mean)), mean)


@pytest.mark.parametrize("dtype", _DTYPES)
def test_kl(dtype):
    mean, logvar = (3 * normal((6, 4), 0, name) for name in ("mean", "logvar"))
    mean[0] = logvar[0] = 0
    code = GaussianCode(*(jnp.asarray(a, dtype) for a in (mean, logvar, mean)))
    weight, values = code.penalties(GaussianBottleneck(4), {"kl": 0.3})["kl"]
    mean, logvar = np.asarray(code.mean, np.float64), np.asarray(code.logvar, np.float64)
    # of two normal distributions: log(σ₂/σ₁) + (σ₁² + (μ₁ − μ₂)²) / (2σ₂²) − ½
    std = np.exp(logvar / 2)
    expected = (np.log(1 / std) + (std**2 + mean**2) / 2 - 0.5).sum(1)
    assert weight == 0.3
    assert values[0] == 0
    np.testing.assert_allclose(values, expected, rtol=10 * _DTYPES[dtype], atol=10 * _DTYPES[dtype])


def test_plain_code_costs_nothing():
    assert PlainCode(jnp.ones((2, 3))).penalties(PlainBottleneck(3), {}) == {}


def test_code_is_mean_plus_scaled_noise():
    spec = Spec((2, 3, 1), DenseBackbone(()), GaussianBottleneck(4), training=Training(precision="float64"))
    model = ae_jax.build(spec)
    variables, x, noise = model.init(), *_inputs()
    code = model.encode(variables, x, noise)
    # where the two cancel, what is left is off by a rounding of theirs
    right = code.mean + np.exp(code.logvar / 2) * noise["bottleneck"]
    np.testing.assert_allclose(code.z, right, rtol=1e-14, atol=2.0**-52)
    silent = model.encode(variables, x)
    np.testing.assert_array_equal(silent.z, silent.mean)
    np.testing.assert_array_equal(silent.mean, code.mean)


@pytest.mark.parametrize("likelihood", [BernoulliLikelihood("sum", 3.0), GaussianLikelihood(0.2, "mean", 7.0)])
def test_total_is_the_weighted_sum_of_terms(likelihood):
    bottleneck = GaussianBottleneck(4, kl_weight=0.3)
    spec = Spec((2, 3, 1), DenseBackbone(()), bottleneck, likelihood, training=Training(precision="float64"))
    model = ae_jax.build(spec)
    variables, x, noise = model.init(), *_inputs()
    result = model.loss(variables, x, noise)
    assert result.terms.keys() == {"reconstruction", "kl"}
    weighted = likelihood.weight * result.terms["reconstruction"] + 0.3 * result.terms["kl"]
    np.testing.assert_allclose(result.total, weighted, rtol=1e-14)
    recon = np.asarray(model.decode(variables, model.encode(variables, x, noise).z))
    if isinstance(likelihood, BernoulliLikelihood):
        expected = _bce(np.log(recon / (1 - recon)), x).sum((1, 2, 3)).mean()
    else:
        expected = ((x - recon) ** 2).mean() / 0.4
    np.testing.assert_allclose(result.terms["reconstruction"], expected, rtol=1e-12)


def test_a_sample_that_weighs_nothing_is_as_if_it_were_not_there():
    spec = Spec((2, 3, 1), DenseBackbone(()), GaussianBottleneck(4), training=Training(precision="float64"))
    model = ae_jax.build(spec)
    variables, x, noise = model.init(), *_inputs()
    weighted = model.loss(variables, x, noise, mask=jnp.array([1.0, 1.0, 1.0, 0.0, 0.0]))
    alone = model.loss(variables, x[:3], {"bottleneck": noise["bottleneck"][:3]})
    np.testing.assert_allclose(weighted.total, alone.total, rtol=1e-14)


@pytest.mark.parametrize(
    ("name", "at_zero", "below", "above"),
    [("relu", 0.0, 0.0, 1.0), ("leaky_relu", 0.2, 0.2, 1.0)],
)
def test_slope_at_the_kink_is_the_left_one(name, at_zero, below, above):
    slopes = jax.vmap(jax.grad(make_activation(name, 0.2)))(jnp.array([0.0, -0.0, -1e-30, 1e-30]))
    assert slopes.tolist() == [at_zero, at_zero, below, above]


@pytest.mark.parametrize(
    ("name", "function"),
    [
        ("relu", lambda x: np.maximum(x, 0)),
        ("leaky_relu", lambda x: np.where(x > 0, x, 0.2 * x)),
        ("silu", lambda x: x / (1 + np.exp(-x))),
        ("gelu_erf", lambda x: x * 0.5 * np.vectorize(math.erfc)(-x / math.sqrt(2))),
        ("gelu_tanh", lambda x: 0.5 * x * (1 + np.tanh(np.sqrt(2 / np.pi) * (x + 0.044715 * x**3)))),
    ],
)
def test_activations(name, function):
    x = np.linspace(-6, 6, 41)
    np.testing.assert_allclose(make_activation(name, 0.2)(jnp.asarray(x)), function(x), rtol=1e-12, atol=1e-15)
