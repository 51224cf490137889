"""Dropout: off in evaluation, right in the mean, with masks of their own for each block, image and step."""

from dataclasses import replace

import numpy as np
import pytest

import ae_torch
from ae_core.commands.cli import load_engine
from ae_core.errors import SpecError
from ae_core.noise import draw, key
from ae_core.spec import ConvBackbone, DenseBackbone, PlainBottleneck, Spec
from ae_core.spec.backbone import kept
from ae_core.training.initial import initial_weights
from parity_tests.batches import noise_of
from parity_tests.cases import CASES, images_of
from parity_tests.twins import jax_pass, torch_pass

SPEC = CASES["dense dropout"]
SHARES = (0.0001, 0.1, 0.3, 0.5, 0.95)
pytestmark = [pytest.mark.quick, pytest.mark.usefixtures("unoptimised")]


@pytest.mark.parametrize("share", SHARES)
def test_mean_is_kept(share):
    """Of n numbers the mean factor is 1 ± √(share/(1 − share)/n); four of these leave 1 of 16,000 draws out."""
    threshold, factor = kept(share)
    site = replace(SPEC, backbone=replace(SPEC.backbone, dropout=share)).noise_sites["encoder.blocks.0.dropout"]
    noise = draw(site, key(1, "dropout"), 0, 10_000)
    factors = np.where(noise < threshold, 0, factor)
    assert abs(factors.mean() - 1) <= 4 * np.sqrt(share / (1 - share) / factors.size)
    assert not (noise == threshold).any()
    assert not (noise.astype(np.float32) == np.float32(threshold)).any()


@pytest.mark.parametrize("run", [jax_pass, torch_pass])
def test_masks_differ(run):
    """Of silu nothing is exactly 0 but what is dropped."""
    spec = replace(SPEC, backbone=replace(SPEC.backbone, activation="silu"))
    tensors, images = initial_weights(ae_torch.build(spec).shapes, spec, 0), np.repeat(images_of(spec)[1:2], 6, 0)
    masks = []
    for step in (0, 1):
        taps = run(spec, tensors, images, noise_of(spec, 0, step, 6)).taps
        masks.append({n: taps[n] == 0 for n in taps if n.endswith(".dropout")})
    assert masks[0].keys() == spec.noise_sites.keys()
    for name, mask in masks[0].items():
        assert 0.1 < mask.mean() < 0.5, name
        assert (mask[0] != mask[1]).any(), name
        assert (mask != masks[1][name]).any(), name
    first, last = (masks[0][f"{part}.blocks.{i}.dropout"] for part, i in (("encoder", 0), ("decoder", 1)))
    assert (first != last).any()


@pytest.mark.parametrize("twin", ["jax", "torch"])
@pytest.mark.parametrize("case", ["dense dropout", "conv dropout"])
def test_none_in_evaluation(twin, case):
    """To the bit as without dropout; also the held-out loss, and a weights file fits either spec."""
    engine, spec = load_engine(twin), CASES[case]
    without = replace(spec, backbone=replace(spec.backbone, dropout=0.0))
    assert engine.shapes(spec) == engine.shapes(without)
    assert spec.backbone.same_function(without.backbone)
    images, tensors = images_of(spec), initial_weights(engine.shapes(spec), spec, 0)
    ours, theirs = engine.infer(spec, tensors), engine.infer(without, tensors)
    assert (ours.reconstruct(images) == theirs.reconstruct(images)).all()
    losses = [engine.train(each, tensors, images).evaluate(images) for each in (spec, without)]
    assert losses[0] == losses[1]


def test_models_without_dropout_have_no_noise():
    assert DenseBackbone((4,)).noise_sites(SPEC) == {}


@pytest.mark.parametrize(
    ("backbone", "message"),
    [
        (lambda: DenseBackbone((4,), dropout=1.0), r"^dropout: given 1\.0; expected a number in \[0, 1\)$"),
        (lambda: DenseBackbone((4,), dropout=-0.1), r"^dropout: given -0\.1; expected a number in \[0, 1\)$"),
        (lambda: DenseBackbone((), dropout=0.1), r"^dropout: given 0\.1; expected 0 where there is no hidden layer$"),
        (lambda: ConvBackbone((4,), (2,), dropout=2.0), r"^dropout: given 2\.0; expected a number in \[0, 1\)$"),
    ],
)
def test_impossible_shares_are_refused(backbone, message):
    with pytest.raises(SpecError, match=message):
        Spec((4, 4, 1), backbone(), PlainBottleneck(2))
