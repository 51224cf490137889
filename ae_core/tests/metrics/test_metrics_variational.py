"""ELBO and log-likelihood against a model whose true density is known, KL against quadrature."""

import numpy as np
import pytest
from scipy.integrate import quad
from scipy.stats import multivariate_normal, norm

from ae_core.metrics import active_units, elbo, importance_weighted, kl_per_dimension, log_probability
from ae_core.metrics import variational as module
from ae_core.rng import generator, normal
from ae_core.spec import BernoulliLikelihood, GaussianLikelihood

VARIANCE = 0.3
LIKELIHOOD = GaussianLikelihood(VARIANCE)
# x = 2·z₁ or 3·z₂ + ¼ + noise: orthogonal columns, so that the true posterior has no correlations
FACTOR = np.array([[2.0, 0], [0, 3.0], [0, 0], [0, 0]])


def _decode(z):
    return (z @ FACTOR.T + 0.25).reshape(-1, 2, 2, 1)


def _linear(count=5):
    """Images of a linear Gaussian model, their exact posterior and their exact log-density."""
    images = _decode(normal((count, 2), 0, "z")) + VARIANCE**0.5 * normal((count, 2, 2, 1), 0, "noise")
    flat = images.reshape(count, 4) - 0.25
    precision = np.diag(FACTOR.T @ FACTOR) / VARIANCE + 1
    mean = flat @ FACTOR / VARIANCE / precision
    logvar = np.broadcast_to(-np.log(precision), mean.shape).copy()
    density = multivariate_normal(np.full(4, 0.25), FACTOR @ FACTOR.T + VARIANCE * np.eye(4))
    return images, mean, logvar, density.logpdf(images.reshape(count, 4))


@pytest.mark.parametrize("samples", [1, 3])
def test_the_exact_posterior_gives_the_exact_density(samples):
    """Every weight is then p(x) itself, whatever the draw."""
    images, mean, logvar, exact = _linear()
    ours = importance_weighted(_decode, LIKELIHOOD, images, mean, logvar, samples)
    np.testing.assert_allclose(ours, exact, rtol=1e-12)


def test_a_wrong_posterior_gives_bounds_that_close():
    images, mean, logvar, exact = _linear(40)
    mean, logvar = mean + 0.05, logvar + 0.4
    bound = elbo(_decode, LIKELIHOOD, np.repeat(images, 2000, 0), *(np.repeat(a, 2000, 0) for a in (mean, logvar)))
    gap = (exact - bound.reshape(40, 2000).mean(1)).mean()
    # the gap is KL(q ‖ p(z|x)), here of two normal variables each: a ratio of variances e^0.4, a shift of 0.05
    true = 0.5 * (np.exp(0.4) - 1 - 0.4 + 0.05**2 / np.exp(logvar[0] - 0.4)).sum()
    spread = bound.reshape(40, 2000).std(1).mean() / np.sqrt(80_000)
    assert abs(gap - true) < 5 * spread  # five standard errors; the seed is fixed
    assert spread < 0.05 * true
    few, many = ((exact - importance_weighted(_decode, LIKELIHOOD, images, mean, logvar, k)).mean() for k in (5, 2000))
    assert abs(many) < 0.01 < few < gap


def test_one_sample_is_the_bound_with_its_kl_drawn():
    images, mean, logvar, _ = _linear(1)
    noise = normal((1, 2), 7, "importance", 0)
    z = mean + np.exp(logvar / 2) * noise
    kl = norm.logpdf(z, mean, np.exp(logvar / 2)).sum() - norm.logpdf(z).sum()
    expected = norm.logpdf(images, _decode(z), VARIANCE**0.5).sum() - kl
    assert importance_weighted(_decode, LIKELIHOOD, images, mean, logvar, 1, seed=7)[0] == pytest.approx(expected)


def test_elbo_is_its_terms():
    images, mean, logvar, _ = _linear(6)
    likelihood = BernoulliLikelihood("mean", 500.0)  # neither the reduction nor the weight is the bound's business
    images = np.clip(images, 0, 1)

    def decode(z):
        return 1 / (1 + np.exp(-_decode(z)))

    noise = normal((6, 2), 4, "elbo")
    seen = log_probability(likelihood, images, decode(mean + np.exp(logvar / 2) * noise))
    kl = kl_per_dimension(mean, logvar).sum()
    ours = elbo(decode, likelihood, images, mean, logvar, seed=4)
    assert ours.mean() == pytest.approx(seen.mean() - kl)
    assert (ours != elbo(decode, likelihood, images, mean, logvar, seed=5)).all()


def test_blocks_change_nothing(monkeypatch):
    images, mean, logvar, _ = _linear(7)
    whole = [
        elbo(_decode, LIKELIHOOD, images, mean, logvar),
        importance_weighted(_decode, LIKELIHOOD, images, mean, logvar, 3),
    ]
    monkeypatch.setattr(module, "BLOCK", 5)
    parts = [
        elbo(_decode, LIKELIHOOD, images, mean, logvar),
        importance_weighted(_decode, LIKELIHOOD, images, mean, logvar, 3),
    ]
    np.testing.assert_allclose(parts, whole, rtol=1e-14)


def test_weights_that_no_number_holds():
    """exp of minus some thousand nats is 0; its logarithm must not be."""
    images, mean, logvar, _ = _linear(2)
    value = importance_weighted(_decode, GaussianLikelihood(1e-6), images, mean, logvar, 4)
    assert np.isfinite(value).all()
    assert (value < -1000).all()


def test_kl_against_quadrature():
    mean, logvar = np.array([[0.7, 0.0, -1.2], [0.1, 0.0, 2.0]]), np.array([[-1.0, 0.0, 0.5], [0.3, 0.0, -3.0]])

    def one(m, v):
        q = norm(m, np.exp(v / 2))
        return quad(lambda z: q.pdf(z) * (q.logpdf(z) - norm.logpdf(z)), m - 12, m + 12, points=[m])[0]

    expected = [
        np.mean([one(*pair) for pair in zip(*columns, strict=True)]) for columns in zip(mean.T, logvar.T, strict=True)
    ]
    np.testing.assert_allclose(kl_per_dimension(mean, logvar), expected, rtol=1e-7, atol=1e-12)


def test_active_units():
    mean = np.zeros((1000, 4), np.float32)
    mean[:, 1] = 0.09 * generator(0, "units").standard_normal(1000)
    mean[:, 2] = 0.12 * generator(1, "units").standard_normal(1000)
    mean[:, 3] = 5  # a constant is no use, however large
    assert active_units(mean).tolist() == [False, False, True, False]
