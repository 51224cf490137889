"""A residual net with learned scales starts as its shortcuts alone, and gets away from there."""

from dataclasses import replace

import numpy as np
import pytest

from ae_core.commands.cli import load_engine
from ae_core.training.initial import initial_weights
from ae_core.training.steps import make_steps
from parity_tests.cases import CASES, images_of

SPEC = CASES["residual, learned scale"]
pytestmark = pytest.mark.usefixtures("unoptimised")


@pytest.mark.parametrize("twin", ["jax", "torch"])
def test_starts_as_its_shortcuts(twin):
    """Whatever the branches are; after a step of training they count."""
    engine, images = load_engine(twin), images_of(SPEC)
    tensors = initial_weights(engine.shapes(SPEC), SPEC, 0)
    scales = [name for name in tensors if name.endswith(".scale.weight")]
    assert len(scales) == 6  # of one block and two in the middle, in encoder and decoder
    assert all((tensors[name] == 0).all() for name in scales)
    others = tensors | {name: 2 * value for name, value in tensors.items() if ".conv1." in name}
    codes = [engine.infer(SPEC, weights).encode(images) for weights in (tensors, others)]
    np.testing.assert_array_equal(*codes)
    trainer = engine.train(SPEC, tensors, images)
    trainer.advance(make_steps(SPEC, len(images), 0, 0, 0, 1))
    after = trainer.tensors()
    assert all((after[name] != 0).all() for name in scales)


@pytest.mark.parametrize("twin", ["jax", "torch"])
def test_absent_unless_wanted(twin):
    plain = replace(SPEC, backbone=replace(SPEC.backbone, learned_scale=False))
    assert not any("scale" in name for name in load_engine(twin).shapes(plain))
