"""Penalties: what they are, alike in both twins, and that what only one of them gets wrong, or both, is noticed."""

from contextlib import ExitStack
from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
from scipy.special import expit
from scipy.stats import entropy

import ae_jax
import ae_jax.engine
import ae_jax.model.bottleneck
import ae_jax.model.penalty
import ae_torch
import ae_torch.engine
import ae_torch.model.bottleneck
import ae_torch.model.penalty
from ae_core.errors import SpecError
from ae_core.spec import BatchNorm, DenseBackbone, PlainBottleneck, Spec, Training
from ae_core.spec.bottleneck import SigmoidBottleneck
from ae_core.spec.penalty import L1, Contractive, SparseKL
from ae_core.training.steps import make_steps
from ae_jax.execution.plan import Plan
from ae_torch.execution.variants import COMPILE_STEPS, Variant, choose
from parity_tests import oracle
from parity_tests.batches import first_batch
from parity_tests.cases import CASES, images_of
from parity_tests.check import IDENTITY_LIMIT, compare
from parity_tests.faults import FAULTS
from parity_tests.faults.planting import planted
from parity_tests.gates.identity import check_forward, weights_of, with_precision
from parity_tests.twins import jax_pass, torch_pass

RATES = Spec((6, 5, 1), DenseBackbone(()), SigmoidBottleneck(3), penalties=(SparseKL(1.0, 0.2),))


def _of_rates(part, logits, dtype, mask=None):
    """Return a penalty of a code of rates and its gradient by the logits, of either twin."""
    mask = np.ones(len(logits)) if mask is None else mask
    with jax.enable_x64(dtype == "float64"):

        def ours(logits):
            code = ae_jax.model.bottleneck.SigmoidCode(logits, jax.nn.sigmoid(logits))
            return ae_jax.model.penalty.penalty(
                part, ae_jax.model.penalty.Seen(None, code, None, jnp.asarray(mask, dtype), None)
            )

        values = jax.value_and_grad(lambda logits: ours(logits).sum())(jnp.asarray(logits, dtype))
    counted = torch.from_numpy(logits[mask > 0].astype(dtype)).requires_grad_()
    code = ae_torch.model.bottleneck.SigmoidCode(counted, torch.sigmoid(counted))
    theirs = ae_torch.model.penalty.penalty(part, ae_torch.model.penalty.Seen(None, code, None, None)).sum()
    theirs.backward()
    return tuple(map(np.asarray, values)), (theirs.detach().numpy(), counted.grad.numpy())


def test_divergence_of_rates_is_that_of_coins():
    logits = np.random.default_rng(0).normal(-1, 2, (7, 3))
    mean = expit(logits).mean(0)
    expected = sum(entropy([0.2, 0.8], [rate, 1 - rate]) for rate in mean)
    for value, _ in _of_rates(SparseKL(1.0, 0.2), logits, "float64"):
        # three sums of four terms of size 1
        np.testing.assert_allclose(value, expected, rtol=1e-14)


def test_divergence_is_0_at_the_target_alone():
    logits = np.full((5, 2), np.log(0.2 / 0.8))
    for value, gradient in _of_rates(SparseKL(1.0, 0.2), logits, "float64"):
        # terms of size 0.5 cancel, and so do slopes of size 1
        assert abs(value) < 1e-15
        assert np.abs(gradient).max() < 1e-15


@pytest.mark.parametrize("far", [-200.0, 200.0])
def test_rates_that_round_to_0_or_1_have_a_finite_divergence(far):
    """In float32 exp(−200) is 0; its logarithm stands beside the sum of all the others."""
    logits = np.full((4, 1), far)
    rate = 0.2
    expected = rate * np.log(rate) + (1 - rate) * np.log(1 - rate) + 200 * (rate if far < 0 else 1 - rate)
    for value, gradient in _of_rates(SparseKL(1.0, rate), logits, "float32"):
        np.testing.assert_allclose(value, expected, rtol=1e-6)
        # of all logits together, the slope of 200 above; 200 rounds by up to 200·2⁻²⁴, and stands in an exponent
        np.testing.assert_allclose(gradient.sum(), -rate if far < 0 else 1 - rate, rtol=200 * 2.0**-24)


def test_filler_does_not_count():
    logits = np.random.default_rng(1).normal(size=(6, 3))
    logits[4:] = 50.0
    (ours, slopes), (theirs, _) = _of_rates(SparseKL(1.0, 0.2), logits, "float64", np.array([1, 1, 1, 1, 0, 0.0]))
    np.testing.assert_allclose(ours, theirs, rtol=1e-14)
    assert (slopes[4:] == 0).all()
    assert (slopes[:4] != 0).all()


def test_l1_is_the_sum_of_sizes_with_a_slope_of_0_at_0():
    z = np.array([[1.5, -0.5, 0.0], [0.0, 0.0, -2.0]])
    slope = [[1, -1, 0], [0, 0, -1]]
    with jax.enable_x64(True):

        def ours(z):
            seen = ae_jax.model.penalty.Seen(None, ae_jax.model.bottleneck.PlainCode(z), None, jnp.ones(2), None)
            return ae_jax.model.penalty.penalty(L1(1.0), seen)

        assert ours(jnp.asarray(z)).tolist() == [2, 2]
        assert jax.grad(lambda z: ours(z).sum())(jnp.asarray(z)).tolist() == slope
    t = torch.from_numpy(z).requires_grad_()
    code = ae_torch.model.bottleneck.PlainCode(t)
    theirs = ae_torch.model.penalty.penalty(L1(1.0), ae_torch.model.penalty.Seen(None, code, None, None))
    assert theirs.tolist() == [2, 2]
    theirs.sum().backward()
    assert t.grad.tolist() == slope


def test_rates_are_not_worked_out_in_parts():
    images, start = images_of(RATES), weights_of(RATES, 0)
    spec = replace(RATES, training=Training(batch_size=6))
    for begin in (
        lambda: ae_jax.engine.Trainer(spec, start, images, Plan(devices=1, micro_batch=3)),
        lambda: ae_torch.engine.Trainer(spec, start, images, Variant(micro_batch=3)),
    ):
        with pytest.raises(SpecError, match='the penalty "sparse-kl" couples the samples of a batch'):
            begin()


@pytest.mark.quick
@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: replace(RATES, bottleneck=PlainBottleneck(3)), "bottleneck: given plain, with the penalty"),
        (lambda: SparseKL(1.0, 0.0), r"rate: given 0.0; expected a number in \(0, 1\)"),
        (lambda: SparseKL(-1.0), "weight: given -1.0; expected a number of at least 0"),
        (
            lambda: replace(UNITS, backbone=DenseBackbone((3,), norm=BatchNorm())),
            'given "contractive", which calls the encoder on one image at a time, with the norm "batch"',
        ),
        (lambda: L1(float("nan")), "weight: given nan; expected a number of at least 0"),
    ],
)
def test_what_has_no_meaning_is_refused(make, message):
    with pytest.raises(SpecError, match=message):
        make()


UNITS = Spec((4, 3, 1), DenseBackbone(()), SigmoidBottleneck(5), penalties=(Contractive(1.0),))


def test_one_layer_of_sigmoid_units_has_the_published_norm():
    """‖J‖²_F = Σ_j (h_j·(1 − h_j))²·Σ_i W_ji²: Rifai et al. (2011), section 3, of no use for any other encoder."""
    spec, images = with_precision(UNITS, "float64"), images_of(UNITS)
    tensors = weights_of(spec, 0)
    weight, bias = (tensors[f"bottleneck.logits.{name}"] for name in ("weight", "bias"))
    h = expit(images.reshape(len(images), -1).astype(np.float64) @ weight.T + bias)
    expected = ((h * (1 - h)) ** 2 @ (weight**2).sum(1)).mean()
    for engine in (ae_jax.engine.ENGINE, ae_torch.engine.ENGINE):
        # sums of some ten products
        assert engine.infer(spec, tensors).evaluate(images)["contractive"] == pytest.approx(expected, rel=1e-13)


@pytest.mark.parametrize("name", ["dense contractive", "conv contractive"])
def test_jacobian_is_that_of_difference_quotients(name):
    """In float64, h = 2⁻¹⁴: off by h² = 4e-9 times third derivatives, 10 at most, and by rounding, 2⁻⁵³/h = 7e-13."""
    spec, h = with_precision(CASES[name], "float64"), 2.0**-14
    # above 0, where no unit of relu stands on its kink
    images, tensors = np.clip(images_of(spec)[1:3], 0.1, 1).astype(np.float64), weights_of(spec, 0)
    steps = h * np.eye(images[0].size).reshape(-1, *spec.input_shape)
    for engine in (ae_jax.engine.ENGINE, ae_torch.engine.ENGINE):
        model = engine.infer(spec, tensors)
        slopes = [(model.encode(image + steps) - model.encode(image - steps)) / (2 * h) for image in images]
        expected = np.mean([(slope**2).sum() for slope in slopes])
        assert model.evaluate(images)["contractive"] == pytest.approx(expected, rel=1e-6)


def test_a_gradient_within_the_loss_is_not_compiled():
    spec = replace(CASES["conv contractive"], training=Training(batch_size=6))
    model = ae_torch.build(spec)
    assert choose(model, COMPILE_STEPS).compile is None
    start, images = weights_of(spec, 0), images_of(spec)
    with pytest.raises(
        SpecError, match='the penalty "contractive" calls the encoder within the loss; expected a variant'
    ):
        ae_torch.engine.Trainer(spec, start, images, Variant(compile="default"))


def test_each_image_counts_for_itself():
    """In parts, and on a batch with filler, it is the same loss: 20 images in batches of 6, each in parts of 4."""
    spec = with_precision(replace(UNITS, training=Training(batch_size=6)), "float64")
    images, start = images_of(spec), weights_of(spec, 0)
    steps = make_steps(spec, len(images), 0, 0, 0, 4)
    whole, parts, torch_parts = (
        ae_jax.engine.Trainer(spec, start, images, Plan(devices=1)),
        ae_jax.engine.Trainer(spec, start, images, Plan(devices=1, micro_batch=4)),
        ae_torch.engine.Trainer(spec, start, images, Variant(micro_batch=4)),
    )
    expected = whole.advance(steps)["contractive"]
    for trainer in (parts, torch_parts):
        np.testing.assert_allclose(trainer.advance(steps)["contractive"], expected, rtol=1e-12)


BOTH = (
    "rates of each sample for those of the batch",
    "L1 with a slope at 0",
    "no gradient through the Jacobian",
    "Jacobian of the log-variance for that of the mean",
)
"""Faults that both twins may share, in which case they agree."""


@pytest.mark.parametrize("name", BOTH)
def test_a_fault_in_both_twins_is_noticed_by_the_oracle(name, hold):
    pair = [FAULTS[f"{name} ({twin})"] for twin in ("jax", "torch")]
    spec = with_precision(CASES[pair[0].case], "float64")
    images = images_of(spec)
    tensors = weights_of(spec, 3)
    kink = name.startswith("L1")
    if kink:  # it acts where a code is exactly 0: a black image, and biases of 0
        tensors = {n: np.zeros_like(t) if n.endswith("bias") else t for n, t in tensors.items()}
    batch = (images[:6], first_batch(spec, images, 3)[1])
    right = oracle.run(spec, tensors, *batch)
    with ExitStack() as stack:
        for fault in pair:
            stack.enter_context(planted(fault))
        if not kink:
            hold(check_forward(spec, images, 3, IDENTITY_LIMIT, "float64"))  # they agree
        for run in (jax_pass, torch_pass):
            twin = run(spec, tensors, *batch)
            checks = compare("gradient", twin.gradients, right.gradients, IDENTITY_LIMIT, "float64")
            assert max(check.worst for check in checks) > 100 * IDENTITY_LIMIT
