"""Both twins are fed the prescribed batches at every step; one that is shifted, dropped or repeated is noticed."""

import hashlib
from contextlib import nullcontext
from dataclasses import replace

import jax
import numpy as np
import pytest

import ae_jax.engine
import ae_jax.execution.dispatch
import ae_torch.engine
from ae_core.noise import draw, key
from ae_core.spec import BatchNorm, Constant, Cosine, DenseBackbone, GaussianBottleneck, PlainBottleneck, Spec, Training
from ae_core.spec.component import NoiseSite
from ae_core.training.initial import initial_weights
from ae_core.training.steps import make_steps
from parity_tests.batches import noise_of, one_step
from parity_tests.cases import CASES, covering, images_of
from parity_tests.gates import order
from parity_tests.gates.order import ENGINES, EXACT, NORMAL_LIMIT, Received, check_order, predicted, recorded

pytestmark = pytest.mark.usefixtures("unoptimised")
COUNT = 13
"""Three batches of 4 and one of a single image; two epochs are 8 steps."""
TRAINING = Training(schedule=Cosine(2), batch_size=4)
SPEC = Spec((3, 2, 1), DenseBackbone((5,)), GaussianBottleneck(2, Constant(20)), training=TRAINING)
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


def fed(spec):
    """What a step of training is fed, by what may go wrong with it."""
    yield "learning rate", type(spec.training.schedule)
    yield "batch", spec.couples_samples
    yield from ((name, type(value)) for name, value in spec.coefficients.items())
    yield from ((name, site.distribution) for name, site in spec.noise_sites.items())


@pytest.mark.parametrize("name", covering(fed))
def test_order_of_the_table(name, hold):
    spec = CASES[name]
    hold(check_order(spec, images_of(spec), 3, resume_at=(5,)))


@pytest.mark.parametrize("twin", ENGINES)
def test_images_that_travel_with_each_dispatch(twin, monkeypatch, hold):
    monkeypatch.setattr((ae_jax if twin == "jax" else ae_torch).engine, "RESIDENT_BYTES", 0)
    hold(check_order(SPEC, images_of(SPEC, count=COUNT), 3, resume_at=(5,)))


def train(twin, images, chunks):
    tensors = initial_weights(ENGINES[twin].shapes(SPEC), SPEC, 0)
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
    assert len({step.digest for step in expected}) == 8
    with recorded() as seen:
        for chunks in ((1, 1, 1, 1), (4,), (3, 1), (1, 3), (2, 2)):
            seen[twin].clear()
            train(twin, images, chunks)
            assert failed(order._check_steps(SPEC, twin, seen[twin], expected, 0)) == set(), chunks


def test_hash_is_that_of_the_bytes():
    """The prediction of one step, written out: order, noise and schedules of a seed are what they always were."""
    images = images_of(SPEC, count=COUNT)
    chosen = hashlib.sha256(repr((3, "epoch", 1)).encode()).digest()[:16]
    shuffled = np.random.Generator(np.random.Philox(key=int.from_bytes(chosen, "little"))).permutation(COUNT)
    rate = 1e-3 * 0.5 * (1 + np.cos(np.pi * (5 - 2) / (10 * 4 - 2)))
    # of kl, a warm-up, and of reconstruction
    numbers = np.array([rate, 6 / 20, 1.0], np.float32)
    digest = hashlib.sha256(b"kl reconstruction")
    for part in (images[shuffled[4:8]], np.ones(4, np.float32), numbers):
        digest.update(f"{part.shape} float32 ".encode() + part.tobytes())
    step = predicted(SPEC, images, 3, 6)[5]
    assert step.digest == digest.hexdigest()
    assert list(step.noise) == ["bottleneck"]
    np.testing.assert_array_equal(step.noise["bottleneck"], draw(NoiseSite((2,), "normal"), key(3, "bottleneck"), 5, 4))


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


def off(steps, name, factor):
    return steps._replace(coefficients=steps.coefficients | {name: steps.coefficients[name] * factor})


FAULTS = {
    "indices shifted by one": lambda steps: steps._replace(indices=(steps.indices + 1) % COUNT),
    "noise of the first step": lambda steps: steps._replace(numbers=0 * steps.numbers),
    "noise of the next step": lambda steps: steps._replace(numbers=steps.numbers + 1),
    "noise of another seed": lambda steps: steps._replace(seed=steps.seed + 1),
    "last batch cut short": lambda steps: steps._replace(sizes=np.minimum(steps.sizes, 3)),
    "learning rate off by 1e-6": lambda steps: steps._replace(learning_rates=steps.learning_rates * (1 + 1e-6)),
    "KL weight off by 1e-6": lambda steps: off(steps, "kl", 1 + 1e-6),
    "another coefficient": lambda steps: steps._replace(
        coefficients=steps.coefficients | {"more": steps.learning_rates}
    ),
}


@pytest.mark.parametrize("twin", ENGINES)
@pytest.mark.parametrize("fault", FAULTS)
def test_fault_in_one_twin_is_noticed(fault, twin, monkeypatch):
    trainer = (ae_jax if twin == "jax" else ae_torch).engine.Trainer
    advance = trainer.advance
    monkeypatch.setattr(trainer, "advance", lambda self, steps: advance(self, FAULTS[fault](steps)))
    names = {name for name, _ in failed(check_order(SPEC, images_of(SPEC, count=COUNT), 3, resume_at=(5,)))}
    assert names == {f"order, {twin}", f"order resumed at 5, {twin}"}


@pytest.mark.parametrize("twin", ENGINES)
def test_dropped_last_batch_is_noticed(twin, monkeypatch):
    """A twin that skips the shorter batch."""
    trainer = (ae_jax if twin == "jax" else ae_torch).engine.Trainer
    advance = trainer.advance

    def whole_batches(self, steps):
        whole = steps.sizes == 4
        assert (np.diff(whole.astype(int)) <= 0).all()  # the shorter one is the last
        terms = advance(self, steps.part(0, int(whole.sum()))) if whole.any() else {}
        return {name: np.resize(values, len(whole)) for name, values in (terms or {"loss": np.ones(1)}).items()}

    monkeypatch.setattr(trainer, "advance", whole_batches)
    found = failed(check_order(SPEC, images_of(SPEC, count=COUNT), 3, resume_at=()))
    assert (f"order, {twin}", "number of steps") in found
    assert {name for name, _ in found} == {f"order, {twin}"}


PRESCRIPTIONS = {
    "an image left out": (
        "epoch 1 visits each image once",
        "one_step",
        lambda *a: (step := one_step(*a))._replace(sizes=step.sizes - (step.sizes == 1)),
    ),
    "an image twice": (
        "epoch 2 visits each image once",
        "one_step",
        lambda *a: (step := one_step(*a))._replace(indices=step.indices % 12),
    ),
    "noise reused": (
        "no noise at bottleneck comes twice",
        "noise_of",
        lambda spec, seed, step, rows: noise_of(spec, seed, 0, rows),
    ),
    "noise of one number": (
        "no noise at bottleneck comes twice",
        "noise_of",
        lambda *a: {site: 0 * noise + noise[..., :1] for site, noise in noise_of(*a).items()},
    ),
}


@pytest.mark.parametrize("fault", PRESCRIPTIONS)
def test_fault_in_what_both_twins_are_given_is_noticed(fault, monkeypatch):
    """Both twins would be fed the same wrong bytes, so the prescription is held to rules of its own."""
    place, name, wrong = PRESCRIPTIONS[fault]
    monkeypatch.setattr(order, name, wrong)
    assert ("prescription", place) in failed(order._check_prescription(SPEC, COUNT, 3, 8))


def test_one_order_for_all_epochs_is_noticed(monkeypatch):
    monkeypatch.setattr(order, "one_step", lambda spec, count, seed, step: one_step(spec, count, seed, step % 4))
    places = {place for _, place in failed(order._check_prescription(SPEC, COUNT, 3, 8))}
    assert places == {"each epoch has an order of its own"}


def test_a_step_does_not_depend_on_how_it_is_asked_for():
    """Alone, or in a chunk: the same batch, with the same number, on which its noise depends."""
    chunk = make_steps(SPEC, COUNT, 3, 1, 0, 4)
    for row in (2, 0, 3, 1):
        one = make_steps(SPEC, COUNT, 3, 1, row, 1)
        assert one.numbers.tolist() == [4 + row]
        for alone, within in zip(one.part(0, 1)[:3], chunk.part(row, 1)[:3], strict=True):
            np.testing.assert_array_equal(alone, within)


WRONG = {
    "a rounding": (lambda noise: noise * (1 + 2.0**-23), True),
    "the limit and a half": (lambda noise: noise + 1.5 * NORMAL_LIMIT["float32"], False),
    "another row": (lambda noise: np.roll(noise, 1, 0), False),
    "another order in a row": (lambda noise: noise[:, ::-1], False),
    "a row less": (lambda noise: noise[1:], False),
    "zeros": (lambda noise: 0 * noise, False),
    "no numbers": (lambda noise: noise * np.nan, False),
    "another precision": (lambda noise: noise.astype(np.float64), False),
    "noise of the step before": (lambda noise: noise_of(SPEC, 3, 4, 4)["bottleneck"].astype(np.float32), False),
    "noise of another seed": (lambda noise: noise_of(SPEC, 4, 5, 4)["bottleneck"].astype(np.float32), False),
    "noise of another site": (
        lambda noise: draw(NoiseSite((2,), "normal"), key(3, "corruption"), 5, 4).astype(np.float32),
        False,
    ),
}


@pytest.mark.quick
@pytest.mark.parametrize("name", WRONG)
def test_noise_is_held_to_its_limit(name):
    change, good = WRONG[name]
    right = noise_of(SPEC, 3, 5, 4)["bottleneck"]
    check = order._noise(SPEC, "order", "step 6", change(right.astype(np.float32)), right, "bottleneck")
    assert check.passed == good


@pytest.mark.quick
def test_uniform_noise_is_held_to_the_bit(monkeypatch):
    site = NoiseSite((2,), "uniform")
    monkeypatch.setattr(GaussianBottleneck, "noise_sites", lambda self, spec: {"bottleneck": site})
    right = noise_of(SPEC, 3, 5, 4)["bottleneck"]
    given = right.astype(np.float32)
    assert order._noise(SPEC, "order", "step 6", given, right, "bottleneck").passed
    assert not order._noise(SPEC, "order", "step 6", np.nextafter(given, np.float32(1)), right, "bottleneck").passed


@pytest.mark.quick
def test_a_site_without_noise_is_noticed():
    step = predicted(SPEC, images_of(SPEC, count=COUNT), 3, 1)[0]
    assert ("order", "step 1, noise sites") in failed(
        order._check_steps(SPEC, "order", [Received(step.digest, {})], [step], 0)
    )


def test_limit_lets_only_equality_pass():
    assert 0 <= EXACT < np.nextafter(EXACT, 1) < 1e-300
