"""What is measured and shown of the latent space is the same on both twins, in float64."""

from dataclasses import replace

import numpy as np
import pytest

import ae_jax.engine
import ae_torch.engine
from ae_core import latent
from ae_core.data import cans
from ae_core.errors import SpecError
from ae_core.evaluation import evaluate
from ae_core.init import initial_weights
from ae_core.rng import normal
from ae_core.spec import ConvBackbone, DenseBackbone, GaussianBottleneck, GaussianLikelihood, PlainBottleneck, Spec
from parity_tests.check import IDENTITY_LIMIT

_VAE = Spec((8, 8, 1), ConvBackbone((4, 4), (2, 2)), GaussianBottleneck(3))
_VAE = replace(_VAE, training=replace(_VAE.training, precision="float64"))
_PLAIN = replace(_VAE, backbone=DenseBackbone((6,)), bottleneck=PlainBottleneck(2))
_DENSITY = replace(_VAE, likelihood=GaussianLikelihood(variance=0.02))
SPECS = {"plain": _PLAIN, "vae": _VAE, "gaussian likelihood": _DENSITY}
IMAGES = cans(300, (8, 8))


def models(spec):
    shapes = ae_torch.engine.ENGINE.shapes(spec)
    # biases too: they start at 0, where a forgotten one would not be seen
    tensors = {name: t + 0.1 * normal(t.shape, 0, name) for name, t in initial_weights(shapes, "he_normal", 0).items()}
    return [engine.infer(spec, tensors) for engine in (ae_jax.engine.ENGINE, ae_torch.engine.ENGINE)]


def distance(ours, theirs):
    ours, theirs = np.asarray(ours), np.asarray(theirs)
    assert ours.dtype == theirs.dtype == np.float64
    assert ours.shape == theirs.shape
    assert np.isfinite(ours).all()
    return float(np.linalg.norm(ours - theirs) / np.linalg.norm(theirs))


@pytest.mark.parametrize("count", [1, 300])
def test_posterior(count):
    ours, theirs = models(_VAE)
    one, other = ours.posterior(IMAGES.images[:count]), theirs.posterior(IMAGES.images[:count])
    assert one[0].shape == (count, 3)
    for a, b in zip(one, other, strict=True):
        assert distance(a, b) < IDENTITY_LIMIT
    # the mean is the code that encode gives, and the other one is not
    for model, (mean, logvar) in ((ours, one), (theirs, other)):
        assert distance(mean, model.encode(IMAGES.images[:count])) < IDENTITY_LIMIT
        assert distance(logvar, mean) > 0.01


def test_a_plain_code_has_no_posterior():
    for model in models(_PLAIN):
        with pytest.raises(SpecError, match='given a "plain" bottleneck; right is "gaussian"'):
            model.posterior(IMAGES.images[:2])


@pytest.mark.parametrize("name", SPECS)
def test_metrics(name):
    ours, theirs = (evaluate(model, SPECS[name], IMAGES) for model in models(SPECS[name]))
    assert ours.missing == theirs.missing
    assert ours.metrics.keys() == theirs.metrics.keys()
    assert len(ours.metrics) >= 13
    for metric, value in ours.metrics.items():
        other = theirs.metrics[metric]
        assert value.value == pytest.approx(other.value, rel=IDENTITY_LIMIT, abs=IDENTITY_LIMIT), metric
        assert value.parts == pytest.approx(other.parts, rel=IDENTITY_LIMIT, abs=IDENTITY_LIMIT), metric


@pytest.mark.parametrize("name", SPECS)
def test_grids_walks_and_samples(name):
    seen = []
    for model in models(SPECS[name]):
        codes = model.encode(IMAGES.images)
        plane = latent.data_plane(codes)
        points = plane.points(codes)
        spans = [np.linspace(points[:, i].min(), points[:, i].max(), 5) for i in range(2)]
        spots = {
            "grid": latent.grid_codes(plane, *spans).reshape(-1, codes.shape[1]),
            "straight": latent.straight(codes[0], codes[1], 5),
            "spherical": latent.spherical(codes[0], codes[1], 5),
            "attribute": codes[:5] + latent.attribute_vector(codes, IMAGES.factors[:, 0] > 0.5),
            "gaussian": latent.fit_gaussian(codes).draw(9, 0),
            "mixture": latent.fit_mixture(codes, 4).draw(9, 0),
            "box": latent.fit_box(codes).draw(9, 0),
        }
        detector = latent.fit_detector(model.encode, model.decode, IMAGES.images, 0.9)
        scores = detector.scores(model.encode, model.decode, cans(20, (8, 8), 5).images)
        seen.append({key: model.decode(z) for key, z in spots.items()} | scores._asdict())
    for key, value in seen[0].items():
        assert distance(value, seen[1][key]) < IDENTITY_LIMIT, key
