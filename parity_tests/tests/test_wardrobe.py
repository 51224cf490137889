"""What is measured and shown of the latent space is the same on both twins, in float64."""

from dataclasses import replace

import numpy as np
import pytest

import ae_jax.engine
import ae_torch.engine
import parity_tests.gates.latent
from ae_core.data import Dataset, cans, garments
from ae_core.errors import SpecError
from ae_core.spec import ConvBackbone, DenseBackbone, GaussianBottleneck, GaussianLikelihood, PlainBottleneck, Spec
from ae_core.spec.presets import PRESETS
from parity_tests.check import normwise
from parity_tests.gates.identity import weights_of, with_precision
from parity_tests.gates.latent import check_metrics, check_wardrobe

_VAE = with_precision(Spec((8, 8, 1), ConvBackbone((4, 4), (2, 2)), GaussianBottleneck(3)), "float64")
_PLAIN = replace(_VAE, backbone=DenseBackbone((6,)), bottleneck=PlainBottleneck(2))
_DENSITY = replace(_VAE, likelihood=GaussianLikelihood(variance=0.02))
SPECS = {"plain": _PLAIN, "vae": _VAE, "gaussian likelihood": _DENSITY}
CASES = {
    **{name: (spec, cans(300, (8, 8))) for name, spec in SPECS.items()},
    "labels": (_PLAIN, garments(300, (8, 8))),
    "wardrobe": (PRESETS["wardrobe"], garments(60)),
}
IMAGES = cans(300, (8, 8))

SHOWN = {
    "codes", "map", "straight walk", "spherical walk", "traversal", "attribute", "distances of neighbours",
    "samples of the box", "outlier reconstruction", "outlier distance", "outlier pixels",
}  # fmt: skip
VARIATIONAL = {"posterior mean", "posterior logvar", "samples of the prior"}


@pytest.mark.parametrize("name", CASES)
def test_wardrobe(name, hold):
    spec, data = CASES[name]
    checks = check_wardrobe(spec, data, 4)
    variational = spec.bottleneck.has_posterior
    assert {check.place for check in checks} == SHOWN | (VARIATIONAL if variational else set())
    hold(checks)


@pytest.mark.parametrize("name", CASES)
def test_metrics(name, hold):
    spec, data = CASES[name]
    checks = check_metrics(spec, data, 4)
    found = {check.place for check in checks}
    assert {"mse", "energy_mixture", "trustworthiness", "smooth_r2", "monotone", "samples of the mixture"} <= found
    assert ("log_likelihood" in found) == spec.bottleneck.has_posterior
    assert ("knn_agreement" in found) == (data.labels is not None)
    hold(checks)


def test_what_cannot_be_is_left_out_on_both_sides(hold):
    """Three images have no threshold; of equal images there is no attribute."""
    few = Dataset("few", IMAGES.images[:3])
    equal = Dataset("equal", np.repeat(IMAGES.images[:1], 50, 0))
    for data, left_out in ((few, {"outlier pixels"}), (equal, {"attribute"})):
        checks = check_wardrobe(_PLAIN, data, 4)
        assert {check.place for check in checks} >= {"codes", "map"}
        assert not left_out & {check.place for check in checks}
        hold(checks)


def test_what_one_side_leaves_out_is_noticed(monkeypatch):
    answers = iter([{"codes": np.ones(1)}, {"codes": np.ones(1), "map": np.ones(1)}])
    monkeypatch.setattr(parity_tests.gates.latent, "_shown", lambda *_: next(answers))
    assert [check.place for check in check_wardrobe(_PLAIN, IMAGES, 4) if not check.passed] == ["map"]


@pytest.mark.parametrize("part", ["encode", "decode"])
def test_a_twin_that_is_off_is_noticed(part, monkeypatch):
    """By a ten-billionth, ten times the limit: in its codes, or in all that is decoded."""
    right = getattr(ae_torch.engine.Inference, part)
    monkeypatch.setattr(ae_torch.engine.Inference, part, lambda self, x: right(self, x) * (1 + 1e-10))
    failed = {check.place for check in check_wardrobe(_PLAIN, IMAGES, 4) if not check.passed}
    assert failed >= ({"codes", "outlier distance"} if part == "encode" else {"map", "traversal"})
    assert ("codes" in failed) == (part == "encode")
    failed = {check.place for check in check_metrics(_PLAIN, IMAGES, 4) if not check.passed}
    assert ("mse" in failed) == (part == "decode")


@pytest.mark.parametrize("count", [1, 300])
def test_the_mean_is_the_code(count):
    """The mean is the code that encode gives, and the other one is not."""
    for engine in (ae_jax.engine.ENGINE, ae_torch.engine.ENGINE):
        model = engine.infer(_VAE, weights_of(_VAE, 0))
        mean, logvar = model.posterior(IMAGES.images[:count])
        assert mean.shape == logvar.shape == (count, 3)
        assert mean.dtype == np.float64
        assert normwise(mean, model.encode(IMAGES.images[:count])) < 1e-14
        assert normwise(logvar, mean) > 0.01


def test_a_plain_code_has_no_posterior():
    for engine in (ae_jax.engine.ENGINE, ae_torch.engine.ENGINE):
        with pytest.raises(SpecError, match='given a "plain" bottleneck; expected one whose code has a posterior'):
            engine.infer(_PLAIN, weights_of(_PLAIN, 0)).posterior(IMAGES.images[:2])
