"""Metrics of reconstructions, against NumPy in long form, scikit-learn and scikit-image."""

import math
from decimal import Decimal, localcontext

import numpy as np
import pytest
from scipy.stats import norm
from skimage.metrics import peak_signal_noise_ratio, structural_similarity
from sklearn.decomposition import PCA
from sklearn.metrics import log_loss

from ae_core.metrics import bce, bits_per_dimension, log_probability, mse, pca_mse, psnr, ssim
from ae_core.rng import generator
from ae_core.spec import BernoulliLikelihood, GaussianLikelihood


def _images(count, seed):
    rng = generator(seed, "images")
    mixed = rng.random((count, 5)) @ generator(0, "mixing").random((5, 24)) / 5 + 0.2 * rng.random((count, 24))
    return mixed.reshape(count, 4, 3, 2).astype(np.float32)


def test_mse():
    a, b = _images(6, 1), _images(6, 2)
    expected = sum((float(p) - float(q)) ** 2 for p, q in zip(a.ravel(), b.ravel(), strict=True)) / a.size
    assert mse(a, b) == pytest.approx(expected, rel=1e-12)
    assert mse(a, a) == 0
    assert mse(np.zeros((2, 1)), np.ones((2, 1))) == 1


def test_mse_is_taken_in_float64():
    # in float32 the square of the difference would be lost beside 1
    a, b = np.ones((1, 2), np.float32), np.array([[1.0, 1.0 + 2.0**-23]], np.float32)
    assert mse(a, b) == 2.0**-47


# 12 images of 24 pixels span 11 dimensions, 60 all of them
@pytest.mark.parametrize(("count", "components"), [(12, 1), (12, 5), (12, 11), (60, 1), (60, 2), (60, 20), (60, 24)])
def test_pca_is_scikit_learns(count, components):
    train, heldout = _images(count, 1), _images(30, 2)
    flat = [images.reshape(len(images), -1).astype(np.float64) for images in (train, heldout)]
    pca = PCA(components, svd_solver="full").fit(flat[0])
    expected = np.mean((flat[1] - pca.inverse_transform(pca.transform(flat[1]))) ** 2)
    assert pca_mse(train, heldout, components) == pytest.approx(expected, rel=1e-9, abs=1e-25)


def test_pca_falls_with_every_component():
    errors = [pca_mse(_images(60, 1), _images(30, 2), components) for components in range(1, 25)]
    assert (np.diff(errors) < 0).all()


def test_pca_of_few_large_images_is_the_same():
    """With fewer images than pixels the eigenvectors come from the images' own products."""
    rng = np.random.default_rng(0)
    train, heldout = rng.random((12, 7, 9, 1)).astype(np.float32), rng.random((5, 7, 9, 1)).astype(np.float32)
    pca = PCA(3, svd_solver="full").fit(train.reshape(12, -1).astype(np.float64))
    flat = heldout.reshape(5, -1).astype(np.float64)
    expected = np.mean((pca.inverse_transform(pca.transform(flat)) - flat) ** 2)
    assert pca_mse(train, heldout, 3) == pytest.approx(expected, rel=1e-10)


def test_pca_that_would_take_too_long_is_left_out(monkeypatch):
    monkeypatch.setattr("ae_core.metrics.reconstruction.PCA_MAX_SIDE", 4)
    assert pca_mse(np.ones((9, 3, 3, 1), np.float32), np.ones((2, 3, 3, 1), np.float32), 2) is None


SUM = 1e-12
"""Relative: sums of some thousand float64 terms, each rounded by 2⁻⁵³ = 1.1e-16, in any order: 4096 · 1.1e-16 · 2."""


def _pairs(shape, count=4):
    rng = generator(3, "pairs", *shape)
    a = rng.random((count, *shape))
    return a.astype(np.float32), np.clip(a + 0.2 * rng.standard_normal(a.shape), 0, 1).astype(np.float32)


def test_psnr_is_scikit_images():
    a, b = _pairs((9, 7, 3))
    expected = [
        peak_signal_noise_ratio(x.astype(float), y.astype(float), data_range=1) for x, y in zip(a, b, strict=True)
    ]
    np.testing.assert_allclose(psnr(a, b), expected, rtol=SUM)
    assert psnr(np.zeros((1, 2, 2, 1)), np.full((1, 2, 2, 1), 0.1)) == pytest.approx(20)
    assert psnr(np.zeros((1, 2, 2, 1)), np.ones((1, 2, 2, 1))) == 0
    assert psnr(a, a).tolist() == [np.inf] * 4


@pytest.mark.parametrize("shape", [(11, 11, 1), (32, 32, 1), (13, 20, 3)])
def test_ssim_is_scikit_images(shape):
    a, b = _pairs(shape)
    options = {"gaussian_weights": True, "sigma": 1.5, "use_sample_covariance": False, "K1": 0.01, "K2": 0.03}
    expected = [
        structural_similarity(x.astype(float), y.astype(float), data_range=1, channel_axis=-1, **options)
        for x, y in zip(a, b, strict=True)
    ]
    assert np.ptp(expected) > 0.001
    # the variances are differences of numbers near 1, over c₂ = 9e-4 at the least: a thousand times SUM
    np.testing.assert_allclose(ssim(a, b), expected, rtol=1000 * SUM)
    np.testing.assert_allclose(ssim(a, a), 1, rtol=1000 * SUM)


def test_ssim_of_flat_images_is_the_formula():
    # no variance: only the term of the means is left
    a, b = np.full((1, 12, 12, 1), 0.2), np.full((1, 12, 12, 1), 0.8)
    assert ssim(a, b)[0] == pytest.approx((2 * 0.16 + 1e-4) / (0.04 + 0.64 + 1e-4), rel=1000 * SUM)


def test_ssim_has_a_sign():
    x = np.indices((16, 16)).sum(0)[None, ..., None] % 2 * 0.5 + 0.25
    assert ssim(x, 1 - x)[0] < -0.9


def test_ssim_says_what_it_needs():
    with pytest.raises(ValueError, match="given 8×12 pixels; expected at least 11 a side"):
        ssim(np.zeros((1, 8, 12, 1)), np.zeros((1, 8, 12, 1)))


def test_images_are_taken_in_blocks(monkeypatch):
    a, b = _pairs((12, 12, 2), 5)
    whole = [ssim(a, b), bce(a, b)]
    monkeypatch.setattr("ae_core.metrics.reconstruction.BLOCK", 700)  # two images
    np.testing.assert_allclose([ssim(a, b), bce(a, b)], whole, rtol=1000 * SUM)


def test_bce_is_scikit_learns():
    rng = generator(1, "bce")
    p = rng.uniform(0.01, 0.99, (3, 5, 4, 1))
    x = (rng.random(p.shape) < 0.5).astype(np.float64)
    expected = [log_loss(i.ravel(), q.ravel(), normalize=False, labels=[0, 1]) for i, q in zip(x, p, strict=True)]
    np.testing.assert_allclose(bce(x, p), expected, rtol=SUM)


def test_bce_of_gray_pixels_in_sixty_digits():
    x, p = 0.3, 2.0**-30
    with localcontext() as context:
        context.prec = 60
        X, P = Decimal(x), Decimal(p)
        expected = float(-(X * P.ln() + (1 - X) * (1 - P).ln()))
    image = np.full((1, 1, 1, 1), 1.0)
    assert bce(x * image, p * image)[0] == pytest.approx(expected, rel=1e-15)


def test_bce_is_finite_at_certain_probabilities():
    """A float32 sigmoid is exactly 1 from 17 on: what the precision cannot tell apart is not infinitely wrong."""
    x, p = np.array([[[[0.0], [1.0]]]]), np.array([[[[1.0], [0.0]]]], np.float32)
    assert bce(x, p)[0] == pytest.approx(24 * math.log(2) + 126 * math.log(2), rel=1e-12)
    assert bce(1 - x, p)[0] < 1e-7


def test_log_probability():
    a, b = (i.astype(np.float64) for i in _pairs((3, 2, 2)))
    expected = norm.logpdf(a, b, math.sqrt(0.1)).sum((1, 2, 3))
    np.testing.assert_allclose(log_probability(GaussianLikelihood(0.1, "mean", 7.0), a, b), expected, rtol=SUM)
    inside = np.clip(b, 0.1, 0.9)
    np.testing.assert_array_equal(log_probability(BernoulliLikelihood(weight=3.0), a, inside), -bce(a, inside))


def test_bits():
    # a byte of which nothing is known is eight bits, 8·log 2 nats
    assert bits_per_dimension(5 * math.log(256), 5) == pytest.approx(8)
