"""Corruptions: what they do to images, alike in both twins, and that the loss is against the clean ones."""

import jax.numpy as jnp
import numpy as np
import pytest
import torch

import ae_jax
import ae_torch
from ae_core import noise
from ae_core.spec import DenseBackbone, GaussianLikelihood, PlainBottleneck, Spec
from ae_core.spec.corruption import SITE, GaussianNoise, MaskingNoise, SaltAndPepper
from ae_jax.model.corruption import corrupt as corrupt_jax
from ae_torch.model.corruption import corrupt as corrupt_torch

SHAPE, ROWS = (20, 10, 1), 50
IMAGES = np.random.default_rng(0).uniform(0.25, 0.75, (ROWS, *SHAPE)).astype(np.float32)


def _spec(corruption):
    return Spec(SHAPE, DenseBackbone((4,)), PlainBottleneck(2), GaussianLikelihood(), corruption=corruption)


def _corrupted(corruption, seed=0):
    """The images as each twin corrupts them, in float32."""
    site = _spec(corruption).noise_sites[SITE]
    drawn = noise.draw(site, noise.key(seed, SITE), 3, ROWS).astype(np.float32)
    ours = np.asarray(corrupt_jax(corruption, jnp.asarray(IMAGES), jnp.asarray(drawn)))
    theirs = corrupt_torch(corruption, torch.from_numpy(IMAGES), torch.from_numpy(drawn)).numpy()
    return ours, theirs, drawn


def test_gaussian_noise_is_added():
    ours, theirs, drawn = _corrupted(GaussianNoise(0.3))
    # a product and a sum, or both at once: two roundings of numbers below 2
    np.testing.assert_allclose(ours, IMAGES + np.float32(0.3) * drawn, rtol=0, atol=2 * 2.0**-23)
    np.testing.assert_allclose(theirs, ours, rtol=0, atol=2 * 2.0**-23)
    assert (ours.min() < 0) & (ours.max() > 1)  # not cut off


@pytest.mark.parametrize("share", [0.1, 0.5, 0.9])
def test_masking_puts_a_share_to_0(share):
    ours, theirs, _ = _corrupted(MaskingNoise(share))
    np.testing.assert_array_equal(ours, theirs)
    masked = ours == 0
    np.testing.assert_array_equal(ours[~masked], IMAGES[~masked])
    # five standard errors of a share among as many pixels
    assert abs(masked.mean() - share) < 5 * (share * (1 - share) / ours.size) ** 0.5


def test_salt_and_pepper_puts_half_of_a_share_to_either_end():
    ours, theirs, _ = _corrupted(SaltAndPepper(0.4))
    np.testing.assert_array_equal(ours, theirs)
    for end in (0, 1):
        assert abs((ours == end).mean() - 0.2) < 5 * (0.2 * 0.8 / ours.size) ** 0.5
    kept = (ours != 0) & (ours != 1)
    np.testing.assert_array_equal(ours[kept], IMAGES[kept])


def test_all_pixels_may_be_replaced():
    ours, theirs, _ = _corrupted(SaltAndPepper(1.0))
    np.testing.assert_array_equal(ours, theirs)
    assert set(np.unique(ours)) == {0.0, 1.0}


@pytest.mark.parametrize("corruption", [MaskingNoise(1 / 3), SaltAndPepper(0.123)])
def test_no_number_lies_on_a_threshold(corruption):
    limits = [corruption.threshold] if isinstance(corruption, MaskingNoise) else corruption.thresholds
    for limit in limits:
        assert np.float32(limit) == limit
        assert (limit * 2**24) % 2 == 0  # uniform numbers are odd multiples of 2⁻²⁴


@pytest.mark.parametrize(
    "corruption", [GaussianNoise(0.3), MaskingNoise(0.5), SaltAndPepper(0.2)], ids=lambda c: c.kind
)
def test_the_loss_is_against_the_clean_images(corruption):
    spec = _spec(corruption)
    _, _, drawn = _corrupted(corruption)
    model = ae_torch.build(spec)
    x, eps = torch.from_numpy(IMAGES), {SITE: torch.from_numpy(drawn)}
    corrupted = corrupt_torch(corruption, x, eps[SITE])
    with torch.no_grad():
        expected = ((model.reconstruct(corrupted) - x) ** 2).mean()
        assert model.loss(x, eps).total.item() == pytest.approx(expected.item(), rel=1e-6)
        assert model.loss(x).total.item() == pytest.approx(((model.reconstruct(x) - x) ** 2).mean().item(), rel=1e-6)
    ours, variables = ae_jax.build(spec), ae_jax.build(spec).init()
    loss = ours.loss(variables, jnp.asarray(IMAGES), {SITE: jnp.asarray(drawn)}).total
    assert float(loss) == pytest.approx(expected.item(), rel=1e-5)
