"""A training goes on from its snapshot: to the bit in the twin that gave it, within the identity limit in the other."""

from dataclasses import replace

import numpy as np
import pytest

import ae_jax.engine
import ae_torch.engine
from ae_core.spec import SGD, Adam, AdamW, Training
from ae_core.training.initial import initial_weights
from ae_core.training.steps import make_steps
from parity_tests.cases import CASES, images_of
from parity_tests.check import IDENTITY_LIMIT, compare
from parity_tests.gates.identity import with_precision

pytestmark = pytest.mark.usefixtures("unoptimised")
ENGINES = {"jax": ae_jax.engine.ENGINE, "torch": ae_torch.engine.ENGINE}
OPTIMIZERS = {
    "adam": Adam(),
    "no decay": Adam(b1=0.0, b2=0.0),
    "adamw": AdamW(weight_decay=0.1),
    "momentum": SGD(),
    "plain": SGD(momentum=0.0),
}
NAMES = ("conv batch norm", "dense silu")
"""With running statistics, and without."""


def _spec(name, optimizer, precision="float64"):
    return with_precision(replace(CASES[name], training=Training(OPTIMIZERS[optimizer], batch_size=4)), precision)


def _trainer(twin, spec):
    shapes = ENGINES[twin].shapes(spec)
    return ENGINES[twin].train(spec, initial_weights(shapes, spec, 0), images_of(spec))


def _steps(spec, epoch):
    return make_steps(spec, len(images_of(spec)), 0, epoch, 0, 2)


def _whole_and_resumed(name, optimizer, first, second, precision="float64"):
    """Return the snapshots of four steps in one go of the first twin, and of two there and two in the second."""
    spec = _spec(name, optimizer, precision)
    whole, resumed = _trainer(first, spec), _trainer(second, spec)
    whole.advance(_steps(spec, 0))
    resumed.restore(whole.snapshot())
    for trainer in (whole, resumed):
        trainer.advance(_steps(spec, 1))
    return whole.snapshot(), resumed.snapshot()


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("twin", ENGINES)
@pytest.mark.parametrize("precision", ["float32", "float64"])
def test_the_same_twin_goes_on_to_the_bit(name, optimizer, twin, precision):
    whole, resumed = _whole_and_resumed(name, optimizer, twin, twin, precision)
    assert whole.step == resumed.step == 4
    assert whole.tensors.keys() == resumed.tensors.keys()
    for key, tensor in whole.tensors.items():
        np.testing.assert_array_equal(resumed.tensors[key], tensor, err_msg=key, strict=True)


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize(("first", "second"), [("jax", "torch"), ("torch", "jax")])
def test_the_other_twin_goes_on(name, optimizer, first, second, hold):
    whole, resumed = _whole_and_resumed(name, optimizer, first, second)
    hold(compare("resumed", whole.tensors, resumed.tensors, IDENTITY_LIMIT, "float64"))


@pytest.mark.parametrize("optimizer", ["adam", "adamw", "momentum"])
@pytest.mark.parametrize("twin", ENGINES)
def test_weights_alone_are_not_enough(optimizer, twin):
    """The comparison can fail: without its moments a training goes another way."""
    spec = _spec("dense silu", optimizer)
    whole = _trainer(twin, spec)
    whole.advance(_steps(spec, 0))
    bare = ENGINES[twin].train(spec, whole.tensors(), images_of(spec))
    for trainer in (whole, bare):
        trainer.advance(_steps(spec, 1))
    checks = compare("resumed", whole.tensors(), bare.tensors(), IDENTITY_LIMIT, "float64")
    assert not any(check.passed for check in checks)
