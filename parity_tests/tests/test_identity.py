"""Float64: every case, the whole gate. Float32: the presets' forward pass."""

from dataclasses import replace

import pytest

import ae_torch
from ae_core.spec import LayerNorm
from ae_core.spec.presets import PRESETS
from ae_core.training.steps import make_steps
from parity_tests.cases import CASES, images_of
from parity_tests.check import FLOAT32_LIMIT, IDENTITY_LIMIT, compare
from parity_tests.gates.identity import check_evaluation, check_forward, check_resumed, check_training
from parity_tests.oracle import layers_of
from parity_tests.twins import jax_stepper, torch_stepper


@pytest.mark.usefixtures("unoptimised")
@pytest.mark.parametrize("name", CASES)
def test_forward_loss_gradients(name, hold):
    spec = CASES[name]
    hold(check_forward(spec, images_of(spec), 1, IDENTITY_LIMIT, "float64"))


@pytest.mark.usefixtures("unoptimised")
@pytest.mark.parametrize("name", CASES)
def test_training(name, hold):
    spec = CASES[name]
    hold(check_training(spec, images_of(spec), 2))


@pytest.mark.parametrize("name", PRESETS)
def test_float32_forward(name, hold):
    """Without the black image: a constant map leaves a group norm hardly more than the rounding of its bias."""
    spec = PRESETS[name]
    limit = FLOAT32_LIMIT * max(1, len(layers_of(spec)) / 16)
    checks = check_forward(spec, images_of(spec, count=33)[1:], 3, limit, "float32")
    hold([check for check in checks if check.name in ("forward", "loss")])


@pytest.mark.usefixtures("unoptimised")
@pytest.mark.parametrize("name", CASES)
def test_evaluation(name, hold):
    spec = CASES[name]
    hold(check_evaluation(spec, images_of(spec), 5))


@pytest.mark.usefixtures("unoptimised")
@pytest.mark.parametrize("name", CASES)
def test_resumed(name, hold):
    spec = CASES[name]
    hold(check_resumed(spec, images_of(spec), 6))


def test_gate_notices_a_wrong_eps(monkeypatch):
    """The gate can fail: 1e-5 for 1e-6 in one twin's layer norm, a weak fault."""
    spec = CASES["dense layer norm"]
    images = images_of(spec)
    original = ae_torch.model.norm.LayerNorm.__init__
    monkeypatch.setattr(
        ae_torch.model.norm.LayerNorm, "__init__", lambda self, features, eps: original(self, features, eps * 0.1)
    )
    assert spec.backbone.norm == LayerNorm()
    checks = check_forward(spec, images, 1, IDENTITY_LIMIT, "float64")
    failed = {check.place for check in checks if check.name == "forward" and not check.passed}
    assert "encoder.blocks.0.norm" in failed
    assert "encoder.blocks.0.linear" not in failed


def test_training_notices_a_missing_step():
    spec = CASES["dense silu"]
    spec = replace(spec, training=replace(spec.training, precision="float64"))
    images = images_of(spec)
    start = ae_torch.to_tensors(ae_torch.build(spec))
    twins = [stepper(spec, start, images) for stepper in (jax_stepper, torch_stepper)]
    twins[0].advance(make_steps(spec, len(images), 0, 0, 0, 2))
    twins[1].advance(make_steps(spec, len(images), 0, 0, 0, 1))
    checks = compare("state", twins[0].export(), twins[1].export(), IDENTITY_LIMIT, "float64")
    assert not any(check.passed for check in checks)
