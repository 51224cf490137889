"""Metrics, against NumPy in long form and scikit-learn."""

import numpy as np
import pytest
from sklearn.decomposition import PCA

from ae_core.metrics import mse, pca_mse
from ae_core.rng import generator


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
    monkeypatch.setattr("ae_core.metrics.PCA_MAX_SIDE", 4)
    assert pca_mse(np.ones((9, 3, 3, 1), np.float32), np.ones((2, 3, 3, 1), np.float32), 2) is None
