"""Both twins are fed the prescribed bytes at every step; a shifted, dropped or repeated one is noticed."""

import hashlib
from contextlib import nullcontext
from dataclasses import replace

import jax
import numpy as np
import pytest

import ae_jax.engine
import ae_jax.execution.dispatch
import ae_torch.engine
from ae_core.rng import normal
from ae_core.spec import BatchNorm, DenseBackbone, GaussianBottleneck, PlainBottleneck, Schedule, Spec, Training
from ae_core.training.engine import Steps
from ae_core.training.initial import initial_weights
from ae_core.training.loop import make_steps
from parity_tests.cases import CASES, images_of
from parity_tests.gates import order
from parity_tests.gates.order import ENGINES, EXACT, check_order, predicted, recorded

COUNT = 13
"""Three batches of 4 and one of a single image; two epochs are 8 steps."""
TRAINING = Training(schedule=Schedule("cosine", 2), batch_size=4)
SPEC = Spec((3, 2, 1), DenseBackbone((5,)), GaussianBottleneck(2), training=TRAINING)
SPECS = {
    "vae": SPEC,
    "plain": replace(SPEC, bottleneck=PlainBottleneck(2)),
    "one step an epoch": replace(SPEC, training=replace(TRAINING, batch_size=COUNT + 3)),
    "float64": replace(SPEC, training=replace(TRAINING, precision="float64")),
    "batch norm": replace(
        SPEC, backbone=DenseBackbone((5,), norm=BatchNorm()), training=replace(TRAINING, batch_size=5)
    ),
    "conv": replace(CASES["conv torch, 3 channels, vae"], training=replace(TRAINING, batch_size=6)),
}


def failed(checks):
    return {(check.name, check.place) for check in checks if not check.passed}


@pytest.mark.parametrize("name", [pytest.param("vae", marks=pytest.mark.quick), *list(SPECS)[1:]])
def test_order(name, hold):
    """Over epoch borders, with a shorter last batch, and after resuming at every step."""
    hold(check_order(SPECS[name], images_of(SPECS[name], count=COUNT), 3))


@pytest.mark.parametrize("twin", ENGINES)
def test_images_that_travel_with_each_dispatch(twin, monkeypatch, hold):
    monkeypatch.setattr((ae_jax if twin == "jax" else ae_torch).engine, "RESIDENT_BYTES", 0)
    hold(check_order(SPEC, images_of(SPEC, count=COUNT), 3, resume_at=(5,)))


def train(twin, images, chunks):
    tensors = initial_weights(ENGINES[twin].shapes(SPEC), SPEC.initializer, 0)
    trainer = ENGINES[twin].train(SPEC, tensors, images)
    for epoch in range(2):
        first = 0
        for number in chunks:
            trainer.advance(make_steps(SPEC, COUNT, 3, epoch, first, number))
            first += number
    jax.effects_barrier()
    return trainer.tensors()


@pytest.mark.parametrize("twin", ENGINES)
def test_any_chunks(twin):
    images = images_of(SPEC, count=COUNT)
    expected = predicted(SPEC, images, 3, 8)
    assert len(set(expected)) == 8
    with recorded() as seen:
        for chunks in ((1, 1, 1, 1), (4,), (3, 1), (1, 3), (2, 2)):
            seen[twin].clear()
            train(twin, images, chunks)
            assert seen[twin] == expected, chunks


def test_hash_is_that_of_the_bytes():
    """The prediction of one step, written out: order, noise and learning rate of a seed are what they always were."""
    images = images_of(SPEC, count=COUNT)
    key = hashlib.sha256(repr((3, "epoch", 1)).encode()).digest()[:16]
    shuffled = np.random.Generator(np.random.Philox(key=int.from_bytes(key, "little"))).permutation(COUNT)
    key = hashlib.sha256(repr((3, "noise", 5)).encode()).digest()[:16]
    noise = np.random.Generator(np.random.Philox(key=int.from_bytes(key, "little"))).standard_normal((4, 2))
    rate = np.float32(1e-3 * 0.5 * (1 + np.cos(np.pi * (5 - 2) / (10 * 4 - 2))))
    parts = (images[shuffled[4:8]], noise.astype(np.float32), np.ones(4, np.float32), np.array(rate))
    digest = hashlib.sha256()
    for part in parts:
        digest.update(f"{part.shape} float32 ".encode() + part.tobytes())
    assert predicted(SPEC, images, 3, 6)[5] == digest.hexdigest()


def test_recording_leaves_nothing_behind():
    before = ae_jax.execution.dispatch.make_training, ae_torch.engine.make_training
    images = images_of(SPEC, count=COUNT)
    check_order(SPEC, images, 3, epochs=1, resume_at=())
    assert (ae_jax.execution.dispatch.make_training, ae_torch.engine.make_training) == before
    with recorded() as seen:
        pass
    for twin in ENGINES:
        train(twin, images, (4,))
    assert seen == {"jax": [], "torch": []}


def test_recording_changes_no_training():
    images, results = images_of(SPEC, count=COUNT), {}
    for kind, context in (("bare", nullcontext), ("recorded", recorded)):
        with context():
            results |= {(kind, twin): train(twin, images, (4,)) for twin in ENGINES}
    for twin in ENGINES:
        for name, tensor in results["bare", twin].items():
            np.testing.assert_array_equal(results["recorded", twin][name], tensor)


FAULTS = {
    "indices shifted by one": lambda steps: steps._replace(indices=(steps.indices + 1) % COUNT),
    "noise of the first step reused": lambda steps: steps._replace(noise=np.broadcast_to(NOISE, steps.noise.shape)),
    "last batch cut short": lambda steps: steps._replace(sizes=np.minimum(steps.sizes, 3)),
    "learning rate off by 1e-6": lambda steps: steps._replace(learning_rates=steps.learning_rates * (1 + 1e-6)),
}
NOISE = normal((4, 2), 3, "noise", 0)


@pytest.mark.parametrize("twin", ENGINES)
@pytest.mark.parametrize("fault", FAULTS)
def test_fault_in_one_twin_is_noticed(fault, twin, monkeypatch):
    trainer = (ae_jax if twin == "jax" else ae_torch).engine.Trainer
    advance = trainer.advance
    monkeypatch.setattr(trainer, "advance", lambda self, steps: advance(self, Steps(*FAULTS[fault](steps))))
    names = {name for name, _ in failed(check_order(SPEC, images_of(SPEC, count=COUNT), 3, resume_at=(5,)))}
    assert names == {f"order, {twin}", f"order resumed at 5, {twin}"}


@pytest.mark.parametrize("twin", ENGINES)
def test_dropped_last_batch_is_noticed(twin, monkeypatch):
    """A twin that skips the shorter batch."""
    trainer = (ae_jax if twin == "jax" else ae_torch).engine.Trainer
    advance = trainer.advance

    def whole_batches(self, steps):
        whole = steps.sizes == 4
        terms = advance(self, Steps(*(array[whole] for array in steps))) if whole.any() else {}
        return {name: np.resize(values, len(whole)) for name, values in (terms or {"loss": np.ones(1)}).items()}

    monkeypatch.setattr(trainer, "advance", whole_batches)
    found = failed(check_order(SPEC, images_of(SPEC, count=COUNT), 3, resume_at=()))
    assert (f"order, {twin}", "number of steps") in found
    assert {name for name, _ in found} == {f"order, {twin}"}


PRESCRIPTIONS = {
    "an image left out": ("epoch 1 visits each image once", lambda s: s._replace(sizes=s.sizes - (s.sizes == 1))),
    "an image twice": ("epoch 2 visits each image once", lambda s: s._replace(indices=s.indices % 12)),
    "noise reused": ("no noise comes twice", lambda s: s._replace(noise=NOISE[None])),
}


@pytest.mark.parametrize("fault", PRESCRIPTIONS)
def test_fault_in_what_both_twins_are_given_is_noticed(fault, monkeypatch):
    """Both twins would be fed the same wrong bytes, so the prescription is held to rules of its own."""
    place, change = PRESCRIPTIONS[fault]
    monkeypatch.setattr(
        order,
        "make_steps",
        lambda *arguments: change(make_steps(*arguments)),
    )
    assert ("prescription", place) in failed(order._check_prescription(SPEC, COUNT, 3, 8))


def test_one_order_for_all_epochs_is_noticed(monkeypatch):
    monkeypatch.setattr(
        order,
        "make_steps",
        lambda spec, count, seed, epoch, first, number: make_steps(spec, count, seed, 0, first, number),
    )
    places = {place for _, place in failed(order._check_prescription(SPEC, COUNT, 3, 8))}
    assert places == {"each epoch has an order of its own", "no noise comes twice"}


@pytest.mark.quick
def test_noise_is_keyed_by_seed_step_and_site():
    again = [normal((50, 40), 1, "noise", 7) for _ in range(2)]
    np.testing.assert_array_equal(*again)
    others = {
        "seed": normal((50, 40), 2, "noise", 7),
        "step": normal((50, 40), 1, "noise", 8),
        "site": normal((50, 40), 1, "mask", 7),
    }
    for name, other in others.items():
        # of 2,000 independent pairs the correlation has standard deviation 1/√2000; six of them never happen
        correlation = np.corrcoef(again[0].ravel(), other.ravel())[0, 1]
        assert abs(correlation) < 6 / np.sqrt(2000), name
        assert len(np.intersect1d(again[0], other)) == 0, name


def test_noise_of_a_step_does_not_depend_on_how_it_is_asked_for():
    """Alone, in a chunk, in another order, or in an epoch of another length."""
    chunk = make_steps(SPEC, COUNT, 3, 1, 0, 4)
    for row in (2, 0, 3, 1):
        np.testing.assert_array_equal(make_steps(SPEC, COUNT, 3, 1, row, 1).noise[0], chunk.noise[row])
        np.testing.assert_array_equal(make_steps(SPEC, 40, 3, 0, 4 + row, 1).noise[0], chunk.noise[row])


def test_limit_lets_only_equality_pass():
    assert 0 <= EXACT < np.nextafter(EXACT, 1) < 1e-300
