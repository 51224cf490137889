"""The training loop, on an engine that computes nothing and does what a script says."""

import os
import signal
import threading
from collections.abc import Mapping
from dataclasses import replace

import numpy as np
import pytest

from ae_core.data import batch_indices, steps_per_epoch
from ae_core.errors import SpecError
from ae_core.spec import (
    SGD,
    BatchNorm,
    BernoulliLikelihood,
    ConvBackbone,
    Cosine,
    DenseBackbone,
    GaussianBottleneck,
    GroupNorm,
    PlainBottleneck,
    Spec,
    Training,
)
from ae_core.system.interrupt import interruptible
from ae_core.training import loop
from ae_core.training.engine import Steps
from ae_core.training.initial import initial_weights
from ae_core.training.loop import check_batches
from ae_core.training.steps import make_steps

_PLAIN = Spec((2, 2, 1), DenseBackbone(()), PlainBottleneck(2), training=Training(SGD(0.5), batch_size=4, epochs=3))
_VAE = replace(
    _PLAIN,
    bottleneck=GaussianBottleneck(2),
    training=replace(_PLAIN.training, schedule=Cosine(2, 0.1)),
)
_COUNT = 14
"""Training images: an epoch has batches of 4, 4, 4 and 2."""
_SHAPES = {"a.weight": (2, 3), "a.bias": (2,)}


class _Trainer:
    """Counts its steps into its weights; the loss at step t is 100 + t, but for what the script says."""

    def __init__(self, tensors, images, capacity, losses, heldout, at_step):
        self.start, self.images, self.capacity = dict(tensors), images, capacity
        self.losses, self.heldout, self.at_step = losses, iter(heldout), at_step
        self.dispatches, self.evaluated, self.taken = [], [], 0

    def advance(self, steps):
        self.dispatches.append(steps)
        numbers = np.arange(self.taken, self.taken + len(steps.sizes))
        self.taken += len(numbers)
        for number in numbers.tolist():
            self.at_step.get(number, lambda: None)()
        loss = np.array([self.losses.get(n, 100.0 + n) for n in numbers.tolist()])
        return {"loss": loss, "reconstruction": 2 * loss}

    def evaluate(self, images):
        self.evaluated.append(images)
        return {"loss": next(self.heldout), "reconstruction": 1.0}

    def tensors(self):
        return {"w": np.array([float(self.taken)])}

    def snapshot(self):
        raise NotImplementedError

    def restore(self, snapshot):
        raise NotImplementedError


class _Engine:
    name = variant = "fake"

    def __init__(self, capacity=100, losses=None, heldout=(9.0, 5.0, 4.0, 3.0), at_step=None):
        self.arguments = capacity, losses or {}, heldout, at_step or {}

    def configure(self):
        pass

    def environment(self):
        return {}

    def shapes(self, spec):
        return _SHAPES

    def infer(self, spec, tensors):
        raise NotImplementedError

    def train(self, spec, tensors, images):
        self.trainer = _Trainer(tensors, images, *self.arguments)
        return self.trainer


class _Watcher:
    def __init__(self):
        self.steps, self.epochs = [], []

    def progress(self, epoch, step, total_steps, loss, images_per_second):
        self.steps.append((epoch, step, total_steps, loss))

    def epoch(self, epoch, best):
        self.epochs.append((epoch.epoch, best))


def _fit(engine, spec=_PLAIN, count=_COUNT, start=None):
    """Return the fit, what was kept, and what the watcher saw."""
    kept, watcher = [], _Watcher()
    train, heldout = np.zeros((count, 2, 2, 1), np.float32), np.ones((3, 2, 2, 1), np.float32)
    result = loop.train(engine, spec, train, heldout, 0, watcher, lambda t: kept.append(t["w"][0]), start)
    assert all((images == 1).all() for images in engine.trainer.evaluated)
    assert engine.trainer.images is train
    return result, kept, watcher


def _joined(dispatches):
    first = dispatches[0]
    names = ("indices", "sizes", "numbers", "learning_rates")
    arrays = {name: np.concatenate([getattr(steps, name) for steps in dispatches]) for name in names}
    coefficients = {n: np.concatenate([steps.coefficients[n] for steps in dispatches]) for n in first.coefficients}
    assert len({steps.seed for steps in dispatches}) == 1
    return Steps(**arrays, seed=first.seed, coefficients=coefficients)


def _assert_equal(one, two):
    for a, b in zip(one, two, strict=True):
        np.testing.assert_equal(a, b, strict=not isinstance(a, Mapping))


def test_epochs():
    engine = _Engine()
    result, kept, watcher = _fit(engine)
    assert (result.status, result.message, result.best_epoch) == ("finished", "", 3)
    assert [e.epoch for e in result.epochs] == [0, 1, 2, 3]
    assert [e.heldout["loss"] for e in result.epochs] == [9, 5, 4, 3]
    assert result.epochs[0].train == {}
    assert result.step_losses == [100.0 + step for step in range(12)]
    # means over images: the last batch of an epoch has 2, the others 4
    for epoch in (1, 2, 3):
        losses = 100 + 4 * (epoch - 1) + np.arange(4)
        mean = losses @ [4, 4, 4, 2] / 14
        assert result.epochs[epoch].train == pytest.approx({"loss": mean, "reconstruction": 2 * mean}, rel=1e-14)
    assert kept == [0, 4, 8, 12]
    assert result.tensors["w"] == [12]
    assert watcher.epochs == [(0, True), (1, True), (2, True), (3, True)]
    assert watcher.steps[-1] == (3, 12, 12, 111.0)
    lengths = [len(steps.sizes) for steps in engine.trainer.dispatches]
    assert [step for _, step, _, _ in watcher.steps] == np.cumsum(lengths).tolist()


@pytest.mark.parametrize(
    ("heldout", "kept", "best"),
    [
        ((9, 5, 4, 3), [0, 4, 8, 12], 3),
        ((9, 5, 6, 7), [0, 4], 1),
        ((9, 10, 11, 12), [0], 0),
        ((9, 9, 9, 9), [0], 0),
        ((9, 10, 8, 8), [0, 8], 2),
        ((-1, -2, -1.5, -3), [0, 4, 12], 3),
    ],
)
def test_best_weights_are_kept(heldout, kept, best):
    result, given, watcher = _fit(_Engine(heldout=map(float, heldout)))
    assert given == kept
    assert (result.best_epoch, result.tensors["w"]) == (best, kept[-1])
    assert [epoch for epoch, is_best in watcher.epochs if is_best] == [step // 4 for step in kept]


def test_initial_weights_are_kept_before_the_first_step():
    seen = []
    engine = _Engine(at_step={0: lambda: seen.append("step")})
    loop.train(
        engine, _PLAIN, np.zeros((4, 2, 2, 1)), np.zeros((1, 2, 2, 1)), 0, _Watcher(), lambda t: seen.append(t["w"][0])
    )
    assert seen[:2] == [0, "step"]


def test_start():
    engine = _Engine()
    _fit(engine)
    drawn = initial_weights(_SHAPES, _PLAIN, 0)
    for name in _SHAPES:
        np.testing.assert_array_equal(engine.trainer.start[name], drawn[name])
    start = {"a.weight": np.ones((2, 3)), "a.bias": np.ones(2)}
    _fit(engine, start=start)
    assert engine.trainer.start == start


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize(
    ("step", "where", "best"),
    [(0, "epoch 1, step 1 of 4", 0), (3, "epoch 1, step 4 of 4", 0), (6, "epoch 2, step 3 of 4", 1)],
)
@pytest.mark.parametrize("capacity", [1, 100])
def test_training_loss_that_is_not_finite(monkeypatch, capacity, step, where, best, bad):
    monkeypatch.setattr(loop, "DISPATCH_SECONDS", 1e9)
    engine = _Engine(capacity, losses={step: bad})
    result, kept, _ = _fit(engine)
    assert result.status == "diverged"
    assert result.message == f"the loss is {bad} in {where}, at learning rate 0.5"
    assert result.best_epoch == best
    assert kept == [0, 4][: best + 1]
    assert result.tensors["w"] == kept[-1]
    assert not np.isfinite(result.step_losses[step])
    assert len(engine.trainer.evaluated) == best + 1
    assert engine.trainer.taken <= 4 * (step // 4 + 1)


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_heldout_loss_that_is_not_finite(bad):
    result, kept, watcher = _fit(_Engine(heldout=(9.0, 5.0, bad, 1.0)))
    assert (result.status, result.best_epoch, kept) == ("diverged", 1, [0, 4])
    assert result.message == "the held-out loss is not finite after epoch 2"
    assert [e.epoch for e in result.epochs] == [0, 1, 2]
    assert watcher.epochs[-1] == (2, False)


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_initial_weights_are_kept_even_where_they_are_bad(bad):
    result, kept, _ = _fit(_Engine(heldout=(bad, 5.0, 6.0, 7.0)))
    assert (result.status, result.best_epoch, kept) == ("finished", 1, [0, 4])


@pytest.fixture
def ctrl_c():
    """Ctrl-C raises, even where the tests run in the background of a shell that ignores it."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield lambda: os.kill(os.getpid(), signal.SIGINT)
    signal.signal(signal.SIGINT, before)


@pytest.mark.parametrize(("step", "epoch", "taken"), [(0, 1, 1), (5, 2, 6), (7, 2, 8), (11, 3, 12)])
def test_interrupt(ctrl_c, step, epoch, taken):
    engine = _Engine(capacity=1, at_step={step: ctrl_c})
    result, kept, _ = _fit(engine)
    assert (result.status, result.message) == ("interrupted", f"interrupted in epoch {epoch}")
    assert engine.trainer.taken == taken
    # the weights at the interrupt are evaluated too, and here they are the best
    assert (result.best_epoch, result.tensors["w"], kept[-1]) == (epoch, taken, taken)
    assert len(result.step_losses) == taken
    sizes = np.array([4, 4, 4, 2])[: taken - 4 * (epoch - 1)]
    losses = 100 + np.arange(4 * (epoch - 1), taken)
    assert result.epochs[-1].train["loss"] == pytest.approx(losses @ sizes / sizes.sum(), rel=1e-14)
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_interrupt_keeps_what_was_better(ctrl_c):
    result, kept, _ = _fit(_Engine(capacity=1, heldout=(9.0, 5.0, 6.0), at_step={5: ctrl_c}))
    assert (result.status, result.best_epoch, result.tensors["w"], kept) == ("interrupted", 1, 4, [0, 4])


def test_second_interrupt_is_immediate(ctrl_c):
    def twice():
        ctrl_c()
        ctrl_c()

    engine = _Engine(capacity=1, at_step={1: twice})
    with pytest.raises(KeyboardInterrupt):
        _fit(engine)
    assert engine.trainer.taken == 2
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def _raise():
    raise RuntimeError("out of memory")


@pytest.mark.parametrize("at_step", [{}, {5: _raise}])
def test_handler_is_restored(ctrl_c, at_step):
    mine = lambda number, frame: None  # noqa: E731
    signal.signal(signal.SIGINT, mine)
    try:
        _fit(_Engine(at_step=at_step))
    except RuntimeError:
        assert at_step
    assert signal.getsignal(signal.SIGINT) is mine


def test_other_threads_train_too():
    results = []
    thread = threading.Thread(target=lambda: results.append(_fit(_Engine())[0].status))
    thread.start()
    thread.join()
    assert results == ["finished"]


def test_interruptible_notes(ctrl_c):
    with interruptible() as interrupt:
        assert not interrupt.requested
        ctrl_c()
        assert interrupt.requested
    with interruptible() as another:
        assert not another.requested


@pytest.mark.parametrize("seconds", [0.0, 1e9])
@pytest.mark.parametrize("capacity", [1, 2, 3, 100])
@pytest.mark.parametrize("spec", [_PLAIN, _VAE], ids=["plain", "vae"])
def test_dispatches(monkeypatch, spec, capacity, seconds):
    monkeypatch.setattr(loop, "DISPATCH_SECONDS", seconds)
    engine = _Engine(capacity)
    _fit(engine, spec)
    lengths = [len(steps.sizes) for steps in engine.trainer.dispatches]
    assert max(lengths) == (1 if seconds == 0 else min(capacity, 4))
    # the ends of all epochs are among the ends of dispatches: no dispatch crosses one
    assert {4, 8, 12} <= set(np.cumsum(lengths).tolist())
    whole = _joined([make_steps(spec, _COUNT, 0, epoch, 0, 4) for epoch in range(3)])
    _assert_equal(_joined(engine.trainer.dispatches), whole)


@pytest.mark.parametrize("spec", [_PLAIN, _VAE], ids=["plain", "vae"])
@pytest.mark.parametrize("cuts", [(1, 1, 1, 1), (2, 2), (1, 3), (3, 1), (1, 2, 1)])
def test_any_cut_gives_the_same_rows(spec, cuts):
    whole = make_steps(spec, _COUNT, 5, 2, 0, 4)
    firsts = np.cumsum((0, *cuts[:-1])).tolist()
    _assert_equal(_joined([make_steps(spec, _COUNT, 5, 2, f, n) for f, n in zip(firsts, cuts, strict=True)]), whole)


def test_steps():
    for epoch in range(3):
        steps = make_steps(_VAE, _COUNT, 7, epoch, 0, 4)
        assert steps.indices.shape == (4, 4)
        assert steps.numbers.tolist() == list(range(4 * epoch, 4 * epoch + 4))
        assert steps.sizes.tolist() == [4, 4, 4, 2]
        rows = [row[:size] for row, size in zip(steps.indices, steps.sizes, strict=True)]
        assert sorted(np.concatenate(rows).tolist()) == list(range(_COUNT))
        for step, row in enumerate(rows):
            np.testing.assert_array_equal(row, batch_indices(_COUNT, 4, 7, epoch, step))
    assert not steps.noise  # made on the device, from seed and number
    assert steps.seed == 7


def test_coefficients_are_those_of_the_spec():
    likelihood = BernoulliLikelihood(weight=3.0)
    spec = replace(_VAE, bottleneck=GaussianBottleneck(2, Cosine(2, 0.1)), likelihood=likelihood)
    steps = _joined([make_steps(spec, _COUNT, 0, epoch, 0, 4) for epoch in range(3)])
    np.testing.assert_array_equal(steps.coefficients["reconstruction"], np.full(12, 3.0))
    np.testing.assert_allclose(0.5 * steps.coefficients["kl"], steps.learning_rates, rtol=1e-15)
    assert spec.last_coefficients == {"reconstruction": 3.0, "kl": 0.1}


def test_learning_rates_go_through_the_whole_training():
    steps = _joined([make_steps(_VAE, _COUNT, 0, epoch, 0, 4) for epoch in range(3)])
    progress = (np.arange(12) - 2) / 10
    cosine = 0.1 + 0.9 * (1 + np.cos(np.pi * progress)) / 2
    cosine[:2] = 0.5, 1.0
    np.testing.assert_allclose(steps.learning_rates, 0.5 * cosine, rtol=1e-14)


def test_throughput_of_a_moment_is_not_reported():
    result, _, _ = _fit(
        _Engine(heldout=(2.0, 1.0)), replace(_PLAIN, training=replace(_PLAIN.training, epochs=1)), count=8
    )
    assert result.images_per_second is None


def test_throughput_leaves_the_first_dispatch_out(monkeypatch):
    monkeypatch.setattr("ae_core.training.loop.LEAST_SECONDS", 0.0)
    one = replace(_PLAIN, training=replace(_PLAIN.training, epochs=1))
    result, _, watcher = _fit(_Engine(heldout=(2.0, 1.0)), one, count=4)
    assert result.images_per_second is None
    assert watcher.steps == [(1, 1, 1, 100.0)]
    result, _, _ = _fit(_Engine(heldout=(2.0, 1.0)), one, count=8)
    assert result.images_per_second > 0
    assert result.seconds > 0


_DENSE_NORM = replace(_PLAIN, backbone=DenseBackbone((3,), norm=BatchNorm()))
_CONV_NORM = replace(_PLAIN, backbone=ConvBackbone((3,), (2,), norm=BatchNorm()))  # 1×1 pixels come out


@pytest.mark.parametrize(
    ("spec", "batch", "count", "refused"),
    [
        (_DENSE_NORM, 4, 13, True),
        (_DENSE_NORM, 4, 1, True),
        (_DENSE_NORM, 1, 12, True),
        (_DENSE_NORM, 4, 12, False),
        (_DENSE_NORM, 4, 14, False),
        (_CONV_NORM, 4, 13, True),
        (replace(_CONV_NORM, input_shape=(4, 2, 1)), 4, 13, False),
        (replace(_CONV_NORM, backbone=ConvBackbone((3,), (1,), norm=BatchNorm())), 1, 13, False),
        (replace(_DENSE_NORM, backbone=DenseBackbone((3,), norm=GroupNorm(1))), 4, 13, False),
        (_PLAIN, 1, 13, False),
    ],
)
def test_check_batches(spec, batch, count, refused):
    spec = replace(spec, training=replace(spec.training, batch_size=batch))
    assert steps_per_epoch(count, batch) >= 1
    if not refused:
        check_batches(spec, count)
        return
    for call in (check_batches, lambda spec, count: _fit(_Engine(), spec, count)):
        with pytest.raises(SpecError, match=f"training.batch_size: given {batch}, which leaves a batch of 1") as caught:
            call(spec, count)
        assert "\n" not in str(caught.value)
